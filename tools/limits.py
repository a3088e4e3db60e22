"""What the limits of reading were set by: ages as pictures get worse, and radiographs as they are.

    python tools/limits.py data results              # all of them, about half an hour
    python tools/limits.py data results levels rows  # some

`data` holds the collections rsna-768, rsna-299 and rsna-fullsize; none of the withheld radiographs is looked at. Each
table has the limits that it is about left out, and all others in place. `moved` is by how many months an age differs
from that of the same radiograph as it is.

clipping, levels, hand-size: part of the hand cut off at white or black, fewer grey levels, fewer pixels.
heaps: part of it cut off at white, in noise.
wrist: the picture cut off below the capitate.
compression, blocks: JPEGs of falling quality, as they are and saved once more as PNG.
borders: frames around a radiograph, and what makes its picture square, as PNG.
bits: numbers of DICOM that need more bits than their header says, or other ones.
thin: JPEG 2000 of falling size.
twice: radiographs in which the hand moved between two exposures.
smears: radiographs of a hand that moved while it was exposed, and blurred ones.
steps: radiographs of which one half was made darker.
cuts: radiographs that have lost some rows of their hand, or have some twice, before and after JPEG.
hands, rows: a row a radiograph, what the questions to its detail and its texture, and boneage.damage.ask_rows, find.
seams: the same of boneage.damage.seam, and JPEGs of which one byte was turned.
"""
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import pydicom
from PIL import Image

from boneage.artefacts import (
    ENLARGED, _blockiness, _changes, _coarseness, _resized_blockiness, find_bands, is_squared)
from boneage.assessment import Assessor
from boneage.child import Refusal
from boneage.contrast import count_levels, has_white_marks, piled_up, used_levels
from boneage.damage import BLOCK, STEP, above_wrist, ask_rows, hand_rows, seam, sudden_step
from boneage.detail import FINE, LEAST_FINE, echo, fine_detail, grain, same_size, shading
from boneage.drawn.cohort import as_dicom
from boneage.hand import Registered
from boneage.learn.data import radiographs, read_ids
from boneage.learn.grid import fold_of
from boneage.mask import is_negative
from boneage.picture import PictureError
from boneage.pixel_data import _check_bits
from boneage.points import beyond_capitate, hand_length
from boneage.radiograph import read_pixels
from boneage.silhouette import ask_detail

WITHHELD = Path(__file__).resolve().parent.parent/'results'/'withheld.csv'
ENDS, SHARES = ('black', 'white'), (5, 10, 15, 20, 30) # per cent of the hand
LENGTHS = (60, 80, 100, 120, 150, 180, 220) # px from capitate to fingertip
RATES = (10, 25, 50, 75, 100, 150, 200, 300) # times smaller, by JPEG 2000
QUALITIES, WORST = (90, 75, 60, 50, 40, 30, 20, 10), 7
SHRUNK, POOR = (.8, .6, .45), (90, 75, 50, 25) # shares of the size; qualities of a JPEG
BELOW = (.12, .15, .18, .2, .22, .25, .28, .32, .36, .4, .5) # lengths of the hand below the capitate
HEAPS = (0, .05, .08, .12, .15, .2, .3, 1)
LEVELS = (0, 6, 8, 10, 12, 16, 24, 48, 256)
TURNS = 25 # bytes, of each JPEG
FACTORS = (1, .95, .9, .85, .75, .5) # of the brightness of one half


@dataclass
class Film:
    "A radiograph as it is."
    id: str
    pixels: np.ndarray
    sex: str
    label: float


def films(data: Path, name: str = 'rsna-768', fold: int | None = None, every: int = 1) -> Iterator[Film]:
    "Radiographs of a collection, none of them withheld."
    labels, pixels = radiographs(data/name)
    labels = labels[~labels.id.isin(read_ids(WITHHELD)) & labels.id.map(lambda id: fold in (None, fold_of(id)))]
    for label in labels.sort_index()[::every].itertuples():
        yield Film(label.id, pixels(label.id), 'M' if label.male else 'F', label.boneage)


def read(assessor: Assessor, pixels: np.ndarray, sex: str) -> float:
    "The age of pixels; nan where they are refused."
    try: return assessor.read_bone_age(assessor.register(pixels), sex)
    except Refusal: return np.nan


