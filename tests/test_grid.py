"""What must hold for any data: nobody is on both sides, no weight is negative, no ensemble fits worse than a member,
no age leaves its range."""
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from boneage.assessment import Assessor
from boneage.child import OLDEST
from boneage.cli import main
from boneage.ensemble import load_ensemble, predict_months as predict_by_onnx, to_months
from boneage.learn.age import (
    CELL, COHORTS, HEADS, Cell, Expectation, parse_cell, predict_months, sexes_of, start_from)
from boneage.learn.data import DatasetError
from boneage.learn.export import read_state, write_reader
from boneage.learn.fitting import blend, finished_cells, fit_ensemble, fit_linear
from boneage.learn.grid import (
    FOLDS, ONE_CYCLE, cell_card, cell_rows, fold_of, nearest_network, networks_in, paper_grid, run_cell, train_age,
    write_network)
from boneage.learn.registered import pack_registered
from boneage.learn.scales import SCALES, TINY
from boneage.networks import WEIGHTS, Network, open_weights
from boneage.points import MOST_DOUBT
from boneage.regions import REGIONS, cut_region, window_of

QUIET = lambda event: None
ONE_EPOCH = replace(TINY, age=replace(TINY.age, epochs=1))


# Cells

def one_of(values): return st.sampled_from(list(values))


cells = st.builds(Cell, one_of(REGIONS), one_of(COHORTS), one_of(HEADS), one_of(SCALES.values()),
                  st.from_regex(r'[a-z][a-z0-9_.\-]{0,20}', fullmatch=True), st.integers(0, 99), st.integers(0, 10**6))


@given(cells)
def test_a_cell_is_its_name(cell):
    """Printed and read back it is the same, also with a hyphen in the name of its trunk."""
    assert parse_cell(cell.name) == cell and hash(parse_cell(cell.name)) == hash(cell)


@given(cells, cells)
def test_no_two_cells_share_a_name(a, b): assert (a.name == b.name) == (a == b)


@given(st.text(max_size=40))
def test_what_is_no_cell(name):
    if CELL.fullmatch(name): return
    with pytest.raises(DatasetError, match='is no network of the grid'): parse_cell(name)


# Who is trained on

person = st.tuples(st.integers(0, 60), st.booleans(), st.floats(0, .3))


@given(st.lists(person, min_size=1, max_size=150), st.sets(st.integers(0, 60)), one_of(COHORTS), st.integers(0, 9))
def test_nobody_on_two_sides(people, withheld, cohort, fold):
    """By id, not by picture: an id at two sizes is on one side, and the doubtful and the other sex are on none."""
    age = {True: 100., False: np.nan}
    table = pd.DataFrame([dict(id=str(i), data='d', male=i % 2 == 0, doubt=doubt, boneage=age[known])
                          for i, known, doubt in people])
    leave_out = {str(i) for i in withheld}
    parts = cell_rows(Cell(cohort=cohort, fold=fold), table, leave_out)
    ids = {part: set(table.id[rows]) for part, rows in parts.items()}
    assert ids['withheld'] <= leave_out and not (ids['train'] | ids['fold']) & leave_out
    assert all(fold_of(i) != fold for i in ids['train']) and all(fold_of(i) == fold for i in ids['fold'])
    used = table.loc[np.concatenate(list(parts.values()))]
    sexes = {'both': [True, False], 'male': [True], 'female': [False]}[cohort]
    assert (used.doubt <= MOST_DOUBT).all() and used.boneage.notna().all() and used.male.isin(sexes).all()
    kept = (table.doubt <= MOST_DOUBT) & table.boneage.notna() & table.male.isin(sexes)
    assert len(used) == kept.sum()


def test_folds_are_even():
    counts = np.bincount([fold_of(str(i)) for i in range(12611)], minlength=FOLDS)
    assert len(counts) == FOLDS and counts.min() > 1130 and counts.max() < 1390


def test_a_start_has_not_seen_the_fold():
    """Of the shipped networks only those of the cell's own region and fold; every cell of the paper's grid has one."""
    shipped = networks_in(WEIGHTS)
    assert {cell.name for cell in shipped} == set(open_weights().manifest['networks'])
    for cell in paper_grid():
        start = nearest_network(cell, shipped)
        assert (start.region, start.fold) == (cell.region, cell.fold)
        net = cell.net()
        start_from(net, read_state(shipped[start])[0]) # and fits
        with pytest.raises(DatasetError, match='fold 3 to start from'): nearest_network(replace(cell, fold=3), shipped)


