"""Around the reading: the table of a batch, the page of a report, and DICOM files that other programs read."""
import csv
import io
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pydicom
import pytest
from conftest import write_dicom
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.assessment import Assessment
from boneage.clinic.batch import BatchError, Job, as_row, assess_batch, columns, find_jobs
from boneage.clinic.dicom import POINTED_AT, draw_result, read_report, result_lines, write_capture, write_report
from boneage.clinic.report import Case, draw_maps, make_case, report_page, tint
from boneage.radiograph import PictureError


LEARNING = {'torch', 'fastai', 'pandas', 'matplotlib', 'scipy', 'skimage', 'sklearn', 'boneage.learn'}


def run(*command):
    """What a program says, on stdout and stderr."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


class Reader:
    """In place of an `Assessor`: answers from the file's name, keeps count of who is reading."""
    def __init__(self, wait=0.):
        self.wait, self.now, self.most, self.asked, self.lock = wait, 0, 0, [], threading.Lock()

    def assess(self, file, sex, age_months=None, level=.9):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.asked.append(str(file))
            wait = self.wait * (len(self.asked) % 3)
        time.sleep(wait)
        with self.lock: self.now -= 1
        accepted = len(str(file)) % 2 == 0
        months = len(str(file)) / 10 if accepted else None
        reason = '' if accepted else 'no "hand", none'
        return Assessment(str(file), sex, accepted, reason, months, False, 'a reader', age_months=age_months)


def files_of(table):
    """The files of a table, in order."""
    with table.open(newline='', encoding='utf-8') as file: return [row['file'] for row in csv.DictReader(file)]


# Batches

NAMES = st.text(st.characters(exclude_categories=['Cs', 'Cc']), min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), st.data())
@settings(max_examples=60)
def test_a_table_cut_anywhere_is_gone_on_with(names, data):
    """Whatever the files are called and wherever the run died: the bytes of a run that nobody stopped, one row each."""
    jobs = [Job(Path('scans') / name, 'F', 100.) for name in names]
    jobs = list({job.file: job for job in jobs}.values())
    with TemporaryDirectory() as folder:
        whole, table = Path(folder)/'whole.csv', Path(folder)/'table.csv'
        assess_batch(Reader(), jobs, whole)
        end = len(','.join(columns())) + 2
        table.write_bytes(whole.read_bytes()[:data.draw(st.integers(end, whole.stat().st_size))])
        reader = Reader()
        assess_batch(reader, jobs, table)
        assert table.read_bytes() == whole.read_bytes()
        assert files_of(table) == [str(job.file) for job in jobs]
        assert assess_batch(reader, jobs, table) == 0
        assert len(set(reader.asked)) == len(reader.asked), 'nothing is read twice'


@pytest.mark.parametrize('threads', [1, 3])
def test_several_at_once_in_order(tmp_path, threads):
    """As many at once as there are threads and no more; the rows and the counts in the order of the jobs."""
    jobs, reader, seen = [Job(Path(f'{"x" * (n % 5)}{n}.png'), 'M') for n in range(24)], Reader(.005), []
    def progress(done, total): seen.append((done, total))
    refused = assess_batch(reader, jobs, tmp_path/'t.csv', progress=progress, threads=threads)
    files = files_of(tmp_path/'t.csv')
    assert files == [str(job.file) for job in jobs] and seen == [(n, 24) for n in range(1, 25)]
    assert reader.most == threads and refused == sum(len(file) % 2 for file in files) > 0


def test_a_name_that_is_no_text_stops_nothing(tmp_path):
    """A file name of any bytes has its row, and is found in the table again."""
    jobs, reader = [Job(Path('a\udcff.png'), 'F'), Job(Path('b.png'), 'F')], Reader()
    for _ in range(2): assess_batch(reader, jobs, tmp_path/'t.csv')
    assert len(reader.asked) == 2 and (tmp_path/'t.csv').read_bytes().count(b'\n') == 3


def test_what_is_said_first_stands(tmp_path):
    """Of one child in a table, of all in the call; a folder that names the file again takes nothing away."""
    for name in ('a.png', 'b.png'): cv2.imwrite(str(tmp_path/name), np.zeros((9, 9), np.uint8))
    (tmp_path/'who.csv').write_text('\ufefffile,sex,age_months\na.png, f ,\nb.png,,24\n', encoding='utf-8')
    for inputs in (['who.csv', '.'], ['.', 'who.csv'], ['*.png', 'who.csv']):
        inputs = [tmp_path/name for name in inputs]
        assert find_jobs(inputs, 'M', 50) == [Job(tmp_path/'a.png', 'F', 50), Job(tmp_path/'b.png', 'M', 24)]


@pytest.mark.parametrize('text, why', [
    ('', 'no column file'), ('file\n', 'no rows'), ('file,sex\na.png,F\nb.png,girls\n', "line 3: 'girls' is not a sex"),
    ('sex,file\nF\n', 'line 2: no file is named'), ('file,age_months\na.png,-3\n', "'-3' is not an age")])
def test_a_wrong_table_of_children(tmp_path, text, why):
    (tmp_path/'who.csv').write_text(text)
    with pytest.raises(BatchError, match=why) as error: find_jobs([tmp_path/'who.csv'])
    assert len(str(error.value).splitlines()) == 1


