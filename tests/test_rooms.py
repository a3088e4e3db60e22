"""The rooms of the house: imports in one direction, and reading without what only learning needs."""
import json
import subprocess
import sys
from pathlib import Path

import cv2
from conftest import ROOT

HEAVY = {'torch', 'torchvision', 'fastai', 'fastcore', 'timm', 'pandas', 'matplotlib', 'seaborn', 'scipy', 'skimage',
         'sklearn', 'onnx', 'ray', 'pyarrow', 'fsspec', 'boneage.cluster',
         'highdicom', 'gradio', 'boneage.drawn', 'boneage.learn'}


def loaded_by(code):
    """The modules that a piece of Python loads in a process of its own."""
    code += '\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.PIPE, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_directions():
    """The contracts in pyproject.toml; a new module of reading is named in two of them."""
    command = [Path(sys.executable).with_name('lint-imports'), '--no-cache']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = (ROOT/'pyproject.toml').read_text()
    modules = {m.stem for m in (ROOT/'boneage').glob('[!_]*.py')} - {'cli'}
    unnamed = [name for name in modules if f'"boneage.{name}"' not in contracts]
    assert not unnamed, f'name them in the contract of reading: {unnamed}'


def test_an_assessment_is_light(hand, tmp_path):
    """From the command line, of a PNG: no training library, no phantom, not even pydicom."""
    cv2.imwrite(str(tmp_path/'hand.png'), hand.picture)
    loaded = loaded_by(f'from boneage.cli import main; main(["assess", {str(tmp_path/"hand.png")!r}, "--sex", "F"])')
    assert 'boneage.assessment' in loaded
    assert not (HEAVY | {'pydicom'}) & loaded


def test_a_batch_is_light(hand, tmp_path):
    cv2.imwrite(str(tmp_path/'hand.png'), hand.picture)
    command = ['batch', str(tmp_path/'hand.png'), '--sex', 'F', '--out', str(tmp_path/'ages.csv')]
    loaded = loaded_by(f'from boneage.cli import main; main({command!r})')
    assert (tmp_path/'ages.csv').is_file() and not HEAVY & loaded


def test_a_report_is_explained_without_learning(hand, tmp_path):
    """The ages of the regions and the occlusion maps, where no library of learning can be imported at all."""
    cv2.imwrite(str(tmp_path/'hand.png'), hand.picture)
    command = ['assess', str(tmp_path/'hand.png'), '--sex', 'F', '--report', str(tmp_path/'report.html')]
    missing = ''.join(f'sys.modules[{name!r}] = None\n' for name in sorted(HEAVY) if 'boneage' not in name)
    done = subprocess.run([sys.executable, '-c', f'import sys\n{missing}from boneage.cli import main\n'
                                                 f'assert main({command!r}) == 0\n'
                                                 'assert not {"boneage.learn", "boneage.drawn"} & set(sys.modules)'],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path/'report.html').read_text()
    assert all(f'region {name} alone' in page for name in 'ABC') and 'alt="occlusion maps"' in page


def test_help_is_at_once():
    """What a mistyped option costs: nothing of reading is loaded."""
    loaded = loaded_by('from boneage.cli import main; main(["assess", "--help"])')
    assert not {'cv2', 'onnxruntime', 'numpy'} & loaded


WAY = ('Assessor.examine', 'Reader.register', 'Registrar.__call__', 'Reader.read_bone_age')  # who calls the stages


def test_the_way_from_file_to_months_is_short(assessor, hand, tmp_path):
    """What a person must read to follow a radiograph: at most a dozen names, each called once."""
    names = []

    def see(frame, event, _):
        called_by = frame.f_back and frame.f_back.f_code.co_qualname
        if event == 'call' and called_by in WAY and Path(frame.f_code.co_filename).is_relative_to(ROOT/'boneage'):
            names.append(frame.f_code.co_qualname)
    cv2.imwrite(str(tmp_path/'hand.png'), hand.picture)
    sys.setprofile(see)
    try: assert assessor.assess(tmp_path/'hand.png', 'F').accepted
    finally: sys.setprofile(None)
    way = names[names.index('read_radiograph'):names.index('Ensemble.__call__') + 1]
    assert len(way) == len(set(way)) <= 12, way
    assert {'find_hand', 'show_bones', 'place_hand', 'check_alone', 'lay_on_canvas'} <= set(way)