def registered(assessor: Assessor, all_films: Iterable[Film]) -> Iterator[tuple[Film, Registered, np.ndarray]]:
    "Films whose hand is found, the hand, and the picture with bright bones."
    for film in all_films:
        try: hand = assessor.register(film.pixels)
        except Refusal: continue
        yield film, hand, ~film.pixels if is_negative(film.pixels, hand.mask) else film.pixels


def grey(picture): return np.clip(picture, 0, 255).astype(np.uint8)


def cut_off(pixels: np.ndarray, mask: np.ndarray, end: str, share: float) -> np.ndarray:
    "Grey levels stretched until a share of the hand, per cent, is lost at an end."
    at = np.percentile(pixels[mask], share if end == 'black' else 100 - share)
    low, high = (at, 255) if end == 'black' else (0, at)
    return grey(255 * (pixels - np.float32(low)) / max(high - low, 1))


def summed_up(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    "How many, how many of them were refused, and by how much the others' ages moved."
    table = table.assign(moved=(table.age - table.before).abs(), error=(table.age - table.label).abs())
    each = table.groupby(by, sort=False)
    return pd.DataFrame(dict(radiographs=each.size(), refused=each.age.agg(lambda ages: ages.isna().sum()),
                             moved=each.moved.mean(), moved_p95=each.moved.quantile(.95),
                             error=each.error.mean())).reset_index()


def clipping(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    with patch('boneage.contrast.MOST_CLIPPED', 1), patch('boneage.contrast.MOST_PILED', 1):
        for film, hand, _ in registered(assessor, films(data, fold=0)):
            for end, share in product(ENDS, SHARES):
                age = read(assessor, cut_off(film.pixels, hand.mask, end, share), film.sex)
                rows.append({'end': end, 'per cent of the hand': share, 'age': age, 'label': film.label,
                             'before': assessor.read_bone_age(hand, film.sex)})
    return summed_up(pd.DataFrame(rows), ['end', 'per cent of the hand'])


def hand_size(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    with patch('boneage.points.LEAST_LENGTH', 0):
        for film, hand, _ in registered(assessor, films(data, fold=0)):
            for length in LENGTHS:
                share = length / hand_length(hand.points)
                small = cv2.resize(film.pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
                rows.append({'px from capitate to tip': length, 'age': read(assessor, small, film.sex),
                             'label': film.label, 'before': assessor.read_bone_age(hand, film.sex)})
    return summed_up(pd.DataFrame(rows), ['px from capitate to tip'])


def wrist_of(hand: Registered) -> float: # lengths of the hand
    return float(beyond_capitate(hand.points, hand.mask)[1].max())


def wrist(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    with patch('boneage.points.LEAST_WRIST', 0):
        for film, hand, _ in registered(assessor, films(data, fold=0)):
            before, (tip, _, capitate) = assessor.read_bone_age(hand, film.sex), hand.points
            if capitate[1] - tip[1] < abs(capitate[0] - tip[0]): continue # it lies on its side
            for below in (below for below in BELOW if below < wrist_of(hand)): # others have no such row
                cut = replace(film, pixels=film.pixels[:round(capitate[1] + below * hand_length(hand.points))])
                rows += [dict(wrist=wrist_of(short), moved=abs(read(assessor, cut.pixels, film.sex) - before))
                         for _, short, _ in registered(assessor, [cut])]
    return binned(pd.DataFrame(rows), 'wrist', BELOW)


def binned(table: pd.DataFrame, by: str, edges: tuple) -> pd.DataFrame:
    "By how much ages moved, by what is found in the pictures that moved them."
    table = table.dropna()
    each = table.moved.groupby(pd.cut(table[by], edges, right=False), observed=False)
    found = pd.DataFrame(dict(pictures=each.size(), moved=each.mean(), moved_p95=each.quantile(.95), most=each.max(),
                              over_three=each.agg(lambda moved: (moved > 3).mean())))
    ends = pd.DataFrame({'from': edges[:-1], 'below': edges[1:]})
    return pd.concat([ends, found.reset_index(drop=True)], axis=1)


def levels(assessor: Assessor, data: Path) -> pd.DataFrame:
    worse = (lambda p: p // 16 * 16, lambda p: p // 24 * 24, lambda p: p // 3, lambda p: p // 6,
             lambda p: grey(255 * (p / 255)**2), lambda p: grey(255 * (p / 255)**3))
    rows = []
    with patch('boneage.contrast.FEWEST_LEVELS', 0):
        for film, hand, _ in registered(assessor, films(data, every=7)):
            before = assessor.read_bone_age(hand, film.sex)
            for picture in (change(film.pixels) for change in worse):
                used = used_levels(count_levels(picture, hand.mask))
                rows.append(dict(levels=used, moved=abs(read(assessor, picture, film.sex) - before)))
    return binned(pd.DataFrame(rows), 'levels', LEVELS)


def heaps(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows, chance = [], np.random.default_rng(0)
    with patch('boneage.contrast.MOST_CLIPPED', 1), patch('boneage.contrast.MOST_PILED', 1):
        for film, hand, _ in registered(assessor, films(data, fold=0)):
            before = assessor.read_bone_age(hand, film.sex)
            for share in SHARES:
                dim = 8 + .94 * cut_off(film.pixels, hand.mask, 'white', share) # so that no noise is cut off
                noisy = grey(dim + chance.normal(0, 2, dim.shape))
                rows.append(dict(piled=piled_up(count_levels(noisy, hand.mask)),
                                 moved=abs(read(assessor, noisy, film.sex) - before)))
    return binned(pd.DataFrame(rows), 'piled', HEAPS)


def jpegs(assessor: Assessor, all_films: Iterable[Film], qualities: tuple, again: bool) -> pd.DataFrame:
    "A row a JPEG, or a PNG of what a JPEG left: how coarse, how blocky, its age and that of the radiograph itself."
    rows = []
    with tempfile.TemporaryDirectory() as folder, patch('boneage.artefacts.TOO_COARSE', np.inf):
        for film, quality in product(all_films, qualities):
            data = cv2.imencode('.jpg', film.pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            px = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
            file = Path(folder, 'again.png' if again else 'once.jpg')
            file.write_bytes((cv2.imencode('.png', px)[1] if again else data).tobytes())
            rows.append(dict(step=_coarseness(data.tobytes(), px), blocks=_blockiness(_changes(px)),
                             age=assessor.assess(file, film.sex).bone_age_months,
                             before=read(assessor, film.pixels, film.sex)))
    return pd.DataFrame(rows).astype(float).dropna(subset='before')


def in_parts(table: pd.DataFrame, by: str, parts: int) -> pd.DataFrame:
    "A row a part of the files, from the least to the most of `by`."
    moved = (table.age - table.before).abs()
    each = table.assign(moved=moved, over=(moved > 3).where(moved.notna())).groupby(pd.qcut(table[by], parts))
    return pd.DataFrame({by: each[by].mean(), 'files': each.size(), 'refused': each.age.agg(lambda a: a.isna().sum()),
                         'moved': each.moved.mean(), 'moved_p90': each.moved.quantile(.9),
                         'over_three': each.over.agg(lambda o: o.dropna().mean())})


def compression(assessor: Assessor, data: Path) -> pd.DataFrame:
    some = list(films(data, fold=1))[:60]
    return in_parts(jpegs(assessor, some, (*QUALITIES, WORST), again=False), 'step', 10)


def blocks(assessor: Assessor, data: Path) -> pd.DataFrame:
    some = list(films(data, fold=2))[:60]
    return in_parts(jpegs(assessor, some, QUALITIES, again=True), 'blocks', 12)


def enlarged(px: np.ndarray, share: float, quality: int) -> np.ndarray:
    "A JPEG of a smaller copy, at the size of the picture."
    small = cv2.resize(px, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    data = cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.resize(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), px.shape[::-1], interpolation=cv2.INTER_CUBIC)


def resized(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    for film, hand, _ in registered(assessor, list(films(data, fold=4))[:60]):
        before = assessor.read_bone_age(hand, film.sex)
        for share, quality in product(SHRUNK, POOR):
            again = Film(film.id, enlarged(film.pixels, share, quality), film.sex, film.label)
            for _, found, _ in registered(assessor, [again]):
                moved = abs(read(assessor, again.pixels, film.sex) - before)
                said = _resized_blockiness(_changes(again.pixels)) > ENLARGED
                rows.append(dict(share=share, quality=quality, said=said, moved=moved,
                                 off=moved > 3 and found.notes == hand.notes))
    table = pd.DataFrame(rows).dropna()
    table['silent'] = table.off & ~table.said
    by = table.groupby(['share', 'quality'], sort=False)
    return by.agg(files=('moved', 'size'), said=('said', 'sum'), moved=('moved', 'mean'), off=('off', 'sum'),
                  silent=('silent', 'sum')).reset_index()


def square(pixels: np.ndarray, level: int, first: float) -> np.ndarray:
    "Padded to a square, a share of the padding above or on the left."
    gaps = [max(pixels.shape) - n for n in pixels.shape]
    return np.pad(pixels, [(round(first * n), n - round(first * n)) for n in gaps], constant_values=level)


def bordered(pixels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    "What a program may put around a radiograph; and what squashes it."
    yield 'nothing', pixels
    for name, level in (('black', 0), ('grey', 128), ('white', 255)):
        yield f'{name} frame', np.pad(pixels, max(pixels.shape) // 16, constant_values=level)
        yield f'{name}, to a square', square(pixels, level, .5)
        yield f'{name} on one side, to a square', square(pixels, level, 0)
    yield 'squashed to a square', cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_AREA)


def borders(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for film in list(films(data, fold=4))[:60]:
            before = read(assessor, film.pixels, film.sex)
            for border, picture in bordered(film.pixels):
                cv2.imwrite(file := f'{folder}/film.png', picture)
                found = assessor.assess(file, film.sex)
                moved = abs(found.bone_age_months - before) if found.accepted else np.nan
                rows.append(dict(border=border, refused=not found.accepted, moved=moved,
                                 over_three=moved > 3, squared=is_squared(picture, find_bands(picture))))
    by = pd.DataFrame(rows).groupby('border', sort=False)
    return by.agg(radiographs=('refused', 'size'), refused=('refused', 'sum'), moved=('moved', 'mean'),
                  over_three=('over_three', 'sum'), squared=('squared', 'sum')).reset_index()


def stored(pixels: np.ndarray, chance: np.random.Generator) -> Iterator[tuple[str, bool, np.ndarray, dict]]:
    "How numbers may be stored: what is unusual, whether it is right, the numbers, and what the header says of them."
    twelve = pixels.astype(np.uint16) << 4 | chance.integers(0, 16, pixels.shape).astype(np.uint16)
    for bits in (8, 9, 10, 11): yield f'12 bits, said to be {bits}', False, twelve, dict(BitsStored=bits)
    over = (twelve * 1.03).astype(np.uint16)
    if over.max() > 4095: yield 'a little over 12 bits, said to be 12', False, over, dict(BitsStored=12)
    yield '12 bits, said to be signed', False, twelve, dict(BitsStored=12, PixelRepresentation=1)
    signed = (twelve.astype(np.int32) - 2048).astype(np.uint16) & 4095
    yield '12 bits, signed', True, signed, dict(BitsStored=12, PixelRepresentation=1)
    for bits in (1, 2, 4):
        noise = chance.integers(0, 2**bits, pixels.shape).astype(np.uint16) << 12
        yield f'noise in {bits} of the unused bits', True, twelve | noise, dict(BitsStored=12)
    few = (chance.random(pixels.shape) < .001).astype(np.uint16) << 12
    yield 'one pixel in a thousand with an unused bit', True, twelve | few, dict(BitsStored=12)
    words = cv2.putText(np.zeros_like(pixels), 'LEFT', (50, 200), cv2.FONT_HERSHEY_SIMPLEX, 2, 1, 4)
    yield 'words in an unused bit, not declared', True, twelve | words.astype(np.uint16) << 15, dict(BitsStored=12)


def has_wrong_bits(numbers: np.ndarray, said: dict) -> bool:
    ds = as_dicom(numbers, **said)
    try: _check_bits(ds, 0)
    except PictureError: return True
    return False


def bits(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows, chance = [], np.random.default_rng(0)
    for film in list(films(data, fold=4))[:60]:
        for around in (None, 128, 255): # a border of that level
            framed = film.pixels if around is None else np.pad(film.pixels, 20, constant_values=around)
            for what, right, numbers, said in stored(framed, chance):
                rows.append(dict(stored=what, right=right, refused=has_wrong_bits(numbers, said)))
    by = pd.DataFrame(rows).groupby(['stored', 'right'], sort=False)
    return by.agg(files=('refused', 'size'), refused=('refused', 'sum')).reset_index()


def thin(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    with tempfile.TemporaryDirectory() as folder, patch('boneage.artefacts.THIN', 0):
        for film in list(films(data, fold=2))[:60]:
            before = read(assessor, film.pixels, film.sex)
            for rate in RATES:
                Image.fromarray(film.pixels).save(code := BytesIO(), 'JPEG2000', irreversible=True, no_jp2=True,
                                                  quality_layers=[rate])
                ds = as_dicom(film.pixels, PixelData=pydicom.encaps.encapsulate([code.getvalue()]))
                ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000
                ds.save_as(file := f'{folder}/film.dcm', enforce_file_format=True)
                found = assessor.assess(file, film.sex)
                rows.append(dict(rate=rate, bits=8 * len(code.getvalue()) / film.pixels.size,
                                 refused=not found.accepted, noted=found.accepted and bool(found.note),
                                 moved=abs(found.bone_age_months - before) if found.accepted else np.nan))
    by = pd.DataFrame(rows).assign(over_three=lambda t: t.moved > 3).groupby('rate')
    return by.agg(bits=('bits', 'mean'), files=('refused', 'size'), refused=('refused', 'sum'), noted=('noted', 'sum'),
                  moved=('moved', 'mean'), over_three=('over_three', 'sum')).reset_index()


def moved_along(film: Film, hand: Registered, share: float) -> Film:
    "The sum of a film and of the same one, moved from the capitate towards the fingertip by 3 % of their distance."
    aside = .03 * (hand.points[0] - hand.points[2])
    other = cv2.warpAffine(film.pixels, np.c_[np.eye(2), aside], film.pixels.shape[::-1],
                           flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return replace(film, pixels=cv2.addWeighted(film.pixels, 1 - share, other, share, 0))


def twice(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    for film, hand, _ in registered(assessor, list(films(data, fold=2))[:60]):
        before = read(assessor, film.pixels, film.sex)
        for share in (0, .1, .2, .3, .4, .5):
            for double, found, positive in registered(assessor, [moved_along(film, hand, share)]):
                rows.append(dict(share=share, echo=echo(*same_size(positive, found.mask, hand_length(found.points))),
                                 moved=abs(read(assessor, double.pixels, film.sex) - before)))
    by = pd.DataFrame(rows).assign(over_three=lambda t: t.moved > 3).groupby('share')
    return by.agg(files=('echo', 'size'), least=('echo', 'min'), median=('echo', 'median'), most=('echo', 'max'),
                  moved=('moved', 'mean'), over_three=('over_three', 'sum')).reset_index()


def smeared(film: Film, way: np.ndarray) -> Film:
    "A film of a hand that moved steadily by so many pixels, x and y, while it was exposed."
    steps = (np.c_[np.eye(2), share * way] for share in np.linspace(-.5, .5, 41))
    frames = [cv2.warpAffine(film.pixels.astype(np.float32), step, film.pixels.shape[::-1],
                             borderMode=cv2.BORDER_REPLICATE) for step in steps]
    return replace(film, pixels=grey(np.mean(frames, 0).round()))


def smears_of(film: Film, hand: Registered) -> Iterator[tuple[str, float, Film]]:
    "Along the hand, across it, and blurred by a Gaussian of the same standard deviation; shares of its length."
    axis = hand.points[0] - hand.points[2]
    for share in (.01, .015, .02, .03, .05):
        yield 'along the hand', share, smeared(film, share * axis)
        yield 'across the hand', share, smeared(film, share * axis[::-1] * (1, -1))
        blurred = cv2.GaussianBlur(film.pixels, (0, 0), share * hand_length(hand.points) / 12**.5)
        yield 'every direction', share, replace(film, pixels=blurred)


def smears(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    for film, hand, _ in registered(assessor, list(films(data, fold=2))[:60]):
        before = read(assessor, film.pixels, film.sex)
        for direction, share, worse in smears_of(film, hand):
            for _, found, positive in registered(assessor, [worse]):
                if (length := hand_length(found.points)) < FINE: continue
                rows.append(dict(direction=direction, share=share,
                                 fine=fine_detail(*same_size(positive, found.mask, length)),
                                 moved=abs(read(assessor, worse.pixels, film.sex) - before)))
    by = pd.DataFrame(rows).assign(over_three=lambda t: t.moved > 3).groupby(['direction', 'share'], sort=False)
    silent = by.apply(lambda t: (t.over_three & (t.fine >= LEAST_FINE)).sum())
    return by.agg(files=('fine', 'size'), least=('fine', 'min'), median=('fine', 'median'), most=('fine', 'max'),
                  moved=('moved', 'mean'), over_three=('over_three', 'sum')).assign(silent=silent).reset_index()


def step_of(hand: Registered, positive: np.ndarray) -> float:
    return sudden_step(positive, above_wrist(hand.points, hand.mask))


def darker_half(film: Film, hand: Registered, factor: float, axis: int) -> Film:
    "A film, darker from the middle of its hand on: below it (axis 0), or to its right (1)."
    pixels, middle = film.pixels.astype(np.float32), int(np.median(np.nonzero(hand.mask)[axis]))
    pixels[(slice(None),) * axis + (slice(middle, None),)] *= factor
    return replace(film, pixels=grey(pixels))


def steps(assessor: Assessor, data: Path) -> pd.DataFrame:
    rows = []
    for film, hand, _ in registered(assessor, list(films(data, fold=2))[:60]):
        before = read(assessor, film.pixels, film.sex)
        for factor, axis in product(FACTORS, (0, 1)):
            for half, found, positive in registered(assessor, [darker_half(film, hand, factor, axis)]):
                rows.append(dict(factor=factor, step=step_of(found, positive),
                                 moved=abs(read(assessor, half.pixels, film.sex) - before)))
    table = pd.DataFrame(rows).assign(over_three=lambda t: t.moved > 3, said=lambda t: t.step > STEP)
    by = table.assign(silent=table.over_three & ~table.said).groupby('factor', sort=False)
    return by.agg(films=('step', 'size'), least=('step', 'min'), median=('step', 'median'), most=('step', 'max'),
                  moved=('moved', 'mean'), over_three=('over_three', 'sum'), said=('said', 'sum'),
                  silent=('silent', 'sum')).reset_index()


def lost_rows(film: Film, hand: Registered, share: float, chance: random.Random) -> Iterator[tuple[str, Film]]:
    "A film without some rows of its hand, the same as JPEG of quality 92, and the film with them twice."
    many, (top, last) = round(share * len(film.pixels)), hand_rows(hand.points, hand.mask)
    at = chance.randrange(top + many, last - many)
    cut = np.delete(film.pixels, np.s_[at:at + many], 0)
    stored = cv2.imdecode(cv2.imencode('.jpg', cut, [cv2.IMWRITE_JPEG_QUALITY, 92])[1], cv2.IMREAD_GRAYSCALE)
    twice = np.insert(film.pixels, at, film.pixels[at - many:at], 0)
    ways = {'lost': cut, 'lost, JPEG': stored, 'twice': twice}
    yield from ((way, replace(film, pixels=pixels)) for way, pixels in ways.items())


def cuts(assessor: Assessor, data: Path) -> pd.DataFrame:
    chance, table = random.Random(1), []
    for film, hand, _ in registered(assessor, list(films(data, fold=2))[:60]):
        before = read(assessor, film.pixels, film.sex)
        for share in (.01, .02, .04):
            for way, worse in lost_rows(film, hand, share, chance):
                cell = dict(rows=way, share=share, refused=True, said=False)
                try:
                    found = assessor.register(worse.pixels)
                    cell |= dict(moved=abs(assessor.read_bone_age(found, film.sex) - before), refused=False,
                                 said=bool({*found.notes} - {*hand.notes, ''}))
                except Refusal: pass
                table.append(cell)
    by = pd.DataFrame(table).assign(silent=lambda t: (t.moved > 3) & ~t.said).groupby(['rows', 'share'], sort=False)
    return by.agg(films=('said', 'size'), refused=('refused', 'sum'), said=('said', 'sum'), moved=('moved', 'mean'),
                  over_three=('moved', lambda m: (m > 3).sum()), silent=('silent', 'sum')).reset_index()


def hands(assessor: Assessor, data: Path) -> pd.DataFrame:
    def row(name, film, hand, positive):
        small = same_size(positive, hand.mask, length := hand_length(hand.points))
        counts = count_levels(positive, hand.mask)
        return dict(data=name, id=film.id, length=round(length), fine=fine_detail(*small), levels=used_levels(counts),
                    piled=piled_up(counts), echo=echo(*small), grain=grain(*small), shading=shading(*small),
                    marked=has_white_marks(positive, hand.mask), wrist=wrist_of(hand),
                    step=step_of(hand, positive), resized=_resized_blockiness(_changes(film.pixels)),
                    **ask_detail(hand.canvas)._asdict())
    collections = ('rsna-768', 1), ('rsna-fullsize', 1), ('rsna-299', 11)
    with (patch('boneage.contrast.FEWEST_LEVELS', 0), patch('boneage.contrast.MOST_PILED', 1),
          patch('boneage.points.LEAST_WRIST', -np.inf)):
        return pd.DataFrame([row(name, *found) for name, every in collections
                             for found in registered(assessor, films(data, name, every=every))])


def rows(assessor: Assessor, data: Path) -> pd.DataFrame:
    with patch('boneage.damage.is_torn', lambda *_: False), patch('boneage.damage.TORN_SEAM', np.inf):
        return pd.DataFrame([dict(id=film.id, blocks=_blockiness(_changes(film.pixels)),
                                  **ask_rows(positive, hand.points, hand.mask)._asdict())
                             for film, hand, positive in registered(assessor, films(data))])


def seams_of(hand: Registered, positive: np.ndarray) -> dict:
    part = above_wrist(hand.points, hand.mask)
    return dict(hand=seam(positive, part), blocks=seam(positive, part, BLOCK),
                anywhere=seam(positive, np.ones_like(hand.mask)))


def turned(chance: random.Random, film: Film) -> Iterator[Film]:
    "What decodes of its JPEG, of quality 90, one byte turned, time and again, and is not said to be damaged."
    whole = bytearray(cv2.imencode('.jpg', film.pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TURNS):
            data, at = bytearray(whole), chance.randrange(whole.index(b'\xff\xda') + 14, len(whole) - 2)
            data[at] ^= chance.randint(1, 255)
            (file := Path(folder, 'turned.jpg')).write_bytes(data)
            try: yield Film(film.id, read_pixels(file), film.sex, film.label)
            except Refusal: continue


def seams(assessor: Assessor, data: Path) -> pd.DataFrame:
    chance, table = random.Random(1), []
    with patch('boneage.damage.TORN_SEAM', np.inf), patch('boneage.damage.SEAM', np.inf):
        for film, hand, positive in registered(assessor, films(data)):
            table.append(dict(id=film.id, harmed=False, **seams_of(hand, positive)))
        for film in list(films(data, fold=3))[:60]:
            before = read(assessor, film.pixels, film.sex)
            for harmed, hand, positive in registered(assessor, turned(chance, film)):
                table.append(dict(id=film.id, harmed=True, **seams_of(hand, positive),
                                  moved=abs(read(assessor, harmed.pixels, film.sex) - before)))
    return pd.DataFrame(table)


TABLES = {'clipping': clipping, 'heaps': heaps, 'levels': levels, 'hand-size': hand_size, 'wrist': wrist,
          'compression': compression, 'blocks': blocks, 'resized': resized, 'borders': borders, 'bits': bits,
          'thin': thin, 'twice': twice, 'smears': smears, 'steps': steps, 'cuts': cuts, 'hands': hands, 'rows': rows,
          'seams': seams}


def main(data: str, out: str, *names: str) -> None:
    assessor = Assessor(threads=1)
    Path(out).mkdir(parents=True, exist_ok=True)
    for name in names or TABLES:
        table = TABLES[name](assessor, Path(data)).round(3)
        table.to_csv(f'{out}/{name}.csv', index=False)
        print(f'{name}: {len(table)} rows', flush=True)


if __name__ == '__main__': main(*sys.argv[1:])
