"""What must hold for any data: nobody is on both sides, no weight is negative, no ensemble fits worse than a member, no age leaves its range."""
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from boneage.data import TINY, DatasetError
from boneage.ensemble import blend, fit_ensemble, fit_linear, load_ensemble
from boneage.grid import COHORTS, FOLDS, Cell, cell_rows, fold_of, run_cell, write_ensemble, write_hand_space
from boneage.keypoints import PointNet
from boneage.models import N_CLASSES, Expectation, to_months
from boneage.regions import REGIONS, cut_region
from boneage.phantom import write_cohort
from boneage.registration import MOST_DOUBT, Preprocessor
from boneage.segmentation import UNet, save_weights
from boneage.training import register_datasets


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.floats(0, .3)), min_size=1, max_size=150), st.sets(st.integers(0, 60)),
       st.sampled_from(COHORTS), st.integers(0, FOLDS - 1))
def test_nobody_on_two_sides(people, withheld, cohort, fold):
    """By id, not by picture: an id at two sizes is on one side, and the doubtful and the other sex are on none."""
    table = pd.DataFrame([dict(id=str(i), male=i % 2 == 0, doubt=doubt, boneage=100. if labelled else np.nan) for i, labelled, doubt in people])
    leave_out = {str(i) for i in withheld}
    parts = cell_rows(Cell(cohort=cohort, fold=fold), table, leave_out)
    ids = {part: set(table.id[rows]) for part, rows in parts.items()}
    assert ids['withheld'] <= leave_out and not (ids['train'] | ids['fold']) & leave_out
    assert all(fold_of(i) != fold for i in ids['train']) and all(fold_of(i) == fold for i in ids['fold'])
    used = table.loc[np.concatenate(list(parts.values()))]
    sexes = {'both': [True, False], 'male': [True], 'female': [False]}[cohort]
    assert (used.doubt <= MOST_DOUBT).all() and used.boneage.notna().all() and used.male.isin(sexes).all()
    kept = (table.doubt <= MOST_DOUBT) & table.boneage.notna() & (True if cohort == 'both' else table.male == (cohort == 'male'))
    assert len(used) == kept.sum()


def test_folds_are_even():
    counts = np.bincount([fold_of(str(i)) for i in range(12611)], minlength=FOLDS)
    assert len(counts) == FOLDS and counts.min() > 1130 and counts.max() < 1390


months = st.floats(1, 228, width=32)


@given(arrays(np.float64, st.tuples(st.integers(8, 40), st.integers(1, 6)), elements=months), st.data())
def test_an_ensemble_fits_no_worse_than_a_member(predicted, data):
    truth = data.draw(arrays(np.float64, len(predicted), elements=months))
    weights, constant = fit_linear(predicted, truth)
    squares = lambda p: ((p - truth)**2).mean()
    assert (weights >= 0).all()
    assert squares(predicted @ weights + constant) <= min(squares(p) for p in predicted.T) + 1e-6


def table_of(predicted, male, part='fold'):
    n = len(predicted)
    return pd.DataFrame(dict(id=[str(i) for i in range(n)], data='d', part=part, male=male, boneage=np.linspace(20, 200, n), predicted=predicted))


def test_too_few_to_fit():
    found = {f'{k}-both': table_of(np.linspace(20, 200, 3), True) for k in 'ABC'}
    with pytest.raises(ValueError, match='3 radiographs to fit 3 networks'): fit_ensemble(found, 'M')


def test_networks_trained_one_by_one_answer_together(tmp_path):
    """The ensemble of a run has every finished network that helps, and none that was stopped."""
    rng = np.random.default_rng(0)
    def finish(cell):
        card = dict.fromkeys(('stage', 'data', 'trained_on', 'date', 'torch', 'terms')) | dict(
            scale='tiny', region=cell.region, head=cell.head, cohort=cell.cohort, trunk=cell.trunk)
        save_weights(cell.net().state_dict(), tmp_path/cell.name/'weights.safetensors', card)
        sexes = [table_of(np.linspace(20, 200, 50) + rng.normal(0, 9, 50), male) for male in (False, True)]
        pd.concat(sexes).assign(id=range(100)).to_csv(tmp_path/cell.name/'predictions.csv', index=False)
    def answering():
        write_ensemble(tmp_path, tmp_path/'age.safetensors')
        return {name[0] for name in load_ensemble(tmp_path/'age.safetensors').nets}
    a, b, c = (Cell(region, scale=TINY) for region in 'ABC')
    finish(a), finish(b), (tmp_path/c.name).mkdir()
    assert answering() == {'A', 'B'}
    finish(c)
    assert answering() == {'A', 'B', 'C'}


