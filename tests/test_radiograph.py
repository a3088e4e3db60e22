"""Reading pictures: every kind of file becomes a grey picture, bright where dense, or is refused in one line."""
import io
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import openjpeg
import pydicom
import pytest
import tifffile
from conftest import ROOT, write_dicom
from corpus import blob, dicom, jpeg_in_dicom, picture
from hypothesis import given, settings, strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from boneage.artefacts import MOST_STRETCHED, unsquash
from boneage.codestream import _count_pictures
from boneage.picture import MOST_PARTS, PictureError
from boneage.radiograph import read_pixels, read_radiograph



@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_grey_keeps_its_depth(tmp_path, dtype, suffix):
    px = blob(dtype=dtype)
    cv2.imwrite(str(tmp_path/f'a{suffix}'), px)
    read = read_pixels(tmp_path/f'a{suffix}')
    assert read.dtype == dtype and read.flags.writeable
    np.testing.assert_array_equal(read, px)


MODES = dict(png='RGB RGBA LA P 1 L', jpg='RGB CMYK L', tif='RGB RGBA LA P 1 L CMYK', bmp='RGB P 1 L')  # of each format


@pytest.mark.parametrize('suffix, mode', [(suffix, mode) for suffix, modes in MODES.items() for mode in modes.split()])
def test_every_mode_becomes_grey(tmp_path, suffix, mode):
    path = tmp_path/f'a.{suffix}'
    Image.fromarray(blob()).convert(mode).save(path)
    read = read_pixels(path)
    assert read.dtype == np.uint8 and read.shape == (80, 60)
    if mode != '1': assert np.abs(read.astype(int) - blob()).mean() < 3


def test_orientation_in_exif_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(blob()).save(tmp_path/'a.jpg', exif=exif)
    assert read_pixels(tmp_path/'a.jpg').shape == (80, 60)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_dicom_is_bright_where_dense(tmp_path, dtype):
    px = blob(dtype=dtype)
    upside_down = np.iinfo(dtype).max - px
    negative = write_dicom(tmp_path/'b.dcm', upside_down, PhotometricInterpretation='MONOCHROME1')
    for path in (write_dicom(tmp_path/'a.dcm', px), negative,
                 write_dicom(tmp_path/'without_suffix', px),
                 write_dicom(tmp_path/'no_preamble.dcm', px, preamble=False)):
        read = read_pixels(path)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, px)


@pytest.mark.parametrize('syntax', ['RLELossless', 'JPEG2000Lossless'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_compressed_dicom(tmp_path, syntax, dtype):
    """Without loss what was written."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob(dtype=dtype)))
    ds.compress(getattr(pydicom.uid, syntax))
    ds.save_as(tmp_path/'b.dcm')
    np.testing.assert_array_equal(read_pixels(tmp_path/'b.dcm'), read_pixels(tmp_path/'a.dcm'))


@pytest.mark.parametrize('name', [
    'MR_small.dcm', 'MR_small_RLE.dcm', 'MR_small_implicit.dcm', 'MR_small_bigendian.dcm', 'MR_small_jp2klossless.dcm',
    'MR_small_jpeg_ls_lossless.dcm', 'JPGExtended.dcm'])
def test_dicom_of_other_makers(name):
    """pydicom's own examples, none of them a radiograph, as they say; those of the same picture are read alike."""
    def read(name): return read_radiograph(get_testdata_file(name), anyway=True).pixels
    with pytest.raises(PictureError, match='no radiograph'): read_pixels(get_testdata_file(name))
    px = read(name)
    assert px.ndim == 2 and px.std() > 0
    if name.startswith('MR_small'): np.testing.assert_array_equal(px, read('MR_small.dcm'))


def test_dicom_asks_for_a_frame(tmp_path):
    px = blob(dtype=np.uint16) // 32
    frames = write_dicom(tmp_path/'frames.dcm', np.stack([px, px[::-1]]))
    with pytest.raises(PictureError, match='has 2 frames'): read_pixels(frames)
    for frame, shown in ((1, px), (2, px[::-1])):
        np.testing.assert_array_equal(read_radiograph(frames, frame=frame).pixels, shown)
    with pytest.raises(PictureError, match='no frame 3'): read_radiograph(frames, frame=3)


@pytest.mark.parametrize('syntax', ['RLELossless', 'JPEG2000Lossless', 'JPEGLSLossless'])
def test_a_second_picture_that_is_not_counted(tmp_path, syntax):
    """Whose age would it be? Refused; one picture in several parts is read."""
    px = blob()
    ds = pydicom.dcmread(write_dicom(tmp_path/'two.dcm', np.stack([px, px[::-1]])))
    ds.compress(getattr(pydicom.uid, syntax))
    streams = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=2))
    ds.NumberOfFrames = None
    ds.save_as(tmp_path/'two.dcm')
    with pytest.raises(PictureError, match='holds 2 pictures'): read_pixels(tmp_path/'two.dcm')
    if syntax == 'RLELossless': return # a frame of which is always one part
    ds.PixelData = pydicom.encaps.encapsulate(streams[:1], fragments_per_frame=3)
    ds.save_as(tmp_path/'parts.dcm')
    np.testing.assert_array_equal(read_pixels(tmp_path/'parts.dcm'), px)


def test_dicom_rescales(tmp_path):
    px = blob(dtype=np.uint16) // 32
    scaled = write_dicom(tmp_path/'scaled.dcm', px, RescaleSlope=2, RescaleIntercept=-100)
    np.testing.assert_array_equal(read_pixels(scaled), 2 * px)
    fraction = read_pixels(write_dicom(tmp_path/'fraction.dcm', px, RescaleSlope=0.37, RescaleIntercept=0))
    assert fraction.dtype == np.uint16 and np.corrcoef(fraction.ravel(), px.ravel())[0, 1] > 0.9999
    signed = write_dicom(tmp_path/'signed.dcm', -px.astype(np.int16) - 1, PhotometricInterpretation='MONOCHROME1')
    np.testing.assert_array_equal(read_pixels(signed), px)


def bad_files(folder: Path) -> dict[str, Path]:
    """One file for each way in which a picture goes wrong."""
    f = {name: folder/name for name in (
        'missing.png', 'empty.png', 'words.png', 'words.dcm', 'cut.png', 'tail.png', 'cut.jpg', 'cut.dcm',
        'speck.png', 'black.png', 'nan.tif', 'lzw.tif', 'folder.png', 'flipped.png')}
    f['empty.png'].touch()
    f['folder.png'].mkdir()
    for name in ('words.png', 'words.dcm'): f[name].write_text('dear colleague,\n' * 20)
    cv2.imwrite(str(f['speck.png']), blob()[:3, :3])
    cv2.imwrite(str(f['black.png']), blob() * 0)
    Image.fromarray(np.full((80, 60), np.nan, np.float32)).save(f['nan.tif'])
    Image.fromarray(blob()).save(f['lzw.tif'], compression='tiff_lzw')
    packed = f['lzw.tif'].read_bytes()
    f['lzw.tif'].write_bytes(packed.replace(packed[100:1000], b'\xff' * 900))
    whole = {s: folder/f'whole{s}' for s in ('.png', '.jpg', '.dcm')}
    for s in ('.png', '.jpg'): cv2.imwrite(str(whole[s]), blob())
    write_dicom(whole['.dcm'], blob())
    for s, path in whole.items(): f[f'cut{s}'].write_bytes(path.read_bytes()[:-len(path.read_bytes()) // 3])
    data = whole['.png'].read_bytes()
    f['tail.png'].write_bytes(data[:-12])
    middle = len(data) // 2
    f['flipped.png'].write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1:])
    return f


def test_bad_files_are_refused_in_one_line(tmp_path):
    for name, path in bad_files(tmp_path).items():
        with pytest.raises(PictureError) as e: read_pixels(path)
        message = str(e.value)
        assert '; ' in message and '\n' not in message and len(message) < 260, name


def test_pictures_that_would_fill_the_memory(tmp_path):
    """The size is read before the pixels are unpacked."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob()))
    ds.Rows = ds.Columns = 60_000
    ds.save_as(tmp_path/'a.dcm')
    Image.new('1', (12_000, 12_000)).save(tmp_path/'a.png')
    for name in ('a.dcm', 'a.png'):
        with pytest.raises(PictureError, match='is (60000 x 60000|12000 x 12000) px; give .* at most 100 megapixels'):
            read_pixels(tmp_path/name)


def test_bad_files_leave_stderr_alone(tmp_path):
    paths = [str(p) for p in bad_files(tmp_path).values()]
    code = """
import sys
import zlib
from boneage.picture import PictureError
from boneage.radiograph import read_pixels
for path in sys.argv[1:]:
    try: read_pixels(path)
    except PictureError: continue
    raise SystemExit(path)
