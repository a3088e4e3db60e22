"""The command line: results on stdout, one line an error on stderr, and the exit status."""
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import typer
from conftest import BONEAGE, write_dicom

from boneage import __version__
from boneage.assessment import Assessment
from boneage.cli import app, main
from boneage.clinic.dicom import read_report
from boneage.drawn.cohort import write_cohort, write_hand
from boneage.interval import load_calibration
from boneage.learn.rsna import pack_annotations, pack_download
from boneage.learn.scales import TINY
from boneage.networks import WEIGHTS, WeightsError, open_weights
from boneage.artefacts import SQUARE

TERMS = 'boneage: For research and education only, no medical device.'


@pytest.fixture
def folder(tmp_path, monkeypatch, hand):
    """A working folder with one good picture and everything that people mistake for one."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('hand.png', hand.picture)
    cv2.imwrite('dot.png', hand.picture[:3, :3])
    cv2.imwrite('black.png', np.zeros((300, 200), np.uint8))
    cv2.imwrite('noise.png', np.random.default_rng(0).integers(0, 256, (300, 200), np.uint8))
    Path('cut.png').write_bytes(Path('hand.png').read_bytes()[:2000])
    Path('empty.png').write_bytes(b'')
    Path('text.png').write_text('no picture')
    Path('folder').mkdir()
    return tmp_path


@pytest.fixture(scope='module')
def cohort(tmp_path_factory): return write_cohort(tmp_path_factory.mktemp('data')/'cohort', 6, 7, side=320)


@pytest.fixture
def boneage(capsys):
    """Run a command line in this process: its exit status, the lines of stdout, the lines of stderr."""
    def run(*args):
        capsys.readouterr()
        status = main([str(a) for a in args])
        out, err = capsys.readouterr()
        assert 'Traceback' not in out + err
        return status, out.splitlines(), err.splitlines()
    return run


BAD = ['dot.png', 'black.png', 'noise.png', 'cut.png', 'empty.png', 'text.png', 'folder', 'missing.png']


@pytest.mark.parametrize('bad', BAD)
def test_bad_file(folder, boneage, bad):
    """A line that names the file and says what to do; the others are still assessed."""
    status, out, err = boneage('assess', bad, 'hand.png', '--sex', 'F')
    assert status == 1 and err[1:] == [TERMS]
    assert err[0].startswith(f'boneage: {bad}: not assessed: ')
    assert any(mark in err[0] for mark in ';?'), 'the line says what to do'
    assert len(out) == 1 and out[0].startswith('hand.png: ') and '), girl; 90 % interval ' in out[0]


def test_json_of_a_batch(folder, boneage):
    files = [*BAD, 'hand.png']
    status, out, err = boneage('assess', *files, '--sex', 'm', '--json')
    found = [json.loads(line) for line in out]
    assert status == 1 and len(err) == len(BAD)
    assert [f['file'] for f in found] == files and {f['sex'] for f in found} == {'M'}
    assert [f['accepted'] for f in found] == [False] * len(BAD) + [True]
    assert all(list(f) == [f.name for f in fields(Assessment)] for f in found)
    assert all(f['reason'] and f['bone_age_months'] is None and f['mirrored'] is None for f in found[:-1])
    assert found[-1]['reason'] == '' and 0 <= found[-1]['bone_age_months'] <= 240


def test_all_is_well(folder, boneage):
    assert boneage('assess', 'hand.png', '--sex', 'F')[0] == 0


def test_odd_file_names(folder, boneage):
    for name in ('two\nlines.png', 'Röntgen  1.png', '[red]x.png'):
        Path(name).write_bytes(Path('hand.png').read_bytes())
        status, out, err = boneage('assess', name, '--sex', 'F')
        assert (status, len(out), err) == (0, 1, [TERMS]) and out[0].startswith(name.replace('\n', ' '))


def test_follow(folder, boneage, tmp_path):
    """The visits of a child in order of its age, whatever the order of the files; another child is refused."""
    for age in (84, 108, 132): write_hand(f'visits/{age}.png', age, False, 3, 600)
    rows = ''.join(f'visits/{age}.png,F,{age}\n' for age in (132, 84, 108))
    Path('child.csv').write_text(f'file,sex,age_months\n{rows}')
    status, out, err = boneage('follow', 'child.csv', '--out', 'course.csv', '--report', 'course.html')
    assert (status, err, len(out)) == (0, [TERMS], 4) and out[0].startswith('pace: ') and 'from 84 to 108' in out[1]
    page = Path('course.html').read_text()
    assert page.count('<circle') == 3 and 'visits' not in page and out[0].split()[1] in page
    table = pd.read_csv('course.csv')
    assert list(table.age_months) == [84, 108, 132] and table.model.nunique() == 1 and table.pace.isna().sum() == 1
    assert out[0].endswith(f' {table.pace[2]} months of bone age a year of life (give or take {table.pace_error[2]})')
    Path('child.csv').write_text(f'file,sex,age_months\n{rows}hand.png,M,90\n')
    status, _, err = boneage('follow', 'child.csv')
    assert status == 1 and 'one child' in err[-1]
    assert boneage('follow', 'child.csv', '--out', 'child.csv')[0] == 2


def test_ages_in_years(folder, boneage):
    """No verdict and no pace, and one line that says why."""
    _, (line,), _ = boneage('assess', 'hand.png', '--sex', 'F', '--age-months', '8')
    assert 'far from the bone age' in line and 'deviation' not in line and 'advanced' not in line
    found = json.loads(boneage('assess', 'hand.png', '--sex', 'F', '--age-months', '8', '--json')[1][0])
    assert found['standard_deviation_score'] is None and found['maturity'] == '' and found['age_months'] == 8
    write_hand('later.png', 180, True, 3, 600)
    Path('years.csv').write_text('file,sex,age\nhand.png,M,13.5\nlater.png,M,15\n')
    status, out, err = boneage('follow', 'years.csv', '--out', 'course.csv')
    assert (status, out) == (1, []) and 'correct the ages, in months' in err[-1] and not Path('course.csv').exists()


def test_follow_by_dates(folder, boneage):
    """Of a table or of the studies; what is not one child's or in no order is one line."""
    def visit(n, **tags):
        px = cv2.imread(str(write_hand(f'visits/{n}.png', 84 + 24 * n, False, 3, 600)), 0)
        ids = dict(StudyInstanceUID=f'1.2.{n}', SeriesInstanceUID=f'1.3.{n}', PatientID='4711', PatientSex='F')
        return write_dicom(f'visits/{n}.dcm', px, **ids | dict(StudyDate=f'20{17 + 2 * n}0301') | tags)
    born = dict(PatientBirthDate='20100301')
    Path('visits').mkdir()
    for n in range(3): visit(n, **born)
    status, out, _ = boneage('follow', *(f'visits/{n}.dcm' for n in (2, 0, 1)))
    assert status == 0 and 'from 84 to 108 months of age' in out[1] and 'from 108 to 132' in out[2]
    Path('dates.csv').write_text('file,sex,birth date,date\n' + ''.join(
        f'visits/{n}.png,F,2010-03-01,20{17 + 2 * n}-03-01\n' for n in (1, 2, 0)))
    assert boneage('follow', 'dates.csv')[1] == out
    for tags, why in ((dict(PatientSex='M'), 'a girl and another of a boy'), (dict(PatientID='2'), 'are of 2 patients'),
                      (dict(PatientBirthDate='20110301'), 'name 2 birth dates'),
                      (dict(StudyDate='20190301'), 'are both of 108 months; leave one'),
                      (dict(PatientAge='005Y'), 'is not known (PatientBirthDate makes'),
                      (dict(PatientBirthDate='', PatientAge='011Y'), 'in whole years')):
        visit(2, **born | tags)
        status, _, err = boneage('follow', *(f'visits/{n}.dcm' for n in range(3)))
        assert status == 1 and why in err[-1] and len(err) == 1, err
    visit(2, **born)
    Path('ages.csv').write_text('file,age\nvisits/0.dcm,120\nvisits/1.dcm,100\n')
    status, _, err = boneage('follow', 'ages.csv')
    assert status == 1 and 'in the other by StudyDate' in err[-1]


