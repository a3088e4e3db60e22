"""Labels, finding and checking a data set, who is kept out."""
import json
import os
import shutil
import string
import struct
import time
import zipfile
from collections import namedtuple
from pathlib import Path
from threading import get_ident

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, write_dicom
from corpus import blob
from hypothesis import given, settings, strategies as st
from PIL import Image

from boneage.drawn.cohort import write_cohort
from boneage.learn.data import (
    DatasetError, LabelError, check_data, find_dataset, held_out, lot, map_pictures, picture_id, radiographs, read_ids,
    read_labels, read_points, split_withheld)
from boneage.learn.masks import drawn_masks
from boneage.learn.rsna import (
    FIRST, MOST_BYTES, DownloadError, lay_annotations, lay_out, next_commands, pack_annotations, pack_download, zipped)
from boneage.radiograph import read_pixels



# Labels

ID = st.text(string.ascii_letters + string.digits + '-_', min_size=1, max_size=12)
SPELLINGS = dict(id=['id', 'Image ID', 'image_id', 'ID', 'Case ID'],
                 boneage=['boneage', 'Bone Age (months)', 'bone_age', 'BoneAge'])
TRUTHS = [('True', 'False'), ('1', '0'), ('TRUE', 'FALSE'), (' true', '0.0 ')]
WORDS = [('M', 'F'), ('male', 'female'), ('m', 'f'), (' M', ' F '), ('Boy', 'Girl')]
SEXES = [(column, *words) for columns, spelt in ((('male', 'MALE'), TRUTHS), (('sex', 'Gender'), WORDS))
         for column in columns for words in spelt]


@given(rows=st.lists(st.tuples(ID, st.floats(1, 240), st.booleans()), min_size=1, max_size=20),
       columns=st.tuples(*(st.sampled_from(names) for names in SPELLINGS.values())), sexes=st.sampled_from(SEXES),
       suffix=st.sampled_from(['', '.png', '.PNG', '.dcm']), order=st.permutations(range(3)), bom=st.booleans())
def test_every_spelling_reads_the_same(tmp_path_factory, rows, columns, sexes, suffix, order, bom):
    table = pd.DataFrame({columns[0]: [i + suffix for i, _, _ in rows], columns[1]: [repr(a) for _, a, _ in rows],
                          sexes[0]: [sexes[1] if m else sexes[2] for _, _, m in rows]})
    path = tmp_path_factory.mktemp('labels')/'labels.csv'
    table.iloc[:, list(order)].to_csv(path, index=False, encoding='utf-8-sig' if bom else 'utf-8')
    labels = read_labels(path)
    assert list(labels.itertuples(index=False, name=None)) == rows
    assert labels.boneage.dtype == float and labels.male.dtype == bool


def test_ids_are_text_and_sizes_are_kept(tmp_path):
    (tmp_path/'a.csv').write_text('id,boneage,male,width,Height\n007,12,True,100,200\nNA,,False,,\n')
    labels = read_labels(tmp_path/'a.csv')
    assert list(labels.id) == ['007', 'NA'] and list(labels.columns) == ['id', 'boneage', 'male', 'width', 'height']
    assert labels.boneage.isna().tolist() == labels.width.isna().tolist() == [False, True]


@pytest.mark.parametrize('text, says', [
    ('', 'is not a table (it is empty)'), ('id,boneage,male\n1,2,M,3\n', 'line 2 has more cells'),
    ('id,boneage\n1,2\n', 'no column male'),
    ('id,Image ID,boneage,male\n1,1,2,1\n', 'id, Image ID'),
    ('id,boneage,sex\n1,12,M\n2,ten,F\n', 'line 3, column boneage'),
    ('id,boneage,sex\n1,1_2,M\n', "line 2, column boneage: '1_2' is not a number"),
    ('id,boneage,male\n1,12,\n', 'line 2, column male'),
    ('id,boneage,male\n1,12,2\n', "'2' is not True or False"), ('id,boneage,male\n,12,M\n', 'line 2 has no id'),
    *((f'id,boneage,{column}\n1,12,{sex}\n', f"{sex!r} is not {words}")
      for column, words, sexes in (('male', 'True or False', ('2', 'yes', 'x')),
                                   ('sex', 'a sex (M or F)', ('1', '0', 'True', '2')), ('Gender', 'a sex', ['0']))
      for sex in sexes),
    *((f'id,boneage,male,{side}\n1,12,True,{px}\n', f"line 2, column {side}: {px!r} is not a number of pixels")
      for side in ('width', 'Height') for px in ('wide', 'inf', '-inf', 'nan', '0', '-768', '7_68', '1e999'))])
