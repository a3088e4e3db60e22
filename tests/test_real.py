"""The shipped weights on real radiographs that no network was trained on; skipped where there are none."""
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from boneage.canvas import is_mirrored, registration_matrix
from boneage.contrast import equalise
from boneage.ensemble import predict_months as predict_by_onnx
from boneage.learn.age import parse_cell, predict_months
from boneage.learn.data import radiographs, read_points
from boneage.learn.export import read_state
from boneage.learn.masks import UNet, dice, fill_polygons
from boneage.mask import clean_mask, hand_probability, mark_hands, to_square
from boneage.points import find_points, upright_angle
from boneage.radiograph import read_pixels
from boneage.warp import move_points

RESULTS = Path(__file__).parent.parent/'results'


def ids_of(name):
    """The rows of a table of ids in `results`."""
    with (RESULTS/name).open() as file: return list(csv.DictReader(file))


WITHHELD = {row['id'] for row in ids_of('withheld.csv')}
STAGES = 'masks', 'points'
HELD_OUT = {stage: [row['id'] for row in ids_of('held-out.csv') if row['stage'] == stage] for stage in STAGES}


@pytest.fixture(scope='module')
def small_set(real_data):
    """Labels and reader of the 299 px radiographs."""
    return radiographs(real_data/'rsna-299')


@pytest.fixture(scope='module')
def points(real_data):
    """The annotated key points: all those of the held-out ids were set by hand."""
    found = read_points(real_data/'annotations/keypoints.csv').loc[HELD_OUT['points']]
    assert len(found) == 200 and found.manual.all()
    return found.points


def find_mask(assessor, picture):
    """The mask before any question is asked about it."""
    return clean_mask(mark_hands(assessor.registrar.mask_net, picture))


def place(assessor, picture):
    """The key points before any question is asked about them."""
    mask = find_mask(assessor, picture)
    return find_points(assessor.registrar.point_net, equalise(picture, mask), mask)[0]


def test_masks_of_held_out_outlines(real_data, small_set, assessor):
    """The 20 outlines that training held out."""
    outlines, values = json.loads((real_data/'annotations/hand_polygons.json').read_text()), []
    for i in HELD_OUT['masks']:
        picture = small_set[1](i)
        values.append(dice(find_mask(assessor, picture), fill_polygons(outlines[i]['polygons'], picture.shape)))
    assert len(values) == 20 and np.mean(values) >= .97, values


def test_points_of_held_out_radiographs(small_set, points, assessor):
    """Points set by hand on radiographs that training held out, as a share of the distance from tip to capitate."""
    errors = []
    for i, truth in points[:60].items():
        picture = small_set[1](i)
        truth = truth * picture.shape[::-1]
        errors.append(np.linalg.norm(place(assessor, picture) - truth, axis=1) / np.linalg.norm(truth[0] - truth[2]))
    assert (np.median(errors, axis=0) < .02).all(), np.median(errors, axis=0)
    assert (np.quantile(errors, .95, axis=0) < .06).all(), np.quantile(errors, .95, axis=0)


def turn(picture, where, quarters, flip):
    """A picture turned by quarters, and flipped or not, with the points on it."""
    for _ in range(quarters):
        picture, where = np.rot90(picture), np.c_[where[:, 1], picture.shape[1] - 1 - where[:, 0]]
    if flip: picture, where = picture[:, ::-1], where * [-1, 1] + [picture.shape[1] - 1, 0]
    return np.ascontiguousarray(picture), where


@pytest.mark.parametrize('quarters', range(4))
def test_put_upright(small_set, points, assessor, quarters):
    """Turned by quarters and flipped or not: the true tip ends above the true capitate, the true thumb on the right."""
    wrong = []
    for number, (i, truth) in enumerate(points[:30].items()):
        picture = small_set[1](i)
        picture, where = turn(picture, truth * picture.shape[::-1], quarters, flip=number % 2)
        moved = move_points(registration_matrix(place(assessor, picture), assessor.registrar.canvas), where)
        if abs(upright_angle(moved)) > np.radians(15) or is_mirrored(moved): wrong.append(i)
    assert len(wrong) <= 1, wrong


def test_same_hand_same_age(real_data, assessor, tmp_path):
    """Mirrored, turned, smaller, darker, the negative: the assessment of one radiograph hardly moves."""
    files = [f for f in sorted((real_data/'rsna-768/images').iterdir()) if f.stem in WITHHELD][:8]
    def turned(p):
        return cv2.warpAffine(p, cv2.getRotationMatrix2D((p.shape[1] / 2, p.shape[0] / 2), 15, .85), p.shape[::-1])
    moved = {'mirrored': lambda p: p[:, ::-1], 'turned': turned, 'negative': lambda p: ~p,
             'smaller': lambda p: cv2.resize(p, None, fx=.7, fy=.7, interpolation=cv2.INTER_AREA),
             'darker': lambda p: (255 * (p / 255.)**1.5).astype(np.uint8)}
    for name, change in moved.items():
        changes = []
        for file in files:
            cv2.imwrite(str(tmp_path/'moved.png'), change(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)))
            before, after = assessor.assess(file, 'F'), assessor.assess(tmp_path/'moved.png', 'F')
            if before.accepted and after.accepted: changes.append(abs(after.bone_age_months - before.bone_age_months))
        assert len(changes) >= 7 and np.median(changes) < 3, (name, changes)