# Ensembles

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
    ids, ages = [str(i) for i in range(n)], np.linspace(20, 200, n)
    return pd.DataFrame(dict(id=ids, data='d', part=part, male=male, boneage=ages, predicted=predicted))


def test_too_few_to_fit():
    found = {Cell(k): table_of(np.linspace(20, 200, 3), True) for k in 'ABC'}
    with pytest.raises(DatasetError, match='3 radiographs to fit 3 networks'): fit_ensemble(found, 'M')


def test_a_network_turned_over_gets_no_weight():
    """One that is right only with its sign changed would help plain least squares; here it is left out."""
    rng, truth = np.random.default_rng(0), np.linspace(20, 200, 80)
    noise = rng.normal(0, 9, 80)
    found = {Cell('A'): table_of(truth + noise, True), Cell('B'): table_of(240 - truth + rng.normal(0, 9, 80), True)}
    weights, _ = fit_ensemble(found, 'M')
    assert set(weights) == {Cell('A')}


def test_the_withheld_do_not_move_an_ensemble():
    """Labels of the withheld may be anything: the answers stay."""
    rng = np.random.default_rng(0)
    def tables(labels):
        rng = np.random.default_rng(1)
        def network():
            fold = table_of(np.linspace(20, 200, 50) + rng.normal(0, 9, 50), True)
            return pd.concat([fold, table_of(rng.uniform(20, 200, 50), True, 'withheld').assign(boneage=labels)])
        return {Cell(k): network() for k in 'AB'}
    one, other = (blend(tables(labels)) for labels in (np.full(50, 100.), rng.uniform(1, 228, 50)))
    assert np.array_equal(one.predicted, other.predicted)


# A run and its reader

def finish(run, cell, seed, n=50):
    """A cell as a finished run leaves it, untrained, with made-up predictions."""
    rng, folder = np.random.default_rng(seed), run/'age'/cell.name
    sexes = [table_of(np.linspace(20, 200, n) + rng.normal(0, 9, n), male) for male in (False, True)]
    table = pd.concat(sexes, ignore_index=True).assign(id=[str(i) for i in range(2 * n)])
    card = cell_card(cell, table, np.arange(n), 3, ONE_CYCLE, [dict(mae_months=9.)])
    write_network(cell.net(), cell, card, folder/'network.onnx')
    table.to_csv(folder/'predictions.csv', index=False)


@pytest.fixture
def run(tmp_path):
    """A run with the shipped networks of masks and points, whose hands are registered, at laptop scale."""
    for name in ('mask', 'points'): shutil.copy(WEIGHTS/f'{name}.onnx', tmp_path/f'{name}.onnx')
    (tmp_path/'registered').mkdir()
    canvas = (np.random.default_rng(0).random((40, 260, 200)) * 255).astype(np.uint8)
    np.save(tmp_path/'registered/canvas.npy', canvas)
    rows = dict(id=[str(i) for i in range(40)], data='d', boneage=100., male=True, problem='', mirrored=False)
    pd.DataFrame(rows).assign(doubt=[.01] * 30 + [.5] * 10).to_csv(tmp_path/'registered/registered.csv', index=False)
    return tmp_path


def test_a_run_becomes_a_reader(run, tmp_path):
    """All that is finished answers together, none that was stopped; the folder is whole and reading opens it."""
    a, b, c = (Cell(region) for region in 'ABC')
    finish(run, a, 1), finish(run, b, 2), (run/'age'/c.name).mkdir()
    manifest = write_reader(run, tmp_path/'out')
    assert set(manifest['networks']) == {a.name, b.name}
    assert manifest == json.loads((tmp_path/'out/reader.json').read_text())
    assert set(manifest) == set(json.loads((WEIGHTS/'reader.json').read_text()))
    assert {f.name for f in (tmp_path/'out').iterdir()} == {*manifest['files'], 'reader.json'}
    finish(run, c, 3)
    assert set(write_reader(run, tmp_path/'out')['networks']) == {a.name, b.name, c.name}
    assessor = Assessor(tmp_path/'out', threads=1)
    assert set(assessor.ensemble.networks) == {a.name, b.name, c.name} and assessor.calibration is None
    canvas = np.load(run/'registered/canvas.npy')[0]
    found = load_ensemble(open_weights(tmp_path/'out')).by_network(canvas, 'F')
    weights, constant = fit_ensemble(finished_cells(run/'age'), 'F')
    by_hand = sum(w * found[cell.name] for cell, w in weights.items()) + constant
    assert assessor.ensemble.combine(found, 'F') == pytest.approx(by_hand)


