"""Properties that must hold of every drawn hand, whatever its age, sex, size and seed, and of every impostor."""
import csv
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from boneage.drawn import cohort as cohorts
from boneage.drawn.anatomy import hand_bones, hand_length
from boneage.drawn.best_reader import FULL_GROWN, BestReader, clock_table
from boneage.drawn.cohort import draw_cohort, draw_phantom, write_cohort
from boneage.drawn.film import Exposure, expose, finish, transmit
from boneage.drawn.impostors import NO_HANDS, SPOILT, draw_impostors
from boneage.drawn.ossification import CARPALS, CENTRES, SCATTER, maturity, scatter_sd
from boneage.points import POINT_NAMES

ages, sexes, seeds = st.floats(1, 228), st.booleans(), st.integers(0, 2**32 - 1)


def draw(boneage, male, seed, side=128, pose=True):
    return draw_phantom(boneage, male, np.random.default_rng(seed), side, pose)


@settings(max_examples=60)
@given(ages, sexes, seeds, st.integers(64, 320), st.booleans())
def test_every_phantom_is_a_picture_with_a_hand(boneage, male, seed, side, pose):
    p = draw(boneage, male, seed, side, pose)
    assert p.picture.dtype == np.uint8 and p.picture.ndim == 2 and max(p.picture.shape) == side
    assert p.mask.dtype == bool and p.mask.shape == p.picture.shape
    assert .03 < p.mask.mean() < .8
    assert p.points.shape == (len(POINT_NAMES), 2)
    assert all(p.mask[round(y), round(x)] for x, y in p.points)
    assert (p.boneage, p.male) == (boneage, male)


@settings(max_examples=40)
@given(ages, sexes, seeds)
def test_the_thumb_tells_a_mirrored_hand(boneage, male, seed):
    p = draw(boneage, male, seed)
    (ax, ay), (bx, by) = p.points[0] - p.points[2], p.points[1] - p.points[2]
    assert (ax * by - ay * bx < 0) == p.mirrored


@settings(max_examples=40)
@given(ages, sexes, seeds)
def test_the_hand_is_one_piece_brighter_than_the_film_beside_it(boneage, male, seed):
    p = draw(boneage, male, seed, pose=False)
    n, _ = cv2.connectedComponents(p.mask.astype(np.uint8))
    assert n == 2
    assert p.picture[p.mask].mean() > 2 * p.picture[~p.mask].mean()


@settings(max_examples=20)
@given(ages, sexes, seeds)
def test_same_seed_same_phantom(boneage, male, seed):
    a, b = draw(boneage, male, seed), draw(boneage, male, seed)
    assert all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ('picture', 'mask', 'points'))


@given(ages, st.floats(0, 60), sexes)
def test_maturity_never_goes_back_and_girls_are_ahead(boneage, later, male):
    now, then = maturity(boneage, male), maturity(boneage + later, male)
    assert all(now[k] <= then[k] <= 1 for k in CENTRES)
    girl, boy = maturity(boneage, False), maturity(boneage, True)
    assert all(girl[k] >= boy[k] for k in CENTRES)
    assert hand_length(boneage, male) <= hand_length(boneage + later, male)


@pytest.mark.parametrize('male', [False, True])
def test_carpal_bones_show_in_their_order(male):
    seen = [[k for k in CARPALS if maturity(m, male)[k] >= 0] for m in range(0, 229, 3)]
    assert seen[0] == [] and seen[-1] == list(CARPALS)
    assert all(s == list(CARPALS[:len(s)]) for s in seen)


@pytest.mark.parametrize('male', [False, True])
def test_the_hand_grows(male):
    areas = [draw(12 * y, male, 0, 256, pose=False).mask.sum() for y in (1, 4, 8, 12, 14)]
    assert all(a < b for a, b in zip(areas, areas[1:]))


@pytest.mark.parametrize('boneage', [24, 100])
def test_centres_scatter_as_stated(boneage):
    rng = np.random.default_rng(0)
    appears, done = CENTRES['radius'][1], CENTRES['radius'][3]
    months = [maturity(boneage, True, rng)['radius'] * (done - appears) + appears for _ in range(600)]
    expected = SCATTER * min(boneage / 60, 1)
    assert abs(np.mean(months) - boneage) < .15 * expected and .9 * expected < np.std(months) < 1.1 * expected


@pytest.mark.parametrize('pose', [False, True])
def test_the_clock_of_a_phantom_is_the_first_thing_drawn(monkeypatch, pose):
    seen = []
    monkeypatch.setattr(cohorts, 'hand_bones', lambda t, *args: seen.append(t) or hand_bones(t, *args))
    for seed in range(20): draw(9 * seed + 6, bool(seed % 2), seed, 64, pose)
    assert seen == [maturity(9 * seed + 6, bool(seed % 2), np.random.default_rng(seed)) for seed in range(20)]