def test_no_sex(folder, boneage, assessor, hand):
    """Nobody says it: both ages, no single one, no comparison."""
    status, out, err = boneage('assess', 'hand.png', '--age-months', '100')
    months = {sex: assessor.assess('hand.png', sex).bone_age_months for sex in 'FM'}
    assert status == 1 and err == [TERMS] and 'standard dev' not in out[0]
    assert f'as a girl {months["F"]} months, as a boy {months["M"]} months' in out[0]
    status, out, _ = boneage('assess', 'hand.png', '--json')
    assert status == 1 and not json.loads(out[0])['accepted'], 'no answer is no success, one file or many'
    status, out, _ = boneage('batch', 'hand.png', '--out', 't.csv')
    assert (status, out) == (1, ['t.csv: 1 of 1 refused now; reasons in t.csv'])
    assert 'give the sex' in Path('t.csv').read_text()
    Path('t.csv').unlink()
    status, out, _ = boneage('batch', 'hand.png', '--sex', 'F', '--out', 't.csv')
    assert (status, out) == (0, ['t.csv: 0 of 1 refused now'])
    found = json.loads(boneage('assess', 'hand.png', '--json')[1][0])
    assert (found['months_by_sex'], found['bone_age_months'], found['accepted']) == (months, None, False)
    assert (found['sex'], found['sex_from']) == ('', '')
    assert 'adult' in boneage('assess', 'hand.png', '--age-months', '300')[2][0], 'an adult has no two ages either'
    side = max(hand.picture.shape)
    cv2.imwrite('padded.png', np.pad(hand.picture, [(0, side - n) for n in hand.picture.shape]))
    assert SQUARE not in boneage('assess', 'padded.png')[1][0]
    film = np.random.default_rng(0).integers(0, 30, (side, side), np.uint8)
    film[:hand.picture.shape[0], :hand.picture.shape[1]] = hand.picture
    cv2.imwrite('square.png', film)
    for sex in ((), ('--sex', 'F')): assert SQUARE in boneage('assess', 'square.png', *sex)[1][0]


def test_adult_height(folder, boneage):
    """Where height and age are given; else why there is none."""
    child = '--sex', 'F', '--age-months', '140', '--height-cm', '150'
    found = json.loads(boneage('assess', 'hand.png', *child, '--json')[1][0])
    assert 150 < found['adult_height_cm'] < 180 and 'Bayley and Pinneau' in found['adult_height']
    for args, why in (('', "without the child's age"), ('--age-months 210', 'table')):
        words = boneage('assess', 'hand.png', '--sex', 'M', '--height-cm', '150', *args.split())[1][0]
        assert why in words