def test_unreadable_labels_name_the_place(tmp_path, text, says):
    (tmp_path/'a.csv').write_text(text)
    with pytest.raises(LabelError) as e: read_labels(tmp_path/'a.csv')
    assert says in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('separator', ';\t,')
@pytest.mark.parametrize('code', ['utf-8-sig', 'utf-16', 'cp1252'])
def test_labels_of_a_spreadsheet(tmp_path, separator, code):
    """Whatever stands between the cells and however the letters are written; lines are counted as in the file."""
    lines = ['id;boneage;sex;Anmerkung', '', '007;12.5;M;"müde; unruhig"', ';;;', 'ä;36;F']
    (tmp_path/'a.csv').write_bytes('\r\n'.join(lines).replace(';', separator).encode(code))
    labels = read_labels(tmp_path/'a.csv')
    assert labels.values.tolist() == [['007', 12.5, True], ['ä', 36., False]]
    assert read_ids(tmp_path/'a.csv') == {'007', 'ä'}
    with pytest.raises(LabelError, match='line 5, column sex'):
        (tmp_path/'a.csv').write_bytes('\r\n'.join([*lines[:4], 'ä;36;2']).replace(';', separator).encode(code))
        read_labels(tmp_path/'a.csv')


def test_labels_that_are_no_text(tmp_path):
    (tmp_path/'a.csv').write_bytes(b'\xff\xfe\x00i\x00d')
    for path in (tmp_path/'a.csv', tmp_path/'none.csv', tmp_path):
        with pytest.raises(LabelError): read_labels(path)


def test_picture_id_keeps_dots_that_are_not_a_suffix():
    found = [picture_id(name) for name in ('0042.png', '1.2.840.10', '1.2.840.10.dcm', 'a.b.JPG')]
    assert found == ['0042', '1.2.840.10', '1.2.840.10', 'a.b']


# Folders

def make_dataset(folder: Path, pictures='images', table='labels.csv', ids=('007', 'b', 'c-1')) -> Path:
    """A whole data set of drawn pictures, each different."""
    (folder/pictures).mkdir(parents=True)
    for k, i in enumerate(ids): cv2.imwrite(str(folder/pictures/f'{i}.png'), np.roll(blob(), k, 0))
    (folder/table).parent.mkdir(exist_ok=True)
    rows = [f'{i},{12 * k + 12},{k % 2}' for k, i in enumerate(ids)]
    (folder/table).write_text('\n'.join(['id,boneage,male', *rows, '']))
    return folder


@pytest.mark.parametrize('pictures, table', [
    ('images', 'labels.csv'), ('boneage-training-dataset', 'boneage-training-dataset.csv'),
    ('boneage-training-dataset/boneage-training-dataset', 'boneage-training-dataset.csv'), ('x', 'tables/y.csv'),
    ('.', 'z.csv')])
def test_the_layouts_that_are_found(tmp_path, pictures, table):
    found = find_dataset(make_dataset(tmp_path/'data', pictures, table))
    assert set(found.images) == {'007', 'b', 'c-1'} and found.labels == tmp_path/'data'/table
    assert all(picture_id(path.name) == i for i, path in found.images.items())


def test_the_tidy_layout_wins_over_what_lies_beside_it(tmp_path):
    data = make_dataset(tmp_path/'data')
    make_dataset(data, 'masks', 'keypoints.csv')
    (data/'images/.hidden.png').touch()
    (data/'images/notes.txt').touch()
    assert set(find_dataset(data).images) == {'007', 'b', 'c-1'}


def test_dicom_is_found_without_a_suffix(tmp_path):
    data = make_dataset(tmp_path/'data')
    write_dicom(data/'images/1.2.840.5', blob())
    assert '1.2.840.5' in find_dataset(data).images


