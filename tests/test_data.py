"""Reading pictures and labels, finding and checking a data set, the withheld radiographs."""
import string
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from conftest import write_dicom
from hypothesis import given, settings, strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from boneage.data import (DatasetError, LabelError, PictureError, check_data, find_dataset, picture_id, read_labels, read_picture,
                          read_radiograph, split_withheld, unsquash)

ROOT = Path(__file__).resolve().parent.parent


def blob(height=80, width=60, dtype=np.uint8) -> np.ndarray:
    """A smooth bright blob that uses every grey level of its type."""
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    px = np.exp(-3 * (x**2 + y**2))
    return ((px - px.min()) / np.ptp(px) * np.iinfo(dtype).max).astype(dtype)


# Pictures

@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_grey_keeps_its_depth(tmp_path, dtype, suffix):
    px = blob(dtype=dtype)
    cv2.imwrite(str(tmp_path/f'a{suffix}'), px)
    read = read_picture(tmp_path/f'a{suffix}')
    assert read.dtype == dtype and read.flags.writeable
    np.testing.assert_array_equal(read, px)


MODES = dict(png='RGB RGBA LA P 1 L', jpg='RGB CMYK L', tif='RGB RGBA LA P 1 L CMYK', bmp='RGB P 1 L')  # what each format can hold


@pytest.mark.parametrize('suffix, mode', [(suffix, mode) for suffix, modes in MODES.items() for mode in modes.split()])
def test_every_mode_becomes_grey(tmp_path, suffix, mode):
    path = tmp_path/f'a.{suffix}'
    Image.fromarray(blob()).convert(mode).save(path)
    read = read_picture(path)
    assert read.dtype == np.uint8 and read.shape == (80, 60)
    if mode != '1': assert np.abs(read.astype(int) - blob()).mean() < 3


def test_orientation_in_exif_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(blob()).save(tmp_path/'a.jpg', exif=exif)
    assert read_picture(tmp_path/'a.jpg').shape == (80, 60)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_dicom_is_bright_where_dense(tmp_path, dtype):
    px = blob(dtype=dtype)
    upside_down = np.iinfo(dtype).max - px
    for path in (write_dicom(tmp_path/'a.dcm', px), write_dicom(tmp_path/'b.dcm', upside_down, 'MONOCHROME1'),
                 write_dicom(tmp_path/'without_suffix', px), write_dicom(tmp_path/'no_preamble.dcm', px, preamble=False)):
        read = read_picture(path)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, px)


