"""Around the reading: the table of a batch, the page of a report, and DICOM files that other programs read."""
import codecs
import csv
import errno
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pydicom
import pytest
from conftest import write_dicom
from corpus import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import Tag, tag_in_exception

from boneage.assessment import Assessment, Examined, conclude, of_unknown_sex
from boneage.child import OLDEST
from boneage.clinic import follow
from boneage.clinic.batch import BatchError, Job, as_row, assess_batch, columns, find_jobs, read_row
from boneage.clinic.dicom import POINTED_AT, draw_result, read_report, result_lines, write_capture, write_report
from boneage.clinic.report import Case, draw_maps, make_case, report_page, tint
from boneage.picture import PictureError


LEARNING = {'torch', 'fastai', 'pandas', 'matplotlib', 'scipy', 'skimage', 'sklearn', 'boneage.learn'}


def run(*command):
    """What a program says, on stdout and stderr."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


class Reader:
    """In place of an `Assessor`: answers from the file's name, keeps count of who is reading."""
    model = 'a reader'

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
        return Assessment(str(file), sex, accepted, reason, months, False, self.model, age_months=age_months,
                          level=level if accepted else None, age_from='given' * (age_months is not None))


def files_of(table):
    """The files of a table, in order."""
    with table.open(newline='', encoding='utf-8') as file: return [row['file'] for row in csv.DictReader(file)]


# Batches

NAMES = st.text(st.characters(exclude_categories=['Cs', 'Cc']) | st.sampled_from('\n\r\t"'), min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), st.data())
@settings(max_examples=60)
def test_a_table_cut_anywhere_is_gone_on_with(names, data):
    """Whatever the files are called and wherever the run died: the bytes of a run that nobody stopped, one row each."""
    with TemporaryDirectory() as folder:
        files = dict.fromkeys(Path(folder, 'scans', name) for name in names)
        jobs = [Job(file, 'F', 100.) for file in files]
        whole, table = Path(folder)/'whole.csv', Path(folder)/'table.csv'
        assess_batch(Reader(), jobs, whole)
        end = len(','.join(columns())) + 2
        table.write_bytes(whole.read_bytes()[:data.draw(st.integers(end, whole.stat().st_size))])
        reader = Reader()
        assess_batch(reader, jobs, table)
        assert table.read_bytes() == whole.read_bytes()
        assert files_of(table) == [str(file.relative_to(folder)) for file in files]
        assert assess_batch(reader, jobs, table) == 0
        assert len(set(reader.asked)) == len(reader.asked), 'nothing is read twice'


def test_a_table_cut_within_a_name_of_two_lines(tmp_path):
    """At every byte of it: the row is done again, and the other one is not."""
    names, table = ('a.png', 'two\nlines\r\nand "three"\n.png'), tmp_path/'t.csv'
    jobs = [Job(tmp_path/name, 'F') for name in names]
    assess_batch(Reader(), jobs, table)
    whole = table.read_bytes()
    for end in range(whole.index(b'"two'), len(whole)):
        table.write_bytes(whole[:end])
        reader = Reader()
        assess_batch(reader, jobs, table)
        assert table.read_bytes() == whole and reader.asked == [str(jobs[1].file)]


@pytest.mark.parametrize('threads', [1, 3])
def test_several_at_once_in_order(tmp_path, threads):
    """As many at once as there are threads and no more; the rows and the counts in the order of the jobs."""
    names, reader, seen = [f'{"x" * (n % 5)}{n}.png' for n in range(24)], Reader(.005), []
    jobs = [Job(tmp_path/name, 'M') for name in names]
    def progress(done, total): seen.append((done, total))
    refused = assess_batch(reader, jobs, tmp_path/'t.csv', progress=progress, threads=threads)
    files = files_of(tmp_path/'t.csv')
    assert files == names and seen == [(n, 24) for n in range(1, 25)]
    assert reader.most == threads and refused == sum(len(str(job.file)) % 2 for job in jobs) > 0


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


# What people call a column, what its cells say of a girl of 100 months, and of a boy

FILES = ['file', 'filename', 'path', 'image', 'picture', 'radiograph']
SEXES = [(column, girl, boy) for column in ('sex', 'gender', 'patientsex')
         for girl, boy in (('f', 'm'), ('female', 'male'), ('girl', 'boy'))]
SEXES += [('male', 'false', 'true'), ('male', '0', '1')]
AGES = ['agemonths', 'ageinmonths', 'age']
CODES = ['utf-8', 'utf-8-sig', 'utf-16', 'cp1252']


@st.composite
def as_written(draw, word, between=('', ' ', '_', '-', '. ', '\u00a0')):
    """A word as people write it: letters of any case, with something between them."""
    letters = [draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in word]
    return ''.join(draw(st.sampled_from(between)) + letter for letter in letters) + draw(st.sampled_from(between))


def in_any_case(word):
    """A word in letters of any case, with blanks around it."""
    return as_written(word, ('',)).flatmap(lambda text: st.sampled_from([text, f' {text}', f'{text}  ']))


