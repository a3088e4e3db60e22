"""What an installed boneage brings along, asks for, and loads."""
import json
import subprocess
import sys
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import boneage

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT/'boneage/weights'
TRAINING_ONLY = {'fastai', 'matplotlib', 'pandas', 'pydicom', 'sklearn', 'timm'}


@pytest.fixture
def wheel(checkout):
    """The wheel built from a copy of the checkout."""
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--wheel-dir', 'dist', '.'],
                   cwd=checkout, check=True, stdin=subprocess.DEVNULL)
    with ZipFile(next((checkout/'dist').glob('boneage-*.whl'))) as z: yield z


def listed(key):
    """The requirements under `key` of settings.ini."""
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return {str(Requirement(r)) for r in ini['DEFAULT'][key].split()}


def test_wheel(wheel):
    """It holds every module and all weights, and its metadata the requirements of settings.ini."""
    names = set(wheel.namelist())
    files = [*(ROOT/'boneage').rglob('*.py'), *WEIGHTS.glob('*.*')]
    assert {p.relative_to(ROOT).as_posix() for p in files} <= names
    assert not [n for n in names if n.startswith(('tests/', 'nbs/', 'tools/'))]

    info = f'boneage-{boneage.__version__}.dist-info'
    meta = Parser().parsestr(wheel.read(f'{info}/METADATA').decode())
    asked = [Requirement(r) for r in meta.get_all('Requires-Dist')]
    dev = {r.name for r in asked if r.marker}
    assert {str(r) for r in asked if not r.marker} == listed('requirements')
    assert dev == {Requirement(r).name for r in listed('dev_requirements')}
    assert meta['Version'] == boneage.__version__ and meta['License-Expression'] == 'Apache-2.0'
    assert 'boneage = boneage.cli:main' in wheel.read(f'{info}/entry_points.txt').decode()


def test_weights_are_shipped():
    sizes = [p.stat().st_size for p in WEIGHTS.glob('*.safetensors')]
    assert sizes, 'no weights in boneage/weights'
    assert sum(sizes) <= 30e6


def test_assessment_loads_no_training_library():
    """An assessment from a cold start does not wait for what only training needs."""
    code = 'import boneage.assessment, json, sys; print(json.dumps(sorted(sys.modules)))'
    loaded = json.loads(subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert not TRAINING_ONLY & set(loaded)
