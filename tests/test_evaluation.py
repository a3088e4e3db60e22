"""Predictions from a folder, and what is computed from them."""
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from boneage.learn.data import LabelError
from boneage.learn.evaluation import (
    COLUMNS, agreement, answer_median, bootstrap_ci, evaluate, read_predictions, result_table, summarise)


class Recorder:
    """An assessor that answers 100 months, refuses pictures whose name says so, and remembers what it was asked."""
    def __init__(self): self.asked = {}

    def assess(self, file, sex, width=None, height=None):
        self.asked[file.stem] = sex, width, height
        ok = not file.stem.startswith('bad')
        return SimpleNamespace(accepted=ok, reason='' if ok else 'no hand found', bone_age_months=100. if ok else None)


def data_set(folder, labels, pictures):
    """A folder of grey pictures named `pictures` and a CSV of the text `labels`."""
    (folder/'images').mkdir(parents=True)
    ramp = np.tile(np.arange(40, dtype=np.uint8), (40, 1))
    for name in pictures: cv2.imwrite(str(folder/'images'/f'{name}.png'), ramp)
    (folder/'labels.csv').write_text(labels)
    return folder


def table(*rows): return pd.DataFrame(rows, columns=COLUMNS)


# From a folder to predictions

def test_every_label_has_a_row(tmp_path):
    labels = 'id,boneage,male\n007,90,True\nbad1,100,False\nlost,110,False\nnoage,,True\n'
    folder = data_set(tmp_path/'a', labels, ['007', 'bad1', 'noage'])
    steps, assessor = [], Recorder()
    found = evaluate(assessor, folder, progress=lambda event: steps.append((event.done, event.total)))
    assert list(found.columns) == list(COLUMNS) and list(found.id) == ['007', 'bad1', 'lost', 'noage']
    assert list(found.accepted) == [True, False, False, True]
    assert list(found.reason) == ['', 'no hand found', 'no picture of this id', '']
    assert assessor.asked['007'][0] == 'M' and assessor.asked['bad1'][0] == 'F'
    assert steps == [(i, 4) for i in range(1, 5)]
    s = summarise(found)
    assert (s['n'], s['n_refused'], s['n_missing'], s['mae_months']) == (3, 1, 1, 10)
    assert result_table({'a': found}).refused['a'] == '1, 1 missing'


def test_original_size_is_passed_on(tmp_path):
    folder = data_set(tmp_path/'a', 'id,boneage,male,width,height\na,90,1,1500,2000\nb,90,1,,\n', ['a', 'b'])
    assessor = Recorder()
    evaluate(assessor, folder)
    assert assessor.asked['a'][1:] == (1500, 2000)
    assert all(size is None or np.isnan(size) for size in assessor.asked['b'][1:])


def test_ids_choose(tmp_path):
    folder = data_set(tmp_path/'a', 'id,boneage,male\n1,90,1\n01,95,1\n2,99,0\n2,99,0\n', ['1', '01', '2'])
    assert list(evaluate(Recorder(), folder).id) == ['1', '01', '2']  # the repeated one once
    assert list(evaluate(Recorder(), folder, ids=iter(['01', 'elsewhere'])).id) == ['01']
    with pytest.raises(LabelError, match='none of the ids'): evaluate(Recorder(), folder, ids=['elsewhere'])


def test_predictions_survive_a_file(tmp_path):
    rows = table(('007', True, 90., 91.2, True, ''), ('1e5', False, 100., np.nan, False, 'no hand found; is it one?'),
                 ('NA', False, np.nan, 80., True, ''))
    rows.to_csv(tmp_path/'p.csv', index=False)
    pd.testing.assert_frame_equal(read_predictions(tmp_path/'p.csv'), rows, check_dtype=False)


# The summary

months = st.integers(1, 228)
row = st.tuples(st.booleans(), st.one_of(st.none(), months), months, st.booleans())


def predictions_of(rows):
    return table(*((str(i), male, age, answer if ok else None, ok, '' if ok else 'refused')
                   for i, (male, age, answer, ok) in enumerate(rows)))


@settings(max_examples=40)
@given(st.lists(row, max_size=30))
def test_summary_by_hand(rows):
    """Against plain Python, whatever is missing or refused; always plain JSON."""
    s = summarise(predictions_of(rows))
    assert json.loads(json.dumps(s, allow_nan=False)) == s
    labelled = [r for r in rows if r[1] is not None]
    errors = [answer - age for _, age, answer, ok in labelled if ok]
    assert s['n'] == len(labelled) and s['n_refused'] == len(labelled) - len(errors)
    assert s['n'] == s['by_sex']['F']['n'] + s['by_sex']['M']['n']
    if not errors:
        assert s['mae_months'] is None and s['bias_months'] is None and s['mae_ci95'] == [None, None]
        return
    assert s['mae_months'] == pytest.approx(sum(map(abs, errors)) / len(errors), abs=1e-3)
    assert s['bias_months'] == pytest.approx(sum(errors) / len(errors), abs=1e-3)
    low, high = s['mae_ci95']
    assert min(map(abs, errors)) - 1e-3 <= low <= high <= max(map(abs, errors)) + 1e-3
    ages = [age for _, age, _, _ in labelled]
    assert s['median_baseline_mae_months'] == pytest.approx(np.abs(np.array(ages) - np.median(ages)).mean(), abs=1e-3)


def test_refusing_everything_is_no_success():
    rows = predictions_of([(False, 100, 100, False)] * 3)
    s = summarise(rows)
    assert (s['n'], s['n_refused'], s['mae_months'], s['median_baseline_mae_months']) == (3, 3, None, 0)
    row = result_table({'all refused': rows}).loc['all refused']
    assert row['MAE'] == row['95 % CI'] == row['bias'] == row['F'] == row['M'] == '' and row['refused'] == '3'


def test_floor_answers_the_median_of_the_labels():
    rows = predictions_of([(False, 10, 99, True), (True, 20, 99, False), (True, 90, 99, True), (True, None, 99, True)])
    floor = answer_median(rows)
    assert list(floor.predicted) == [20, 20, 20] and floor.accepted.all()
    assert summarise(floor)['mae_months'] == summarise(rows)['median_baseline_mae_months']
    assert summarise(floor)['mae_months'] == pytest.approx(80 / 3, abs=1e-3)


def test_bootstrap_against_scipy():
    errors = np.abs(np.random.default_rng(4).normal(0, 10, 300))
    theirs = stats.bootstrap((errors,), np.mean, n_resamples=5000, method='percentile', rng=1).confidence_interval
    np.testing.assert_allclose(bootstrap_ci(errors), theirs, atol=.1)


def test_limits_of_agreement():
    rows = predictions_of([(False, 100, 104, True), (True, 100, 100, True), (True, 50, 10, False)])
    np.testing.assert_allclose(agreement(rows), [2 - 1.96 * 8**.5, 2, 2 + 1.96 * 8**.5])