def test_files_that_are_none(folder, boneage):
    """A pipe, a device, a folder among a pattern's results, a name that is too long: none stops the rest."""
    os.mkfifo('pipe.png')
    Path('folder.png').mkdir()
    for name, why in {'pipe.png': 'is no file', '/dev/zero': 'is no file', 'x' * 300: 'name'}.items():
        status, out, err = boneage('assess', name, 'hand.png', '--sex', 'F')
        assert status == 1 and len(out) == 1 and any(why in line for line in err)
    Path('pipe.png').unlink()
    assert 'names no radiograph' in boneage('batch', 'f*.png', '--sex', 'F', '--out', 'ages.csv')[2][0]
    Path('front.png').write_bytes(Path('hand.png').read_bytes())
    assert boneage('batch', 'hand.png', 'f*.png', '--sex', 'F', '--out', 'ages.csv')[0] == 0
    assert 'folder.png' not in Path('ages.csv').read_text()


@pytest.mark.parametrize('command', [
    'assess hand.png --sex F --report hand.png', 'batch hand.png --sex F --out hand.png',
    'evaluate data --out data/ages.csv', 'evaluate data --out data/images/p0000.png',
    'follow hand.png --sex F --out course.csv --report course.csv'])
def test_what_is_read_is_not_written_over(folder, boneage, command):
    Path(write_cohort('data', 2, 1), 'labels.csv').rename('data/ages.csv')
    Path('data/keypoints.csv').unlink()
    shutil.rmtree('data/masks')
    before = {file: file.read_bytes() for file in (Path('hand.png'), *Path('data').rglob('*.*'))}
    status, _, err = boneage(*command.split())
    assert status == 2 and len(err) == 1 and 'would be overwritten' in err[0]
    assert before == {file: file.read_bytes() for file in before}


USAGE = {  # a command and what the line about it says
    '': 'Missing command', 'asses hand.png': 'No such command', 'assess --sex F': 'FILE',
    'assess hand.png --sex': "'--sex' requires an argument", 'assess hand.png --height-cm 1': '--height-cm',
    'assess hand.png --sex X': 'give F or M',
    'assess hand.png --sex F --age-months nan': 'is not an age',
    'assess hand.png --sex F --age-months inf': 'is not an age',
    'assess hand.png --sex=M --sex=F': '--sex is given twice',
    'assess hand.png --sex F --json --json': '--json is given twice',
    'assess hand.png --sex F --dicom d --report d/hand_report.dcm': 'd/hand_report.dcm is the name of a picture',
    'assess hand.png --sex F --report text.png': 'text.png is the name of a picture',
    'assess hand.png --sex F --age-months 10_5': "'10_5' is not an age",
    'batch hand.png --age-months ten --out t.csv': "'--age-months': 'ten' is not an age",
    'assess hand.png --height-cm 14_0': "'14_0' is not the height",
    'assess hand.png --height-cm 231': 'height of a child', 'assess hand.png --height-cm nan': 'height of a child',
    'batch hand.png --age-months -1 --out t.csv': 'is not an age', 'assess hand.png --sex F --jsno': '--jsno',
    'preprocess hand.png': '--out', 'preprocess hand.png --out hand.png': '--out',
    'preprocess hand.png other/hand.png --out out': 'are named hand',
    'preprocess hand.png hand_mask.png --out .': 'hand_mask.png would be overwritten',
    'rsna': 'DOWNLOADS', 'rsna folder': '--out', 'rsna folder --out hand.png': 'is a file',
    'evaluate': 'DIR', 'evaluate folder --ids hand.png': 'not a table', 'evaluate folder --ids text.png': 'column id',
    'train': 'Missing command', 'train bones folder --out run': 'bones', 'train age folder': '--out',
    'train masks cohort --out run --withheld ids.csv': '--annotations',
    'train points a b --out run --annotations c --withheld ids.csv': 'unexpected extra argument',
    'train age hands.npz --out run': 'need --withheld', 'pack run': '--out', 'pack run --out hands.zip': '.npz',
    'pack folder --out hands.npz': 'no registered hands',
    'export run': '--out', 'export hand.png --out run': 'is a file'}


@pytest.mark.parametrize('args, says', USAGE.items())
def test_usage(folder, boneage, args, says):
    """One line, exit status 2, nothing on stdout and nothing written."""
    Path('ids.csv').write_text('id\n1\n')
    before = sorted(folder.rglob('*'))
    status, out, err = boneage(*args.split())
    assert (status, out, len(err)) == (2, [], 1), err
    assert says in err[0] and '--help' in err[0]
    assert sorted(folder.rglob('*')) == before


def test_a_missing_library_is_not_blamed_on_the_picture(folder, boneage, monkeypatch):
    cv2.imwrite('hand.jpg', cv2.imread('hand.png'))
    monkeypatch.setitem(sys.modules, 'simplejpeg', None)
    status, out, err = boneage('assess', 'hand.jpg', '--sex', 'F')
    assert (status, out, len(err)) == (1, [], 1) and 'simplejpeg' in err[0] and 'install boneage again' in err[0]


@pytest.mark.parametrize('command', ['assess hand.png --sex F', 'preprocess hand.png --out out', 'evaluate folder'])
def test_no_weights(folder, boneage, command):
    status, out, err = boneage(*command.split(), '--weights', 'folder')
    assert status == 1 and out == [] and len(err) == 1 and 'folder: has no reader.json' in err[0]


def test_unexpected_error(folder, boneage, monkeypatch):
    def fail(*args, **options): raise RuntimeError('first line\nsecond line')
    monkeypatch.setattr('boneage.assessment.Assessor.examine', fail)
    said = 'boneage: RuntimeError: first line second line; BONEAGE_DEBUG=1 shows where'
    assert boneage('assess', 'hand.png', '--sex', 'F')[::2] == (1, [said])
    monkeypatch.setenv('BONEAGE_DEBUG', '1')
    with pytest.raises(RuntimeError): main(['assess', 'hand.png', '--sex', 'F'])


