"""Radiographs of many kinds, built from one drawn hand, and what can befall them: strategies for hypothesis."""
import io
import re
import struct
import zlib

import cv2
import numpy as np
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian,
    JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless)

from boneage.drawn.cohort import as_dicom


def blob(height=80, width=60, dtype=np.uint8):
    """A smooth bright blob that uses every grey level of its type."""
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    px = np.exp(-3 * (x**2 + y**2))
    return ((px - px.min()) / np.ptp(px) * np.iinfo(dtype).max).astype(dtype)


def dicom(px, syntax=ExplicitVRLittleEndian, bits=None, **tags):
    """A radiograph's file as a scanner writes it, of a girl of ten."""
    bits = bits or 8 * px.itemsize
    said = dict(StudyInstanceUID='1.2.4', SeriesInstanceUID='1.2.5', Modality='DX', PatientSex='F',
                PatientBirthDate='20100101', StudyDate='20200601', BitsStored=bits, HighBit=bits - 1, RescaleSlope=1,
                RescaleIntercept=0)
    ds = as_dicom(px, **(said | tags))
    if syntax == ExplicitVRBigEndian: ds.PixelData = px.byteswap().tobytes()
    ds.file_meta.TransferSyntaxUID = syntax if syntax in PLAIN else ExplicitVRLittleEndian
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless): ds.compress(syntax)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def jpeg_in_dicom(px, quality=95):
    """A baseline JPEG, encapsulated."""
    ds = dcmread(io.BytesIO(dicom(px)))
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate([picture(px, 'JPEG', quality=quality)])
    ds['PixelData'].VR = 'OB'
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def picture(px, form, **how):
    """A file of Pillow."""
    file = io.BytesIO()
    Image.fromarray(px).save(file, form, **how)
    return file.getvalue()


def kinds(px):
    """Files of one hand, uint8, by kind: all of them are read, to within rounding, as the same."""
    deep = (px.astype(np.uint16) << 4) + (px >> 4)
    files = {'png': picture(px, 'PNG'), 'png 16': cv2.imencode('.png', deep << 4)[1].tobytes(),
             'jpeg': picture(px, 'JPEG', quality=95), 'progressive': picture(px, 'JPEG', quality=95, progressive=True),
             'tiff': picture(px, 'TIFF'), 'tiff lzw': picture(px, 'TIFF', compression='tiff_lzw'),
             'bmp': picture(px, 'BMP'), 'dicom jpeg': jpeg_in_dicom(px),
             'negative': dicom(4095 - deep, bits=12, PhotometricInterpretation='MONOCHROME1')}
    syntaxes = (*PLAIN, RLELossless, JPEG2000Lossless, JPEGLSLossless)
    return files | {f'dicom {UID(uid).name}': dicom(deep, uid, bits=12) for uid in syntaxes}


# Words of programmers: no message to a person holds one
TYPES = re.compile(r'\b\w*(Error|Exception|Warning)\b|Traceback|object at 0x|<class')

# The kinds whose header is explicit little endian, and can be rewritten
EXPLICIT = ('negative', 'dicom jpeg', 'dicom Explicit VR Little Endian', 'dicom RLE Lossless',
            'dicom JPEG 2000 Image Compression (Lossless Only)')


# What can befall a file

ACCIDENTS = ('bits', 'lost', 'zeroed', 'doubled', 'strewn', 'cut')
# what, where as a share of the file or as a byte of its header, how many bytes, what is strewn
accidents = st.lists(st.tuples(st.sampled_from(ACCIDENTS), st.one_of(st.floats(0, 1), st.integers(2, 2000)),
                               st.integers(1, 4096), st.binary(min_size=8, max_size=8)), min_size=1, max_size=3)


def befall(data, accidents):
    """Bytes after some accidents: bits turned, a run lost, zeroed, doubled or strewn, the end cut off."""
    data = bytearray(data)
    for what, where, n, noise in accidents:
        at = int(where * len(data)) if isinstance(where, float) else min(where, len(data))
        if what == 'bits': data[at:at + 1] = bytes(byte ^ (n % 255 + 1) for byte in data[at:at + 1])
        elif what == 'lost': del data[at:at + n]
        elif what == 'zeroed': data[at:at + n] = bytes(len(data[at:at + n]))
        elif what == 'doubled': data[at:at] = data[at:at + n]
        elif what == 'strewn': data[at:at + 8] = noise
        else: del data[at:]
    return bytes(data)