"""
    done = subprocess.run([sys.executable, '-c', code, *paths], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@settings(max_examples=40)
@given(cut=st.integers(1, 10_000), suffix=st.sampled_from(['.png', '.jpg']))
def test_a_truncated_file_is_never_read(tmp_path_factory, cut, suffix):
    data = cv2.imencode(suffix, blob(200, 150))[1].tobytes()
    path = tmp_path_factory.mktemp('cut')/f'a{suffix}'
    path.write_bytes(data[:-min(cut, len(data))])
    with pytest.raises(PictureError): read_pixels(path)


@given(width=st.integers(500, 3000), height=st.integers(500, 3000), side=st.integers(100, 400))
@settings(max_examples=50)
def test_unsquash_restores_the_aspect_and_loses_no_pixel(width, height, side):
    px = blob(side, side)
    if not 1 / MOST_STRETCHED <= width / height <= MOST_STRETCHED:
        with pytest.raises(PictureError, match='another shape'): unsquash(px, width, height)
        return
    back = unsquash(px, width, height)
    h, w = back.shape
    assert min(h, w) == side
    assert abs(w / h / (width / height) - 1) < 0.02 + 1 / min(h, w)
    assert unsquash(back, w, h) is back


def test_an_original_size_counts_where_both_sides_are_known(tmp_path):
    cv2.imwrite(str(tmp_path/'a.png'), blob(64, 64))
    nan = float('nan')
    for size in ((None, None), (nan, nan), (nan, 100.0), (100.0, nan), (100.0, None), (None, 100.0), (0, 0)):
        found = read_radiograph(tmp_path/'a.png', *size)
        assert found.pixels.shape == (64, 64) and found.square, size
    assert read_radiograph(tmp_path/'a.png', 1000, 2000).pixels.shape == (128, 64)


# Faults of files, each as a kind

IMPLIED = 'PixelRepresentation', 'PhotometricInterpretation', 'BitsStored', 'HighBit', 'SamplesPerPixel'


@settings(max_examples=20)
@given(st.sampled_from(IMPLIED), st.booleans())
def test_what_the_standard_implies(tmp_path_factory, missing, deep):
    """A file that leaves out an attribute which can mean one thing alone is read."""
    path, px = tmp_path_factory.mktemp('bare')/'bare.dcm', blob(dtype=np.uint16 if deep else np.uint8)
    ds = pydicom.dcmread(write_dicom(path, px))
    delattr(ds, missing)
    ds.save_as(path)
    np.testing.assert_array_equal(read_pixels(path), px)


@pytest.mark.parametrize('suffix', ['', '.dcm', '.png', '.ima', '.1'])
@pytest.mark.parametrize('preamble', [True, False])
def test_content_counts_not_names(tmp_path, suffix, preamble):
    """DICOM and PNG are known by their first bytes, whatever they are called."""
    px = blob()
    np.testing.assert_array_equal(read_pixels(write_dicom(tmp_path/f'scan{suffix}', px, preamble=preamble)), px)
    cv2.imwrite(str(tmp_path/'picture.png'), px)
    (tmp_path/'picture.png').rename(tmp_path/f'picture{suffix}')
    np.testing.assert_array_equal(read_pixels(tmp_path/f'picture{suffix}'), px)


WIDE = dict(PixelAspectRatio=[1, 3]), dict(PixelSpacing=[.1, .3]), dict(ImagerPixelSpacing=[.1, .3])


@pytest.mark.parametrize('tags', WIDE)
def test_pixels_that_are_not_square(tmp_path, tags):
    px = cv2.resize(blob(), (240, 320))
    read = read_pixels(write_dicom(tmp_path/'a.dcm', px[:, ::3].copy(), **tags))
    assert abs(read.shape[1] / read.shape[0] - px.shape[1] / px.shape[0]) < .03


@pytest.mark.parametrize('bits', [10, 12, 14])
@pytest.mark.parametrize('beyond', [1.03, 1.5, 2.4])
def test_values_above_bits_stored(tmp_path, bits, beyond):
    """Refused, by however little they are above; within its bits, with noise in the others, the picture is read."""
    px = (blob(dtype=np.uint16) / 65535 * (2**bits - 1)).astype(np.uint16)
    noise = np.random.default_rng(bits).integers(0, 2**(16 - bits), px.shape).astype(np.uint16) << bits
    stored = dict(BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(read_pixels(write_dicom(tmp_path/'noise.dcm', px | noise, **stored)), px)
    with pytest.raises(PictureError, match='its header says'):
        read_pixels(write_dicom(tmp_path/'above.dcm', (px * beyond).astype(np.uint16), **stored))


def test_an_overlay_excuses_its_own_bit_alone(tmp_path):
    """In an unused bit it is cut off; values that need more bits than the header says are refused beside it."""
    px, said = blob().astype(np.uint16) * 16, dict(BitsStored=12, HighBit=11)
    def with_overlay(px):
        px = px.copy()
        px[:9] |= 1 << 15
        ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', px, **said))
        ds.add_new(0x60000100, 'US', 16)
        ds.add_new(0x60000102, 'US', 15)
        ds.save_as(tmp_path/'a.dcm')
        return read_pixels(tmp_path/'a.dcm')
    np.testing.assert_array_equal(with_overlay(px), px)
    with pytest.raises(PictureError, match='of 14 bits, its header says 12'): with_overlay(px * 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 11), st.sampled_from([None, 0, 128, 255]), st.integers(0, 3),
       st.sampled_from(['plain', 'RLELossless', 'JPEGLSLossless']), st.booleans())
def test_a_hand_that_needs_more_bits(tmp_path_factory, hand, bits, around, turn, syntax, signed):
    """Twelve bits of a hand that are said to be fewer or signed: refused, but where the stream itself knows better."""
    px = hand.picture if around is None else np.pad(hand.picture, 20, constant_values=around)
    grain = np.random.default_rng(bits).integers(0, 16, px.shape)
    px = np.rot90(px.astype(np.uint16) << 4 | grain.astype(np.uint16), turn).copy()
    path = write_dicom(tmp_path_factory.mktemp('bits')/'a.dcm', px, BitsStored=12, HighBit=11)
    ds = pydicom.dcmread(path)
    if syntax != 'plain': ds.compress(getattr(pydicom.uid, syntax))
    ds.save_as(path)
    inside = np.s_[20:-20, 20:-20] # a bright border is filled
    np.testing.assert_array_equal(read_pixels(path)[inside], px[inside])
    ds.PixelRepresentation, ds.BitsStored = (1, 12) if signed else (0, bits)
    ds.save_as(path)
    if syntax == 'JPEGLSLossless' and not signed:
        return np.testing.assert_array_equal(read_pixels(path)[inside], px[inside])
    with pytest.raises(PictureError, match='signed, wrongly' if signed else f'of 12 bits, its header says {bits}'):
        read_pixels(path)


def test_a_page_that_is_a_smaller_copy(tmp_path):
    """It says so, and is no other radiograph, however large."""
    with tifffile.TiffWriter(tmp_path/'a.tif') as file:
        file.write(cv2.resize(blob(), (45, 60)), subfiletype=1)
        file.write(blob())
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.tif'), blob())


def filled(stream: bytes) -> bytes:
    """A JPEG whose scan has fill bytes before its marker, as the standard allows."""
    return stream.replace(b'\xff\xda', b'\xff\xff\xff\xda', 1)


@pytest.mark.parametrize('suffix, fill', [('.png', bytes), ('.jpg', bytes), ('.jpg', filled)])
def test_two_pictures_in_one_file(tmp_path, suffix, fill):
    """No decoder looks beyond the first, and it may be another child's."""
    one, other = (fill(cv2.imencode(suffix, px)[1].tobytes()) for px in (blob(), blob()[::-1]))
    (tmp_path/f'a{suffix}').write_bytes(one)
    assert read_pixels(tmp_path/f'a{suffix}').shape == (80, 60)
    (tmp_path/f'a{suffix}').write_bytes(one + other)
    with pytest.raises(PictureError, match='more than one picture'): read_pixels(tmp_path/f'a{suffix}')


@pytest.mark.parametrize('name, form', [('a.jpg', 'MPO'), ('a.png', 'PNG')])
def test_a_file_that_says_it_is_of_several(tmp_path, name, form):
    """The first is read, and that is said."""
    first, other = Image.fromarray(blob()), Image.fromarray(blob()[::-1].copy())
    first.save(tmp_path/name, form, save_all=True, append_images=[other])
    found = read_radiograph(tmp_path/name)
    assert np.abs(found.pixels.astype(int) - blob()).mean() < 3 and 'it holds several pictures' in found.note


def test_a_still_picture_that_names_an_animation(tmp_path):
    """The words of its comment are no pictures."""
    note = PngInfo()
    note.add_text('Comment', 'no acTL here, and no MPF')
    Image.fromarray(blob()).save(tmp_path/'a.png', pnginfo=note)
    assert not read_radiograph(tmp_path/'a.png').note


