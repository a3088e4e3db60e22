"""Labels, finding and checking a data set, who is kept out."""
import string
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import write_dicom
from hypothesis import given, settings, strategies as st

from boneage.learn.data import (
    DatasetError, LabelError, check_data, find_dataset, held_out, lot, picture_id, radiographs, read_labels,
    read_points, split_withheld)

ROOT = Path(__file__).resolve().parent.parent


def blob(height=80, width=60, dtype=np.uint8) -> np.ndarray:
    """A smooth bright blob that uses every grey level of its type."""
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    px = np.exp(-3 * (x**2 + y**2))
    return ((px - px.min()) / np.ptp(px) * np.iinfo(dtype).max).astype(dtype)


# Labels

ID = st.text(string.ascii_letters + string.digits + '-_', min_size=1, max_size=12)
SPELLINGS = dict(id=['id', 'Image ID', 'image_id', 'ID', 'Case ID'],
                 boneage=['boneage', 'Bone Age (months)', 'bone_age', 'BoneAge'], male=['male', 'sex', 'Sex', 'MALE'])
SEXES = [('True', 'False'), ('1', '0'), ('M', 'F'), ('male', 'female'), ('TRUE', 'FALSE'), ('m', 'f'), (' M', ' F ')]


@given(rows=st.lists(st.tuples(ID, st.floats(1, 240), st.booleans()), min_size=1, max_size=20),
       columns=st.tuples(*(st.sampled_from(names) for names in SPELLINGS.values())), sexes=st.sampled_from(SEXES),
       suffix=st.sampled_from(['', '.png', '.PNG', '.dcm']), order=st.permutations(range(3)), bom=st.booleans())
def test_every_spelling_reads_the_same(tmp_path_factory, rows, columns, sexes, suffix, order, bom):
    table = pd.DataFrame({columns[0]: [i + suffix for i, _, _ in rows], columns[1]: [repr(a) for _, a, _ in rows],
                          columns[2]: [sexes[0] if m else sexes[1] for _, _, m in rows]})
    path = tmp_path_factory.mktemp('labels')/'labels.csv'
    table.iloc[:, list(order)].to_csv(path, index=False, encoding='utf-8-sig' if bom else 'utf-8')
    labels = read_labels(path)
    assert list(labels.itertuples(index=False, name=None)) == rows
    assert labels.boneage.dtype == float and labels.male.dtype == bool


def test_ids_are_text_and_sizes_are_kept(tmp_path):
    (tmp_path/'a.csv').write_text('id,boneage,male,width,Height\n007,12,True,100,200\nNA,,F,,\n')
    labels = read_labels(tmp_path/'a.csv')
    assert list(labels.id) == ['007', 'NA'] and list(labels.columns) == ['id', 'boneage', 'male', 'width', 'height']
    assert labels.boneage.isna().tolist() == labels.width.isna().tolist() == [False, True]


@pytest.mark.parametrize('text, says', [
    ('', 'is not a table'), ('id,boneage\n1,2\n', 'no column male'),
    ('id,Image ID,boneage,male\n1,1,2,M\n', 'id, Image ID'),
    ('id,boneage,male\n1,12,M\n2,ten,F\n', 'line 3, column boneage'),
    ('id,boneage,male\n1,12,\n', 'line 2, column male'),
    ('id,boneage,male\n1,12,2\n', "'2' is not a sex"), ('id,boneage,male\n,12,M\n', 'line 2 has no id'),
    ('id,boneage,male,width\n1,12,M,wide\n', 'line 2, column width')])
def test_unreadable_labels_name_the_place(tmp_path, text, says):
    (tmp_path/'a.csv').write_text(text)
    with pytest.raises(LabelError) as e: read_labels(tmp_path/'a.csv')
    assert says in str(e.value) and '\n' not in str(e.value)


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
    table.write_text(table.read_text() + 'c,36,0\nold,241,M\nnew,0,F\nnone,,F\nodd,inf,F\nnan,nan,M\n')
    for k, i in enumerate(('old', 'new', 'none', 'odd', 'nan')): cv2.imwrite(str(images/f'{i}.png'), blob(100 + k))
    report = check_data(data)
    counts = {kind: len(found) for kind, found in report.problems.items()}
    assert not report.ok and counts == {
        'pictures without a label': 1, 'labels without a picture': 1, 'unreadable pictures': 1,
        'ids in more than one row': 1, 'ids with more than one picture': 1, 'identical pictures': 1,
        'implausible ages': 5}
    text = '\n'.join(report.lines(most=2))
    assert 'stray' in text and 'd.png = e.png' in text and 'and 3 more' in text


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
    ('id,manual\n1,1\n', 'no column capitate_x'), (POINTS + '1,yes,0,0,0,0,0,0\n', 'is not 0 or 1'),
    (POINTS + '1,1,0,left,0,0,0,0\n', 'line 2, column mid_tip_y')])
def test_unreadable_points_name_the_place(tmp_path, text, says):
    (tmp_path/'a.csv').write_text(text)
    with pytest.raises(LabelError, match=says): read_points(tmp_path/'a.csv')


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