# what a careless or hostile writer puts into a header or a table
NUMBERS = [0, 1, -1, 2, 3, 7, 8, 9, 12, 13, 16, 17, 32, 64, 255, 4096, 32767, 65535]
TEXTS = ['', ' ', 'NaN', 'inf', '-1', '1e400', '19000101', '99999999', '\\', 'O', 'M', 'F\\M', '000Y', '999Y', '-10Y',
         'ISO_IR 6', '\\149', 'x' * 70]
CELLS = ['', 'F', 'M', 'female', 'TRUE', '0', '1', 'inf', 'nan', '-3', '1e9', '"', '\0', ';', 'hand.png', '../hand.png',
         '=1+1', '\u2028', 'é', '120', '120.5']
NAMES = ['file', 'File', ' sex', 'gender', 'male', 'age', 'Age (months)', 'age_months', '', 'note']
FIELDS = {
    'Rows': 'US', 'Columns': 'US', 'SamplesPerPixel': 'US', 'PixelRepresentation': 'US', 'BitsAllocated': 'US',
    'BitsStored': 'US', 'HighBit': 'US', 'PlanarConfiguration': 'US', 'NumberOfFrames': 'IS', 'RescaleSlope': 'DS',
    'RescaleIntercept': 'DS', 'PixelSpacing': 'DS', 'PixelAspectRatio': 'IS', 'PixelPaddingValue': 'US',
    'PhotometricInterpretation': 'CS', 'Modality': 'CS', 'ImageType': 'CS', 'PatientSex': 'CS', 'PatientAge': 'AS',
    'PatientBirthDate': 'DA', 'StudyDate': 'DA', 'AcquisitionDate': 'DA', 'SpecificCharacterSet': 'CS',
    'PatientName': 'PN', 'StudyInstanceUID': 'UI', 'WindowCenter': 'DS', 'VOILUTFunction': 'CS'}


def element(name, value):
    """A raw element of explicit little endian, whatever its value may hold."""
    tag, vr = tag_for_keyword(name), FIELDS[name]
    number = vr == 'US' and isinstance(value, int)
    raw = struct.pack('<H', value % 65536) if number else str(value).encode('utf-8', 'replace')
    raw += (b'\0' if vr == 'UI' else b' ') * (len(raw) % 2)
    return struct.pack('<HH', tag >> 16, tag & 0xffff) + vr.encode() + struct.pack('<H', len(raw)) + raw


# attributes that go, and what comes in place of some of them
strange = st.one_of(st.sampled_from([None, *NUMBERS, *TEXTS]), st.text(max_size=12))
headers = st.dictionaries(st.sampled_from(sorted(FIELDS)), strange, min_size=1, max_size=3)


def rewrite(data, changes):
    """An explicit little endian file, some of whose attributes are missing or absurd."""
    ds = dcmread(io.BytesIO(data))
    for name in changes: ds.pop(name, None)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    whole = file.getvalue()
    start, new = 144 + int.from_bytes(whole[140:144], 'little'), {k: v for k, v in changes.items() if v is not None}
    return whole[:start] + b''.join(element(k, new[k]) for k in sorted(new, key=tag_for_keyword)) + whole[start:]


@st.composite
def tables(draw):
    """A table as some spreadsheet might write it."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5))
    cells = st.one_of(st.text(max_size=8), st.sampled_from(CELLS))
    rows = draw(st.lists(st.lists(cells, max_size=6), max_size=4))
    separator = draw(st.sampled_from(',;\t|'))
    text = draw(st.sampled_from(['\n', '\r\n', '\r'])).join(separator.join(row) for row in [names, *rows])
    return text.encode(draw(st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'cp1252'])), 'replace')


# What fills a memory or an afternoon

def bombs():
    """Small files that say, or hold, far more than they show, by kind."""
    tiny = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    plain = dicom(tiny, DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(plain[140:144], 'little')
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    inside = dicom(tiny)[144 + int.from_bytes(dicom(tiny)[140:144], 'little'):]
    head = inside[:inside.rindex(b'\xe0\x7f\x10\x00')] + b'\xe0\x7f\x10\x00OB\0\0' + struct.pack('<I', 300_000_000)
    body = [pack.compress(head), *(pack.compress(bytes(10**6)) for _ in range(300)), pack.flush()]
    wave = dicom(tiny, JPEG2000Lossless)
    at = wave.index(b'\xff\x4f\xff\x51') + 8
    large = struct.pack('>2I', 60_000, 60_000)
    return {'deflated': plain[:start] + b''.join(body), 'JPEG 2000': wave[:at] + large + wave[at + 8:],
            'png': picture(np.zeros((20_000, 20_000), np.uint8), 'PNG'), 'zeros': bytes(20_000_000),
            'header': dicom(tiny, Rows=65535, Columns=65535),
            'list': dicom(tiny, Rows=8000, Columns=[512] * 16_000)}