def test_interrupted(folder, boneage, monkeypatch):
    def stop(*args, **options): raise KeyboardInterrupt
    monkeypatch.setattr('boneage.assessment.Assessor.examine', stop)
    assert boneage('assess', 'hand.png', '--sex', 'F') == (130, [], ['boneage: interrupted'])


def test_preprocess(folder, boneage, hand):
    status, out, err = boneage('preprocess', 'missing.png', 'hand.png', 'black.png', '--out', 'new/stages')
    assert (status, out, len(err)) == (1, [], 2)
    assert err[0].startswith('boneage: missing.png: not preprocessed: no such file')
    assert sorted(p.name for p in Path('new/stages').iterdir()) == ['hand.json', 'hand_mask.png', 'hand_registered.png']
    mask, registered = (cv2.imread(f'new/stages/hand_{name}.png', cv2.IMREAD_UNCHANGED)
                        for name in ('mask', 'registered'))
    found = json.loads(Path('new/stages/hand.json').read_text())
    assert list(found) == ['file', 'keypoints', 'matrix', 'canvas', 'mirrored', 'doubt'] and found['file'] == 'hand.png'
    assert mask.shape == hand.mask.shape and set(np.unique(mask)) == {0, 255}
    assert list(registered.shape) == found['canvas'] and registered.dtype == np.uint8
    assert found['mirrored'] == (np.linalg.det(np.array(found['matrix'])[:, :2]) < 0)
    x, y = np.array(found['matrix']) @ [*found['keypoints']['mid_tip'], 1]
    height, width = found['canvas']
    assert abs(x - width / 2) < .1 and abs(y - height * 100 / 2080) < .1
    size = np.linalg.norm(hand.points[0] - hand.points[2])
    assert np.linalg.norm(np.array(list(found['keypoints'].values())) - hand.points, axis=1).max() < .2 * size


def test_evaluate(cohort, folder, boneage):
    """JSON is the summary and nothing else; the predictions are kept; ids choose."""
    status, out, _ = boneage('evaluate', cohort, '--json', '--out', 'new/predictions.csv')
    scores = json.loads(out[0])
    assert status == 0 and len(out) == 1 and scores['n'] == 6
    assert list(scores) == ['n', 'n_refused', 'n_missing', 'mae_months', 'mae_ci95', 'bias_months',
                            'median_baseline_mae_months', 'by_sex']
    assert {s for s in scores['by_sex']} == {'F', 'M'}
    predictions = pd.read_csv('new/predictions.csv', dtype={'id': str})
    assert len(predictions) == 6 and (~predictions.accepted).sum() == scores['n_refused']
    Path('ids.csv').write_text('id\np0001\np0002\n')
    assert json.loads(boneage('evaluate', cohort, '--ids', 'ids.csv', '--json')[1][0])['n'] == 2


def test_evaluate_for_people(cohort, boneage):
    status, out, err = boneage('evaluate', cohort)
    assert status == 0 and err == [TERMS] and 'refused' in out[-1]
    assert all(any(word in line for line in out) for word in ('all', 'girls', 'boys', 'always the median'))


@pytest.mark.parametrize('labels, status, says', [
    ('id,boneage,male\nhand,10,True\n', 0, 'all 1 are below 21; give months'),
    ('id,boneage,male\nhand,100,True\nhand,90,True\n', 1, 'hand is there twice, with two ages or sexes'),
    ('id,boneage,male,boneage\nhand,100,True,90\n', 1, 'boneage, boneage for one thing'),
    ('id,boneage,male,width,Width\nhand,100,True,9,8\n', 1, 'has two columns width'),
    ('id,boneage,male,width,width\nhand,100,True,9,8\n', 1, 'has two columns width'),
    ('id,boneage,male\nother,100,True\n', 1, 'no radiograph was read')])
def test_labels_that_cannot_be_meant(folder, boneage, labels, status, says):
    """Are said, or scored against nothing."""
    (folder/'set/images').mkdir(parents=True)
    (folder/'set/images/hand.png').write_bytes((folder/'hand.png').read_bytes())
    (folder/'set/labels.csv').write_text(labels)
    got, _, err = boneage('evaluate', 'set')
    assert got == status and any(says in line for line in err), err


@pytest.mark.parametrize('command', ['evaluate', 'check-data', 'train age --out run'])
@pytest.mark.parametrize('name', ['nowhere', 'folder', 'hand.png'])
def test_no_data_set(folder, boneage, command, name):
    status, out, err = boneage(*command.split(), name)
    assert (status, out, len(err)) == (1, [], 1) and err[0].startswith(f'boneage: {name}: ')


@pytest.mark.parametrize('name', ['nowhere', 'folder'])
def test_no_run(folder, boneage, name):
    status, out, err = boneage('export', name, '--out', 'weights')
    assert (status, out, len(err)) == (1, [], 1) and err[0].startswith(f'boneage: {name}: has no finished age network')
    assert not Path('weights').exists()


def test_check_data(cohort, folder, boneage):
    status, out, err = boneage('check-data', cohort)
    assert (status, err) == (0, []) and out[-1] == 'Nothing is wrong.'
    (folder/'part/images').mkdir(parents=True)
    (folder/'part/labels.csv').write_text('id,boneage,male\nhand,100,True\nother,90,False\n')
    (folder/'part/images/hand.png').write_bytes((folder/'hand.png').read_bytes())
    status, out, err = boneage('check-data', 'part')
    assert status == 1 and 'labels without a picture: 1' in out and err == []