@pytest.mark.parametrize('syntax', ['RLELossless', 'JPEG2000Lossless'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_compressed_dicom(tmp_path, syntax, dtype):
    """Without loss what was written."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob(dtype=dtype)))
    ds.compress(getattr(pydicom.uid, syntax))
    ds.save_as(tmp_path/'b.dcm')
    np.testing.assert_array_equal(read_picture(tmp_path/'b.dcm'), read_picture(tmp_path/'a.dcm'))


@pytest.mark.parametrize('name', ['MR_small.dcm', 'MR_small_RLE.dcm', 'MR_small_implicit.dcm', 'MR_small_bigendian.dcm', 'MR_small_jp2klossless.dcm',
                                  'MR_small_jpeg_ls_lossless.dcm', 'JPGExtended.dcm', 'SC_rgb_jpeg_gdcm.dcm'])
def test_dicom_of_other_makers(name):
    """pydicom's own examples; those of the same picture are read alike."""
    px = read_picture(get_testdata_file(name))
    assert px.ndim == 2 and px.std() > 0
    if name.startswith('MR_small'): np.testing.assert_array_equal(px, read_picture(get_testdata_file('MR_small.dcm')))


def test_dicom_takes_the_first_frame_and_rescales(tmp_path):
    px = blob(dtype=np.uint16) // 32
    frames = write_dicom(tmp_path/'frames.dcm', np.stack([px, px[::-1]]), frames=2)
    np.testing.assert_array_equal(read_picture(frames), px)
    scaled = write_dicom(tmp_path/'scaled.dcm', px, RescaleSlope=2, RescaleIntercept=-100)
    np.testing.assert_array_equal(read_picture(scaled), 2 * px)
    fraction = read_picture(write_dicom(tmp_path/'fraction.dcm', px, RescaleSlope=0.37, RescaleIntercept=0))
    assert fraction.dtype == np.uint16 and np.corrcoef(fraction.ravel(), px.ravel())[0, 1] > 0.9999
    signed = write_dicom(tmp_path/'signed.dcm', -px.astype(np.int16) - 1, 'MONOCHROME1', signed=True)
    np.testing.assert_array_equal(read_picture(signed), px)


def bad_files(folder: Path) -> dict[str, Path]:
    """One file for each way in which a picture goes wrong."""
    f = {name: folder/name for name in ('missing.png', 'empty.png', 'words.png', 'words.dcm', 'cut.png', 'tail.png', 'cut.jpg', 'cut.dcm',
                                        'speck.png', 'black.png', 'nan.tif', 'folder.png', 'flipped.png')}
    f['empty.png'].touch()
    f['folder.png'].mkdir()
    for name in ('words.png', 'words.dcm'): f[name].write_text('dear colleague,\n' * 20)
    cv2.imwrite(str(f['speck.png']), blob()[:3, :3])
    cv2.imwrite(str(f['black.png']), blob() * 0)
    Image.fromarray(np.full((80, 60), np.nan, np.float32)).save(f['nan.tif'])
    whole = {s: folder/f'whole{s}' for s in ('.png', '.jpg', '.dcm')}
    for s in ('.png', '.jpg'): cv2.imwrite(str(whole[s]), blob())
    write_dicom(whole['.dcm'], blob())
    for s, path in whole.items(): f[f'cut{s}'].write_bytes(path.read_bytes()[:-len(path.read_bytes()) // 3])
    data = whole['.png'].read_bytes()
    f['tail.png'].write_bytes(data[:-12])
    f['flipped.png'].write_bytes(data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1:])
    return f


def test_bad_files_are_refused_in_one_line(tmp_path):
    for name, path in bad_files(tmp_path).items():
        with pytest.raises(PictureError) as e: read_picture(path)
        message = str(e.value)
        assert message.startswith(str(path)) and '; ' in message and '\n' not in message, name
        assert len(message) < len(str(path)) + 260, name


def test_pictures_that_would_fill_the_memory(tmp_path):
    """The size is read before the pixels are unpacked."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob()))
    ds.Rows = ds.Columns = 60_000
    ds.save_as(tmp_path/'a.dcm')
    Image.new('1', (12_000, 12_000)).save(tmp_path/'a.png')
    for name in ('a.dcm', 'a.png'):
        with pytest.raises(PictureError, match=f'{name}: is (60000 x 60000|12000 x 12000) px; give .* at most 100 megapixels'): read_picture(tmp_path/name)


def test_bad_files_leave_stderr_alone(tmp_path):
    paths = [str(p) for p in bad_files(tmp_path).values()]
    code = 'import sys; from boneage.data import picture_problem as p; assert all(map(p, sys.argv[1:]))'
    done = subprocess.run([sys.executable, '-c', code, *paths], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@settings(max_examples=40)
@given(cut=st.integers(1, 10_000), suffix=st.sampled_from(['.png', '.jpg']))
def test_a_truncated_file_is_never_read(tmp_path_factory, cut, suffix):
    data = cv2.imencode(suffix, blob(200, 150))[1].tobytes()
    path = tmp_path_factory.mktemp('cut')/f'a{suffix}'
    path.write_bytes(data[:-min(cut, len(data))])
    with pytest.raises(PictureError): read_picture(path)


def test_reading_needs_no_heavy_import():
    code = ('import sys, boneage.data; '
            'print([m for m in ("pandas", "pydicom", "fastai", "matplotlib", "sklearn", "timm", "seaborn") if m in sys.modules])')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@given(width=st.integers(500, 3000), height=st.integers(500, 3000), side=st.integers(100, 400))
@settings(max_examples=50)
def test_unsquash_restores_the_aspect_and_loses_no_pixel(width, height, side):
    px = blob(side, side)
    back = unsquash(px, width, height)
    h, w = back.shape
    assert min(h, w) == side
    assert abs(w / h / (width / height) - 1) < 0.02 + 1 / min(h, w)
    assert unsquash(back, w, h) is back


def test_unsquash_leaves_unknown_sizes_alone(tmp_path):
    for size in ((None, None), (float('nan'), 100.0), (0, 0)): assert unsquash(blob(), *size).shape == (80, 60)
    cv2.imwrite(str(tmp_path/'a.png'), blob(64, 64))
    assert read_radiograph(tmp_path/'a.png', 1000, 2000).shape == (128, 64)


# Labels

ID = st.text(string.ascii_letters + string.digits + '-_', min_size=1, max_size=12)
SPELLINGS = dict(id=['id', 'Image ID', 'image_id', 'ID', 'Case ID'], boneage=['boneage', 'Bone Age (months)', 'bone_age', 'BoneAge'],
                 male=['male', 'sex', 'Sex', 'MALE'])
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
    ('', 'is not a table'), ('id,boneage\n1,2\n', 'no column male'), ('id,Image ID,boneage,male\n1,1,2,M\n', 'id, Image ID'),
    ('id,boneage,male\n1,12,M\n2,ten,F\n', 'line 3, column boneage'), ('id,boneage,male\n1,12,\n', 'line 2, column male'),
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
    assert [picture_id(n) for n in ('0042.png', '1.2.840.10', '1.2.840.10.dcm', 'a.b.JPG')] == ['0042', '1.2.840.10', '1.2.840.10', 'a.b']


# Folders

def make_dataset(folder: Path, pictures='images', table='labels.csv', ids=('007', 'b', 'c-1')) -> Path:
    """A whole data set of drawn pictures, each different."""
    (folder/pictures).mkdir(parents=True)
    for k, i in enumerate(ids): cv2.imwrite(str(folder/pictures/f'{i}.png'), np.roll(blob(), k, 0))
    (folder/table).parent.mkdir(exist_ok=True)
    (folder/table).write_text('id,boneage,male\n' + ''.join(f'{i},{12 * k + 12},{k % 2}\n' for k, i in enumerate(ids)))
    return folder


@pytest.mark.parametrize('pictures, table', [
    ('images', 'labels.csv'), ('boneage-training-dataset', 'boneage-training-dataset.csv'),
    ('boneage-training-dataset/boneage-training-dataset', 'boneage-training-dataset.csv'), ('x', 'tables/y.csv'), ('.', 'z.csv')])
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
    for folder, says in ((tmp_path/'none', 'no such folder'), (tmp_path/'empty', 'no CSV'), (two, '2 of CSV'), (bare, 'no pictures')):
        with pytest.raises(DatasetError, match=says) as e: find_dataset(folder)
        assert '\n' not in str(e.value)


def test_a_whole_data_set_is_ok(tmp_path):
    seen = []
    report = check_data(make_dataset(tmp_path/'data'), lambda done, n: seen.append((done, n)))
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
        'pictures without a label': 1, 'labels without a picture': 1, 'unreadable pictures': 1, 'ids in more than one row': 1,
        'ids with more than one picture': 1, 'identical pictures': 1, 'implausible ages': 5}
    text = '\n'.join(report.lines(most=2))
    assert 'stray' in text and 'd.png = e.png' in text and 'and 3 more' in text


# The withheld radiographs

def cohort(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(dict(id=[f'{i:04}' for i in range(n)], boneage=rng.integers(1, 229, n).astype(float), male=rng.random(n) < 0.5))


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
    assert (len(labels), int(labels.male.sum()), labels.boneage.nunique(), labels.boneage.median()) == (12611, 6833, 160, 132)
    assert int(labels.width.isna().sum()) == 4


def test_the_committed_split_is_the_functions(real_data):
    committed = pd.read_csv(ROOT/'results/withheld.csv', dtype=str).id.tolist()
    assert committed == split_withheld(read_labels(find_dataset(real_data/'rsna-299').labels)) and len(committed) == 1000


@pytest.mark.parametrize('folder', ['rsna-299', 'rsna-768', 'rsna-fullsize', 'rsna-registered'])
def test_real_folders_are_whole(real_data, folder):
    if not (real_data/folder).is_dir(): pytest.skip(f'{folder} is not there')
    report = check_data(real_data/folder)
    assert report.ok, report.lines()


def test_real_pictures_get_their_aspect_back(real_data):
    found = find_dataset(real_data/'rsna-299')
    for row in read_labels(found.labels).head(20).itertuples():
        h, w = read_radiograph(found.images[row.id], row.width, row.height).shape
        assert min(h, w) == 299
        if row.width > 0: assert abs(w / h / (row.width / row.height) - 1) < 0.03
