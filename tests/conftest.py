"""What all tests share: real radiographs where there are any, a copy of the checkout, a browser, repeatable runs."""
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
BONEAGE = Path(sys.executable).with_name('boneage')
BROWSERS = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'

# Set before anything imports torch, and inherited by the notebooks that run in processes of their own.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('PYTHONHASHSEED', '0')

settings.register_profile('repeatable', derandomize=True, deadline=None)
settings.load_profile('repeatable')


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real radiographs that BONEAGE_DATA names."""
    folder = os.environ.get('BONEAGE_DATA')
    if not folder: pytest.skip('real radiographs: BONEAGE_DATA is not set')
    if not Path(folder).is_dir(): pytest.skip(f'real radiographs: BONEAGE_DATA names no folder ({folder})')
    return Path(folder)


def copy_checkout(to: Path) -> Path:
    """Copy the checkout without what is built or cached in it."""
    skip = shutil.ignore_patterns('.*', '_proc', '_docs', 'out', 'runs', 'build', 'dist', '*.egg-info', '__pycache__')
    return shutil.copytree(ROOT, to, symlinks=True, ignore=skip)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the checkout that a test may change."""
    return copy_checkout(tmp_path/'checkout')


@pytest.fixture
def browser():
    """Chromium without a window."""
    sync_api = pytest.importorskip('playwright.sync_api')
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path: pytest.skip('pages in a browser: no Chromium on this machine')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def violations():
    """What axe-core finds serious or critical on a page: which rule, where, and why."""
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()

    def find(page):
        found = axe.run(page).response
        assert len(found['passes']) > 10, 'axe has looked at the page'
        return [(rule['id'], node['target'], node['failureSummary']) for rule in found['violations']
                for node in rule['nodes'] if rule['impact'] in ('serious', 'critical')]
    return find


@pytest.fixture(scope='session')
def assessor():
    """The shipped networks."""
    from boneage.assessment import Assessor
    return Assessor()


@pytest.fixture(scope='session')
def hand(assessor):
    """A drawn hand that the shipped networks take for one."""
    from boneage.drawn.cohort import draw_cohort
    from boneage.picture import PictureError
    for phantom in draw_cohort(20, 5, side=400):
        try: found = assessor.register(phantom.picture), assessor.register(phantom.picture[:, ::-1])
        except PictureError: continue
        if max(f.doubt for f in found) < .05: return phantom
    pytest.fail('none of twenty drawn hands is taken for a hand')


def write_dicom(path, px, preamble=True, **tags):
    """A DICOM file that is not compressed."""
    from boneage.drawn.cohort import as_dicom
    ds = as_dicom(px, **tags)
    if preamble: ds.save_as(path, enforce_file_format=True)
    else:
        del ds.file_meta
        ds.save_as(path, implicit_vr=True, little_endian=True)
    return path
