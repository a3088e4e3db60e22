"""The shipped weights on real radiographs that no network was trained on; skipped where there are none."""
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from boneage.assessment import Assessor
from boneage.keypoints import move_points, upright_angle
from boneage.registration import is_mirrored
from boneage.segmentation import dice, fill_polygons
from boneage.training import held_out, radiographs, read_points

WITHHELD = {row['id'] for row in csv.DictReader((Path(__file__).parent.parent/'results/withheld.csv').open())}


@pytest.fixture(scope='module')
def assessor(): return Assessor()


@pytest.fixture(scope='module')
def small_set(real_data):
    """Labels and reader of the 299 px radiographs."""
    return radiographs(real_data/'rsna-299')


def test_masks_of_held_out_outlines(real_data, small_set, assessor):
    """The 20 outlines that training held out; a mean of 0.974 was measured, see notebook 02."""
    outlines = json.loads((real_data/'annotations/hand_polygons.json').read_text())
    values = []
    for i in sorted(held_out(outlines, 20)):
        picture = small_set[1](i)
        values.append(dice(assessor.preprocessor(picture).mask, fill_polygons(outlines[i]['polygons'], picture.shape)))
    assert np.mean(values) >= .97, values


def test_points_of_withheld_radiographs(real_data, small_set, assessor):
    """Points set by hand on withheld radiographs, as a share of the distance from tip to capitate."""
    points = read_points(real_data/'annotations/keypoints.csv')
    ids = [i for i in points.index[points.manual] if i in WITHHELD][:60]
    errors = []
    for i in ids:
        picture = small_set[1](i)
        truth = points.points[i] * picture.shape[::-1]
        errors.append(np.linalg.norm(assessor.preprocessor(picture).points - truth, axis=1) / np.linalg.norm(truth[0] - truth[2]))
    assert len(ids) == 60
    assert (np.median(errors, axis=0) < .02).all(), np.median(errors, axis=0)
    assert (np.quantile(errors, .95, axis=0) < .06).all(), np.quantile(errors, .95, axis=0)


@pytest.mark.parametrize('quarters', range(4))
def test_put_upright(real_data, small_set, assessor, quarters):
    """Turned by quarters and flipped or not: the true tip ends above the true capitate, the true thumb on the right."""
    points = read_points(real_data/'annotations/keypoints.csv')
    wrong = []
    for number, i in enumerate([i for i in points.index[points.manual] if i in WITHHELD][:30]):
        picture, where = small_set[1](i), points.points[i] * small_set[1](i).shape[::-1]
        for _ in range(quarters): picture, where = np.rot90(picture), np.c_[where[:, 1], picture.shape[1] - 1 - where[:, 0]]
        if number % 2: picture, where = picture[:, ::-1], where * [-1, 1] + [picture.shape[1] - 1, 0]
        moved = move_points(assessor.preprocessor(np.ascontiguousarray(picture)).matrix, where)
        if abs(upright_angle(moved)) > np.radians(15) or is_mirrored(moved): wrong.append(i)
    assert len(wrong) <= 1, wrong


def test_same_hand_same_age(real_data, assessor, tmp_path):
    """Mirrored, turned, smaller, darker, the negative: the assessment of one radiograph hardly moves."""
    files = [f for f in sorted((real_data/'rsna-768/images').iterdir()) if f.stem in WITHHELD][:8]
    moved = {'mirrored': lambda p: p[:, ::-1], 'turned': lambda p: cv2.warpAffine(
                 p, cv2.getRotationMatrix2D((p.shape[1] / 2, p.shape[0] / 2), 15, .85), p.shape[::-1]),
             'negative': lambda p: ~p, 'smaller': lambda p: cv2.resize(p, None, fx=.7, fy=.7, interpolation=cv2.INTER_AREA),
             'darker': lambda p: (255 * (p / 255.)**1.5).astype(np.uint8)}
    for name, change in moved.items():
        changes = []
        for file in files:
            cv2.imwrite(str(tmp_path/'moved.png'), change(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)))
            before, after = assessor.assess(file, 'F'), assessor.assess(tmp_path/'moved.png', 'F')
            if before.accepted and after.accepted: changes.append(abs(after.bone_age_months - before.bone_age_months))
        assert len(changes) >= 7 and np.median(changes) < 3, (name, changes)