@pytest.mark.parametrize('syntax', ['JPEGBaseline8Bit', 'JPEG2000'])
def test_each_frame_is_judged_by_its_own_compression(tmp_path, syntax):
    """Two frames of one file, the one finely compressed and the other poorly, in either order."""
    px = (blob(640, 480) // 4 + 90 + np.random.default_rng(0).normal(0, 9, (640, 480))).astype(np.uint8)
    def stream(coarse):
        if syntax == 'JPEGBaseline8Bit':
            return cv2.imencode('.jpg', px, [cv2.IMWRITE_JPEG_QUALITY, 3 if coarse else 95])[1].tobytes()
        return openjpeg.encode_pixel_data(
            px.tobytes(), rows=640, columns=480, samples_per_pixel=1, bits_stored=8, bits_allocated=8,
            pixel_representation=0, photometric_interpretation='MONOCHROME2', compression_ratios=[400 if coarse else 8])
    for order in ((True, False), (False, True)):
        tags = dict(NumberOfFrames=2, PixelData=pydicom.encaps.encapsulate([stream(coarse) for coarse in order]))
        ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', px, **tags))
        ds.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        ds['PixelData'].is_undefined_length = True
        ds.save_as(tmp_path/'a.dcm')
        for frame, coarse in enumerate(order, 1):
            try: said = read_radiograph(tmp_path/'a.dcm', frame=frame).note
            except PictureError as error: said = str(error)
            assert ('compressed' in said) == coarse, (order, frame, said)


def test_a_page_that_is_not_there(tmp_path):
    """Pages are counted from 1."""
    Image.fromarray(blob()).save(tmp_path/'a.tif')
    for page in (0, 2):
        with pytest.raises(PictureError, match=f'no page {page}'): read_radiograph(tmp_path/'a.tif', frame=page)


def test_a_small_picture_within_a_jpeg(tmp_path):
    """A thumbnail in its header is no second picture."""
    Image.fromarray(blob()).save(tmp_path/'a.jpg', comment=cv2.imencode('.jpg', blob()[::4, ::4])[1].tobytes())
    assert b'\xff\xd8\xff' in (tmp_path/'a.jpg').read_bytes()[2:] and read_pixels(tmp_path/'a.jpg').shape == (80, 60)


@settings(max_examples=40, deadline=None)
@given(st.floats(.05, .95), st.integers(1, 64), st.sampled_from(['tiff_adobe_deflate', 'tiff_deflate']))
def test_damaged_deflated_tiffs(tmp_path_factory, where, length, packed):
    """There is a checksum, which libtiff does not ask for where a strip has all its rows."""
    path = tmp_path_factory.mktemp('tiff')/'a.tif'
    grain = np.random.default_rng(0).integers(0, 60, (300, 200)).astype(np.uint8)
    Image.fromarray(cv2.resize(blob(), (200, 300)) // 2 + grain).save(path, compression=packed)
    data = path.read_bytes()
    at = 200 + int(where * (len(data) - 500))
    path.write_bytes(data[:at] + bytes(255 - byte for byte in data[at:at + length]) + data[at + length:])
    with pytest.raises(PictureError): read_pixels(path)


@pytest.mark.parametrize('near', [0, 1, 2])
@pytest.mark.parametrize('share', [.5, .7, .9])
def test_cut_jpeg_ls(tmp_path, hand, near, share):
    """Whole it is read, with losses and without; cut, with its end mark put back, it is refused."""
    import jpeg_ls
    px = hand.picture
    stream = jpeg_ls.encode_pixel_data(px.tobytes(), near, rows=px.shape[0], columns=px.shape[1], samples_per_pixel=1,
                                       bits_stored=8)
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', px))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSNearLossless if near else pydicom.uid.JPEGLSLossless
    cut = stream[:int(share * len(stream))]
    for name, data in dict(whole=stream, cut=cut + b'\xff\xd9', endless=cut).items():
        ds.PixelData = pydicom.encaps.encapsulate([bytes(data)])
        ds.save_as(tmp_path/f'{name}.dcm')
    assert np.abs(read_pixels(tmp_path/'whole.dcm').astype(int) - px).max() <= near
    with pytest.raises(PictureError): read_pixels(tmp_path/'cut.dcm')
    begun = time.monotonic()
    with pytest.raises(PictureError): read_pixels(tmp_path/'endless.dcm')
    assert time.monotonic() - begun < 3, 'a decoder may look for the end for eight seconds'


@pytest.mark.parametrize('rows', [79, 81, 40, 160])
def test_a_png_of_another_height(tmp_path, rows):
    """A header that says more rows than there are, or fewer, with a right checksum: Pillow would fill or drop them."""
    data = cv2.imencode('.png', blob())[1].tobytes()
    said = b'IHDR' + data[16:20] + struct.pack('>I', rows) + data[24:29]
    (tmp_path/'a.png').write_bytes(data[:12] + said + struct.pack('>I', zlib.crc32(said)) + data[33:])
    with pytest.raises(PictureError): read_pixels(tmp_path/'a.png')


def test_a_part_of_a_jpeg_that_looks_like_run_lengths():
    """What begins a frame depends on how it is compressed."""
    parts = [b'\xff\xd8\xff\xe0', b'\x78\xa0\x12\x34\x40\0\0\0']
    for syntax, n in ((pydicom.uid.JPEGLosslessSV1, 1), (pydicom.uid.RLELossless, 1), (pydicom.uid.JPEG2000, 1)):
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID, ds.PixelData = syntax, pydicom.encaps.encapsulate(parts)
        assert _count_pictures(ds) == n


def test_a_table_of_twelve_bits(tmp_path):
    """A table of stored numbers that gives the bits in use in the place of those that its numbers take."""
    px, table = blob().astype(np.uint16) * 16, pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 12], 'US'
    table.add_new('LUTData', 'OW', np.arange(4095, -1, -1).astype('<u2').tobytes())
    read = read_pixels(write_dicom(tmp_path/'a.dcm', px, BitsStored=12, HighBit=11, ModalityLUTSequence=[table]))
    np.testing.assert_array_equal(read, 4095 - px)


@pytest.mark.parametrize('kind, store', [('OW', lambda falling: falling.astype(np.uint8).tobytes()),
                                         ('OW', lambda falling: falling.astype('<u2').tobytes()), ('US', list)])
def test_a_table_of_bytes(tmp_path, kind, store):
    """A byte, or a word, for each of the 256 numbers."""
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 0, 8], 'US'
    table.add_new('LUTData', kind, store(np.arange(255, -1, -1)))
    read = read_pixels(write_dicom(tmp_path/'a.dcm', blob(), ModalityLUTSequence=[table]))
    np.testing.assert_array_equal(read, 255 - blob())


def test_a_palette_that_says_how_opaque_it_is(tmp_path):
    """Three tables of colours and one of their opacity are grey where the colours are."""
    ramp, tags = np.arange(256, dtype=np.uint8).tobytes(), {}
    for name, table in dict(Red=ramp, Green=ramp, Blue=ramp, Alpha=bytes([255] * 256)).items():
        tags |= {f'{name}PaletteColorLookupTableDescriptor': [256, 0, 8], f'{name}PaletteColorLookupTableData': table}
    read = read_pixels(write_dicom(tmp_path/'a.dcm', blob(), PhotometricInterpretation='PALETTE COLOR', **tags))
    np.testing.assert_array_equal(read, blob())


def test_an_image_type_of_numbers(tmp_path):
    """It says nothing of where a picture comes from, and stops nothing."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob()))
    ds.add_new('ImageType', 'IS', '5')
    ds.save_as(tmp_path/'a.dcm')
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.dcm'), blob())


@pytest.mark.parametrize('where, right', [(range(250, 256), True), ([0], True), ([*range(10), *range(246, 256)], True),
                                          ([100], False), (range(200, 256), False)])
def test_a_table_of_greys_with_colours_at_its_ends(tmp_path, where, right):
    """A screen's few colours before and after the grey levels are no damage; what is amiss among the levels is."""
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    table[[*where]] = 250, 240, 0
    px = blob() // 2 + 60
    image = Image.fromarray(px, 'P')
    image.putpalette(table.ravel().tolist())
    image.save(tmp_path/'a.bmp')
    if right: return np.testing.assert_array_equal(read_pixels(tmp_path/'a.bmp'), px)
    with pytest.raises(PictureError, match='has gaps'): read_pixels(tmp_path/'a.bmp')


def test_padding_far_below_signed_numbers(tmp_path):
    """The lowest number there is, around a picture of signed numbers that are none of them below zero."""
    px = blob().astype(np.int16) * 16
    px[:20] = px[:, :20] = -32768
    signed = dict(PixelRepresentation=1, PixelPaddingValue=-32768)
    read = read_pixels(write_dicom(tmp_path/'a.dcm', px.view(np.uint16), **signed))
    np.testing.assert_array_equal(*(np.diff(each[20:, 20:].astype(int)) for each in (read, px)))