def test_pictures_keep_to_the_processors_of_this_process(monkeypatch):
    """A job that was given one of many begins one thread."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0}, raising=False)
    def thread(n):
        time.sleep(.01)
        return get_ident()
    assert len(set(map_pictures(thread, range(20)))) == 1


def test_folders_that_are_no_data_set(tmp_path):
    (tmp_path/'empty').mkdir()
    two = make_dataset(make_dataset(tmp_path/'two', 'x', 'x.csv'), 'y', 'y.csv')
    bare = make_dataset(tmp_path/'bare')
    for path in (bare/'images').iterdir(): path.unlink()
    for folder, says in ((tmp_path/'none', 'no such folder'), (tmp_path/'empty', 'no CSV'), (two, '2 of CSV'),
                         (bare, 'no pictures')):
        with pytest.raises(DatasetError, match=says) as e: find_dataset(folder)
        assert '\n' not in str(e.value)


def test_a_whole_data_set_is_ok(tmp_path):
    seen = []
    report = check_data(make_dataset(tmp_path/'data'), lambda event: seen.append((event.done, event.total)))
    assert report.ok and report.lines()[-1] == 'Nothing is wrong.'
    assert report.by_sex == {'F': 2, 'M': 1} and report.by_age == {1: (1, 0), 2: (0, 1), 3: (1, 0)}
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_each_fault_is_reported(tmp_path):
    data = make_dataset(tmp_path/'data', ids=('a', 'b', 'c', 'd', 'e'))
    images, table = data/'images', data/'labels.csv'
    (images/'a.png').unlink()
    cv2.imwrite(str(images/'stray.png'), blob(64, 48))
    (images/'b.png').write_bytes((images/'b.png').read_bytes()[:-100])
    cv2.imwrite(str(images/'c.jpg'), blob())
    (images/'d.png').write_bytes((images/'e.png').read_bytes())
    table.write_text(table.read_text() + 'c,36,0\nold,241,1\nnew,0,0\nnone,,0\nodd,inf,0\nnan,nan,1\n')
    for k, i in enumerate(('old', 'new', 'none', 'odd', 'nan')): cv2.imwrite(str(images/f'{i}.png'), blob(100 + k))
    report = check_data(data)
    counts = {kind: len(found) for kind, found in report.problems.items()}
    assert not report.ok and counts == {
        'pictures without a label': 1, 'labels without a picture': 1, 'unreadable pictures': 1,
        'ids in more than one row': 1, 'ids with more than one picture': 1, 'identical pictures': 1,
        'implausible ages': 5}
    text = '\n'.join(report.lines(most=2))
    assert 'stray' in text and 'd.png = e.png' in text and 'and 3 more' in text


@given(years=st.lists(st.floats(.5, 20), min_size=1, max_size=9))
def test_bone_ages_in_years_are_a_finding(tmp_path_factory, years):
    """Of any children, if all are in years; not where one is in months of a child who is older."""
    data = tmp_path_factory.mktemp('years')
    make_dataset(data, ids=['a'])
    for more, found in (([], [f'all {len(years)} are below 21; give months']), ([21.], None)):
        rows = ''.join(f'{n},{age!r},0\n' for n, age in enumerate([*years, *more]))
        (data/'labels.csv').write_text(f'id,boneage,male\n{rows}none,,1\n')
        assert check_data(data).problems.get('bone ages that are probably years') == found


def test_what_reading_would_say(tmp_path, assessor, hand):
    """Burnt out, two hands, too small, negative, saved anew, of the other sex: each is named."""
    data, px = make_dataset(tmp_path/'data', ids=()), hand.picture
    films = {'good': px, 'burnt': np.where(px > np.quantile(px[hand.mask], .6), 255, px).astype(np.uint8),
             'two': np.hstack([px, px[:, ::-1]]), 'small': cv2.resize(px, None, fx=.25, fy=.25), 'negative': ~px,
             'anew': cv2.resize(np.minimum(px * 1.1, 255).astype(np.uint8), None, fx=.8, fy=.8)}
    for name, film in films.items(): cv2.imwrite(str(data/f'images/{name}.png'), film)
    write_dicom(data/'images/girl.dcm', px, PatientSex='F')
    rows = ''.join(f'{name},120,True\n' for name in [*films, 'girl'])
    (data/'labels.csv').write_text(f'id,boneage,male\n{rows}')
    report = check_data(data, register=assessor.register)
    assert report.problems == {'headers of the other sex': ['girl.dcm']}
    refused = dict(line.split('.png: ') for line in report.remarks['pictures that reading refuses'])
    assert set(refused) == {'burnt', 'two', 'small'} and 'more than one hand' in refused['two']
    assert report.remarks['negatives, which reading turns over'] == ['negative.png']
    assert 'anew.png ~ good.png' in report.remarks['pictures that look the same']


# Who is kept out

IDS = st.sets(st.text(min_size=1, max_size=12), max_size=60)


@given(ids=IDS, more=IDS, share=st.floats(0, 1))
def test_whoever_is_added_moves_nobody(ids, more, share):
    """An id is held out or not by itself: with others beside it as without them."""
    assert held_out(ids | more, share) & ids == held_out(ids, share)
    assert held_out(ids, share) == {i for i in ids if held_out([i], share)}


@given(ids=IDS, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_holds_out_more(ids, low, high):
    assert held_out(ids, min(low, high)) <= held_out(ids, max(low, high))
    assert held_out(ids, 0) == set() and held_out(ids, 1) == ids


def test_lots_are_spread():
    """As evenly as independent draws: 12,611 in twenty parts, each within five standard deviations."""
    counts = np.histogram([lot(str(i)) for i in range(12611)], bins=20, range=(0, 1))[0]
    assert np.abs(counts - 12611 / 20).max() < 5 * (12611 / 20 * .95)**.5


def test_what_the_shipped_networks_held_out():
    """The recorded ids of the older rule: 20 outlines and 200 sets of key points, of which none was withheld."""
    held = pd.read_csv(ROOT/'results/held-out.csv', dtype=str)
    assert held.stage.value_counts().to_dict() == {'points': 200, 'masks': 20} and not held.duplicated().any()
    assert not set(held.id[held.stage == 'points']) & set(pd.read_csv(ROOT/'results/withheld.csv', dtype=str).id)


POINTS = 'id,manual,mid_tip_x,mid_tip_y,thumb_tip_x,thumb_tip_y,capitate_x,capitate_y\n'


@pytest.mark.parametrize('text, says', [
    ('id,manual\n1,1\n', 'no column mid_tip_x'), (POINTS + '1,yes,0,0,0,0,0,0\n', 'is not 0 or 1'),
    (POINTS + '1,1,0,left,0,0,0,0\n', 'line 2, column mid_tip_y')])
def test_unreadable_points_name_the_place(tmp_path, text, says):
    (tmp_path/'a.csv').write_text(text)
    with pytest.raises(LabelError, match=says): read_points(tmp_path/'a.csv')


def test_points_are_named_as_labels_are(tmp_path):
    """An id may be the name of its picture, a column may be spelt as a spreadsheet does."""
    (tmp_path/'a.csv').write_text(POINTS + 'p0000,1,.1,.2,.3,.4,.5,.6\n')
    (tmp_path/'b.csv').write_text('Image ID;MANUAL;Mid Tip X;mid-tip-y;thumb_tip_x;thumb_tip_y;capitate x;capitate y\n'
                                  'p0000.png;1;.1;.2;.3;.4;.5;.6\n')
    one, other = (read_points(tmp_path/f'{name}.csv') for name in 'ab')
    assert list(one.index) == list(other.index) == ['p0000']
    assert one.manual.equals(other.manual) and np.array_equal(one.points['p0000'], other.points['p0000'])


# The withheld radiographs

def cohort(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ids, ages = [f'{i:04}' for i in range(n)], rng.integers(1, 229, n).astype(float)
    return pd.DataFrame(dict(id=ids, boneage=ages, male=rng.random(n) < 0.5))


@given(size=st.integers(1, 400), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=50)
def test_the_split_is_stratified_and_hangs_on_the_labels_alone(size, seed, share):
    labels, n = cohort(size, seed), int(size * share)
    ids = split_withheld(labels, n, seed)
    assert len(ids) == len(set(ids)) == n and set(ids) <= set(labels.id)
    assert split_withheld(labels.sample(frac=1, random_state=seed), n, seed) == ids
    share = n / size
    for _, group in labels.groupby(['male', labels.boneage // 12]):
        assert abs(group.id.isin(ids).sum() - share * len(group)) <= 1


def test_another_seed_withholds_others():
    labels = cohort(1000, 0)
    assert split_withheld(labels, 100, seed=1) != split_withheld(labels, 100, seed=2)
    with pytest.raises(ValueError): split_withheld(labels, 1001)


def test_rows_that_cannot_be_reported_on_are_not_withheld():
    labels = cohort(50, 0)
    more = pd.concat([labels, labels.tail(5), pd.DataFrame(dict(id=['x'], boneage=[np.nan], male=[True]))])
    assert split_withheld(more, 50) == sorted(labels.id)


# The challenge's download

SIZES = 6, 4, 2
TRAIN, NOTES, VALID, TEST = (f'Bone+Age+{name}.zip' for name in (
    'Training+Set', 'Training+Set+Annotations', 'Validation+Set', 'Test+Set'))


@pytest.fixture(scope='module')
def drawn(tmp_path_factory): return write_cohort(tmp_path_factory.mktemp('drawn')/'cohort', 12, 5, side=128)


@pytest.fixture(scope='module')
def archives(drawn): return pack_download(drawn, SIZES)


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    """Files by their paths."""
    for name, content in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(content)
    return folder


def members(archive: Path) -> dict[str, bytes]:
    """What is in an archive, by name."""
    with zipfile.ZipFile(archive) as z: return {i.filename: z.read(i) for i in z.infolist() if not i.is_dir()}


@pytest.fixture
def downloads(archives, tmp_path): return write_all(tmp_path/'downloads', archives)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob('*')) if f.is_file()}


def faults(downloads: Path, out: Path) -> list[str]:
    """What is wrong, but for the number of radiographs, which is wrong for every drawn download."""
    found = lay_out(downloads, out).faults
    assert all('\n' not in fault for fault in found)
    return [fault for fault in found if 'where the challenge has' not in fault]


def test_a_download_is_laid_out(downloads, drawn, tmp_path):
    """Three data sets, whole; the same again changes nothing; a count is said where it is not the challenge's."""
    laid = lay_out(downloads, tmp_path/'data')
    assert laid.sets == dict(zip(('rsna-training', 'rsna-validation', 'rsna-test'), SIZES)) and laid.absent == []
    assert laid.faults == ['rsna-training: 6 labels, where the challenge has 12,611',
                           'rsna-validation: 4 labels, where the challenge has 1,425',
                           'rsna-test: 2 labels, where the challenge has 200']
    assert all(check_data(tmp_path/'data'/name).ok for name in laid.sets)
    tables = [read_labels(tmp_path/'data'/name/'labels.csv') for name in laid.sets]
    truth = read_labels(drawn/'labels.csv')
    together = pd.concat(tables, ignore_index=True)
    assert together.boneage.tolist() == truth.boneage.tolist() and together.male.tolist() == truth.male.tolist()
    for i, old in zip(together.id, truth.id):
        (picture,) = (tmp_path/'data').glob(f'*/images/{i}.png')
        assert picture.read_bytes() == (drawn/f'images/{old}.png').read_bytes()
    before = tree(tmp_path/'data')
    assert lay_out(downloads, tmp_path/'data') == laid and tree(tmp_path/'data') == before


