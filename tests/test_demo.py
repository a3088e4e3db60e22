"""The demo around its stages: what is drawn, withheld, skipped and shown. The notebook trains it in small."""
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import boneage.learn.demo as demo
from boneage.learn.data import Event, check_data, read_labels, split_withheld
from boneage.learn.evaluation import COLUMNS
from boneage.learn.scales import TINY


@pytest.fixture
def calls(monkeypatch):
    """The stages replaced by ones that leave what they would, tell of an epoch, and remember what they were given."""
    calls = {}
    def stage(name, result):
        def train(*args, progress, leave_out, scale, cells=(), **kwargs):
            calls[name] = args, set(leave_out), scale
            file = args[-1]/result.format(*(cell.name for cell in cells))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            progress(Event(name, 2, 2, 'train_loss 0.5, valid_loss 0.5, mae_months 20.5'))
        return train
    monkeypatch.setattr(demo, 'train_masks', stage('masks', 'mask.onnx'))
    monkeypatch.setattr(demo, 'train_points', stage('points', 'points.onnx'))
    monkeypatch.setattr(demo, 'train_age', stage('age', 'age/{}/predictions.csv'))
    monkeypatch.setattr(demo, 'register_datasets', lambda folders, registrar, out, tell: tell(Event('register', 2, 2)))
    monkeypatch.setattr(demo.Registrar, 'load', lambda folder, canvas, threads: None)
    monkeypatch.setattr(demo, 'write_reader', lambda run, out: calls.update(export=(run, out)))
    return calls


@pytest.fixture
def quiet(monkeypatch):
    """Progress bars that go to a string."""
    text = io.StringIO()
    monkeypatch.setattr(demo, 'Console', lambda **kwargs: Console(file=text, width=150))
    return text


def test_cohort_is_a_data_set(tmp_path):
    cohort = demo.draw_demo_cohort(tmp_path/'demo', 24, seed=3)
    assert check_data(cohort).ok
    before = {f: f.stat().st_mtime_ns for f in cohort.rglob('*.png')}
    assert len(before) == 48
    demo.draw_demo_cohort(tmp_path/'demo', 24, seed=3)
    assert {f: f.stat().st_mtime_ns for f in cohort.rglob('*.png')} == before


@pytest.mark.parametrize('n, seed', [(25, 3), (24, 4)])
def test_another_cohort_is_not_overwritten(tmp_path, n, seed):
    demo.draw_demo_cohort(tmp_path, 24, seed=3)
    with pytest.raises(ValueError, match='another folder or delete'): demo.draw_demo_cohort(tmp_path, n, seed)
    assert json.loads((tmp_path/'settings.json').read_text()) == {'n': 24, 'seed': 3}


def test_withheld_reach_no_stage(tmp_path, calls, quiet):
    out, scale = tmp_path, replace(TINY, age=replace(TINY.age, epochs=2))
    labels = read_labels(demo.draw_demo_cohort(out, 24, seed=3)/'labels.csv')
    withheld = set(split_withheld(labels, 4))
    demo.annotate(out, [i for i in labels.id if i not in withheld])
    with demo.progress_bars() as bars: assert demo.train_demo(out, withheld, scale, bars) == out/'weights'
    assert calls.pop('export') == (out/'run', out/'weights')
    assert list(calls) == ['masks', 'points', 'age']
    for _, left_out, used in calls.values(): assert left_out == withheld and used == scale
    outlined = {f.stem for f in (out/'annotations/masks').iterdir()}
    assert len(outlined) == 4 and not outlined & withheld


def test_trained_stages_are_skipped(tmp_path, calls, quiet):
    demo.draw_demo_cohort(tmp_path, 24, seed=3)
    for again in (False, True):
        calls.clear()
        with demo.progress_bars() as bars: demo.train_demo(tmp_path, set(), TINY, bars)
        assert list(calls) == (['export'] if again else ['masks', 'points', 'age', 'export'])
    calls.clear()
    next(tmp_path.glob('run/age/*/predictions.csv')).unlink()
    with demo.progress_bars() as bars: demo.train_demo(tmp_path, set(), TINY, bars)
    assert list(calls) == ['age', 'export']
    assert 'mae_months 20.5' in quiet.getvalue() and 'done before' in quiet.getvalue()


def test_table_has_the_floor(tmp_path):
    rng = np.random.default_rng(0)
    ages = rng.integers(10, 200, 50)
    predictions = pd.DataFrame(dict(id=np.arange(50).astype(str), male=ages % 2 == 0, boneage=ages))
    predictions = predictions.assign(predicted=ages + 3., accepted=True, reason='')[list(COLUMNS)]
    table = demo.demo_table(predictions)
    assert list(table.MAE)[0] == '3.00' and float(table.MAE.iloc[1]) > 30
    text = io.StringIO()
    demo.print_table(table, 'title', Console(file=text, width=120))
    assert re.search(r'A, regression, both.*3\.00', text.getvalue()) and 'answer the median' in text.getvalue()