@given(st.data())
@settings(max_examples=150)
def test_any_spelling_says_the_same(data):
    """However columns and values are written, in whatever order, between whatever: the same jobs and not a word."""
    def one_of(words): return data.draw(st.sampled_from(words))
    sex, girl, boy = one_of(SEXES)
    columns = [data.draw(as_written(name)) for name in (one_of(FILES), sex, one_of(AGES))]
    rows = [columns, ['a.png', data.draw(in_any_case(girl)), '100'], ['b.png', data.draw(in_any_case(boy)), ' ']]
    order = data.draw(st.permutations(range(3)))
    separator, end, code = one_of([',', ';', '\t']), one_of(['\n', '\r\n', '\r']), one_of(CODES)
    text = one_of(['', f'sep={separator}{end}']) + end.join(separator.join(row[n] for n in order) for row in rows)
    with TemporaryDirectory() as folder:
        table, said = Path(folder)/'who.CSV', []
        table.write_bytes((text + one_of(['', end, end + separator * 2 + end])).encode(code))
        for asked in ('F', 'M'):
            jobs = find_jobs([table], asked, 7, said.append)
            assert jobs == [Job(table.parent/'a.png', 'F', 100), Job(table.parent/'b.png', 'M', 7)]
        assert not said


@pytest.mark.parametrize('word', ['O', 'other', 'u', 'Unknown', ''])
def test_a_sex_that_nobody_knows(tmp_path, word):
    """One child of unknown sex stops no table; the age is a number with a comma, as in half of Europe."""
    (tmp_path/'who.csv').write_text(f'file;sex;age\na.png;{word};125,5\nb.png;M;99\n')
    assert find_jobs([tmp_path/'who.csv']) == [Job(tmp_path/'a.png', None, 125.5), Job(tmp_path/'b.png', 'M', 99)]
    assert find_jobs([tmp_path/'who.csv'], 'F')[0].sex == 'F'


@pytest.mark.parametrize('code', CODES)
def test_names_in_any_code(tmp_path, code):
    """File names that are not English, also where a mark is at the front and the bytes are the other way round."""
    (tmp_path/'who.csv').write_bytes('sex;Größe;file\nF;1;Mädchen.png\n'.encode(code))
    said = []
    assert find_jobs([tmp_path/'who.csv'], 'M', warn=said.append) == [Job(tmp_path/'Mädchen.png', 'F')]
    assert said == [f"{tmp_path/'who.csv'}: not understood and not used: column 'Größe'"]
    (tmp_path/'who.csv').write_bytes(codecs.BOM_UTF16_BE + 'sex\tfile\nF\tMädchen.png\n'.encode('utf-16-be'))
    assert find_jobs([tmp_path/'who.csv'], 'M') == [Job(tmp_path/'Mädchen.png', 'F')]


def test_a_column_that_is_not_understood_is_named(tmp_path):
    """Once for a table, on whatever is listened to; empty columns of a spreadsheet are nothing."""
    (tmp_path/'who.csv').write_text('file,Geschlecht,age (years),,,\na.png,W,8,,x\nb.png,M,9,,\n')
    said = []
    assert [job.sex for job in find_jobs([tmp_path/'who.csv'], warn=said.append)] == [None, None]
    assert len(said) == 1 and said[0].endswith(": column 'Geschlecht', 'age (years)', number 5")
    with pytest.warns(UserWarning, match='Geschlecht'): find_jobs([tmp_path/'who.csv'])


@pytest.mark.parametrize('name, girl, boy', [
    *((name, 'F', 'M') for name in ('Geschlecht', 'Sex (M/F)', 'is_male', 'Sexe', 'W/M')), ('Género', 'x', 'y'),
    ('x', 'w', 'm'), ('性别', '女', '男'), ('Kind', 'Mädchen', 'Junge'), ('boy', '0', '1'), ('Płeć', 'x', 'y'),
    ('Kön', 'flicka', 'pojke'), ('Пол', 'Ж', 'М')])
def test_one_sex_for_all_does_not_go_before_a_column(tmp_path, name, girl, boy):
    """That may say it: boys would be read as girls."""
    (tmp_path/'who.csv').write_text(f'file,{name},ward\na.png,{girl},B\nb.png,{boy},C\n', encoding='utf-8')
    with pytest.raises(BatchError, match='may say the sex'): find_jobs([tmp_path/'who.csv'], 'F', warn=[].append)
    (tmp_path/'who.csv').write_text(f'file,{name},ward,sex\na.png,{girl},B,F\nb.png,{boy},C,M\n', encoding='utf-8')
    assert [job.sex for job in find_jobs([tmp_path/'who.csv'], 'F', warn=[].append)] == ['F', 'M']


def test_an_empty_column_of_the_sex_says_nothing(tmp_path):
    """And does not hide another one: girls would be read as boys."""
    (tmp_path/'who.csv').write_text('file,Geschlecht,sex\na.png,m,\nb.png,w,NA\n')
    with pytest.raises(BatchError, match='may say the sex'): find_jobs([tmp_path/'who.csv'], 'M', warn=[].append)


@pytest.mark.parametrize('nothing', ['NA', 'n/a', '#N/A', 'NULL'])
def test_cells_in_which_programs_say_that_they_are_empty(tmp_path, nothing):
    (tmp_path/'who.csv').write_text(f'file,sex,age_months\na.png,F,{nothing}\nb.png,{nothing},100\n')
    jobs = [Job(tmp_path/'a.png', 'F'), Job(tmp_path/'b.png', None, 100)]
    assert find_jobs([tmp_path/'who.csv'], warn=[].append) == jobs
    (tmp_path/'who.csv').write_text(f'file\n{nothing}\n')
    with pytest.raises(BatchError, match='no file is named'): find_jobs([tmp_path/'who.csv'])