def test_packed_or_unpacked_is_the_same(downloads, tmp_path):
    """All unpacked, beside the archives, with what macOS adds and what is not the challenge's, and as copies are."""
    lay_out(downloads, tmp_path/'data')
    for archive in list(downloads.iterdir()): shutil.unpack_archive(archive, downloads/archive.stem)
    (downloads/'__MACOSX').mkdir()
    (downloads/'__MACOSX/._1377.png').write_bytes(b'x')
    pack(downloads/'holidays.zip', {'film.mp4': bytes(MOST_BYTES + 1)})
    assert faults(downloads, tmp_path/'beside') == []
    for archive in downloads.glob('*.zip'): archive.unlink()
    for archive in list(downloads.rglob('*.zip')):
        shutil.unpack_archive(archive, archive.parent)
        archive.unlink()
    truth, = downloads.rglob('*.xlsx')
    pd.read_excel(truth).to_csv(truth.with_suffix('.csv'), index=False)
    truth.unlink()
    assert faults(downloads, tmp_path/'unpacked') == []
    assert tree(tmp_path/'data') == tree(tmp_path/'beside') == tree(tmp_path/'unpacked')
    folder, = downloads.rglob('boneage-training-dataset')
    kaggle = tmp_path/'kaggle'
    shutil.copytree(folder, kaggle/'boneage-training-dataset/boneage-training-dataset')
    shutil.copy(next(downloads.rglob('train.csv')), kaggle/'boneage-training-dataset.csv')
    laid = lay_out(kaggle, tmp_path/'copied')
    assert laid.sets == {'rsna-training': 6} and [line.split(':')[0] for line in laid.absent] == [
        'rsna-validation', 'rsna-test']
    assert all('Bone+Age' in line for line in laid.absent)