def test_a_run_that_cannot_become_a_reader(run, tmp_path):
    """It says why, and leaves no manifest that would look like a whole folder."""
    with pytest.raises(DatasetError, match='has no finished age network'): write_reader(run, tmp_path/'out')
    finish(run, Cell(cohort='male'), 1)
    with pytest.raises(DatasetError, match='serves a girl'): write_reader(run, tmp_path/'out')
    finish(run, Cell('B', scale=TINY), 2)
    with pytest.raises(DatasetError, match='canvases of different sizes'): write_reader(run, tmp_path/'out')
    shutil.rmtree(run/'age'/Cell('B', scale=TINY).name), finish(run, Cell('B'), 2)
    table = pd.read_csv(run/'registered/registered.csv').assign(doubt=1.)
    table.to_csv(run/'registered/registered.csv', index=False)
    with pytest.raises(DatasetError, match='0 of 40 radiographs could be placed'): write_reader(run, tmp_path/'out')
    assert not (tmp_path/'out/reader.json').exists()


def test_what_export_says_of_a_run(run, tmp_path, capsys):
    """What is wrong and what to do, in one line that names no type of Python's."""
    def export():
        return main(['export', str(run), '--out', str(tmp_path/'out')]), capsys.readouterr().err
    finish(run, Cell(cohort='male'), 1)
    few = "boneage: no finished network serves a girl; train one for both sexes, or one for each\n"
    assert export() == (1, few)
    shutil.copytree(run/'age'/Cell(cohort='male').name, run/'age/copy')
    status, said = export()
    assert status == 1 and said.startswith("boneage: 'copy' is no network of the grid; move it away"), said
    assert 'Error' not in said and len(said.splitlines()) == 1


# Networks

@settings(max_examples=30)
@given(arrays(np.float32, (3, OLDEST), elements=st.floats(-50, 50, width=32)))
def test_an_expected_age_is_an_age(scores):
    answer = to_months(Expectation()(torch.from_numpy(scores)))
    assert answer.shape == (3, 1) and (answer >= 1 - 1e-3).all() and (answer <= OLDEST + 1e-3).all()


@pytest.mark.parametrize('region', REGIONS)
@pytest.mark.parametrize('scale', SCALES.values(), ids=SCALES)
def test_regions_are_whole(region, scale):
    """No window leaves the canvas, at any scale, and a network gets the size it was built for."""
    r, shrink = REGIONS[region], scale.age.shrink[region]
    assert r.top >= 0 and r.left >= 0 and r.top + r.height <= 1 and r.left + r.width <= 1
    assert cut_region(np.zeros(scale.canvas, np.uint8), r, shrink).shape == window_of(r, scale.canvas, shrink)


@pytest.mark.parametrize('head', HEADS)
def test_both_rooms_say_the_same(head, tmp_path):
    """A trained cell says of drawn hands in PyTorch what its file says in ONNX Runtime."""
    from boneage.canvas import registration_matrix
    from boneage.contrast import equalise
    from boneage.drawn.cohort import draw_cohort
    from boneage.warp import warp
    hands = list(draw_cohort(60, 5, side=128))
    place = lambda p: warp(equalise(p.picture, p.mask), registration_matrix(p.points, TINY.canvas), TINY.canvas)
    canvas, cell = np.stack([place(p) for p in hands]), Cell('B', head=head, scale=ONE_EPOCH)
    rows = [dict(id=str(i), data='d', male=p.male, boneage=p.boneage, doubt=0.) for i, p in enumerate(hands)]
    table = pd.DataFrame(rows)
    run_cell(cell, canvas, table, tmp_path, recipe=ONE_CYCLE, progress=QUIET)
    file, net = tmp_path/cell.name/'network.onnx', cell.net().eval()
    start_from(net, read_state(file)[0])
    windows, sexes = np.stack([cut_region(c, REGIONS['B']) for c in canvas]), sexes_of(table)
    ours, theirs = predict_months(net, windows, sexes), predict_by_onnx(Network(file, threads=1), windows, sexes)
    assert np.std(ours) > .01 and np.abs(ours - theirs).max() < .05


# What cannot be trained

def test_a_cell_without_data_says_so(tmp_path):
    table = pd.DataFrame(dict(id=['1'], data='d', male=True, boneage=100., doubt=0.))
    with pytest.raises(DatasetError, match='A-female-regression-tiny-vgg-0-0: too few radiographs .0 train'):
        run_cell(Cell('A', 'female', scale=TINY), np.zeros((1, *TINY.canvas), np.uint8), table, tmp_path)