def test_rsna(cohort, folder, boneage):
    """What is there on stdout with the commands that come next, what is wrong on stderr; what is said next works."""
    for name, content in pack_download(cohort, (4, 1, 1)).items():
        Path('my downloads').mkdir(exist_ok=True)
        Path('my downloads', name).write_bytes(content)
    for name, content in pack_annotations(cohort, 4).items():
        Path('gr', name).parent.mkdir(parents=True, exist_ok=True)
        Path('gr', name).write_bytes(content)
    Path('my downloads/Bone+Age+Validation+Set.zip').unlink()
    status, out, err = boneage('rsna', 'my downloads', '--out', 'my data')
    assert status == 1 and out[:2] == ['my data/rsna-training: 4 radiographs', 'my data/rsna-test: 1 radiographs']
    assert [line.split(': ')[1] for line in err] == ['rsna-validation', 'rsna-training', 'rsna-test'], err
    assert "next: boneage check-data 'my data/rsna-training'" in out and out[-1].startswith('next: boneage evaluate')
    assert 'python -c' in out[3] and all(line.startswith('next: ') for line in out[2:])
    status, out, err = boneage('rsna', 'my downloads', '--out', 'my data', '--annotations', 'gr')
    assert status == 1 and len(err) == 3 and sum('--annotations' in line for line in out) == 2
    assert sorted(os.listdir('my data/annotations')) == ['hand_polygons.json', 'keypoints.csv']
    assert boneage('check-data', 'my data/rsna-test')[1][-1] == 'Nothing is wrong.'
    assert json.loads(boneage('evaluate', 'my data/rsna-test', '--json')[1][0])['n'] == 1
    for args in (('nowhere', '--out', 'd'), ('my downloads', '--out', 'd', '--annotations', 'nowhere')):
        status, out, err = boneage('rsna', *args)
        assert status == 1 and 'nowhere' in err[-1] and 'name ' in err[-1]


def test_train(tmp_path, boneage):
    """A stage is trained, and the same command again has nothing to do."""
    cohort = write_cohort(tmp_path/'cohort', 24, 3)
    command = 'train', 'masks', cohort, '--annotations', cohort, '--out', tmp_path/'run', '--scale', 'tiny'
    status, out, err = boneage(*command)
    assert (status, out) == (0, []) and sum('masks' in line for line in err) >= TINY.mask.epochs, err
    assert (tmp_path/'run/mask.onnx').stat().st_size > 1e5
    status, out, err = boneage(*command)
    assert status == 0 and len(err) < TINY.mask.epochs, err


def test_withheld_ids_are_passed_on(cohort, folder, boneage, monkeypatch):
    """By default a thousand of 12,611, in proportion; else those of the file."""
    calls = []
    monkeypatch.setattr('boneage.learn.grid.train_age', lambda *args, **options: calls.append((args, options)))
    (folder/'large/images').mkdir(parents=True)
    (folder/'large/images/0.png').write_bytes((folder/'hand.png').read_bytes())
    rows = ''.join(f'{i},{i % 200 + 1},{i % 2}\n' for i in range(1262))
    (folder/'large/labels.csv').write_text(f'id,boneage,male\n{rows}')
    Path('ids.csv').write_text('id\n007\n')
    status, _, err = boneage('train', 'age', 'large', cohort, '--out', 'run')
    assert status == 2 and not calls and 'run has no mask.onnx yet; first boneage train masks --out run' in err[-1]
    Path('run').mkdir()
    for name in ('mask', 'points'): Path('run', f'{name}.onnx').touch()
    assert boneage('train', 'age', 'large', cohort, '--out', 'run')[0] == 0
    assert boneage('train', 'age', 'large', '--out', 'run', '--withheld', 'ids.csv', '--scale', 'paper',
                   '--recipe', 'one-cycle', '--only', 'B-male', '--only', 'C-both-reg', '--epochs', '3',
                   '--start')[0] == 0
    (args, default), (_, given) = calls
    assert args == ([Path('large'), cohort], Path('run')) and len(default['leave_out']) == 100
    assert default['scale'].name == 'laptop'
    assert default['recipe'].name == 'paper' and len(default['cells']) == 18 and given['recipe'].name == 'one-cycle'
    assert default['start'] is None and given['start'] == WEIGHTS, '--start without a folder: the shipped weights'
    assert default['scale'].age.epochs == 20 and given['scale'].age.epochs == 3
    assert [c.name[:8] for c in given['cells']] == ['C-both-r', 'B-male-r', 'B-male-e']
    for wrong in ('--only D', '--trunk no_such_model'):
        status, _, err = boneage('train', 'age', 'large', '--out', 'run', *wrong.split())
        assert status == 2 and len(err) == 1 and wrong in err[0] and len(calls) == 2
    trunk = 'tf_efficientnet_lite0'
    assert boneage('train', 'age', 'large', '--out', 'run', '--trunk', trunk, '--only', 'A-both')[0] == 0
    assert {c.trunk for c in calls[2][1]['cells']} == {trunk}
    assert given['leave_out'] == {'007'} and given['scale'].name == 'paper'
    assert boneage('train', 'age', 'large', '--out', 'run', '--also', cohort)[0] == 0
    args, only_learnt = calls[3]
    assert args[0] == [Path('large'), cohort] and only_learnt['also'] == [cohort] and default['also'] == []