def pack(archive: Path, files: dict[str, bytes]) -> None: archive.write_bytes(zipped(files))


def cut_short(d): (d/TRAIN).write_bytes((d/TRAIN).read_bytes()[:-200])


def no_archive(d): (d/TRAIN).write_text('<html>try again later</html>')


def one_byte_wrong(d):
    data = bytearray((d/TRAIN).read_bytes())
    data[data.index(b'1379.png') + 200] ^= 255
    (d/TRAIN).write_bytes(data)


def cut_short_within(d):
    files = members(d/VALID)
    name = next(name for name in files if name.endswith('-2.zip'))
    pack(d/VALID, files | {name: files[name][:-100]})


def bomb(d): pack(d/TRAIN, members(d/TRAIN) | {'boneage-training-dataset/9.png': bytes(MOST_BYTES + 1)})


def hidden_bomb(d):
    """An archive that says of a picture that it is small."""
    pack(d/TRAIN, {'1377.png': bytes(1_000_003)})
    (d/TRAIN).write_bytes((d/TRAIN).read_bytes().replace(struct.pack('<L', 1_000_003), struct.pack('<L', 10)))


def table_bomb(d):
    (d/TEST).unlink()
    (d/'Bone age ground truth.xlsx').write_bytes(zipped({'xl/worksheets/sheet1.xml': bytes(MOST_BYTES + 1)}))