def test_a_batch_that_never_fills_says_so(tmp_path):
    """Fewer radiographs than a batch would train nothing and leave weights."""
    ids = sorted(map(str, range(100)), key=fold_of)[:22]
    table = pd.DataFrame(dict(id=ids, data='d', male=True, boneage=100., doubt=0.))
    assert 10 < sum(fold_of(i) != 0 for i in ids) < 16
    canvas = np.zeros((22, *TINY.canvas), np.uint8)
    with pytest.raises(DatasetError, match='fewer than a batch of 16'):
        run_cell(Cell(scale=TINY), canvas, table, tmp_path, progress=QUIET)
    assert not list(tmp_path.rglob('*.onnx'))
    with pytest.raises(DatasetError, match='fewer than a batch of 16'):  # what never began is no other run
        run_cell(Cell(scale=TINY), canvas, table.assign(boneage=90.), tmp_path, progress=QUIET)


def test_a_cell_goes_on_as_it_was_begun(tmp_path):
    """Stopped in its second epoch: with another recipe, start, label or withheld id it is an error that names it."""
    def stop(event):
        if event.done == 1: raise KeyboardInterrupt
    rng, cell = np.random.default_rng(0), Cell(scale=TINY)
    ages = rng.uniform(24, 200, 60)
    table = pd.DataFrame(dict(id=[*map(str, range(60))], data='d', male=True, boneage=ages, doubt=0.))
    asked = dict(cell=cell, canvas=rng.integers(0, 255, (60, *TINY.canvas), np.uint8), table=table, out=tmp_path)
    with pytest.raises(KeyboardInterrupt): run_cell(**asked, progress=stop)
    for other, words in ((dict(recipe=ONE_CYCLE), 'recipe paper, and this run asks for one-cycle'),
                         (dict(leave_out={'7'}), 'withheld ids 0 .*, and this run asks for 1 '),
                         (dict(table=table.assign(boneage=table.boneage + 1)), 'radiographs 60 .* asks for 60 '),
                         (dict(start='a/network.onnx'), 'start none, and this run asks for a/network.onnx'),
                         (dict(cell=replace(cell, scale=ONE_EPOCH)), f'epochs {TINY.age.epochs}, .* asks for 1')):
        with pytest.raises(DatasetError, match=words): run_cell(**asked | other)
    assert len(run_cell(**asked, progress=QUIET))


def test_packed_hands_train(tmp_path):
    """No data set and no registrar: one file is enough, of the right scale."""
    folder, rng = tmp_path/'registered', np.random.default_rng(0)
    folder.mkdir()
    ages = rng.uniform(24, 200, 60)
    pictures = np.full((60, *TINY.canvas), ages[:, None, None], np.uint8)
    np.save(folder/'canvas.npy', pictures)
    pd.DataFrame(dict(id=range(60), data='d', male=True, boneage=ages, doubt=0., problem='')).to_csv(
        folder/'registered.csv', index=False)
    pack_registered(folder, tmp_path/'hands.npz')
    with pytest.raises(DatasetError, match='another scale than laptop'): train_age([tmp_path/'hands.npz'], tmp_path/'a')
    with pytest.raises(DatasetError, match='0 fold'):  # all of them are only learnt from
        train_age([tmp_path/'hands.npz'], tmp_path/'b', scale=TINY, cells=[Cell(scale=TINY)], also=[tmp_path/'d'])
    train_age([tmp_path/'hands.npz'], tmp_path/'run', {'1'}, TINY, cells=[Cell(scale=TINY)], progress=QUIET)
    said = pd.concat(pd.read_csv(f, dtype={'id': str}) for f in (tmp_path/'run/age').rglob('predictions.csv'))
    assert set(said.part) == {'fold', 'withheld'} and set(said[said.part == 'withheld'].id) == {'1'}


def test_a_start_of_another_scale_says_so(run):
    """Before anything is registered or trained, as far as the names tell; else when the weights do not fit."""
    with pytest.raises(DatasetError, match='no resnet10t network of region A'):
        train_age([run], run, cells=[Cell(trunk='resnet10t')], start=WEIGHTS, progress=QUIET)
    with pytest.raises(DatasetError, match='does not fit'):
        start_from(Cell('B', scale=TINY).net(), read_state(next(WEIGHTS.glob('B-*-vgg-*.onnx')))[0])