def test_draw(boneage, tmp_path):
    """One hand is a picture that assess takes; many are a data set."""
    status, out, err = boneage('draw', tmp_path/'new/one.png', '--sex', 'M', '--months', '120')
    assert (status, err) == (0, []) and out == [f'{tmp_path/"new/one.png"}: a drawn hand of 120 months']
    assert boneage('assess', tmp_path/'new/one.png', '--sex', 'M')[0] == 0
    assert boneage('draw', tmp_path/'many', '--hands', '3', '--side', '200')[0] == 0
    assert boneage('check-data', tmp_path/'many')[1][-1] == 'Nothing is wrong.'
    for again in ('new/one.png --sex M --months 90', 'many --hands 2'):
        before = {file: file.read_bytes() for file in tmp_path.rglob('*.*') if file.is_file()}
        status, _, err = boneage('draw', *f'{tmp_path}/{again}'.split())
        assert status == 2 and 'would be written over' in err[0]
        assert before == {file: file.read_bytes() for file in before}
    for wrong, says in (('some', 'one hand needs'), ('one.png --months 90', 'one hand needs'),
                        ('one.jpg --sex F --months 90', 'one.jpg does not end in .png; name a file that does'),
                        ('others --hands 2 --sex F --months 98', '--hands are of all ages and both sexes')):
        status, _, err = boneage('draw', *wrong.split())
        assert status == 2 and len(err) == 1 and says in err[0]


@pytest.mark.parametrize('line, says', [
    ('assess a.png --sex F --refusals', '--refusals are DICOM reports; add --dicom DIR'),
    ('train age d --out r --cpus 2', '--cpus and --gpus are for workers; add --ray'),
    ('train age d --out r --gpus .5', '--cpus and --gpus are for workers; add --ray'),
    ('train age d --out r --start --trunk-weights {}', '--start begins as whole networks; leave --trunk-weights out')])
def test_an_option_that_would_do_nothing(boneage, line, says):
    status, _, (error,) = boneage(*line.format(__file__).split())
    assert status == 2 and says in error