@pytest.mark.parametrize('quarters', (1, 3))
def test_a_hand_on_its_side_is_not_damaged(real_data, assessor, tmp_path, quarters):
    """Fingers along the rows are no sign of a bad copy."""
    files, damaged = [f for f in sorted((real_data/'rsna-768/images').iterdir()) if f.stem in WITHHELD][:30], []
    for file in files:
        cv2.imwrite(str(tmp_path/'side.jpg'), np.rot90(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), quarters))
        found = assessor.assess(tmp_path/'side.jpg', 'F')
        if 'damaged' in found.reason or 'two of its rows' in found.note: damaged.append(file.name)
    assert len(damaged) <= 1, damaged


def darker_beside(p):
    """A quarter darker from the middle column on."""
    middle = p.shape[1] // 2
    return np.concatenate([p[:, :middle], (.75 * p[:, middle:]).astype(np.uint8)], axis=1)


def as_of_a_console(p):
    """Weak detail strengthened more than strong, in six bands."""
    blurs = [p.astype(np.float32), *(cv2.GaussianBlur(p.astype(np.float32), (0, 0), 2.**n) for n in range(6))]
    bands = [fine - coarse for fine, coarse in zip(blurs, blurs[1:])]
    strong = sum(np.sign(band) * 20 * (np.abs(band) / 20)**.6 for band in bands)
    return np.clip(strong + .8 * blurs[-1] + 10, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('change, word', ((darker_beside, 'straight line'), (as_of_a_console, 'texture')))
def test_what_programs_do_is_said(real_data, assessor, tmp_path, change, word):
    """A step in brightness and a console's contrast are said of what is read after them, not of the radiographs."""
    files, said = [f for f in sorted((real_data/'rsna-768/images').iterdir()) if f.stem in WITHHELD][:20], []
    for file in files:
        cv2.imwrite(str(tmp_path/'after.png'), change(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)))
        before, after = assessor.assess(file, 'F'), assessor.assess(tmp_path/'after.png', 'F')
        if before.accepted and after.accepted: said.append((word in before.note, word in after.note))
    alone, after = np.sum(said, axis=0)
    assert len(said) >= 12 and alone <= 1 and after >= .9 * len(said), said


def test_lost_rows_are_said(real_data, assessor, tmp_path):
    """A hand that has lost a thirtieth of the picture's rows is mostly refused, or says that they do not fit."""
    files, told = [f for f in sorted((real_data/'rsna-768/images').iterdir()) if f.stem in WITHHELD][:20], []
    for file in files:
        film = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if not (before := assessor.examine(file, 'F')).found.accepted: continue
        tip, _, capitate = before.hand.points[:, 1]
        at = round((tip + 2 * capitate) / 3)
        cv2.imwrite(str(tmp_path/'cut.png'), np.delete(film, np.s_[at:at + len(film) // 30], 0))
        after = assessor.assess(tmp_path/'cut.png', 'F')
        told.append(['its rows' in said.note + said.reason for said in (before.found, after)])
    alone, cut = np.sum(told, axis=0)
    assert len(told) >= 12 and alone <= 1 and cut >= .7 * len(told), told


def test_another_hand_over_it_is_said(real_data, assessor, tmp_path):
    """Of most radiographs that have another laid over them, half of each, and that are read, and of none as it is."""
    files, said = [f for f in sorted((real_data/'rsna-768/images').iterdir()) if f.stem in WITHHELD][:20], []
    films = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
    for file, film, other in zip(files, films, films[1:]):
        cv2.imwrite(str(tmp_path/'both.png'), cv2.addWeighted(film, .5, cv2.resize(other, film.shape[::-1]), .5, 0))
        before, after = assessor.assess(file, 'F'), assessor.assess(tmp_path/'both.png', 'F')
        if before.accepted and after.accepted: said.append(['one over the other' in f.note for f in (before, after)])
    alone, over = np.sum(said, axis=0)
    assert len(said) >= 12 and alone <= 1 and over >= .6 * len(said), said


# ONNX Runtime says what PyTorch says

def with_state_of(net, file):
    """A PyTorch network with the weights of a file, ready to answer."""
    net.load_state_dict(read_state(file)[0], strict=False)  # ONNX has no counts of batches
    return net.eval()


def test_masks_as_in_pytorch(small_set, assessor):
    net = with_state_of(UNet(), assessor.registrar.mask_net.file)
    squares = np.stack([to_square(small_set[1](i), 192) for i in HELD_OUT['masks'][:4]])
    with torch.inference_mode(): theirs = net(torch.from_numpy(squares)[:, None].float() / 255).sigmoid()[:, 0].numpy()
    assert np.abs(hand_probability(assessor.registrar.mask_net, squares) - theirs).max() < 1e-3


def test_ages_as_in_pytorch(real_data, assessor):
    """Every shipped network, on radiographs that none was trained on, within 0.05 months; most by far less."""
    files = [f for f in sorted((real_data/'rsna-768/images').iterdir()) if f.stem in WITHHELD][:8]
    canvases = [assessor.register(read_pixels(f)).canvas for f in files]
    for name, network in assessor.ensemble.networks.items():
        net = with_state_of(parse_cell(name).net(), network.network.file)
        windows = np.stack([network.cut(canvas) for canvas in canvases])
        sexes = ['M' if parse_cell(name).cohort == 'male' else 'F'] * len(windows)
        apart = np.abs(predict_by_onnx(network.network, windows, sexes) - predict_months(net, windows, sexes))
        assert apart.max() < .05, (name, apart)