def test_the_withheld_do_not_move_an_ensemble():
    """Labels of the withheld may be anything: the answers stay."""
    rng = np.random.default_rng(0)
    def tables(labels):
        rng = np.random.default_rng(1)
        def network():
            fold = table_of(np.linspace(20, 200, 50) + rng.normal(0, 9, 50), True)
            return pd.concat([fold, table_of(rng.uniform(20, 200, 50), True, 'withheld').assign(boneage=labels)])
        return {k: network() for k in ('A-both', 'B-both')}
    one, other = (blend(tables(labels)) for labels in (np.full(50, 100.), rng.uniform(1, 228, 50)))
    assert np.array_equal(one.predicted, other.predicted)


@settings(max_examples=30)
@given(arrays(np.float32, (3, N_CLASSES), elements=st.floats(-50, 50, width=32)))
def test_an_expected_age_is_an_age(scores):
    answer = to_months(Expectation()(torch.from_numpy(scores)))
    assert answer.shape == (3, 1) and (answer >= 1 - 1e-3).all() and (answer <= 240 + 1e-3).all()


@pytest.mark.parametrize('region', REGIONS)
def test_regions_are_whole(region):
    """No window leaves the canvas, at any scale."""
    r = REGIONS[region]
    assert r.top >= 0 and r.left >= 0 and r.top + r.height <= 1 and r.left + r.width <= 1
    assert cut_region(np.zeros(TINY.canvas, np.uint8), r, TINY.region[region]).shape == TINY.region[region]


def test_a_cell_without_data_says_so(tmp_path):
    table = pd.DataFrame(dict(id=['1'], data='d', male=True, boneage=100., doubt=0.))
    with pytest.raises(ValueError, match='A-female-regression-tiny-vgg-0-0: 0 radiographs to train on'):
        run_cell(Cell('A', 'female', scale=TINY), np.zeros((1, *TINY.canvas), np.uint8), table, tmp_path)


def test_a_batch_that_never_fills_says_so(tmp_path):
    """Fewer radiographs than a batch would train nothing and leave weights."""
    ids = sorted(map(str, range(100)), key=fold_of)[:22]
    table = pd.DataFrame(dict(id=ids, data='d', male=True, boneage=100., doubt=0.))
    assert 10 < sum(fold_of(i) != 0 for i in ids) < 16
    canvas = np.zeros((22, *TINY.canvas), np.uint8)
    with pytest.raises(DatasetError, match='fewer than a batch of 16'): run_cell(Cell(scale=TINY), canvas, table, tmp_path, log=lambda line: None)
    assert not list(tmp_path.rglob('*.safetensors'))


def test_registered_pictures_are_of_these_radiographs(tmp_path):
    """A folder of registered pictures is gone on with, never taken for that of others."""
    blind = Preprocessor(UNet(TINY.mask_width), PointNet(TINY.points_width), TINY)
    labels = write_cohort(tmp_path/'drawn', 6, 1, side=64)/'labels.csv'
    def register(): return register_datasets([tmp_path/'drawn'], blind, tmp_path/'registered', log=lambda line: None)
    canvas, table = register()
    assert len(table) == len(canvas) == 6
    pd.testing.assert_frame_equal(register()[1], table)
    with pytest.raises(DatasetError, match='of 6 radiographs could be placed'): write_hand_space(canvas, table.assign(doubt=1.), set(), tmp_path/'hand')
    rows = pd.read_csv(labels, dtype=str)
    for other in (rows.iloc[:5], rows.assign(boneage='99')):
        other.to_csv(labels, index=False)
        with pytest.raises(DatasetError, match='holds other radiographs'): register()