def leads_out(d): pack(d/TRAIN, members(d/TRAIN) | {'../../1377.png': b'x'})


def no_picture(d): pack(d/TRAIN, {n: c for n, c in members(d/TRAIN).items() if '1379' not in n})


def no_label(d):
    table = members(d/NOTES)['train.csv'].decode()
    pack(d/NOTES, {'train.csv': '\n'.join(r for r in table.split('\n') if not r.startswith('1380')).encode()})


def no_table(d): (d/NOTES).unlink()


def unknown_header(d): pack(d/NOTES, {'train.csv': b'picture,months,sex\n1377,100,M\n'})


def no_ages(d):
    (d/TEST).unlink()
    (d/'Bone age ground truth.csv').write_text('Case ID,Sex\n1387,M\n1388,F\n')


def no_spreadsheet(d):
    (d/TEST).unlink()
    (d/'Bone age ground truth.xlsx').write_text('id,boneage,male\n')


def two_tables(d): (d/'boneage-training-dataset.csv').write_text('id,boneage,male\n1377,100,True\n')


def two_pictures(d): (d/'1377.png').write_bytes(b'x')


@pytest.mark.parametrize('spoil, says, sets', [
    (cut_short, 'Training+Set.zip: is damaged or not downloaded whole', (0, 4, 2)),
    (no_archive, 'Training+Set.zip: is damaged or not downloaded whole', (0, 4, 2)),
    (one_byte_wrong, 'rsna-training: pictures that are damaged, to be downloaded again: 1 (', (5, 4, 2)),
    (cut_short_within, 'boneage-validation-dataset-2.zip: is damaged', (6, 0, 2)),
    (bomb, "'boneage-training-dataset/9.png', which unpacks to 64 MB; this is not the RSNA's archive", (0, 4, 2)),
    (hidden_bomb, 'damaged, to be downloaded again: 1 (', (0, 4, 2)),
    (table_bomb, 'Bone age ground truth.xlsx: cannot be read', (6, 4, 0)),
    (leads_out, "'../../1377.png', which leads out of its folder", (0, 4, 2)),
    (no_picture, 'rsna-training: labels without a picture: 1 (1379)', (5, 4, 2)),
    (no_label, 'pictures without a label: 1 (', (5, 4, 2)),
    (no_table, 'pictures without a label: 6 (', (0, 4, 2)),
    (unknown_header, 'train.csv: has no column id; name one so (columns: picture, months, sex)', (0, 4, 2)),
    (no_ages, 'Bone age ground truth.csv: has no column boneage', (6, 4, 0)),
    (no_spreadsheet, 'Bone age ground truth.xlsx: cannot be read', (6, 4, 0)),
    (two_tables, 'are two tables for rsna-training; keep one', (0, 4, 2)),
    (two_pictures, 'pictures that lie there twice and differ: 1 (', (5, 4, 2))],
    ids=lambda x: getattr(x, '__name__', ''))