def test_demo(boneage, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr('boneage.learn.demo.run_demo', asked.append)
    assert boneage('demo', '--out', tmp_path/'demo')[0] == 0 and asked == [tmp_path/'demo']


def commands(group=typer.main.get_command(app), name=()):
    """Every command and what it is called."""
    yield name, group
    for part, command in getattr(group, 'commands', {}).items(): yield from commands(command, (*name, part))


@pytest.mark.parametrize('name, command', list(commands()))
def test_help_shows_all_its_words(boneage, name, command):
    """Nothing that is written to be read is taken for markup, and no value goes by its type in Python."""
    shown = ' '.join(re.sub('[│╭╮╰╯─]', ' ', '\n'.join(boneage(*name, '--help')[1])).split())
    texts = [command.help or '', command.epilog or '', *(getattr(p, 'help', '') or '' for p in command.params)]
    assert set(' '.join(texts).split()) <= set(shown.split())
    assert not re.search('<(int|float|str|int range|float range)>', shown.partition('Options')[2])
    many = [p.metavar for p in command.params if p.nargs == -1]
    assert all(metavar.endswith('...') and metavar in shown.partition('Options')[0] for metavar in many)


@pytest.mark.parametrize('name, command', list(commands()))
def test_words_for_numbers(boneage, name, command):
    """What is no number is said to be none, without a type's name."""
    for p in command.params:
        if not any(kind in p.type.name for kind in ('int', 'float')): continue
        status, out, err = boneage(*name, p.opts[0], 'seven')
        assert (status, out, len(err)) == (2, [], 1)
        assert p.opts[0] in err[0] and re.search("'seven' is no (whole )?number;", err[0]), err


@pytest.mark.parametrize('command',
                         ['', 'assess', 'batch', 'follow', 'draw', 'preprocess', 'evaluate', 'calibrate',
                          'check-data', 'rsna', 'train', 'train masks', 'train points', 'train age', 'pack', 'export',
                          'demo', 'node'])
def test_help(boneage, command):
    status, out, err = boneage(*command.split(), '--help')
    assert (status, err) == (0, []) and 'Usage: boneage' in '\n'.join(out)


def test_beside_age(folder, boneage):
    """The child's age gives a difference, a score and a word; far from the bone age the difference and a doubt."""
    def score(*args): return json.loads(boneage('assess', 'hand.png', '--sex', 'F', '--json', *args)[1][0])
    plain, beside, grown = score(), score('--age-months', 100), score('--age-months', 230)
    assert plain['age_months'] is plain['difference_months'] is plain['standard_deviation_score'] is None
    assert plain['maturity'] == ''
    assert beside['difference_months'] == round(beside['bone_age_months'] - 100, 1)
    assert beside['maturity'] in ('delayed', 'within', 'advanced')
    assert (beside['standard_deviation_score'] < 0) == (beside['difference_months'] < 0)
    assert grown['standard_deviation_score'] is None and 'far from the bone age' in grown['note']
    assert grown['difference_months'] < 0
    assert 'beside the age of 100' in boneage('assess', 'hand.png', '--sex', 'F', '--age-months', '100')[1][0]
    assert boneage('assess', 'hand.png', '--sex', 'F', '--age-months', '-1')[0] == 2


def test_a_link_to_itself_stops_no_other(folder, boneage):
    Path('loop.png').symlink_to('loop.png')
    assert boneage('batch', 'hand.png', 'loop.png', '--sex', 'F', '--out', 'ages.csv')[0] == 1
    with open('ages.csv', newline='') as file: rows = {row['file']: row for row in csv.DictReader(file)}
    assert rows['hand.png']['accepted'] == 'True' and 'no such file' in rows['loop.png']['reason']
    assert 'no such file' in boneage('assess', 'loop.png', '--report', 'r.html', '--dicom', 'd')[2][0]


def test_a_folder_that_is_gone(folder, boneage, monkeypatch):
    Path('gone').mkdir()
    monkeypatch.chdir('gone')
    Path('../gone').rmdir()
    status, _, err = boneage('assess', folder/'hand.png', '--sex', 'F', '--report', 'r.html')
    assert (status, err) == (1, ['boneage: the folder that you are in is gone; go to another'])


def test_a_damaged_report_is_not_the_radiograph(folder, boneage, hand):
    """What lies under the name of a report and is none is named, and neither is harmed."""
    write_dicom('hand.dcm', hand.picture, PatientSex='F', StudyInstanceUID='1.2.4')
    for data in (b'', b'no report' * 30):
        Path('hand_report.dcm').write_bytes(data)
        status, _, err = boneage('assess', 'hand.dcm', '--dicom', '.')
        assert status == 1 and 'hand_report.dcm is no report; name another folder' in err[0], err
        assert Path('hand_report.dcm').read_bytes() == data and not Path('hand_picture.dcm').exists()


def test_dicom(folder, boneage, hand):
    """Sex and age from the header, unless they are given; a report and a picture that point at the radiograph."""
    born = dict(PatientSex='F', PatientBirthDate='20110301')
    ids = dict(StudyInstanceUID='1.2.4', SeriesInstanceUID='1.2.5', StudyDate='20200301')
    source = pydicom.dcmread(write_dicom('hand.dcm', hand.picture, **ids, **born))
    write_dicom('nobody.dcm', hand.picture, **ids)
    def assess(*args):
        status, out, err = boneage('assess', *args, '--json')
        return status, [json.loads(line) for line in out], err
    status, (found,), _ = assess('hand.dcm', '--dicom', 'reports')
    assert status == 0
    said = found['sex'], found['sex_from'], found['age_months'], found['age_from']
    assert said == ('F', 'PatientSex', 108, 'PatientBirthDate')
    assert found['difference_months'] == round(found['bone_age_months'] - 108, 1)
    status, (refused,), err = assess('hand.dcm', '--sex', 'M')
    assert status == 1 and 'says sex F, M was given' in refused['reason'] and len(err) == 1
    _, (given,), _ = assess('hand.dcm', '--sex', 'M', '--age-months', 150, '--anyway')
    assert (given['sex'], given['sex_from'], given['age_months'], given['age_from']) == ('M', 'given', 150, 'given')
    assert given['note'] == ('PatientSex F does not count; by its PatientBirthDate the child is 108.0 months old, '
                             '150.0 was given and is used')
    capture = write_dicom('capture.dcm', hand.picture, PatientSex='F', Modality='OT')
    assert assess(capture)[0] == 1 and assess(capture, '--anyway')[0] == 0
    status, (nobody,), err = assess('nobody.dcm', '--dicom', 'reports')
    assert status == 1 and nobody['sex'] == '' and 'give the sex' in nobody['reason'] and not err
    both = read_report('reports/nobody_report.dcm')
    assert both['Bone age, read as that of a girl'] == (nobody['months_by_sex']['F'], 'mo')
    assert 'XR Bone age' not in both and both['remarks'] == [nobody['reason']]
    report = read_report('reports/hand_report.dcm')
    assert report['XR Bone age'] == (found['bone_age_months'], 'mo')
    assert (report['study'], report['source']) == (source.StudyInstanceUID, source.SOPInstanceUID)
    picture = pydicom.dcmread('reports/hand_picture.dcm')
    assert picture.StudyInstanceUID == source.StudyInstanceUID and picture.pixel_array.std() > 0
    assert sorted(f.name for f in Path('reports').iterdir()) == [
        f'{name}_{what}.dcm' for name in ('hand', 'nobody') for what in ('picture', 'report')]
    write_dicom('bare.dcm', hand.picture)
    status, _, err = assess('bare.dcm', 'hand.dcm', '--sex', 'F', '--dicom', 'more')
    assert status == 1 and len(err) == 1 and 'has no StudyInstanceUID' in err[0]
    assert len(list(Path('more').iterdir())) == 2, 'the next file is not lost'
    write_dicom('noise.dcm', cv2.imread('noise.png', 0), **ids, **born)
    write_dicom('flat.dcm', hand.picture * 0, **ids, **born)
    refused = 'noise.dcm', 'flat.dcm', 'text.png'
    assert boneage('assess', *refused, '--dicom', 'none')[0] == 1 and not Path('none').exists()
    status, _, err = boneage('assess', *refused, '--dicom', 'all', '--refusals')
    assert status == 1 and sorted(f.name for f in Path('all').iterdir()) == ['flat_report.dcm', 'noise_report.dcm']
    remarks = [read_report(f'all/{name}_report.dcm')['remarks'] for name in ('noise', 'flat')]
    assert [f'boneage: {name}: not assessed: {why}' for name, [why] in zip(refused, remarks)] == err[:2]
    assert boneage('assess', 'hand.dcm')[1][0].startswith('hand.dcm: ')
    assert 'girl (PatientSex)' in boneage('assess', 'hand.dcm')[1][0]


def test_reports_of_files_named_by_numbers(folder, boneage, hand):
    """A dot in a name begins no suffix; the report of another child is not written over."""
    def scan(name, study):
        ids = dict(StudyInstanceUID=study, SeriesInstanceUID='1.2.5', StudyDate='20200301')
        return write_dicom(name, hand.picture, PatientSex='F', **ids)
    scan('1.2.100', '1.2.1'), scan('1.2.200', '1.2.2')
    assert boneage('assess', '1.2.100', '1.2.200', '--dicom', 'reports')[0] == 0
    assert {file.name for file in Path('reports').iterdir()} == {
        f'1.2.{n}_{what}.dcm' for n in (100, 200) for what in ('picture', 'report')}
    before = Path('reports/1.2.100_report.dcm').read_bytes()
    scan('1.2.100', '1.2.3')
    status, _, err = boneage('assess', '1.2.100', '--dicom', 'reports')
    assert status == 1 and 'is the report of another study; name another folder' in err[0]
    assert Path('reports/1.2.100_report.dcm').read_bytes() == before


def test_report(folder, boneage):
    """One page for all, the refused with their reasons; it names no file."""
    assert boneage('assess', 'hand.png', 'cut.png', '--sex', 'F', '--age-months', 100, '--report',
                   'out/report.html')[0] == 1
    page = Path('out/report.html').read_text()
    assert page.count('<section>') == 2 and page.count('<img') == 3 and 'Not assessed' in page and 'cut short' in page
    assert 'standard deviations' in page
    assert not any(name in page for name in ('hand.png', 'cut.png', str(folder)))


def test_level(folder, boneage):
    """A higher level is wider; one that cannot be promised is a usage error before anything is assessed."""
    def width(level):
        low, high = json.loads(boneage('assess', 'hand.png', '--sex', 'F', '--json', '--level',
                                       level)[1][0])['interval_months']
        return high - low
    assert width('.5') < width('.9') < width('.95')
    for level in ('1', '0', '0.9999'):
        status, out, err = boneage('assess', 'hand.png', '--sex', 'F', '--level', level)
        assert status == 2 and not out and len(err) == 1 and 'give one above 0 and at most' in err[0]


def test_batch(cohort, folder, boneage):
    """Each radiograph once, though the run was killed; a row with its reason for what is refused."""
    children = pd.read_csv(cohort/'labels.csv', dtype={'id': str})
    files = {f.stem: f for f in (cohort/'images').iterdir()}
    pd.DataFrame(dict(file=[str(files[i]) for i in children.id],
                      sex=children.male.map({True: 'M', False: 'F'}))).to_csv('children.csv', index=False)
    command = ['batch', 'children.csv', str(folder/'*.png'), '--sex', 'F', '--out', 'out/table.csv']
    process = subprocess.Popen([BONEAGE, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    table = Path('out/table.csv')
    for _ in range(600):
        if table.exists() and table.read_bytes().count(b'\n') > 2: break
        time.sleep(.1)
    process.kill(); process.wait()
    killed = table.read_bytes().count(b'\n') - 1
    status, out, err = boneage(*command)
    rows = pd.read_csv(table, dtype={'reason': str}, keep_default_na=False)
    assert status == 1 and 2 <= killed and rows.file.is_unique
    assert len(rows) == len(children) + len(list(folder.glob('*.png')))
    assert (rows.accepted == (rows.reason == '')).all() and rows.accepted.any() and not rows.accepted.all()
    assert dict(zip(rows.file, rows.sex))[str(files[children.id[0]])] == ('M' if children.male[0] else 'F')
    assert boneage(*command)[0] == 0 and len(pd.read_csv(table)) == len(rows), 'a finished table is left as it is'
    for bad in (['nothing*.png'], ['children.csv', '--level', '2'], ['hand.png', '--out', 'children.csv']):
        status, out, err = boneage('batch', *bad, *([] if '--out' in bad else ['--out', 'other.csv']))
        assert status in (1, 2) and not out and len(err) == 1, err


def test_calibrate(tmp_path, boneage):
    """Intervals of a folder's own weights; those of other weights are an error."""
    weights = Path(shutil.copytree(WEIGHTS, tmp_path/'weights'))
    rng = np.random.default_rng(0)
    age = rng.uniform(10, 210, 90)
    table = pd.DataFrame(dict(id=range(90), male=True, boneage=age, predicted=age + rng.normal(0, 9, 90),
                              accepted=True, reason=''))
    table.to_csv(tmp_path/'p.csv', index=False)
    assert boneage('calibrate', tmp_path/'p.csv', '--weights', weights)[0] == 0
    opened = open_weights(weights)
    assert len(load_calibration(opened).error) == 90 and load_calibration(opened).reader == opened.digest
    table.head(9).to_csv(tmp_path/'few.csv', index=False)
    for bad in ('few.csv', 'weights/mask.onnx', 'missing.csv'):
        status, out, err = boneage('calibrate', tmp_path/bad, '--weights', weights)
        assert status == 2 and not out and len(err) == 1, err
    assert len(load_calibration(opened).error) == 90, 'what cannot be used is not written'
    (weights/'calibration.json').write_text((weights/'calibration.json').read_text().replace(opened.digest, 64 * '0'))
    with pytest.raises(WeightsError, match='is of other weights'): load_calibration(opened)


# The installed command

def test_version():
    done = subprocess.run([BONEAGE, '--version'], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, '')


def test_installed(folder):
    done = subprocess.run([BONEAGE, 'assess', 'cut.png', 'hand.png', '--sex', 'F', '--json'], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 1 and [json.loads(line)['accepted'] for line in done.stdout.splitlines()] == [False, True]
    assert len(done.stderr.splitlines()) == 1


def test_reader_gone(cohort):
    """`boneage ... | head` ends without a word."""
    process = subprocess.Popen([BONEAGE, 'check-data', cohort], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    process.stdout.close()
    assert process.stderr.read() == ''
    process.wait(60)