def test_padding_without_the_sign_of_its_pixels(tmp_path):
    """-1 in a header of unsigned numbers is the highest of them."""
    px = blob().astype(np.uint16) * 256
    px[:20] = 65535
    path = write_dicom(tmp_path/'a.dcm', px)
    ds = pydicom.dcmread(path)
    ds.add_new('PixelPaddingValue', 'SS', -1)
    ds.save_as(path)
    assert read_pixels(path)[:20].max() < 65535


@pytest.mark.parametrize('form', ['GIF', 'WebP', 'JPEG2000'])
def test_a_format_that_is_not_read_is_named(tmp_path, form):
    Image.fromarray(blob()).save(tmp_path/'a.png', form)
    with pytest.raises(PictureError, match='which is not read; give a PNG'): read_pixels(tmp_path/'a.png')


@pytest.mark.parametrize('how', [dict(tile_size=(128, 128)), dict(tile_size=(512, 512)), dict(num_resolutions=3)])
def test_jpeg_2000_in_tiles(tmp_path, hand, how):
    """Lossless, by OpenJPEG, and not as it does by itself: it cannot be compared, and is read."""
    px = cv2.resize(hand.picture, (600, 800))
    Image.fromarray(px).save(stream := io.BytesIO(), 'JPEG2000', irreversible=False, no_jp2=True, **how)
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', px))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    ds.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    ds.save_as(tmp_path/'a.dcm')
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.dcm'), px)


@pytest.mark.parametrize('uid', ['1.2.840.10008.1.2.4.55', '1.2.840.10008.1.2.1.98', '1.2.840.113619.5.2'])
def test_what_no_decoder_reads_is_not_called_damaged(tmp_path, uid):
    """A progressive JPEG, an encapsulated plain frame, a maker's own syntax: it may be whole."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob()))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(uid)
    ds.PixelData = pydicom.encaps.encapsulate([cv2.imencode('.jpg', blob())[1].tobytes()])
    ds['PixelData'].is_undefined_length = True
    ds.save_as(tmp_path/'a.dcm', implicit_vr=False, little_endian=True)
    with pytest.raises(PictureError, match='no decoder here can read'): read_pixels(tmp_path/'a.dcm')


@pytest.mark.parametrize('rate, noted', [(10, False), (200, True)])
def test_strongly_compressed_jpeg_2000(tmp_path, hand, rate, noted):
    """Is said, as of a JPEG."""
    px = cv2.resize(hand.picture, (600, 800))
    Image.fromarray(px).save(stream := io.BytesIO(), 'JPEG2000', irreversible=True, no_jp2=True, quality_layers=[rate])
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', px))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000
    ds.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    ds.save_as(tmp_path/'a.dcm')
    assert ('compressed strongly' in read_radiograph(tmp_path/'a.dcm').note) == noted


@pytest.mark.parametrize('group', ['SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence'])
def test_spacing_within_functional_groups(tmp_path, group):
    """Enhanced objects say the shape of their pixels there."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob()))
    measures, item = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, item.PixelMeasuresSequence = [.2, .1], [measures]
    setattr(ds, group, [item])
    ds.save_as(tmp_path/'a.dcm')
    found = read_radiograph(tmp_path/'a.dcm')
    assert found.spacing == (.2, .1) and found.pixels.shape == (160, 60) and 'times as long as wide' in found.note


