"""What squashes and filters do to an age, and how much of it is said or refused.

    python tools/looks.py rsna-768 results       # about five minutes; writes stretch.csv and filters.csv

Sixty radiographs of fold 0, none of them withheld. `stretch.csv`: made broader or narrower, and squashed to squares of
512 px; a row for each stretch: of how many no age was given and of how many a squash was said, then, with the limits of
the breadth left out, the mean and the 95th percentile of the months that the age moved by, and the mean absolute error.
`filters.csv`: a row for each thing done to the grey levels, and for another of the hands laid over it: of how many no
age was given, of how many something is said that is not said of the radiograph itself, the mean months that the others'
ages moved by, and how many of those moved by more than three months.
"""
import sys
import tempfile
from itertools import islice, product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from limits import Film, films, grey

from boneage.assessment import Assessor
from boneage.child import Refusal
from boneage.artefacts import find_bands, is_squared
from boneage.silhouette import check_looks

RADIOGRAPHS, STRETCHES, SIDE = 60, (1, .64, .7, .8, .88, 1.14, 1.25, 1.43, 1.56, 'square'), 512


def contrast(limit): return lambda p, _: cv2.createCLAHE(limit, (8, 8)).apply(p)
def sharper(much, blur): return lambda p, _: grey((1. + much) * p - much * cv2.GaussianBlur(p, (0, 0), blur))
def grain(sd): return lambda p, rng: grey(p + rng.normal(0, sd, p.shape))
def power(of): return lambda p, _: grey(255 * (p / 255)**of)
def emboss(p, _): return grey(cv2.filter2D(p, cv2.CV_32F, np.float32([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])))
def rank(change, across):
    return lambda p, _: cv2.morphologyEx(p, change, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across)))
def less_low(p, _): return grey(p - .5 * cv2.GaussianBlur(p, (0, 0), 15) + .5 * p.mean())


def console(to: float, of: float):
    "Each band of detail raised to a power, so that weak contrasts are strengthened more than strong ones."
    def change(p, _):
        rest, found = p.astype(np.float32), 0
        for blur in (1, 2, 4, 8, 16, 32):
            coarse = cv2.GaussianBlur(p.astype(np.float32), (0, 0), blur)
            found, rest = found + np.sign(rest - coarse) * of * (np.abs(rest - coarse) / of)**to, coarse
        return grey(found + .8 * rest + 10)
    return change


def lines(p, _): return grey(p + 18 * np.sin(np.arange(len(p)) / 2.3)[:, None])


def photographed(p, rng):
    "From a screen, oblique, a little out of focus, with noise."
    height, width = p.shape
    corners, seen = [[0, 0], [width, 0], [width, height], [0, height]], [[.12 * width, 0], [.88 * width, 0]]
    oblique = cv2.getPerspectiveTransform(np.float32(corners), np.float32(seen + corners[2:]))
    return grey(20 + .8 * cv2.GaussianBlur(cv2.warpPerspective(p, oblique, (width, height)), (0, 0), 1.2)
                + rng.normal(0, 4, p.shape))


FILTERS = {
    'as it is': lambda p, _: p, 'power of 0.4': power(.4), 'power of 2.5': power(2.5),
    'grey levels equalised': lambda p, _: cv2.equalizeHist(p), 'local contrast (CLAHE, 2)': contrast(2),
    'local contrast (CLAHE, 8)': contrast(8), 'sharpened (1, blur of 2 px)': sharper(1, 2),
    'sharpened (3, blur of 3 px)': sharper(3, 3), 'sharpened (1, blur of 12 px)': sharper(1, 12),
    'sharpened (1.5, blur of 20 px)': sharper(1.5, 20), 'low frequencies halved': less_low,
    'as of a console (power of 0.7)': console(.7, 20), 'as of a console (power of 0.8)': console(.8, 20),
    'embossed': emboss, 'background removed (top hat)': rank(cv2.MORPH_TOPHAT, 41),
    'grain of 8 grey levels': grain(8), 'grain of 25 grey levels': grain(25), 'lines': lines,
    'smoothed (bilateral)': lambda p, _: cv2.bilateralFilter(p, 15, 80, 15),
    'smoothed (median of 5 px)': lambda p, _: cv2.medianBlur(p, 5),
    'smoothed (median of 9 px)': lambda p, _: cv2.medianBlur(p, 9), 'least of 3 px': rank(cv2.MORPH_ERODE, 3),
    'least of 5 px': rank(cv2.MORPH_ERODE, 5), 'greatest of 3 px': rank(cv2.MORPH_DILATE, 3),
    'greatest of 5 px': rank(cv2.MORPH_DILATE, 5), 'opened by 9 px': rank(cv2.MORPH_OPEN, 9),
    'closed by 9 px': rank(cv2.MORPH_CLOSE, 9), 'photographed': photographed}


