"""What an installed boneage brings along, asks for, and how light it is."""
import shutil
import subprocess
import sys
import venv
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import cv2
import pytest
from conftest import ROOT
from packaging.requirements import Requirement

import boneage

WEIGHTS = ROOT/'boneage/weights'
LISTS = {'learn': ['learn'], 'clinic': ['clinic'], 'cluster': ['cluster'],
         'dev': ['learn', 'clinic', 'cluster', 'dev']}  # what of settings.ini is in each extra
MOST_MB = 500

pytestmark = pytest.mark.xdist_group('packaging')  # one build, one environment


@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    """The wheel and the source archive, built from a copy of the checkout."""
    from conftest import copy_checkout
    checkout = copy_checkout(tmp_path_factory.mktemp('dist')/'checkout')
    subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', 'dist', '.'], cwd=checkout, check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return checkout/'dist'


def listed(key):
    """The requirements under `key` of settings.ini."""
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return {str(Requirement(r)) for r in ini['DEFAULT'][key].split()}


def test_wheel(dist):
    """It holds every module and all weights, and its metadata the requirements of settings.ini."""
    with ZipFile(next(dist.glob('boneage-*.whl'))) as wheel:
        names = set(wheel.namelist())
        files = [*(ROOT/'boneage').rglob('*.py'), *WEIGHTS.glob('*.*')]
        assert {p.relative_to(ROOT).as_posix() for p in files} <= names
        assert not [n for n in names if n.startswith(('tests/', 'nbs/', 'tools/'))]
        info = f'boneage-{boneage.__version__}.dist-info'
        meta = Parser().parsestr(wheel.read(f'{info}/METADATA').decode())
        assert 'boneage = boneage.cli:main' in wheel.read(f'{info}/entry_points.txt').decode()
    asked = [Requirement(r) for r in meta.get_all('Requires-Dist')]
    assert {str(r) for r in asked if not r.marker} == listed('requirements')
    for extra, lists in LISTS.items():
        of = {r.name for r in asked if r.marker and r.marker.evaluate({'extra': extra})}
        assert of == {Requirement(r).name for key in lists for r in listed(f'{key}_requirements')}
    assert meta['Version'] == boneage.__version__ and meta['License-Expression'] == 'Apache-2.0'


def test_archives_can_be_published(dist):
    """A wheel and a source archive whose descriptions an index can show."""
    archives = sorted(map(str, dist.iterdir()))
    assert [Path(a).suffix for a in archives] == ['.whl', '.gz']
    done = subprocess.run([sys.executable, '-m', 'twine', 'check', '--strict', *archives], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope='module')
def environment(dist, tmp_path_factory):
    """An environment of its own with the wheel and what it asks for: its folder."""
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, with_pip=True)
    wheel = next(dist.glob('*.whl'))
    subprocess.run([folder/'bin/python', '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', wheel],
                   check=True,
                   stdin=subprocess.DEVNULL)
    yield folder
    shutil.rmtree(folder)


def test_light_installation(environment, hand, tmp_path):
    """The wheel alone reads a radiograph, from at most 500 MB, and says what another command needs."""
    size = sum(f.stat().st_size for f in environment.rglob('*') if f.is_file() and not f.is_symlink()) / 1e6
    assert size <= MOST_MB, f'{size:.0f} MB'
    cv2.imwrite(str(tmp_path/'hand.png'), hand.picture)
    def run(*args): return subprocess.run([environment/'bin/boneage', *args], cwd=tmp_path, capture_output=True,
                                          text=True)
    done = run('assess', 'hand.png', '--sex', 'F')
    assert done.returncode == 0 and ' months (' in done.stdout, done.stderr
    for command, extra in ((['check-data', '.'], 'learn'), (['demo'], 'learn'),
                           (['train', 'masks', '.', '--out', 'r', '--annotations', '.'], 'learn'),
                           (['assess', 'hand.png', '--sex', 'F', '--report', 'r.html'],
                            'clinic'), (['serve', '--no-browser'], 'clinic'), (['node', 'node.toml'], 'clinic'),
                           (['batch', 'hand.png', '--ray', '--out', 'ages.csv'], 'cluster')):
        done = run(*command)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        assert f"pip install '.[{extra}]'" in done.stderr


def test_weights_are_shipped():
    sizes = [p.stat().st_size for p in WEIGHTS.iterdir()]
    assert len(sizes) > 5 and sum(sizes) <= 30e6