@settings(max_examples=25)
@given(st.floats(.3, .9), st.integers(300, 3000), st.booleans())
def test_damaged_jpegs(tmp_path_factory, where, length, cut):
    """A hole in the data, or a tail cut off with the end mark kept: refused, never half a hand."""
    path = tmp_path_factory.mktemp('jpeg')/'a.jpg'
    grain = np.random.default_rng(0).integers(0, 60, (500, 400)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(blob(), (400, 500)) // 2 + grain)
    data = path.read_bytes()
    at = int(where * len(data))
    path.write_bytes(data[:at] + (b'\xff\xd9' if cut else bytes(length) + data[at + length:]))
    with pytest.raises(PictureError, match='cut short'): read_pixels(path)


@pytest.mark.parametrize('form', [lambda px, quality: picture(px, 'JPEG', quality=quality), jpeg_in_dicom])
@pytest.mark.parametrize('contrast, quality, word', [
    (1, 90, None), (1, 50, None), (.25, 90, None), (.25, 60, 'may be off'), (.25, 10, 'hide the bones')])
def test_coarse_jpegs(tmp_path, form, contrast, quality, word):
    """What counts is how coarse a JPEG is beside the contrast of its picture, which has the grain of a radiograph."""
    path, grain = tmp_path/'a', np.random.default_rng(0).normal(0, 1.5, (200, 160))
    path.write_bytes(form((100 + contrast * (blob(200, 160) / 2.) + grain).astype(np.uint8), quality))
    try: said = read_radiograph(path).note
    except PictureError as refusal: said = str(refusal)
    assert word in said if word else 'compressed' not in said


@pytest.mark.parametrize('form', ['PNG', 'BMP', 'TIFF', 'JPEG'])
def test_blocks_of_a_compression_before(tmp_path, form):
    """A strong compression shows in whatever file the picture is saved as next."""
    smooth = (100 + blob(200, 160) / 2.).astype(np.uint8)
    for quality, said in ((95, ''), (8, 'compressed strongly')):
        before = cv2.imdecode(np.frombuffer(picture(smooth, 'JPEG', quality=quality), np.uint8), cv2.IMREAD_GRAYSCALE)
        (tmp_path/'a').write_bytes(picture(before, form, **(dict(quality=97) if form == 'JPEG' else {})))
        note = read_radiograph(tmp_path/'a').note
        assert said in note if said else not note


@pytest.mark.parametrize('size', [.5, .7, .85, 1.3])
@pytest.mark.parametrize('quality, said', [(95, False), (6, True)])
def test_blocks_of_another_size(tmp_path, hand, size, quality, said):
    """As where a preview was enlarged, or the JPEG of a larger picture made smaller."""
    px = cv2.resize(hand.picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    other = cv2.resize(px, None, fx=size, fy=size, interpolation=cv2.INTER_AREA if size < 1 else cv2.INTER_CUBIC)
    before = cv2.imdecode(np.frombuffer(picture(other, 'JPEG', quality=quality), np.uint8), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path/'a.png'), cv2.resize(before, px.shape[::-1], interpolation=cv2.INTER_CUBIC))
    assert ('compressed strongly' in read_radiograph(tmp_path/'a.png').note) == said


@settings(max_examples=30)
@given(st.floats(.01, .99), st.integers(1, 255))
def test_a_turned_byte_of_jpeg_2000(tmp_path_factory, where, change):
    """Refused, or read to within a grey level: what a harmed block decodes to takes another length than it had."""
    grain = np.random.default_rng(0).normal(0, 3, (200, 160))
    px = (500 + 10. * blob(200, 160) + grain).astype(np.uint16)
    data = bytearray(dicom(px, pydicom.uid.JPEG2000Lossless, bits=12))
    (path := tmp_path_factory.mktemp('j2k')/'a').write_bytes(data)
    np.testing.assert_array_equal(read_pixels(path), px)
    begin = data.index(b'\xff\x93')
    data[begin + int(where * (len(data) - begin))] ^= change
    path.write_bytes(data)
    try: found = read_radiograph(path).pixels
    except PictureError: return
    assert np.abs(found.astype(int) - px).max() <= 1


@pytest.mark.parametrize('how', [['+e1'], *(['+el', '+sv', str(way)] for way in range(1, 8))], ids=' '.join)
def test_a_turned_byte_of_lossless_jpeg(tmp_path, how):
    """Read as it was compressed, in each of the standard's seven ways; a byte that changes a code is noticed."""
    if not shutil.which('dcmcjpeg'): pytest.skip('lossless JPEG: no dcmtk on this machine')
    chance = np.random.default_rng(0)
    px = (500 + 10. * blob(200, 160) + chance.normal(0, 3, (200, 160))).astype(np.uint16)
    (tmp_path/'plain').write_bytes(dicom(px, bits=12))
    subprocess.run(['dcmcjpeg', *how, tmp_path/'plain', tmp_path/'a'], check=True)
    np.testing.assert_array_equal(read_pixels(tmp_path/'a'), px)
    data = (tmp_path/'a').read_bytes()
    begin, refused = data.rindex(b'\xff\xda') + 10, 0
    for at in chance.integers(begin, len(data) - 4, 40):
        (tmp_path/'a').write_bytes(data[:at] + bytes([data[at] ^ chance.integers(1, 256)]) + data[at + 1:])
        try: read_pixels(tmp_path/'a')
        except PictureError: refused += 1
    assert refused > 12 # the others change a difference, and no code: what that harms, rows tell


def lossless(px):
    """Eight bits as a JPEG without losses: each pixel's difference from the one before it, under codes of four bits."""
    before = np.hstack([np.r_[128, px[:-1, 0]][:, None], px[:, :-1]]).astype(int)
    lengths = [(int(d), abs(int(d)).bit_length()) for d in (px - before).ravel()]
    bits = ''.join(f'{n:04b}' + (f'{d + (d < 0) * (2**n - 1):0{n}b}' if n else '') for d, n in lengths)
    data = int(bits + '1' * (-len(bits) % 8), 2).to_bytes((len(bits) + 7) // 8, 'big').replace(b'\xff', b'\xff\0')
    parts = {0xc3: struct.pack('>BHHB3B', 8, *px.shape, 1, 1, 0x11, 0), 0xda: bytes([1, 1, 0, 1, 0, 0]),
             0xc4: bytes([0, 0, 0, 0, 15, *[0] * 12, *range(15)])}
    held = (struct.pack('>BBH', 255, kind, len(parts[kind]) + 2) + parts[kind] for kind in (0xc3, 0xc4, 0xda))
    return b'\xff\xd8' + b''.join(held) + data + b'\xff\xd9'


def test_a_jpeg_without_losses(tmp_path):
    """As a picture and under the name of another one in DICOM; libjpeg crashes where it is asked for a smaller one."""
    px = blob(160, 120)
    (tmp_path/'a.jpg').write_bytes(lossless(px))
    ds = pydicom.dcmread(io.BytesIO(jpeg_in_dicom(px)))
    ds.PixelData = encapsulate([lossless(px)])
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    for name in ('a.jpg', 'a.dcm'): np.testing.assert_array_equal(read_pixels(tmp_path/name), px)
    (tmp_path/'a.jpg').write_bytes(lossless(px).replace(b'\xff\xc3', b'\0\xff\xff\xc3', 1))  # a byte too much before it
    with pytest.raises(PictureError): read_pixels(tmp_path/'a.jpg')


def test_a_jpeg_under_the_name_of_a_lossless_one(tmp_path):
    """What it is its data say; read if it is whole."""
    px = (60 + blob(200, 160) / 2.).astype(np.uint8)
    ds = pydicom.dcmread(io.BytesIO(jpeg_in_dicom(px)))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    ds.save_as(tmp_path/'a', enforce_file_format=True)
    assert np.abs(read_pixels(tmp_path/'a').astype(int) - px).mean() < 2


@pytest.mark.parametrize('photometric, value', [('MONOCHROME2', 255), ('MONOCHROME1', 0)])
def test_padding_within_a_frame(tmp_path, photometric, value):
    """What surrounds the hand is dark though a frame keeps it from the border; a spot of the same number stays."""
    px = 60 + blob(160, 120) // 2
    around = np.ones(px.shape, bool)
    around[30:-30, 30:-30] = around[:4] = around[-4:] = around[:, :4] = around[:, -4:] = False
    shown = px if photometric == 'MONOCHROME2' else 255 - px
    shown = np.where(around, value, shown).astype(np.uint8)
    shown[80:84, 60:64] = value
    tags = dict(PhotometricInterpretation=photometric, PixelPaddingValue=value)
    read = read_pixels(write_dicom(tmp_path/'a.dcm', shown, **tags))
    assert read[around].max() == read[~around].min() and read[80:84, 60:64].min() == 255


@pytest.mark.parametrize('level', [1, 6, 9])
def test_damaged_deflated_dicom(tmp_path, level):
    """Nothing guards deflated data; packed once more, they are the same up to the block with the damage alone."""
    px = cv2.resize(blob(dtype=np.uint16), (900, 1200)) // 2
    plain = dicom(px + np.random.default_rng(0).integers(0, 999, px.shape, np.uint16))
    whole = dicom(np.zeros((64, 64), np.uint8), pydicom.uid.DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(whole[140:144], 'little')
    pack = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    packed = pack.compress(plain[144 + int.from_bytes(plain[140:144], 'little'):]) + pack.flush()
    (tmp_path/'a.dcm').write_bytes(whole[:start] + packed)
    right, noticed = read_pixels(tmp_path/'a.dcm').astype(int), 0
    for at in np.linspace(len(packed) // 3, len(packed) - 99, 20, dtype=int):
        turned = bytearray(packed)
        turned[at] ^= 16
        (tmp_path/'a.dcm').write_bytes(whole[:start] + turned)
        try: assert (read_pixels(tmp_path/'a.dcm') != right).sum() < 10 # a pixel or two, whose codes are as long
        except PictureError: noticed += 1
    assert noticed


def test_a_deflated_file_of_odd_length(tmp_path):
    """A zero makes it even, as the standard has it; it is nothing."""
    made = set()
    for n in range(24):
        px = blob(900, 700, np.uint16) ^ np.random.default_rng(n).integers(0, 64, (900, 700), np.uint16)
        ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', px))
        ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
        data = (tmp_path/'a.dcm').read_bytes()
        begin = 144 + int.from_bytes(data[140:144], 'little')
        pack = zlib.compressobj(1, zlib.DEFLATED, -15)
        packed = pack.compress(zlib.decompress(data[begin:], -15)) + pack.flush()
        made.add(len(packed) % 2)
        (tmp_path/'a.dcm').write_bytes(data[:begin] + packed + bytes(len(packed) % 2))
        np.testing.assert_array_equal(read_pixels(tmp_path/'a.dcm'), px)
    assert made == {0, 1}


@pytest.mark.parametrize('zeros', [2, 512, 4096])
def test_zeros_to_the_end_of_a_block(tmp_path, zeros):
    """They are nothing; any other byte there may be of the pixels."""
    px, data = blob(), write_dicom(tmp_path/'a.dcm', blob()).read_bytes()
    (tmp_path/'a.dcm').write_bytes(data + bytes(zeros))
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.dcm'), px)
    (tmp_path/'a.dcm').write_bytes(data + bytes(zeros) + bytes(range(1, 100)))
    with pytest.raises(PictureError): read_pixels(tmp_path/'a.dcm')


def test_a_makers_element_after_the_pixels(tmp_path):
    """In a group that says whose it is."""
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob()))
    ds.private_block(0x7fe1, 'A MAKER', create=True).add_new(1, 'OB', bytes(range(100)))
    ds.save_as(tmp_path/'a.dcm')
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.dcm'), blob())


@pytest.mark.parametrize('value', [63536, -2000])
def test_padding_without_its_sign(tmp_path, value):
    """Below zero, and written as the number above it that has the same bits."""
    px = (blob(dtype=np.uint16) >> 5).astype(np.int16) - 900
    px[:9] = -2000
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', px))
    ds.add_new('PixelPaddingValue', 'US' if value > 0 else 'SS', value)
    ds.save_as(tmp_path/'a.dcm')
    read = read_pixels(tmp_path/'a.dcm')
    np.testing.assert_array_equal(read[9:], px[9:].astype(int) - px[9:].min())
    assert (read[:9] == read[9:].min()).all()


def test_two_pixels_that_share_their_colour(tmp_path):
    """YBR_FULL_422, not compressed, has two bytes a pixel."""
    px = blob(80, 60)
    shared = np.full((80, 30, 4), 128, np.uint8)
    shared[..., 0], shared[..., 1] = px[:, ::2], px[:, 1::2]
    tags = dict(PhotometricInterpretation='YBR_FULL_422', PixelData=shared.tobytes())
    three = np.repeat(px[..., None], 3, 2)
    assert np.abs(read_pixels(write_dicom(tmp_path/'a.dcm', three, **tags)).astype(int) - px).max() < 2


def test_padding_of_a_negative(tmp_path):
    """Where no header says that a picture is one, what surrounds the hand is as bright as its background."""
    px = 255 - (60 + blob(160, 120) // 2)
    shown = px.copy()
    shown[:30] = 0
    read = read_pixels(write_dicom(tmp_path/'a.dcm', shown, PixelPaddingValue=0))
    assert set(read[:30].ravel()) == {px[30:].max()}
    np.testing.assert_array_equal(read[30:], px[30:])


@pytest.mark.parametrize('photometric', ['RGB', 'YBR_FULL'])
@pytest.mark.parametrize('syntax', ['ExplicitVRLittleEndian', 'JPEG2000Lossless'])
def test_grey_in_three_planes(tmp_path, photometric, syntax):
    """Grey as red, green and blue is that grey, also where the header calls the planes something else."""
    path, px = tmp_path/'a.dcm', blob()
    ds = pydicom.dcmread(write_dicom(path, np.repeat(px[..., None], 3, 2), PhotometricInterpretation='RGB'))
    if syntax != 'ExplicitVRLittleEndian': ds.compress(getattr(pydicom.uid, syntax))
    ds.PhotometricInterpretation = photometric
    ds.save_as(path)
    np.testing.assert_allclose(read_pixels(path).astype(int), px, atol=1)


def test_colours(tmp_path):
    """Marks in colour are said, false colours refused, a tint is neither; a TIFF, a PNG and DICOM alike."""
    px = np.repeat(blob(300, 240)[..., None], 3, 2)
    marked, tinted = cv2.circle(px.copy(), (100, 100), 20, (255, 0, 0), 2), (px * [.8, .9, 1.]).astype(np.uint8)
    false = cv2.applyColorMap(px[..., 0], cv2.COLORMAP_JET)
    for form in ('PNG', 'TIFF'):
        (tmp_path/'a').write_bytes(picture(marked, form))
        assert 'colours in it' in read_radiograph(tmp_path/'a').note
        (tmp_path/'a').write_bytes(picture(tinted, form))
        assert not read_radiograph(tmp_path/'a').note
        (tmp_path/'a').write_bytes(picture(false, form))
        with pytest.raises(PictureError, match='false colours'): read_pixels(tmp_path/'a')
    with pytest.raises(PictureError, match='false colours'):
        read_pixels(write_dicom(tmp_path/'a.dcm', false, PhotometricInterpretation='RGB'))


@pytest.mark.parametrize('dtype, tags, words', [
    (np.uint16, dict(PixelRepresentation=1, BitsStored=12, HighBit=11), 'signed'),
    (np.uint16, dict(PixelRepresentation=1), 'signed'), (np.uint8, dict(BitsStored=7, HighBit=6), 'of 8 bits'),
    (np.uint16, dict(BitsStored=10, HighBit=11), 'of 12 bits')])
def test_numbers_that_wrap_round(tmp_path, dtype, tags, words):
    """The brightest tenth would become the darkest: refused, whichever attribute is wrong; right ones are read."""
    bits = 12 if 'BitsStored' in tags and dtype == np.uint16 else 8 * np.dtype(dtype).itemsize
    px = (blob(dtype=np.uint16) / 65535 * (2**bits - 1)).astype(dtype)
    with pytest.raises(PictureError, match=words): read_pixels(write_dicom(tmp_path/'a.dcm', px, **tags))
    right = dict(BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(read_pixels(write_dicom(tmp_path/'b.dcm', px, **right)), px)


def test_signed_numbers_that_are(tmp_path):
    """Negative numbers, and a padding of one that is far below all of them."""
    px = (blob(dtype=np.uint16) >> 4).astype(np.int16) - 1000
    read = read_pixels(write_dicom(tmp_path/'a.dcm', px))
    np.testing.assert_array_equal(read, px.astype(int) - px.min())
    px[:, :9] = -32768
    read = read_pixels(write_dicom(tmp_path/'a.dcm', px, PixelPaddingValue=-32768))
    np.testing.assert_array_equal(read[:, 9:], px[:, 9:].astype(int) - px[:, 9:].min())


def test_parts_that_keep_a_program_busy(tmp_path):
    """More pages or scans than any program writes are refused at once, whatever they hold."""
    page = Image.fromarray(blob())
    page.save(tmp_path/'a.tif', save_all=True, append_images=[page] * (MOST_PARTS - 1))
    assert read_radiograph(tmp_path/'a.tif', frame=MOST_PARTS).pixels.shape == blob().shape
    page.save(tmp_path/'a.tif', save_all=True, append_images=[page] * MOST_PARTS)
    with pytest.raises(PictureError, match='pages'): read_pixels(tmp_path/'a.tif')
    data = picture(blob(), 'JPEG', progressive=True)
    at = data.index(b'\xff\xda')
    (tmp_path/'a.jpg').write_bytes(data[:at] + data[at:-2] * MOST_PARTS + data[-2:])
    with pytest.raises(PictureError, match='scans'): read_pixels(tmp_path/'a.jpg')


def test_a_tiff_that_does_not_say_how_long_its_strips_are(tmp_path):
    """As old programs wrote them: the length follows from the size."""
    data = bytearray(picture(blob(), 'TIFF'))
    at = data.index(struct.pack('<HH', 279, 4))
    data[at:at + 2] = struct.pack('<H', 65000)  # a tag that nobody knows
    (tmp_path/'a.tif').write_bytes(data)
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.tif'), blob())


@pytest.mark.parametrize('tags, said', [
    (dict(PixelSpacing=[.15, .2]), True), (dict(PixelAspectRatio=[1, 2]), True),
    (dict(PixelSpacing=[.15, .152]), False), ({}, False)])
def test_oblong_pixels_are_said(tmp_path, tags, said):
    note = read_radiograph(write_dicom(tmp_path/'a.dcm', blob(), **tags)).note
    assert ('as long as wide' in note) == said


@pytest.mark.parametrize('size', [(3e6, 100), (float('inf'), 100), (float('inf'), float('inf')), (1, 5000)])
def test_sizes_that_cannot_be(tmp_path, size):
    cv2.imwrite(str(tmp_path/'a.png'), blob())
    with pytest.raises(PictureError, match='another shape'): read_radiograph(tmp_path/'a.png', *size)


@pytest.mark.parametrize('modality, kind', [('OT', None), ('MR', None), ('DX', ['DERIVED', 'SECONDARY']),
                                            ('SC', ['DERIVED', 'SECONDARY', 'OTHER']), (['DX', 'SR'], None)])
def test_what_a_program_wrote(tmp_path, modality, kind):
    path = write_dicom(tmp_path/'a.dcm', blob(), Modality=modality, **(dict(ImageType=kind) if kind else {}))
    with pytest.raises(PictureError, match='give the radiograph') as refusal: read_pixels(path)
    assert '[' not in str(refusal.value)
    assert read_radiograph(path, anyway=True).pixels.shape == blob().shape


@pytest.mark.parametrize('tags', [dict(ImageType=['derived', 'secondary']), dict(ImageType='DERIVED/SECONDARY'),
                                  dict(SOPClassUID=pydicom.uid.MRImageStorage),
                                  dict(SOPClassUID=pydicom.uid.VLPhotographicImageStorage, Modality='CR')])
def test_what_is_no_radiograph_by_its_class_or_in_other_letters(tmp_path, tags):
    path = write_dicom(tmp_path/'a.dcm', blob(), **tags)
    with pytest.raises(PictureError, match='give the radiograph'): read_pixels(path)


def test_a_secondary_capture_is_said(tmp_path):
    """A scanned film, or what somebody kept of a screen."""
    tags = dict(SOPClassUID=pydicom.uid.SecondaryCaptureImageStorage, Modality='CR')
    assert 'secondary capture' in read_radiograph(write_dicom(tmp_path/'a.dcm', blob(), **tags)).note


@pytest.mark.parametrize('tags', [
    dict(ShutterShape='CIRCULAR'), dict(ShutterShape='POLYGONAL', VerticesOfThePolygonalShutter=[1, 2, 3]),
    dict(ShutterShape='RECTANGULAR', ShutterLeftVerticalEdge='', ShutterRightVerticalEdge=''),
    dict(PixelPaddingValue=3, PixelPaddingRangeLimit='')])
def test_what_is_given_in_part_is_nothing(tmp_path, tags):
    px = np.maximum(blob(), 4)
    np.testing.assert_array_equal(read_pixels(write_dicom(tmp_path/'a.dcm', px, **tags)), px)


@pytest.mark.parametrize('tag', ['Rows', 'Columns', 'BitsAllocated'])
def test_what_nothing_implies(tmp_path, tag):
    with pytest.raises(PictureError, match=f'does not say {tag}'):
        read_pixels(write_dicom(tmp_path/'a.dcm', blob(), **{tag: None}))


def test_planes_that_nobody_calls(tmp_path):
    """Colour by pixel, unless something else is said."""
    three = np.repeat(blob()[..., None], 3, 2)
    tags = dict(PhotometricInterpretation='RGB', PlanarConfiguration=None)
    np.testing.assert_array_equal(read_pixels(write_dicom(tmp_path/'a.dcm', three, **tags)), blob())


def test_a_jpeg_of_eight_bits_in_a_header_of_twelve(tmp_path):
    ds = pydicom.dcmread(io.BytesIO(jpeg_in_dicom(blob())))
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.save_as(tmp_path/'a.dcm')
    assert np.abs(read_pixels(tmp_path/'a.dcm').astype(int) - blob()).max() < 9


@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
def test_a_table_of_stored_numbers(tmp_path, photometric):
    """A lookup table of fewer entries than there are numbers: it comes before a negative is turned."""
    px = blob(dtype=np.uint16) >> 4
    item = pydicom.Dataset()
    item.add_new('LUTDescriptor', 'US', [4096, 0, 16])
    item.add_new('ModalityLUTType', 'LO', 'US')
    item.add_new('LUTData', 'OW', (np.arange(4096, dtype=np.uint16) * 16).tobytes())
    shown = 4095 - px if photometric == 'MONOCHROME1' else px
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', shown, PhotometricInterpretation=photometric))
    ds.ModalityLUTSequence = [item]
    ds.save_as(tmp_path/'a.dcm')
    read = read_pixels(tmp_path/'a.dcm').astype(int)
    np.testing.assert_array_equal(read - read.min(), (px - px.min()) * 16)


@pytest.mark.parametrize('slope', [[1, 1], float('nan')])
def test_a_slope_that_is_none(tmp_path, slope):
    ds = pydicom.dcmread(write_dicom(tmp_path/'a.dcm', blob()))
    ds.RescaleSlope = slope
    ds.save_as(tmp_path/'a.dcm')
    with pytest.raises(PictureError, match='no number'): read_pixels(tmp_path/'a.dcm')


@pytest.mark.parametrize('key, value', [
    ('PixelSpacing', [.125, .125]), ('PixelAspectRatio', None), ('RescaleSlope', .125)])
def test_a_comma_for_the_point(tmp_path, key, value):
    """As programs write it that follow the country they run in."""
    file = write_dicom(tmp_path/'a.dcm', blob(), **{key: value or [12, 12]})
    old, new = (b'0.125', b'0,125') if value else (b'12\\12 ', b'1,2\\12')
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(PictureError, match=f'{key} is no number'): read_pixels(file)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_colours_of_sixteen_bits_keep_them(tmp_path, suffix):
    """Pillow would keep eight: of a radiograph of twelve that leaves few levels."""
    px = blob(dtype=np.uint16) >> 4
    cv2.imwrite(str(tmp_path/f'a{suffix}'), np.repeat(px[..., None], 3, 2))
    read = read_pixels(tmp_path/f'a{suffix}')
    assert read.dtype == np.uint16
    np.testing.assert_allclose(read.astype(int), px, atol=1)


def test_zeros_behind_a_tiff(tmp_path):
    (tmp_path/'a.tif').write_bytes(picture(blob(), 'TIFF') + bytes(500))
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.tif'), blob())


def test_a_large_picture_is_shrunk(tmp_path):
    """Whole blocks of pixels are averaged: what is seen stays, time and memory do not grow."""
    large = cv2.resize(blob(), (3600, 5100), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path/'large.png'), large)
    read = read_radiograph(tmp_path/'large.png')
    assert read.shrunk == 4 and read.pixels.shape == (1275, 900)
    assert np.abs(read.pixels.astype(float) - cv2.resize(large, (900, 1275), interpolation=cv2.INTER_AREA)).max() <= 1


@pytest.mark.parametrize('dtype, shift', [(np.int8, -128), (np.int16, -500), (np.uint32, 2**31), (np.float32, 0)])
def test_tiff_of_any_numbers(tmp_path, dtype, shift):
    tifffile.imwrite(tmp_path/'a.tif', (blob().astype(np.int64) + shift).astype(dtype))
    assert np.abs(read_pixels(tmp_path/'a.tif').astype(int) - blob()).max() <= (128 if dtype == np.uint32 else 0)


def test_a_tiff_whose_description_stands_at_its_end(tmp_path):
    """As OME writes its XML; anything else behind the pixels may be of the pixels."""
    tifffile.imwrite(tmp_path/'a.ome.tif', blob(), ome=True)
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.ome.tif'), blob())
    with (tmp_path/'a.ome.tif').open('ab') as file: file.write(bytes(range(1, 100)))
    with pytest.raises(PictureError, match='goes on'): read_pixels(tmp_path/'a.ome.tif')


def test_tiff_of_planes_is_refused(tmp_path):
    planes = np.stack([blob(dtype=np.uint16)] * 3)
    tifffile.imwrite(tmp_path/'a.tif', planes, photometric='rgb', planarconfig='separate')
    with pytest.raises(PictureError, match='planes'): read_pixels(tmp_path/'a.tif')


def test_tiff_with_smaller_copies(tmp_path):
    with tifffile.TiffWriter(tmp_path/'a.tif') as file:
        file.write(blob(), subifds=1)
        file.write(blob()[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.tif'), blob())


def test_pages_of_one_size(tmp_path):
    one, other = blob(), 255 - blob()
    Image.fromarray(one).save(tmp_path/'a.tif', save_all=True, append_images=[Image.fromarray(other)])
    with pytest.raises(PictureError, match='2 large pages'): read_radiograph(tmp_path/'a.tif')
    for n, page in enumerate((one, other), 1):
        np.testing.assert_array_equal(read_radiograph(tmp_path/'a.tif', frame=n).pixels, page)
    with pytest.raises(PictureError, match='no page 3'): read_radiograph(tmp_path/'a.tif', frame=3)


def aspect_chunk(data: bytes, across: int, down: int) -> bytes:
    """A PNG that says the shape of its pixels without a unit."""
    chunk = b'pHYs' + struct.pack('>IIB', across, down, 0)
    return data[:33] + struct.pack('>I', 9) + chunk + struct.pack('>I', zlib.crc32(chunk)) + data[33:]


@pytest.mark.parametrize('across, down', [(1, 2), (72, 144), (0, 2)])
def test_a_density_without_a_unit(tmp_path, across, down):
    whole = blob(160, 120)
    squashed = whole[:, ::2] if across else whole
    (tmp_path/'a.png').write_bytes(aspect_chunk(picture(squashed, 'PNG'), across, down))
    tifffile.imwrite(tmp_path/'a.tif', squashed, resolution=(across, down), resolutionunit='none')
    jpeg = bytearray(picture(squashed, 'JPEG'))
    jpeg[13:18] = struct.pack('>BHH', 0, across, down)
    (tmp_path/'a.jpg').write_bytes(jpeg)
    for suffix in ('png', 'tif', 'jpg'): assert read_pixels(tmp_path/f'a.{suffix}').shape == whole.shape, suffix


def test_two_shapes_of_pixels_are_said(tmp_path):
    tags = dict(ImagerPixelSpacing=[.1, .1], PixelAspectRatio=[4, 5])
    write_dicom(tmp_path/'a.dcm', blob(), **tags)
    found = read_radiograph(tmp_path/'a.dcm')
    assert found.pixels.shape == blob().shape and 'two things of the shape' in found.note
    write_dicom(tmp_path/'b.dcm', blob(), ImagerPixelSpacing=[.1, .1], PixelSpacing=[.2, .2], PixelAspectRatio=[1, 1])
    assert not read_radiograph(tmp_path/'b.dcm').note


def test_another_part_of_the_body_is_said(tmp_path):
    for part, word in (('FOOT', 'no hand'), ('HAND', ''), ('Mano', ''), (None, '')):
        write_dicom(tmp_path/'a.dcm', blob(), **dict(BodyPartExamined=part) if part else {})
        note = read_radiograph(tmp_path/'a.dcm').note
        assert word in note if word else not note, part


def test_signed_numbers_with_a_border(tmp_path):
    px = np.pad(blob(160, 120).astype(np.int16) * 16 - 2048, 10, constant_values=2047)
    write_dicom(tmp_path/'a.dcm', px, PixelRepresentation=1, BitsStored=12, HighBit=11)
    assert np.ptp(read_pixels(tmp_path/'a.dcm')) == np.ptp(px[10:-10, 10:-10])


def test_floating_negatives(tmp_path):
    px = blob().astype(np.float32) / 255
    write_dicom(tmp_path/'a.dcm', blob(), PhotometricInterpretation='MONOCHROME1')
    ds = pydicom.dcmread(tmp_path/'a.dcm')
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated, ds.FloatPixelData = 32, (1 - px).tobytes()
    ds.save_as(tmp_path/'a.dcm')
    np.testing.assert_allclose(read_pixels(tmp_path/'a.dcm') / 65535, px, atol=.001)


@pytest.mark.parametrize('shape, where', [
    ('CIRCULAR', dict(CenterOfCircularShutter=[100, 80], RadiusOfCircularShutter=2**31 - 1)),
    ('POLYGONAL', dict(VerticesOfThePolygonalShutter=[1 - 2**31] * 3 + [2**31 - 1] * 3)),
    ('POLYGONAL', dict(VerticesOfThePolygonalShutter=list(range(-3000, 3000)) * 2))])
def test_a_shutter_beyond_all_bounds_takes_no_time(tmp_path, shape, where):
    px = blob()
    path, start = write_dicom(tmp_path/'a.dcm', px, ShutterShape=[shape] * 4, **where), time.monotonic()
    read = read_pixels(path)
    assert time.monotonic() - start < 5
    np.testing.assert_array_equal(read, read_pixels(write_dicom(tmp_path/'b.dcm', px)))


@pytest.mark.parametrize('size', [(40, 60_000), (60_000, 40), (700, 40_000)])
def test_a_picture_too_narrow_for_a_hand_takes_no_time(tmp_path, size):
    Image.new('L', size).save(tmp_path/'a.png')
    begun = time.monotonic()
    with pytest.raises(PictureError, match='too narrow for a hand'): read_pixels(tmp_path/'a.png')
    assert time.monotonic() - begun < 5


def of_tags(tags, before=b'', behind=b''):
    """A TIFF of one grey strip: its tags first, then the pixels, then what is behind them."""
    px, start = blob(), 8 + 2 + 12 * (9 + len(tags)) + 4 + len(before)
    tags = [(256, 3, 1, 60), (257, 3, 1, 80), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, start),
            (277, 3, 1, 1), (278, 3, 1, 80), (279, 4, 1, px.size),
            *((*tag[:3], tag[3] or start + px.size) for tag in tags)]
    entries = b''.join(struct.pack('<HHII', *tag) for tag in sorted(tags))
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4) + before + px.tobytes() + behind


@pytest.mark.parametrize('tag, held', [
    ((282, 5, 1), struct.pack('<2I', 1, 1)), ((34377, 7, 90), bytes(range(1, 91)))], ids=['resolution', 'more'])
def test_a_tiff_whose_values_stand_behind_its_pixels(tmp_path, tag, held):
    """A resolution, or what a program for photographs keeps: no more pixels."""
    (tmp_path/'a.tif').write_bytes(of_tags([(*tag, 0)], behind=held))
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.tif'), blob())
    (tmp_path/'a.tif').write_bytes(of_tags([(*tag, 0)], behind=held + bytes(range(1, 30))))
    with pytest.raises(PictureError, match='goes on'): read_pixels(tmp_path/'a.tif')


MEASURED = """
import resource, sys, time
from boneage.picture import PictureError
from boneage.radiograph import read_pixels
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
try: read_pixels(sys.argv[1]); print('read')
except PictureError as error: print(error)
assert time.monotonic() - begun < 5 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000 # kB
"""


def many_strips():
    """A TIFF each of whose strips is the same long piece of the file."""
    packed = zlib.compress(bytes(50_000_000))
    n, at = 20_000, 8 + 2 + 12 * 9 + 4
    tags = [(256, 3, 1, 60), (257, 4, 1, n), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, n, at),
            (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, n, at + 4 * n)]
    body = struct.pack(f'<{2 * n}I', *[at + 8 * n] * n, *[len(packed)] * n)
    entries = b''.join(struct.pack('<HHII', *tag) for tag in tags)
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4) + body + packed


@pytest.mark.parametrize('data, line', [
    (of_tags([(40_000 + n, 7, 2_000_000, 8) for n in range(900)], before=bytes(2_000_000)), 'tags hold more than'),
    (many_strips(), 'shorter than its strips')], ids=['tags', 'strips'])
def test_a_tiff_that_names_one_place_time_and_again(tmp_path, data, line):
    """Pillow and libtiff would copy and unpack it as often: gigabytes of a small file."""
    (tmp_path/'a.tif').write_bytes(data)
    done = subprocess.run([sys.executable, '-c', MEASURED, tmp_path/'a.tif'], capture_output=True, text=True)
    assert done.returncode == 0 and line in done.stdout, done.stdout + done.stderr


def test_a_jpeg_with_several_headers_of_a_camera(tmp_path):
    """Pillow puts them together and copies what each of its tags names."""
    data = picture(blob(), 'JPEG')
    header = b'\xff\xe1' + struct.pack('>H', 1000) + b'Exif\0\0' + bytes(992)
    for n in range(3): (tmp_path/f'{n}.jpg').write_bytes(data[:2] + header * n + data[2:])
    np.testing.assert_array_equal(read_pixels(tmp_path/'1.jpg'), read_pixels(tmp_path/'0.jpg'))
    with pytest.raises(PictureError, match='more than one header of a camera'): read_pixels(tmp_path/'2.jpg')


@pytest.mark.parametrize('change', [
    lambda data: data + bytes(4), lambda data: data + bytes(500), # padding
    lambda data: data[:2] + struct.pack('<I', len(data) - 54) + data[6:], # some count the pixels alone
    lambda data: data[:2] + bytes(4) + data[6:]]) # or nothing
def test_a_bmp_that_is_longer_than_it_says(tmp_path, change):
    (tmp_path/'a.bmp').write_bytes(change(picture(np.array(Image.fromarray(blob()).convert('RGB')), 'BMP')))
    np.testing.assert_array_equal(read_pixels(tmp_path/'a.bmp'), blob())


@pytest.mark.parametrize('tags', [{}, dict(PixelPaddingValue=0)])
def test_the_lowest_number_beside_signed_ones(tmp_path, hand, tags):
    """Padding that nobody declares, or under another number: the picture is signed nonetheless."""
    px = hand.picture.astype(np.int16) * 16
    px[:30] = px[:, :30] = -2**15
    read = read_pixels(write_dicom(tmp_path/'a.dcm', px, PixelRepresentation=1, **tags))
    inner = px[30:, 30:]
    np.testing.assert_array_equal(read[30:, 30:] - int(read[30:, 30:].min()), inner - int(inner.min()))


@pytest.mark.parametrize('key', ['BitsStored', 'SamplesPerPixel'])
def test_a_zero_is_nothing(tmp_path, key):
    file = write_dicom(tmp_path/'a.dcm', blob(), **{key: 0})
    np.testing.assert_array_equal(read_pixels(file), blob())


@pytest.mark.parametrize('tags, line', [
    (dict(HighBit=15), 'is MONOCHROME, which is not read; export it as MONOCHROME2'),
    (dict(BitsStored=12, HighBit=12), 'has values of 13 bits, its header says 12, in higher places, which is not')])
def test_numbers_of_a_kind_that_is_not_read(tmp_path, hand, tags, line):
    file = write_dicom(tmp_path/'a.dcm', hand.picture.astype(np.uint16) << 5, **tags)
    if 'BitsStored' not in tags: file.write_bytes(file.read_bytes().replace(b'MONOCHROME2 ', b'MONOCHROME  '))
    with pytest.raises(PictureError) as refused: read_pixels(tmp_path/'a.dcm')
    assert str(refused.value).startswith(line)


MANY = 500_000
ITEM = b'\xfe\xff\x00\xe0\0\0\0\0'  # an empty one, and an empty piece of compressed pixels


def of_segments(tmp_path): return b'\xff\xd8' + b'\xff\xe5\0\2' * MANY + picture(blob(), 'JPEG')[2:]


def of_filling(tmp_path): return b'\xff\xd8' + b'\xff' * 4 * MANY + picture(blob(), 'JPEG')[2:]


def of_chunks(tmp_path):
    chunk, data = b'\0\0\0\0IDAT' + struct.pack('>I', zlib.crc32(b'IDAT')), picture(blob(), 'PNG')
    return data[:33] + chunk * MANY + data[33:]


def of_many_tags(tmp_path):
    tags = [(256, 3, 1, 60), (257, 3, 1, 80), (258, 3, 1, 8), (262, 3, 1, 1), (273, 16, 1, 16), (279, 16, 1, 4800)]
    tags += [(300 + i % 60_000, 3, 1, 1) for i in range(MANY)]
    entries = b''.join(struct.pack('<HHQQ', *tag) for tag in tags)
    body = blob().tobytes() + struct.pack('<Q', len(tags)) + entries + bytes(8)
    return b'II+\0\x08\0\0\0' + struct.pack('<Q', 4816) + body


def before_the_pixels(tmp_path, more):
    data = write_dicom(tmp_path/'whole.dcm', blob()).read_bytes()
    at = data.index(b'\xe0\x7f\x10\0')
    return data[:at] + more + data[at:]


def of_elements(tmp_path):
    elements = (struct.pack('<2H2sH', 0x29 + 2 * (i >> 16), i & 0xffff, b'LO', 0) for i in range(MANY))
    return before_the_pixels(tmp_path, b''.join(elements))


def of_items(tmp_path):
    more = struct.pack('<2H2sHI', 0x29, 0x1010, b'SQ', 0, 2**32 - 1) + ITEM * MANY + b'\xfe\xff\xdd\xe0\0\0\0\0'
    return before_the_pixels(tmp_path, more)


def of_items_of_a_table(tmp_path):
    return before_the_pixels(tmp_path, struct.pack('<2H2sHI', 0x28, 0x3000, b'SQ', 0, 8 * MANY) + ITEM * MANY)


def of_pieces(tmp_path):
    ds = pydicom.dcmread(write_dicom(tmp_path/'whole.dcm', blob()))
    ds.compress(pydicom.uid.RLELossless)
    ds.save_as(tmp_path/'whole.dcm')
    data = (tmp_path/'whole.dcm').read_bytes()
    at = data.rindex(b'\xfe\xff\xdd\xe0')
    return data[:at] + ITEM * MANY + data[at:]


@pytest.mark.parametrize('make', [of_segments, of_filling, of_chunks, of_many_tags, of_elements, of_items,
                                  of_items_of_a_table, of_pieces])
def test_millions_of_small_parts(tmp_path, make):
    """Each takes a program some microseconds: they are not gone through, or the picture is read without them."""
    (tmp_path/'a').write_bytes(make(tmp_path))
    begun = time.monotonic()
    try: np.testing.assert_array_equal(read_pixels(tmp_path/'a'), blob())
    except PictureError as refused: assert 'more' in str(refused)
    else: assert make is of_items_of_a_table
    assert time.monotonic() - begun < 5