def test_a_batch_says_what_one_radiograph_says(assessor, hand, tmp_path):
    """Threads that share the networks do not mix up hands."""
    for n in range(6): cv2.imwrite(str(tmp_path/f'{n}.png'), hand.picture[:, ::-1] if n % 2 else hand.picture)
    cv2.imwrite(str(tmp_path/'6.png'), np.zeros((300, 200), np.uint8))
    jobs = find_jobs([tmp_path], 'F', 100)
    assert assess_batch(assessor, jobs, tmp_path/'t.csv', threads=3) == 1
    expected = io.StringIO()
    writer = csv.DictWriter(expected, columns())
    writer.writeheader()
    for job in jobs: writer.writerow(as_row(assessor.assess(job.file, 'F', age_months=100)))
    assert (tmp_path/'t.csv').read_bytes().decode() == expected.getvalue()


# Reports

@pytest.fixture
def examined(assessor, hand, tmp_path):
    """A drawn hand that was examined: as a file of a scanner, with the numbers that a report points at."""
    child = dict(PatientSex='F', PatientBirthDate='20110301', PatientName='Doe^Jane', PatientID='ID-4711')
    study = dict(StudyInstanceUID='1.2.4', SeriesInstanceUID='1.2.5', StudyDate='20200301', ImageLaterality='L')
    return assessor.examine(write_dicom(tmp_path/'Doe_Jane.dcm', hand.picture, **child, **study))


def test_page(assessor, examined, tmp_path):
    """One section each, the refused with their reasons; it names nobody and loads nothing."""
    (tmp_path/'text.png').write_text('no picture')
    page = report_page(make_case(assessor, each) for each in (examined, assessor.examine(tmp_path/'text.png', 'F')))
    assert [page.count(tag) for tag in ('<section>', '<img', '<figcaption>', 'Not assessed')] == [2, 3, 3, 1]
    found = examined.found
    for says in (f'{found.bone_age_months} months', '108 months (PatientBirthDate)', '2 radiographs',
                 f'{found.standard_deviation_score:+.2f} standard deviations'): assert says in page, says
    for never in ('Doe_Jane', 'Doe^Jane', 'ID-4711', str(tmp_path), 'http:', 'https:', '<script'):
        assert never not in page, never
    odd = replace(found, maturity='<b>', age_from='<b>')
    odd = Case('<b>', odd, {'<b>': 1.}, {'<b>': np.zeros((9, 9, 3), np.uint8)})
    assert '<b>' not in report_page([odd])


def test_maps_are_of_the_hand(assessor, examined):
    """Some places are red or blue, black film outside of the hand hardly; the same hand gives the same picture."""
    canvas = examined.hand.canvas
    maps = draw_maps(assessor.ensemble, canvas, 'F', height=200)
    assert maps.dtype == np.uint8 and len(maps) == 200 and maps.shape[1] > 300
    coloured = np.ptp(maps[:, :300].astype(int), axis=-1) > 30
    assert .005 < coloured.mean() < .9
    assert np.array_equal(maps, draw_maps(assessor.ensemble, canvas, 'F', height=200))
    red, grey, blue = tint(np.full((1, 3), 99, np.uint8), np.array([[5., 0, -5]]), 5)[0].astype(int)
    assert red[0] > red[2] and blue[2] > blue[0] and set(grey) == {99}


# DICOM

def write_both(examined, folder):
    """The report r.dcm and the picture p.dcm of an assessment."""
    write_report(examined.found, examined.radiograph.header, folder/'r.dcm')
    page = draw_result(examined.hand.canvas, result_lines(examined.found))
    write_capture(page, examined.radiograph.header, folder/'p.dcm')


def test_report_and_picture(examined, tmp_path):
    """Both stand in the radiograph's study and point at it; neither opens its file again."""
    Path(examined.found.file).unlink()
    header = examined.radiograph.header
    before = header.to_json()
    write_both(examined, tmp_path)
    report, picture = read_report(tmp_path/'r.dcm'), pydicom.dcmread(tmp_path/'p.dcm')
    assert report['XR Bone age'] == (examined.found.bone_age_months, 'mo') and report['Subject Age'] == (108, 'mo')
    assert report['Z-Score of measurement'] == (examined.found.standard_deviation_score, '1')
    assert (report['study'], report['source']) == ('1.2.4', '1.2.3')
    assert (picture.StudyInstanceUID, picture.PatientID) == ('1.2.4', 'ID-4711')
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == '1.2.3' and picture.Laterality == 'L'
    assert picture.pixel_array.shape == (780, 1200, 3) and header.to_json() == before
    with pytest.raises(ValueError, match='is no structured report'): read_report(tmp_path/'p.dcm')


@pytest.mark.parametrize('program', ['dciodvfy'])
def test_another_program_finds_no_error(examined, tmp_path, program):
    """David Clunie's validator, where it is installed."""
    if not shutil.which(program): pytest.skip(f'{program} is not on this machine')
    write_both(examined, tmp_path)
    for name in ('r.dcm', 'p.dcm'):
        said = run(program, tmp_path/name)
        assert 'Error' not in said, said


@pytest.mark.parametrize('missing', POINTED_AT)
def test_a_header_that_cannot_be_pointed_at(examined, tmp_path, missing):
    header = examined.radiograph.header
    del header[missing]
    for write, what in ((write_report, examined.found), (write_capture, np.zeros((9, 9, 3), np.uint8))):
        with pytest.raises(PictureError, match=f'^its header has no {missing} for a report') as error:
            write(what, header, tmp_path/'x.dcm')
        assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path/'x.dcm').exists()


# What the rooms cost

@pytest.mark.parametrize('module', ['batch', 'report', 'dicom', 'serve'])
def test_no_library_of_learning(module):
    loaded = run(sys.executable, '-c', f'import boneage.clinic.{module}, sys; print(*sys.modules)').split()
    assert f'boneage.clinic.{module}' in loaded and not LEARNING & set(loaded)