def test_a_folder_of_more_than_pictures(tmp_path):
    """What begins as a picture is read under any name; what is left out is named, with folders, in one line."""
    png = cv2.imencode('.png', np.zeros((40, 40), np.uint8))[1].tobytes()
    for name in ('a.png', 'copy.png (1)', 'no suffix'): (tmp_path/name).write_bytes(png)
    for name in ('.hidden', 'who.csv', 'report.html', 'b.png.part', 'who.csv.lock', 'DICOMDIR'): (tmp_path/name).touch()
    said = []
    assert len(find_jobs([tmp_path], warn=said.append)) == 3 and not said
    (tmp_path/'more').mkdir()
    for name in ('c.heic', 'd.webp', 'two\nlines.gif'): (tmp_path/name).touch()
    assert len(find_jobs([tmp_path], warn=said.append)) == 3
    assert said == [f'{tmp_path}: not looked at: c.heic, d.webp, more/ and 1 more; '
                    f'name them, or {tmp_path}/*/* for what is in folders']


def test_two_words_for_all_children_may_be_their_sexes(tmp_path):
    """Whatever they are, beside one sex for all, with a sign for neither; more words are a ward or a remark."""
    rows = [f'{n}.png,{n},{"ab"[n % 2]}' for n in range(4)]
    for more in ([], ['4.png,4,?'], ['4.png,4,unknown']):
        (tmp_path/'who.csv').write_text('\n'.join(['file,n,group', *rows, *more]))
        with pytest.raises(BatchError, match="column 'group' may say the sex"):
            find_jobs([tmp_path/'who.csv'], 'F', warn=[].append)
    (tmp_path/'who.csv').write_text('file,n,group\na.png,1,f\nb.png,2,m\nc.png,3,divers\n')
    with pytest.raises(BatchError, match='may say the sex'): find_jobs([tmp_path/'who.csv'], 'F', warn=[].append)
    (tmp_path/'who.csv').write_text('\n'.join(['file,n,group', *rows, '4.png,4,c']))
    assert len(find_jobs([tmp_path/'who.csv'], 'F', warn=[].append)) == 5


def test_two_dates_are_an_age(tmp_path):
    """Of birth and of the exposure; one alone is of no use, and named."""
    (tmp_path/'who.csv').write_text('file,Date of birth,Study date\na.png,2010-03-01,20200301\nb.png,,2020-03-01\n')
    said = []
    assert find_jobs([tmp_path/'who.csv'], 'F', 7, said.append) == [Job(tmp_path/'a.png', 'F', 120),
                                                                   Job(tmp_path/'b.png', 'F', 7)] and not said
    (tmp_path/'who.csv').write_text('file,date\na.png,yesterday\n')
    assert find_jobs([tmp_path/'who.csv'], 'F', warn=said.append) == [Job(tmp_path/'a.png', 'F')]
    assert said[0].endswith("column 'date'")


@pytest.mark.parametrize('text, why', [
    ('', 'no column file'), ('\n;;\n', 'no column file'), ('sep=;\n', 'no column file'), ('file\n', 'no rows'),
    ('name,sex\na.png,F\n', "no column file but 'name', 'sex'"), ('sep=;\nfile,sex\na.png,F\n', 'has no column file'),
    ('file,sex\na.png,F\nb.png,girls\n', "line 3: 'girls' is not a sex"),
    ('file,sex\na.png,1\n', "line 2: '1' is not a sex"), ('file,sex\na.png,true\n', "line 2: 'true' is not a sex"),
    ('file,male\na.png,yes\n', "line 2: 'yes' in a column"),
    ('sex,file\nF\n', 'line 2: no file is named'), ('file,sex\na,b.png,F\n', "line 2: has more cells"),
    *((f'file,age_months\na.png,{age}\n', f"line 2: '{age}' is not an age")
      for age in ('-3', '-0.1', 'nan', 'inf', '1e999', 'ten', '10_5', '1_0')),
    ('file;age\na.png;8,555\n', "line 2: '8,555' is not an age"),
    ('file,Sex,gender\na.png,F,F\n', "two columns for sex, 'Sex' and 'gender'"),
    ('file,male,sex\na.png,1,M\n', "two columns for sex, 'male' and 'sex'"),
    ('file,path,sex\na.png,a.png,F\n', "two columns for file, 'file' and 'path'"),
    ('file,age,age_months\na.png,1,1\n', "two columns for age_months, 'age' and 'age_months'"),
    ('file,date,birth date\na.png,2020-03-01,1.3.2010\n', "line 2: '1.3.2010' is not a date"),
    ('file,date,birth date\na.png,2010-03-01,2020-03-01\n', 'line 2: the exposure of 2010-03-01 is before the birth'),
    ('file,date,birth date,age\na.png,2020-03-01,2010-03-01,8\n', 'line 2: its dates make 120 months and its age is 8'),
    ('file,sex\n"a.png,F\nb.png,M\n', 'cannot be read')])