def test_each_fault_is_one_line(downloads, tmp_path, spoil, says, sets):
    """It is named, the rest is laid out, nothing is written elsewhere; mended, the same again makes it whole."""
    whole = tree(downloads)
    spoil(downloads)
    said = faults(downloads, tmp_path/'data')
    assert sum(says in fault for fault in said) == 1 and len(said) <= 3, said
    there = [len(list((tmp_path/'data'/name/'images').glob('*'))) for name in (
        'rsna-training', 'rsna-validation', 'rsna-test')]
    assert tuple(there) == sets
    assert {f.name for f in tmp_path.iterdir()} == {'downloads', 'data'}
    shutil.rmtree(downloads)
    write_all(downloads, whole)
    if spoil is no_label: (tmp_path/'data/rsna-training/labels.csv').unlink() # it was a whole table of fewer
    assert faults(downloads, tmp_path/'data') == []
    lay_out(downloads, tmp_path/'fresh')
    assert tree(tmp_path/'data') == tree(tmp_path/'fresh')


def test_nothing_to_lay_out(downloads, tmp_path):
    for folder, says in ((tmp_path/'nowhere', 'no such folder'), (tmp_path, 'none of the challenge')):
        shutil.rmtree(downloads, ignore_errors=True)
        with pytest.raises(DownloadError, match=says): lay_out(folder, tmp_path/'data')
    assert not (tmp_path/'data').exists()


def test_an_id_in_two_sets_stops_it(downloads, tmp_path):
    pack(downloads/NOTES, {'train.csv': b'id,boneage,male\n1387,100,True\n'})
    with pytest.raises(DownloadError, match=r'ids in both: 1 \(1387\)'): lay_out(downloads, tmp_path/'data')
    assert not (tmp_path/'data').exists()


def test_no_room(downloads, tmp_path, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda folder: namedtuple('Usage', 'free')(1000))
    with pytest.raises(DownloadError, match='0.0 GB are free; name another'): lay_out(downloads, tmp_path/'data')
    assert tree(tmp_path/'data') == {}


@pytest.mark.parametrize('when', ['between pictures', 'within a picture'])
def test_stopped_it_leaves_whole_files_and_goes_on(downloads, tmp_path, monkeypatch, when):
    def stop(event):
        if event.done == 3: raise KeyboardInterrupt
    def full(*paths):
        if '1379' in str(paths[0]): raise OSError(28, 'No space left on device')
        return rename(*paths)
    rename = os.replace
    with monkeypatch.context() as m:
        if when == 'within a picture': m.setattr('os.replace', full)
        with pytest.raises((KeyboardInterrupt, OSError)): lay_out(downloads, tmp_path/'data', stop)
    left = tree(tmp_path/'data')
    whole = {name.split('/')[-1]: content for name, content in members(downloads/TRAIN).items()}
    assert 0 < len(left) < 6 and all(whole[Path(name).name] == content for name, content in left.items())
    assert faults(downloads, tmp_path/'data') == []
    lay_out(downloads, tmp_path/'fresh')
    assert tree(tmp_path/'data') == tree(tmp_path/'fresh')


def test_what_is_there_and_differs_stays(downloads, tmp_path):
    lay_out(downloads, tmp_path/'data')
    mine = {'rsna-training/images/1377.png': b'mine', 'rsna-test/labels.csv': b'id,boneage,male\n1387,1,F\n'}
    write_all(tmp_path/'data', mine)
    said = faults(downloads, tmp_path/'data')
    assert len(said) == 2 and 'left as they are: 1 (' in said[0] and 'says something else; move it away' in said[1]
    assert {name: (tmp_path/'data'/name).read_bytes() for name in mine} == mine


def test_published_annotations_become_ours(downloads, drawn, tmp_path):
    """The drawn twin of gr-bone-age gives back what was drawn; a faulty file is named and nothing is written."""
    lay_out(downloads, tmp_path/'data')
    images, out = tmp_path/'data/rsna-training/images', tmp_path/'data/annotations'
    source = write_all(tmp_path/'gr', pack_annotations(drawn, 8))
    points, masks = source/'key-points/manual_key_points.json', source/'mask/ann/1377.json'
    assert not any('--annotations' in line for line in next_commands(tmp_path/'data'))
    for file, text, says in ((points, '{', 'cannot be read'), (points, '[]', 'is no annotation'),
                             (points, '{"1377.png": [1, 2]}', 'has no three points'),
                             (points, '{"1377.png": [1, 2, 3, 4, 5000, 6]}', 'outside its picture'),
                             (points, '{"9.png": [1, 2, 3, 4, 5, 6]}', 'none of the pictures'),
                             (masks, '{"size": {}}', 'is no outline')):
        before = file.read_bytes()
        file.write_text(text)
        with pytest.raises(DownloadError, match=says) as e: lay_annotations(source, images, out)
        assert '\n' not in str(e.value) and tree(out) == {}
        file.write_bytes(before)
    assert lay_annotations(source, images, out) == lay_annotations(source, images, out) == []
    truth, found = read_points(drawn/'keypoints.csv').points[:6], read_points(out/'keypoints.csv')
    assert found.manual.all() and list(found.index) == [str(FIRST + n) for n in range(6)], 'of pictures that are there'
    assert np.abs(np.stack(truth) - np.stack(found.points)).max() < 2e-5
    mine, drawn_ones = drawn_masks(out), drawn_masks(drawn)
    for n in range(8):
        a, b = mine[str(FIRST + n)]((256, 192)), drawn_ones[f'p{n:04}']((256, 192))
        assert (a & b).sum() / (a | b).sum() > .95
    assert 'train masks' in '\n'.join(next_commands(tmp_path/'data'))
    (out/'keypoints.csv').write_text('mine')
    assert 'move it away' in lay_annotations(source, images, out)[0] and (out/'keypoints.csv').read_text() == 'mine'