def laid_over(film: Film, other: Film) -> dict:
    "What may come of a plate that was exposed twice, or of one file in another."
    over = cv2.resize(other.pixels, film.pixels.shape[::-1], interpolation=cv2.INTER_AREA)
    def with_share(share): return lambda p, _: cv2.addWeighted(p, 1 - share, over, share, 0)
    return {'a fifth of another hand over it': with_share(.2), 'half of another hand over it': with_share(.5),
            'the brighter of two hands': lambda p, _: np.maximum(p, over)}


def squash(pixels: np.ndarray, stretch: float | str) -> np.ndarray:
    "The picture made broader or narrower, or squashed to a square."
    height, width = pixels.shape
    size = (SIDE, SIDE) if stretch == 'square' else (round(width * stretch), height)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def read(assessor: Assessor, pixels: np.ndarray, sex: str) -> dict:
    "The age whatever the breadth, and whether a squash was said or refused."
    try:
        hand = assessor.registrar(pixels)
        age = assessor.read_bone_age(hand, sex)
    except Refusal: return dict(age=np.nan, refused=True, said=False)
    try: note = check_looks(assessor.space, hand.canvas, square=is_squared(pixels, find_bands(pixels)))
    except Refusal: return dict(age=age, refused=True, said=False)
    return dict(age=age, refused=False, said='times as broad' in note)


def moved(table: pd.DataFrame, by: str, untouched: object) -> pd.Series:
    "By how many months each age moved from that of the radiograph itself."
    return (table.age - table.id.map(table[table[by] == untouched].set_index('id').age)).abs()


def stretch_table(assessor: Assessor, hands: list[Film]) -> pd.DataFrame:
    "The rows of stretch.csv."
    rows = [dict(id=film.id, stretch=stretch, label=film.label) | read(assessor, squash(film.pixels, stretch), film.sex)
            for film, stretch in product(hands, STRETCHES)]
    table = pd.DataFrame(rows).assign(moved=lambda t: moved(t, 'stretch', 1), error=lambda t: (t.age - t.label).abs())
    each = table.groupby('stretch', sort=False)
    return pd.DataFrame(dict(radiographs=each.size(), refused=each.refused.sum(), said=each.said.sum(),
                             moved=each.moved.mean(), moved_p95=each.moved.quantile(.95), error=each.error.mean()))


def filter_table(assessor: Assessor, hands: list[Film]) -> pd.DataFrame:
    "The rows of filters.csv."
    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        for film, other in zip(hands, [*hands[1:], hands[0]]):
            for name, change in (FILTERS | laid_over(film, other)).items():
                cv2.imwrite(file := f'{folder}/{film.id}.png', change(film.pixels, rng))
                found = assessor.assess(file, film.sex)
                rows.append({'id': film.id, 'filter': name, 'age': found.bone_age_months,
                             'refused': not found.accepted, 'note': found.note})
    table = pd.DataFrame(rows).astype(dict(age=float))
    before = table.id.map(table[table['filter'] == 'as it is'].set_index('id').note)
    table['said'] = ~table.refused & (table.note != '') & ((table.note != before) | (table['filter'] == 'as it is'))
    table['silent'] = moved(table, 'filter', 'as it is').where(~table.refused & ~table.said)
    each = table.groupby('filter', sort=False)
    return pd.DataFrame(dict(radiographs=each.size(), refused=each.refused.sum(), said=each.said.sum(),
                             moved=each.silent.mean(), silently_off=each.silent.agg(lambda s: (s > 3).sum())))


def main(folder: str, out: str) -> None:
    hands = list(islice(films(Path(folder).parent, Path(folder).name, fold=0), RADIOGRAPHS))
    assessor = Assessor(threads=1)
    for name, table in (('stretch', stretch_table), ('filters', filter_table)):
        table(assessor, hands).round(2).to_csv(f'{out}/{name}.csv')


if __name__ == '__main__': main(*sys.argv[1:])