def test_a_wrong_table_of_children(tmp_path, text, why):
    (tmp_path/'who.csv').write_text(text)
    with pytest.raises(BatchError, match=why) as error: find_jobs([tmp_path/'who.csv'], 'M')
    assert len(str(error.value).splitlines()) == 1 and str(error.value).startswith(str(tmp_path/'who.csv'))


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tif'])
def test_a_picture_named_csv(hand, tmp_path, suffix):
    """A file of bytes is one line."""
    cv2.imwrite(str(tmp_path/f'hand{suffix}'), hand.picture)
    (tmp_path/f'hand{suffix}').rename(tmp_path/'hand.csv')
    with pytest.raises(BatchError, match='hand.csv: cannot be read') as error: find_jobs([tmp_path/'hand.csv'], 'F')
    assert len(str(error.value).splitlines()) == 1


def test_a_code_without_its_mark(tmp_path):
    """UTF-16 that does not say so has letters with nothing between them: no text, also without a sex to trip over."""
    (tmp_path/'who.csv').write_bytes('file\na.png\n'.encode('utf-16-le'))
    with pytest.raises(BatchError, match='who.csv: cannot be read .it is no text'): find_jobs([tmp_path/'who.csv'], 'F')


@given(st.binary(max_size=200))
def test_any_bytes_are_jobs_or_one_line(data):
    with TemporaryDirectory() as folder:
        (Path(folder)/'who.csv').write_bytes(data)
        with pytest.raises(BatchError) as error: find_jobs([Path(folder)/'who.csv'], 'F', warn=lambda line: None)
        assert 'who.csv' in str(error.value)


@pytest.mark.parametrize('first, second, why', [
    ('F,9', 'M,9', 'sex is F in'), ('F,9', 'F,10', 'age in months is 9.0 in')])
def test_two_that_contradict_each_other(tmp_path, first, second, why):
    """In one table or in two, next to each other or not, by whatever path: both lines are named."""
    one, two = tmp_path/'one.csv', tmp_path/'two.csv'
    one.write_text(f'file,sex,age\na.png,{first}\nb.png,,\na.png,,\n./x/../a.png,{second}\n')
    with pytest.raises(BatchError, match=f'a.png: its {why}.*line 2 and .*line 5; correct one'): find_jobs([one])
    one.write_text(f'file,sex,age\na.png,{first}\n')
    two.write_text(f'file,sex,age\n{tmp_path}/a.png,{second}\n')
    for inputs in ((one, two), (two, one)):
        with pytest.raises(BatchError, match='correct one') as error: find_jobs(inputs, 'F', 9)
        assert f'{one}, line 2' in str(error.value) and f'{two}, line 2' in str(error.value)


def test_two_that_say_the_same_are_one(tmp_path):
    """And each may know what the other one does not."""
    (tmp_path/'one.csv').write_text('file,sex,age\na.png,F,\na.png,girl,9\na.png,,9.0\n')
    (tmp_path/'two.csv').write_text('path\tmale\na.png\t0\n')
    assert find_jobs([tmp_path/'one.csv', tmp_path/'two.csv'], 'M', 50) == [Job(tmp_path/'a.png', 'F', 9)]


# A table that is gone on with

def test_a_file_that_was_changed_is_read_again(assessor, hand, tmp_path):
    """A damaged copy that is replaced, and a radiograph that another one takes the place of."""
    whole, file, table = picture(hand.picture, 'PNG'), tmp_path/'a.png', tmp_path/'t.csv'
    (tmp_path/'b.png').write_bytes(whole)
    for data in (whole[:999], whole, picture(hand.picture[:, ::-1].copy(), 'PNG')):
        file.write_bytes(data)
        os.utime(file, (0, 0))  # as a program that keeps the times of what it copies
        assess_batch(assessor, jobs := find_jobs([tmp_path/'*.png'], 'F'), table)
        rows = {row['file']: row for row in csv.DictReader(table.open())}
        assert len(table.read_text().splitlines()) == 3 and set(rows) == {job.file.name for job in jobs}
        found = assessor.assess(file, 'F')
        now = rows['a.png']
        assert (now['reason'], now['mirrored']) == (found.reason, '' if found.mirrored is None else str(found.mirrored))
    before = table.read_bytes()
    assert assess_batch(assessor, jobs, table) == 0 and table.read_bytes() == before


def test_a_file_is_one_however_it_is_named(assessor, hand, tmp_path, monkeypatch):
    """From where a run stands, by its full path, and once it is there."""
    table = tmp_path/'t.csv'
    (tmp_path/'who.csv').write_text('file,sex\na.png,F\n')
    monkeypatch.chdir(tmp_path)
    assert assess_batch(assessor, find_jobs(['who.csv']), table) == 1 and 'no such file' in table.read_text()
    cv2.imwrite(str(tmp_path/'a.png'), hand.picture)
    os.utime(tmp_path/'a.png', (0, 0))
    for name in ('who.csv', tmp_path/'who.csv', tmp_path/'..'/tmp_path.name/'who.csv'):
        assert assess_batch(assessor, find_jobs([name]), table) == 0
        assert len(table.read_text().splitlines()) == 2 and 'no such file' not in table.read_text()
    (tmp_path/'who.csv').write_text('file,sex\na.png,M\n')
    with pytest.raises(BatchError, match='has the sex F'):
        assess_batch(assessor, find_jobs([tmp_path/'who.csv']), table)