def test_real_key_points_are_those_published(real_data, tmp_path):
    """Pixels of copies of half the size, as gr-bone-age has them, and the fractions that the project learns from."""
    clicked = {'3681.png': [204, 446, 462, 488, 438, 768], '4031.png': [880, 412, 1032, 712, 744, 1080],
               '3653.png': [682, 346, 714, 498, 516, 618]}
    sizes = read_labels(find_dataset(real_data/'rsna-299').labels).set_index('id')
    (tmp_path/'images').mkdir()
    for name in clicked:
        width, height = sizes.loc[name[:-4], ['width', 'height']].astype(int)
        Image.new('1', (width, height)).save(tmp_path/'images'/name)
    outline = dict(size=dict(width=2, height=2), objects=[])
    write_all(tmp_path/'gr', {'mask/1.json': json.dumps(outline).encode(),
                              'key-points/manual_key_points.json': json.dumps(clicked).encode()})
    lay_annotations(tmp_path/'gr', tmp_path/'images', tmp_path/'out')
    found, known = (read_points(f/'keypoints.csv') for f in (tmp_path/'out', real_data/'annotations'))
    for i in found.index: assert np.allclose(found.points[i], known.points[i], atol=2e-5) and known.manual[i]


# The real radiographs

def test_real_labels_are_the_challenge_s(real_data):
    labels = read_labels(find_dataset(real_data/'rsna-299').labels)
    assert (len(labels), int(labels.male.sum())) == (12611, 6833)
    assert (labels.boneage.nunique(), labels.boneage.median()) == (160, 132)
    assert int(labels.width.isna().sum()) == 4


def test_the_committed_split_is_the_functions(real_data):
    committed = pd.read_csv(ROOT/'results/withheld.csv', dtype=str).id.tolist()
    labels = read_labels(find_dataset(real_data/'rsna-299').labels)
    assert committed == split_withheld(labels) and len(committed) == 1000


@pytest.mark.parametrize('folder', ['rsna-299', 'rsna-768', 'rsna-fullsize', 'rsna-registered'])
def test_real_folders_are_whole(real_data, folder):
    if not (real_data/folder).is_dir(): pytest.skip(f'{folder} is not there')
    report = check_data(real_data/folder)
    assert report.ok, report.lines()


def test_real_pictures_get_their_aspect_back(real_data):
    labels, read = radiographs(real_data/'rsna-299')
    for row in labels.head(20).itertuples():
        h, w = read(row.id).shape
        assert min(h, w) == 299
        if row.width > 0: assert abs(w / h / (row.width / row.height) - 1) < 0.03


def test_a_column_male_of_letters(tmp_path):
    """M and F say the same there as True and False."""
    (tmp_path/'a.csv').write_text('id,boneage,male\n1,12,M\n2,12,F\n3,12,True\n')
    assert read_labels(tmp_path/'a.csv').male.tolist() == [True, False, True]


def test_pixels_that_are_not_square_count_where_a_table_has_no_sizes(tmp_path):
    (tmp_path/'images').mkdir()
    Image.fromarray(blob(64, 60)).save(tmp_path/'images'/'a.tif', dpi=(100, 200))
    (tmp_path/'labels.csv').write_text('id,boneage,male\na,100,True\n')
    assert radiographs(tmp_path)[1]('a').shape == read_pixels(tmp_path/'images'/'a.tif').shape != (64, 60)