@given(sexes, st.floats(6, 216), seeds)
@settings(max_examples=40)
def test_the_best_reader_reads_clocks_that_agree(male, boneage, seed):
    begins, ends, wider = clock_table(male)
    reader = BestReader(male)
    if boneage < 150: assert abs(reader(np.full(len(begins), boneage)) - boneage) < 4
    scattered = boneage + scatter_sd(boneage) * wider * np.random.default_rng(seed).standard_normal(len(begins))
    assert abs(reader(scattered) - boneage) < 40
    beyond = np.where(scattered < begins, begins - 50, np.where(scattered >= ends, ends + 50, scattered))
    assert reader(beyond) == reader(scattered)
    assert len(begins) == len(CENTRES) + 1 and ends[-1] == FULL_GROWN[male]


density = st.floats(0, 1).map(np.float32)


@given(density, density, st.floats(0, .3))
def test_more_in_the_beam_never_lets_more_through(a, b, scatter):
    none = np.zeros((32, 32), np.float32)
    low, high = (transmit(none + d, Exposure(scatter=scatter), none).mean() for d in (min(a, b), max(a, b)))
    assert high <= low <= 1 + 1e-6
    dark, bright = (expose(none + d, Exposure(scatter=scatter), none).mean() for d in (min(a, b), max(a, b)))
    assert dark <= bright + 1e-6


@settings(max_examples=30)
@given(seeds)
def test_finish_takes_any_hand(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((120, 96), bool)
    mask[30:120, 30:70] = True
    density, grain = np.where(mask, .5, 0).astype(np.float32), rng.standard_normal(mask.shape, np.float32)
    film, left = finish(density, mask, grain, np.array([[30., 30], [69, 30]]), False, rng)
    assert film.shape == left.shape == mask.shape and np.isfinite(film).all() and film.min() >= 0
    assert left[32:60, 32:68].all() and not (left & ~mask).any()


def test_few_phantoms_are_negatives_and_their_hands_are_dark():
    cohort = list(draw_cohort(500, 11, 64))
    negatives = [p for p in cohort if p.inverted]
    assert 4 <= len(negatives) <= 32
    def darker(p):
        grown = cv2.dilate(p.mask.astype(np.uint8), np.ones((7, 7)))
        rim = (grown - cv2.dilate(p.mask.astype(np.uint8), np.ones((3, 3)))).astype(bool)
        return np.median(p.picture[p.mask]) < np.median(p.picture[rim])
    assert all(darker(p) for p in negatives)
    assert np.mean([darker(p) for p in cohort if not p.inverted]) < .02


def test_a_cohort_has_both_sexes_all_ages_and_both_sides():
    cohort = list(draw_cohort(200, seed=3, side=64))
    assert 70 < sum(p.male for p in cohort) < 130
    assert 20 < sum(p.mirrored for p in cohort) < 90
    assert np.histogram([p.boneage for p in cohort], bins=[6, 60, 120, 180, 229])[0].min() > 30
    assert len({p.picture.shape for p in cohort}) > 10


def test_a_longer_cohort_starts_with_the_shorter_one():
    long, short = list(draw_cohort(5, 1, 64)), list(draw_cohort(2, 1, 64))
    assert np.array_equal(long[1].picture, short[1].picture)
    assert not np.array_equal(long[0].points, next(draw_cohort(1, 2, 64)).points)


def test_written_cohort_reads_back(tmp_path):
    folder, cohort = write_cohort(tmp_path / 'c', 4, seed=9, side=80), list(draw_cohort(4, 9, 80))
    tables = ('labels.csv', 'keypoints.csv')
    labels, points = (list(csv.DictReader((folder / f).open(encoding='utf-8'))) for f in tables)
    for p, label, row in zip(cohort, labels, points, strict=True):
        files = (folder / sub / f"{label['id']}.png" for sub in ('images', 'masks'))
        picture, mask = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files)
        assert np.array_equal(picture, p.picture) and np.array_equal(mask, p.mask * np.uint8(255))
        assert row['id'] == label['id'] and float(label['boneage']) == p.boneage and label['male'] == str(p.male)
        h, w = picture.shape
        xy = [(float(row[f'{n}_x']) * w, float(row[f'{n}_y']) * h) for n in POINT_NAMES]
        assert np.allclose(xy, p.points, atol=.01)


def test_fifty_a_second_on_one_thread():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    def speed(n=25):
        start = time.process_time()
        for _ in draw_cohort(n, 0, 256): pass
        return n / (time.process_time() - start)
    try: best = max(speed() for _ in range(5))
    finally: cv2.setNumThreads(threads)
    assert best >= 50


@pytest.mark.parametrize('kind', [*NO_HANDS, *SPOILT])
def test_every_impostor_is_a_grey_picture_from_its_seed(kind):
    once, again = (next(i for i in draw_impostors(1, 4, 160) if i.kind == kind) for _ in range(2))
    assert once.picture.dtype == np.uint8 and once.picture.ndim == 2 and min(once.picture.shape) >= 32
    assert np.array_equal(once.picture, again.picture)