def test_one_table_of_several_folders(assessor, hand, tmp_path, monkeypatch):
    """Files of one name, size and time, named from where each run stands: a row each."""
    for folder, px in (('one', hand.picture), ('two', hand.picture[:, ::-1])):
        (tmp_path/folder).mkdir()
        cv2.imwrite(str(tmp_path/folder/'IM1.bmp'), px)
        os.utime(tmp_path/folder/'IM1.bmp', (0, 0))
        monkeypatch.chdir(tmp_path/folder)
        assert assess_batch(assessor, find_jobs(['.'], 'F'), '../all.csv') == 0
    assert files_of(tmp_path/'all.csv') == ['one/IM1.bmp', 'two/IM1.bmp']
    monkeypatch.chdir('/')
    before = (tmp_path/'all.csv').read_bytes()
    assess_batch(assessor, find_jobs([tmp_path/'one', tmp_path/'two'], 'F'), tmp_path/'all.csv')
    assert (tmp_path/'all.csv').read_bytes() == before


def test_what_the_disk_did_not_give_is_read_again(assessor, hand, tmp_path, monkeypatch):
    """An error that passes is no property of the picture."""
    cv2.imwrite(str(tmp_path/'a.png'), hand.picture)
    jobs, table = find_jobs([tmp_path/'a.png'], 'F'), tmp_path/'t.csv'
    def broken(_): raise OSError(errno.EIO, os.strerror(errno.EIO))
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'read_bytes', broken)
        assert assess_batch(assessor, jobs, tmp_path/'u.csv') == 1
    (tmp_path/'u.csv').rename(table)
    assert 'cannot be read' in table.read_text()
    assert assess_batch(assessor, jobs, table) == 0 and 'cannot be read' not in table.read_text()


def test_a_table_that_excel_has_saved(assessor, hand, tmp_path):
    """Its TRUE is our True."""
    cv2.imwrite(str(tmp_path/'a.png'), hand.picture)
    jobs, table = find_jobs([tmp_path/'a.png'], 'F', 100), tmp_path/'t.csv'
    assess_batch(assessor, jobs, table)
    table.write_text(table.read_text().replace('True', 'TRUE'))
    with pytest.raises(BatchError, match='the age in months 100.*, and this run asks for 130'):
        assess_batch(assessor, find_jobs([tmp_path/'a.png'], 'F', 130), table)


def test_a_table_of_another_run_is_not_gone_on_with(assessor, hand, tmp_path):
    """Another sex, age, level or model, given or not: what differs is said, and not a byte of the table changes."""
    cv2.imwrite(str(tmp_path/'a.png'), hand.picture)
    cv2.imwrite(str(tmp_path/'b.png'), hand.picture)
    table, [first, second] = tmp_path/'t.csv', find_jobs([tmp_path], 'F', 100)
    assert assess_batch(assessor, [first], table) == 0
    table.write_bytes(table.read_bytes() + b'half a li')
    before = table.read_bytes()
    for changed, level, why in ((dict(sex='M'), .9, 'the sex F, and this run asks for M'),
                                (dict(sex=None), .9, 'the sex F, and this run asks for none'),
                                (dict(age_months=99), .9, 'the age in months 100.*, and this run asks for 99'),
                                (dict(age_months=None), .9, 'the age in months 100.*, and this run asks for none'),
                                ({}, .8, 'the level 0.9, and this run asks for 0.8')):
        with pytest.raises(BatchError, match=f'a.png has {why}; name another table') as error:
            assess_batch(assessor, [second, replace(first, **changed)], table, level)
        assert len(str(error.value).splitlines()) == 1 and table.read_bytes() == before
    with pytest.raises(BatchError, match='the model .*, and this run asks for a reader'):
        assess_batch(Reader(), [second], table)
    assert table.read_bytes() == before
    assert assess_batch(assessor, [second, first], table) == 0 and len(files_of(table)) == 2
    (tmp_path/'later').mkdir()
    before, moved = table.read_bytes(), Path(shutil.move(table, tmp_path/'later'))
    with pytest.raises(BatchError, match='a.png is now .*; put the table where it was, or name another'):
        assess_batch(assessor, [second, first], moved)
    assert moved.read_bytes() == before


def test_what_the_header_says_is_no_difference(assessor, hand, tmp_path):
    """A DICOM file says the same again; to give another sex than it has is another run."""
    child = dict(PatientSex='F', PatientBirthDate='20110301', StudyDate='20200301')
    job, table = Job(Path(write_dicom(tmp_path/'a.dcm', hand.picture, **child))), tmp_path/'t.csv'
    (tmp_path/'b.png').write_text('no picture')
    jobs = [job, Job(tmp_path/'b.png', 'F', 100)] # refused before anything is known of the age
    assert assess_batch(assessor, jobs, table) == 1
    for given_too in (job, job.filled('F', 108.)): assert assess_batch(assessor, [given_too, jobs[1]], table) == 0
    for other in (job.filled('M', None), job.filled(None, 90)):
        with pytest.raises(BatchError, match='name another table'): assess_batch(assessor, [other], table)


