"""One radiograph in, one assessment out: what is accepted, what is refused, and that nothing raises."""
import subprocess
import sys
from dataclasses import fields

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from boneage.assessment import Assessment, Assessor, parse_sex
from boneage.data import find_dataset, read_labels


@pytest.fixture
def save(tmp_path):
    """Write a picture and give its path."""
    def write(picture, name='hand.png'):
        assert cv2.imwrite(str(tmp_path/name), picture)
        return tmp_path/name
    return write


def test_keys():
    wanted = ['file', 'sex', 'accepted', 'reason', 'bone_age_months', 'mirrored', 'model', 'interval_months', 'level', 'age_months',
              'difference_months', 'deviation_score', 'sex_from', 'age_from', 'maturity']
    assert [f.name for f in fields(Assessment)] == wanted == list(Assessment('a', 'F', False, 'b', None, None, 'c').as_dict())


def test_accepts_a_hand(assessor, hand, save):
    file = save(hand.picture)
    found = assessor.assess(file, 'F')
    assert found.accepted and found.reason == '' and found.file == str(file)
    assert 0 <= found.bone_age_months <= 240 and round(found.bone_age_months, 1) == found.bone_age_months
    assert type(found.bone_age_months) is float and type(found.mirrored) is bool
    assert found == Assessor().assess(str(file), 'f'), 'the same file and weights give the same answer'


def test_mirrored(assessor, hand, save):
    """A flipped picture is the same hand."""
    one, other = assessor.assess(save(hand.picture), 'M'), assessor.assess(save(hand.picture[:, ::-1], 'flipped.png'), 'M')
    assert other.accepted and one.mirrored != other.mirrored
    assert abs(one.bone_age_months - other.bone_age_months) < 12


def test_depth_does_not_matter(assessor, hand, save):
    """The same hand at 16 bits, in half of the grey levels."""
    eight, sixteen = (assessor.assess(f, 'M') for f in (save(hand.picture), save(hand.picture.astype(np.uint16) * 128 + 500, 'deep.png')))
    assert sixteen.accepted and abs(eight.bone_age_months - sixteen.bone_age_months) < 3


def test_undoes_a_squash(assessor, hand, save):
    h, w = hand.picture.shape
    squashed = save(cv2.resize(hand.picture, (320, 320), interpolation=cv2.INTER_AREA), 'squashed.png')
    one, other = assessor.assess(save(hand.picture), 'M'), assessor.assess(squashed, 'M', width=w, height=h)
    assert other.accepted and abs(one.bone_age_months - other.bone_age_months) < 12


@pytest.mark.parametrize('seed', range(3))
def test_refuses_noise(assessor, save, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (400, 320), np.uint8)
    found = assessor.assess(save(noise), 'F')
    assert not found.accepted and (found.bone_age_months, found.mirrored) == (None, None)


def test_refuses_a_page(assessor, save):
    page = np.full((600, 450), 245, np.uint8)
    for y in range(30, 590, 18): cv2.putText(page, 'Left hand, posteroanterior view', (20, y), cv2.FONT_HERSHEY_SIMPLEX, .6, 20, 1)
    assert not assessor.assess(save(page), 'F').accepted


@settings(max_examples=15)
@given(st.tuples(st.integers(32, 90), st.integers(32, 400)).flatmap(lambda s: arrays(st.sampled_from([np.uint8, np.uint16]), s, fill=st.just(0))),
       st.booleans())
def test_never_raises_for_a_picture(assessor, tmp_path_factory, picture, turned):
    """Whatever the picture, an age or a reason."""
    file = tmp_path_factory.mktemp('any')/'any.png'
    cv2.imwrite(str(file), picture.T if turned else picture)
    found = assessor.assess(file, 'M')
    assert found.accepted == (found.bone_age_months is not None) == (not found.reason) and '\n' not in found.reason


@pytest.mark.parametrize('sex', ['', 'X', 'FM', 'girl', None])
def test_wrong_sex(sex):
    with pytest.raises(ValueError, match='give F or M'): parse_sex(sex)


# Real radiographs

@pytest.mark.parametrize('name', ['rsna-768', 'rsna-fullsize'])
def test_real_ages(real_data, assessor, name):
    """Five radiographs: hardly one refused, the others about right."""
    dataset = find_dataset(real_data/name)
    labels = read_labels(dataset.labels).sort_values('id').head(5)
    found = [assessor.assess(dataset.images[r.id], 'M' if r.male else 'F') for r in labels.itertuples()]
    errors = [abs(a.bone_age_months - age) for a, age in zip(found, labels.boneage) if a.accepted]
    assert len(errors) >= 4, [a.reason for a in found]
    assert max(errors) < 40 and np.mean(errors) < 15, errors


def test_real_speed_and_memory(real_data):
    """One radiograph from a cold start, then warm; generous, as the machine may be busy. Peak memory is what `ru_maxrss` says."""
    file = next(iter(find_dataset(real_data/'rsna-768').images.values()))
    code = f'''if True:
        import resource, time; from boneage.assessment import Assessor
        a = Assessor(); a.assess({str(file)!r}, 'F'); t = time.perf_counter(); a.assess({str(file)!r}, 'F'); took = time.perf_counter() - t
        print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if __import__("sys").platform == "darwin" else 1 / 1024))'''
    warm, memory = map(float, subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120).stdout.split())
    assert warm < 2 and memory < 1.5e9
