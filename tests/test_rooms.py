"""The rooms of the house: imports in one direction, and reading without what only learning needs."""
import json
import subprocess
import sys
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {'torch', 'torchvision', 'fastai', 'fastcore', 'timm', 'pandas', 'matplotlib', 'seaborn', 'scipy', 'skimage',
         'sklearn', 'onnx',
         'highdicom', 'gradio', 'boneage.drawn', 'boneage.learn'}


def loaded_by(code):
    """The modules that a piece of Python loads in a process of its own."""
    code += '\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.PIPE, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_directions():
    """The contracts in pyproject.toml; a new module of reading must be named there."""
    command = [Path(sys.executable).with_name('lint-imports'), '--no-cache']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = (ROOT/'pyproject.toml').read_text()
    modules = {m.stem for m in (ROOT/'boneage').glob('[!_]*.py')} - {'cli'}
    unnamed = [name for name in modules if f'"boneage.{name}"' not in contracts]
    assert not unnamed, f'name them in the contract of the reading room: {unnamed}'


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


def test_help_is_at_once():
    """What a mistyped option costs: nothing of reading is loaded."""
    loaded = loaded_by('from boneage.cli import main; main(["assess", "--help"])')
    assert not {'cv2', 'onnxruntime', 'numpy'} & loaded