def test_two_runs_on_one_table(tmp_path):
    """The second is told at once and writes nothing; when the first is done, or killed, the table is free."""
    table, told = tmp_path/'t.csv', []
    def second_run(done, total):
        with pytest.raises(BatchError, match='another run is writing it') as error:
            assess_batch(Reader(), [Job(tmp_path/'b.png', 'F')], table)
        told.append(str(error.value))
    assess_batch(Reader(), [Job(tmp_path/'a.png', 'F')], table, progress=second_run)
    assert told == [f'{table}: another run is writing it; wait for it or name another table']
    hold = f'from boneage.clinic.batch import only_run\nwith only_run({str(table)!r}): print("held"); input()'
    other = subprocess.Popen([sys.executable, '-uc', hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b'held\n'
    second_run(0, 0)
    other.kill(); other.wait()
    assess_batch(Reader(), [Job(tmp_path/'b.png', 'F')], table)
    assert files_of(table) == ['a.png', 'b.png']


def test_a_batch_says_what_one_radiograph_says(assessor, hand, tmp_path):
    """Threads that share the networks do not mix up hands."""
    for n in range(6): cv2.imwrite(str(tmp_path/f'{n}.png'), hand.picture[:, ::-1] if n % 2 else hand.picture)
    cv2.imwrite(str(tmp_path/'6.png'), np.zeros((300, 200), np.uint8))
    jobs = find_jobs([tmp_path], 'F', 100)
    assert assess_batch(assessor, jobs, tmp_path/'t.csv', threads=3) == 1
    expected = io.StringIO()
    writer = csv.DictWriter(expected, columns())
    writer.writeheader()
    for job in jobs: writer.writerow(read_row(assessor, job, .9) | dict(file=job.file.name))
    assert (tmp_path/'t.csv').read_bytes().decode() == expected.getvalue()


# Reports

@pytest.fixture
def examined(assessor, hand, tmp_path):
    """A drawn hand that was examined: as a file of a scanner, with the numbers that a report points at."""
    child = dict(PatientSex='F', PatientBirthDate='20110301', PatientName='Doe^Jane', PatientID='ID-4711')
    study = dict(StudyInstanceUID='1.2.4', SeriesInstanceUID='1.2.5', StudyDate='20200301', ImageLaterality='L')
    return assessor.examine(write_dicom(tmp_path/'Doe_Jane.dcm', hand.picture, **child, **study))


def test_a_full_disk_is_said_in_its_own_words(examined, tmp_path, monkeypatch):
    """pydicom puts tracebacks in their place, one for each level of a header."""
    def full(*_):
        with tag_in_exception(Tag('ContentSequence')), tag_in_exception(Tag('PixelData')):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr('boneage.clinic.dicom.SCImage.save_as', full)
    with pytest.raises(OSError) as said:
        write_capture(np.zeros((9, 9, 3), np.uint8), examined.radiograph.header, tmp_path/'p.dcm')
    assert said.value.errno == errno.ENOSPC and 'Traceback' not in str(said.value)


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


def test_a_report_for_everyone(assessor, examined, browser, violations, tmp_path):
    """Accepted, refused, of unknown sex, a course: no serious violation, nothing wider than the window, one title."""
    found = replace(examined.found, adult_height='adult height 170 cm', note='PatientSex M does not count')
    unknown = replace(examined, found=of_unknown_sex(replace(refused_of(found), sex=''), dict(F=98.4, M=112.)))
    cases = [make_case(assessor, each) for each in (replace(examined, found=found), unknown)]
    cases.append(Case('x', refused_of(found), {}, {}))
    course = [follow.Reading(age, age - 9, 15, 'F') for age in (96, 108, 132)]
    page = browser.new_page()
    for name, text in dict(report=report_page(cases), course=follow.course_page(course)).items():
        (tmp_path/f'{name}.html').write_text(text, 'utf-8')
        page.goto((tmp_path/f'{name}.html').as_uri())
        assert page.locator('h1').all_inner_texts() == ['Bone age'] and page.locator('main').count() == 1
        for scheme, width in product(('light', 'dark'), (1300, 400)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({'width': width, 'height': 900})
            assert not violations(page), (name, scheme, width)
            assert page.evaluate('document.scrollingElement.scrollWidth <= innerWidth'), (name, scheme, width)
            page.screenshot(path=str(tmp_path/f'{name}_{scheme}_{width}.png'), full_page=True)
    both = report_page(cases)
    assert 'as a girl 98.4 months' in both and 'as a boy 112.0 months' in both and both.count('Not assessed') == 1


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


def test_a_report_says_whose_hand_and_which(examined, tmp_path):
    """The side, the sex and who said it; the method of the bone age alone; what our own codes are."""
    write_both(examined, tmp_path)
    report = pydicom.dcmread(tmp_path/'r.dcm')
    text = str(report)
    for says in ('Left', 'Female', 'PatientSex', '99BONEAGE', 'codes of the program boneage'): assert says in text, says
    assert text.count('Greulich and Pyle') == 1


def test_a_repeat_takes_the_place_of_the_first(examined, tmp_path):
    """The same radiograph by the same networks: the same identifiers; by others: others."""
    first, again, other = (tmp_path/name for name in ('first', 'again', 'other'))
    for folder in (first, again, other): folder.mkdir()
    write_both(examined, first)
    write_both(examined, again)
    write_both(replace(examined, found=replace(examined.found, model='others')), other)
    for name in ('r.dcm', 'p.dcm'):
        one, two = (pydicom.dcmread(folder/name) for folder in (first, again))
        assert (one.SOPInstanceUID, one.SeriesInstanceUID) == (two.SOPInstanceUID, two.SeriesInstanceUID)
    assert pydicom.dcmread(first/'r.dcm').SOPInstanceUID != pydicom.dcmread(other/'r.dcm').SOPInstanceUID


def refused_of(found): return replace(found, accepted=False, bone_age_months=None, interval_months=None,
                                      consensus_months=None, reason='no hand was found; give a whole hand',
                                      difference_months=None, standard_deviation_score=None, maturity='')


WAYS = {'accepted': lambda found: replace(found, adult_height_cm=170.2, note='PatientSex M does not count'),
        'refused': refused_of, 'sex unknown': lambda found: of_unknown_sex(replace(refused_of(found), sex=''),
                                                                           dict(F=98.4, M=112.))}


@pytest.mark.parametrize('program', ['dciodvfy', 'dsrdump'])
@pytest.mark.parametrize('side', ['', 'L'])
@pytest.mark.parametrize('way', WAYS)
def test_another_program_finds_no_error(examined, tmp_path, program, way, side):
    """David Clunie's validator and DCMTK's reader of reports, where they are installed."""
    if not shutil.which(program): pytest.skip(f'{program} is not on this machine')
    examined.radiograph.header.Laterality = side
    write_both(replace(examined, found=WAYS[way](examined.found)), tmp_path)
    for name in ('r.dcm', 'p.dcm') if program == 'dciodvfy' else ('r.dcm',):
        done = subprocess.run([program, tmp_path/name], capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and not re.search('^([EF]:|Error)', said, re.MULTILINE), said
        assert program == 'dciodvfy' or 'Pediatric bone age' in said


def test_a_refusal_is_a_report(examined, tmp_path):
    """It says that there is no age and why; it has the identifiers of the age that may take its place."""
    write_both(examined, tmp_path)
    accepted = pydicom.dcmread(tmp_path/'r.dcm')
    for way in ('refused', 'sex unknown'):
        found = WAYS[way](examined.found)
        for _ in range(2): write_report(found, examined.radiograph.header, tmp_path/'no.dcm')
        written, back = pydicom.dcmread(tmp_path/'no.dcm'), read_report(tmp_path/'no.dcm')
        assert written.SOPInstanceUID == accepted.SOPInstanceUID and back['remarks'] == [found.reason]
        assert 'XR Bone age' not in back and ('Not assessed' in str(written)) == (way == 'refused')
        assert sum('read as' in name for name in back) == (2 if way == 'sex unknown' else 0)
    assert 'no hand was found' in ' '.join(result_lines(refused_of(examined.found)))


@pytest.mark.parametrize('notes', range(0, 13, 2))
def test_no_word_of_a_picture_is_cut_off(examined, notes):
    """Long words of a reference that does not reach, notes and a height: all within the picture."""
    found = replace(examined.found, standard_deviation_score=None,
                    note='its sides are equal: give the original ' * notes,
                    maturity='no reference for girls of 200 months: it reaches from 3 months to 16 years',
                    adult_height='adult height 170.2 cm by Bayley and Pinneau, give or take 8 (average table)')
    lines = result_lines(found)
    page = draw_result(np.zeros((260, 200), np.uint8), lines)
    assert page[-20:].max() == page[:, -4:].max() == page[:, :610].max() == 0
    empty = draw_result(np.zeros((260, 200), np.uint8), lines[:-1])
    assert len(page) > len(empty) or (page != empty).any(), 'the terms are on it'


def test_an_age_in_doubt_has_no_verdict_anywhere(assessor, examined, tmp_path):
    """On the page, in the report, in the picture and in the table: that it is in doubt, and no score."""
    found = conclude(replace(examined.found, age_months=9., standard_deviation_score=None, maturity=''), 120)
    examined = replace(examined, found=found)
    page = report_page([make_case(assessor, examined)])
    write_both(examined, tmp_path)
    report, lines = read_report(tmp_path/'r.dcm'), result_lines(found)
    assert 'far from the bone age' in page and found.note in lines and report['remarks'] == [found.note]
    assert 'standard deviations:' not in page and 'beside healthy' not in page and 'deviations' not in ' '.join(lines)
    assert 'Z-Score of measurement' not in report and 'determination' not in str(pydicom.dcmread(tmp_path/'r.dcm'))
    row = as_row(found, '')
    assert (row['standard_deviation_score'], row['maturity'], row['note']) == (None, '', found.note)


# Courses

def course_of(*readings, half=17.):
    """What `read_course` makes of ages and bone ages in months."""
    def seen(age, months):
        ends = (months - half, months + half) if half else None
        return Examined(Assessment(f'{age}.png', 'F', True, '', months, False, 'b', ends, age_months=age))
    return follow.read_course([seen(*reading) for reading in readings])


@pytest.mark.parametrize('half', [17., None])
@pytest.mark.parametrize('readings, since', [
    ([(8, 94), (10.5, 124)], 'birth'), ([(2, 30), (3, 40)], 'birth'), ([(96, 94), (98, 140)], 'the age of 96')])
def test_a_pace_that_no_child_has(readings, since, half):
    """Ages in years, or a wrong one among others."""
    with pytest.raises(follow.FollowError, match=f'in the .* months since {since} are more .* in months$'):
        course_of(*readings, half=half)


def test_the_oldest_are_drawn():
    """A bone age and an age at the end of their range lie within the drawing."""
    page = follow.course_part(course_of((OLDEST - 24, OLDEST - 20), (OLDEST, OLDEST), half=None))
    *_, (x, y) = re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', page)
    assert float(x) == 382 and float(y) == 10


@given(st.floats(3, 200), st.floats(1, 12), st.floats(8, 20), st.floats(0, 1))
def test_what_the_intervals_explain_is_a_course(age, pace, half, share):
    """Two readings in a week that differ by no more than their intervals; and the fastest child."""
    assert len(course_of((age, age), (age + .25, age + .25 + share * half), half=half)) == 2
    assert len(course_of((age, age), (age + 12, age + 3 * pace), half=half)) == 2


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('said, sex', [('FEMALE', 'F'), (' female', 'F'), ('f ', 'F'), ('Male', 'M'), ('O', ''),
                                       ('', '')])
def test_patient_sex_as_programs_write_it(assessor, hand, tmp_path, said, sex):
    """Read as what it obviously means, written as the standard has it."""
    file = write_dicom(tmp_path/'a.dcm', hand.picture, StudyInstanceUID='1.2.4', SeriesInstanceUID='1.2.5',
                       PatientSex=said)
    examined = assessor.examine(file)
    found = examined.found
    assert (found.sex, found.sex_from, found.accepted) == (sex, 'PatientSex' if sex else '', bool(sex))
    assert found.accepted or set(found.months_by_sex) == {'F', 'M'}
    write_both(examined, tmp_path)
    for name in ('r.dcm', 'p.dcm'): assert pydicom.dcmread(tmp_path/name).PatientSex == (sex or said)
    if sex: assert 'says sex' in assessor.assess(file, 'FM'[sex == 'F']).reason


@pytest.mark.parametrize('missing', POINTED_AT)
def test_a_header_that_cannot_be_pointed_at(examined, tmp_path, missing):
    header = examined.radiograph.header
    del header[missing]
    for write, what in ((write_report, examined.found), (write_capture, np.zeros((9, 9, 3), np.uint8))):
        with pytest.raises(PictureError, match=f'^its header has no {missing} for a report') as error:
            write(what, header, tmp_path/'x.dcm')
        assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path/'x.dcm').exists()


CHARACTERS = {  # what a header says of its character set, and a name that it can write
    'ISO_IR 100': 'Müller^Jörg', 'ISO_IR 192': 'Müller^山田', 'ISO_IR 144': 'Иванов^Иван', 'GB18030': '王^小东',
    '\\ISO 2022 IR 149': 'Hong^Gildong=洪^吉洞=홍^길동', '\\ISO 2022 IR 87': 'Yamada^Tarou=山田^太郎=やまだ^たろう',
    'ISO_IR 6': 'Doe^Jane', '\\149': 'Doe^Jane', 'ISO IR 100': 'Doe^Jane', 'UTF-8': 'Doe^Jane', 'x' * 16: 'Doe^Jane'}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('code', CHARACTERS)
def test_names_of_any_character_set(assessor, hand, tmp_path, code):
    """Whether the code is one of the standard's or none: the name is kept, in UTF-8."""
    study = dict(StudyInstanceUID='1.2.4', SeriesInstanceUID='1.2.5', PatientSex='F')
    file = write_dicom(tmp_path/'a.dcm', hand.picture, SpecificCharacterSet=code.split('\\'), **study)
    ds = pydicom.dcmread(file)
    ds.PatientName = CHARACTERS[code]
    ds.save_as(file)
    write_both(assessor.examine(file), tmp_path)
    for name in ('r.dcm', 'p.dcm'):
        written = pydicom.dcmread(tmp_path/name)
        assert (str(written.PatientName), written.SpecificCharacterSet) == (CHARACTERS[code], 'ISO_IR 192')


@pytest.mark.parametrize('key, vr, before, after', [
    ('PatientBirthDate', 'IS', '20100301', 'abcdefgh'), ('StudyTime', 'DS', '101500', '12:000'),
    ('PatientName', 'DS', 'Doe^Jo', 'Doe^Ja')])
def test_an_element_of_another_kind(assessor, hand, tmp_path, key, vr, before, after):
    """The age is given all the same; what cannot stand in a report is one line."""
    file = write_dicom(tmp_path/'a.dcm', hand.picture, StudyInstanceUID='1.2.4', SeriesInstanceUID='1.2.5',
                       **{key: before})
    tag = struct.pack('<HH', *divmod(tag_for_keyword(key), 65536))
    data, size = file.read_bytes(), struct.pack('<H', len(before))
    right, wrong = (tag + kind.encode() + size + value.encode()
                    for kind, value in ((dictionary_VR(key), before), (vr, after)))
    assert data.count(right) == 1
    file.write_bytes(data.replace(right, wrong))
    examined = assessor.examine(file, 'F')
    assert examined.found.accepted
    with pytest.raises(PictureError, match='^no report can be written with its header') as error:
        write_report(examined.found, examined.radiograph.header, tmp_path/'r.dcm')
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path/'r.dcm').exists()


def test_an_age_in_no_digits(assessor, hand, tmp_path):
    """A superscript two is a digit to some programs and no number."""
    file = write_dicom(tmp_path/'a.dcm', hand.picture, SpecificCharacterSet='ISO_IR 100', PatientAge='010Y')
    file.write_bytes(file.read_bytes().replace(b'010Y', b'\xb210Y'))
    found = assessor.assess(file, 'F')
    assert found.accepted and found.age_months is None


# What the rooms cost

@pytest.mark.parametrize('module', ['batch', 'report', 'dicom', 'serve', 'queue', 'node'])
def test_no_library_of_learning(module):
    loaded = run(sys.executable, '-c', f'import boneage.clinic.{module}, sys; print(*sys.modules)').split()
    assert f'boneage.clinic.{module}' in loaded and not LEARNING & set(loaded)
