"""One radiograph in, one assessment out: what is accepted, what is refused, and that nothing raises."""
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from datetime import date, timedelta

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from boneage.assessment import FAR, Assessment, Assessor, conclude
from boneage.child import EXPOSED, MONTH_APART, OLDEST, age_by_dates, find_child, parse_sex, read_date, read_patient
from boneage.drawn.cohort import draw_phantom
from boneage.drawn.impostors import NO_HANDS, draw_impostors, two_hands
from boneage.learn.data import find_dataset, read_labels
from boneage.networks import MANIFEST, WEIGHTS, WeightsError
from boneage.picture import PictureError
from boneage.points import SMALL
from boneage.reference import standard_deviation


@pytest.fixture
def save(tmp_path):
    """Write a picture and give its path."""
    def write(picture, name='hand.png'):
        assert cv2.imwrite(str(tmp_path/name), picture)
        return tmp_path/name
    return write


def test_keys():
    wanted = ['file', 'sex', 'accepted', 'reason', 'bone_age_months', 'mirrored', 'model', 'interval_months',
              'consensus_months', 'level', 'age_months', 'difference_months', 'standard_deviation_score',
              'months_by_sex', 'sex_from', 'age_from', 'maturity', 'adult_height_cm', 'adult_height', 'note']
    assert [f.name for f in fields(Assessment)] == wanted


@pytest.mark.parametrize('columns, share, word', [(0, 1, None), (8, 1, 'fit one another'), (-16, 1, 'fit one another'),
                                                  (0, .7, 'fit one another')])
def test_rows_that_are_shifted(assessor, hand, save, columns, share, word):
    """From a row of blocks on, as a JPEG's are behind a turned byte: elsewhere, or darker."""
    row = int(hand.points[:, 1].mean()) // 8 * 8
    harmed = hand.picture.copy()
    harmed[row:] = np.roll(harmed[row:], columns, axis=1) * share
    found = assessor.assess(save(harmed), 'F')
    said = found.reason + found.note
    assert word in said if word else not said


def test_accepts_a_hand(assessor, hand, save):
    file = save(hand.picture)
    found = assessor.assess(file, 'F')
    assert found.accepted and found.reason == '' and found.file == str(file)
    assert 0 <= found.bone_age_months <= OLDEST and round(found.bone_age_months, 1) == found.bone_age_months
    assert type(found.bone_age_months) is float and type(found.mirrored) is bool
    assert found == Assessor().assess(str(file), 'f'), 'the same file and weights give the same answer'


GOLDEN = {'F': 149.2, 'M': 167.7}  # months, of the fixture `hand`, a boy of 164, by the weights of 2026-11-27


@pytest.mark.parametrize('sex', GOLDEN)
def test_the_shipped_weights_answer_as_ever(assessor, hand, save, sex):
    """Whatever is rewritten on the way; new weights, or hands drawn otherwise, need new numbers here."""
    assert assessor.assess(save(hand.picture), sex).bone_age_months == pytest.approx(GOLDEN[sex], abs=.2)


@given(st.sampled_from('FM'), st.floats(3, 192), st.floats(0, OLDEST), st.sampled_from([None, 120.]),
       st.sampled_from(['', 'no']))
def test_an_age_far_from_the_bone_age_has_no_verdict(sex, age, months, height, note):
    """In years, or of another child: up to six standard deviations a score, beyond them the request to look at it."""
    read = Assessment('a', sex, True, '', months, False, 'b', age_months=age, age_from='given', note=note)
    found = conclude(read, height)
    doubted = round(abs(months - age) / standard_deviation(age, sex), 2) > FAR
    assert (found.standard_deviation_score is None) == (found.maturity == '') == doubted
    assert ('far from the bone age' in found.note) == doubted and found.note.startswith(note)
    assert ('in doubt' in found.adult_height) == (doubted and height is not None)
    assert f'beside the age of {age:g}' in str(found) and not str(found).endswith(', ')
    if not doubted: return
    assert found.adult_height_cm is None and 'deviation' not in str(found)


@pytest.mark.parametrize('age, months, doubted', [(2, 144.6, True), (0, 98., True), (2, 3., False), (230, 90., True)])
def test_an_age_far_away_outside_the_reference(age, months, doubted):
    """Where there is no score the nearest age of the reference says how far is far."""
    found = conclude(Assessment('a', 'F', True, '', months, False, 'b', age_months=age, age_from='given'))
    assert ('far from the bone age' in found.note) == doubted and found.standard_deviation_score is None


def test_mirrored(assessor, hand, save):
    """A flipped picture is the same hand."""
    files = save(hand.picture), save(hand.picture[:, ::-1], 'flipped.png')
    one, other = (assessor.assess(file, 'M') for file in files)
    assert other.accepted and one.mirrored != other.mirrored
    assert abs(one.bone_age_months - other.bone_age_months) < 1


def test_depth_does_not_matter(assessor, hand, save):
    """The same hand at 16 bits, in half of the grey levels."""
    files = save(hand.picture), save(hand.picture.astype(np.uint16) * 128 + 500, 'deep.png')
    eight, sixteen = (assessor.assess(file, 'M') for file in files)
    assert sixteen.accepted and abs(eight.bone_age_months - sixteen.bone_age_months) < 3


def test_undoes_a_squash(assessor, hand, save):
    h, w = hand.picture.shape
    squashed = save(cv2.resize(hand.picture, (320, 320), interpolation=cv2.INTER_AREA), 'squashed.png')
    one, other = assessor.assess(save(hand.picture), 'M'), assessor.assess(squashed, 'M', width=w, height=h)
    assert other.accepted and abs(one.bone_age_months - other.bone_age_months) < 3


@pytest.mark.parametrize('male', (True, False))
def test_a_squash_is_seen(assessor, save, male):
    """Broader, narrower or square: refused, or said beside the age; a hand as it was taken, or on a square, is not."""
    hand = draw_phantom(120, male, np.random.default_rng(8), 400, pose=False).picture
    height, width = hand.shape
    def words(picture): return (found := assessor.assess(save(picture), 'FM'[male])).reason + found.note
    def squash(*size): return cv2.resize(hand, size, interpolation=cv2.INTER_AREA)
    padded = np.pad(hand, [(0, 0), (0, height - width)])
    for as_taken in (hand, padded): assert 'times as broad' not in words(as_taken)
    for times in (.7, .75, 1.33, 1.45):
        assert re.search('times as broad|not shaped', words(squash(round(width * times), height))), times
    assert not assessor.assess(save(squash(height, height)), 'FM'[male]).accepted


def test_a_border_is_no_fault(assessor, save):
    """Around a film of a dark edge, or to make it square: the same age, and no word of damage or a squash."""
    hand = draw_phantom(125, True, np.random.default_rng(3), 800, pose=False).picture
    film = np.pad(hand, [(0, 3), (0, 0)])  # a dark edge, as scanners leave it
    height, width = film.shape
    plain = assessor.assess(save(film), 'M')
    assert plain.accepted
    for level in (0, 128, 255):
        sides = (height - width) // 2, height - width - (height - width) // 2
        one_side = [[(0, 60), (0, 0)], [(0, 0), (0, height - width)]]
        for gaps in ([(20, 20), (20, 20)], [(0, 0), sides], *(one_side if level == 0 else [])):
            found = assessor.assess(save(np.pad(film, gaps, constant_values=level)), 'M')
            assert found.accepted and abs(found.bone_age_months - plain.bone_age_months) <= 3, (level, gaps, found)
            assert found.note == plain.note, (level, gaps, found.note)


@pytest.mark.parametrize('male', (True, False))
def test_a_strange_texture_is_said(assessor, save, male):
    """After grain, sharpening, embossing, or in a photograph of a screen there is no age, or a word with it."""
    rng, hand = np.random.default_rng(8), draw_phantom(120, male, np.random.default_rng(8), 800, pose=False).picture
    def blur(sd): return cv2.GaussianBlur(hand, (0, 0), sd).astype(float)
    def strange(picture):
        found = assessor.assess(save(np.clip(picture, 0, 255).astype(np.uint8)), 'FM'[male])
        return not found.accepted or 'texture' in found.note
    assert not strange(hand)
    photograph = 20 + .8 * blur(1.5) + rng.normal(0, 12, hand.shape)
    grainy, sharp = hand + rng.normal(0, 25, hand.shape), 4. * hand - 3 * blur(3)
    embossed = cv2.filter2D(hand, cv2.CV_64F, np.float64([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    for picture in (grainy, sharp, embossed, photograph): assert strange(picture)


@pytest.mark.parametrize('kind', NO_HANDS)
def test_refuses_what_is_no_hand(assessor, save, kind):
    """Other parts of the body, pages, noise, patterns and photographs, drawn: no age, whatever was asked."""
    for impostor in draw_impostors(3, 11, 400):
        if impostor.kind != kind: continue
        found = assessor.assess(save(impostor.picture), 'F')
        assert not found.accepted and (found.bone_age_months, found.mirrored) == (None, None)


@pytest.mark.parametrize('seed', range(6))
def test_refuses_two_hands_on_one_film(assessor, save, seed):
    """Beside or below the first, as large or smaller: nobody knows whose age it would be."""
    rng = np.random.default_rng(seed)
    hand = draw_phantom(120, True, rng, side=600, pose=False)
    assert assessor.assess(save(hand.picture), 'M').accepted
    assert not assessor.assess(save(two_hands(hand.picture, hand.points, rng)), 'M').accepted


def test_refuses_a_page(assessor, save):
    page, text, font = np.full((600, 450), 245, np.uint8), 'Left hand, posteroanterior view', cv2.FONT_HERSHEY_SIMPLEX
    for y in range(30, 590, 18): cv2.putText(page, text, (20, y), font, .6, 20, 1)
    assert not assessor.assess(save(page), 'F').accepted


depths, shapes = st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(32, 90), st.integers(32, 400))


@settings(max_examples=15)
@given(shapes.flatmap(lambda shape: arrays(depths, shape, fill=st.just(0))), st.booleans())
def test_never_raises_for_a_picture(assessor, tmp_path_factory, picture, turned):
    """Whatever the picture, an age or a reason."""
    file = tmp_path_factory.mktemp('any')/'any.png'
    cv2.imwrite(str(file), picture.T if turned else picture)
    found = assessor.assess(file, 'M')
    assert found.accepted == (found.bone_age_months is not None) == (not found.reason) and '\n' not in found.reason


def test_a_reason_names_no_file(assessor, tmp_path):
    """Who knows the file writes it in front of the reason; the reason alone has no path."""
    file = tmp_path/'missing.png'
    found = assessor.assess(file, 'F')
    assert found.reason == 'no such file; check the path'
    assert str(found) == f'{file}: not assessed: {found.reason}'


def test_few_pixels_are_said(assessor):
    """The same hand in fewer and fewer pixels: read, read with a word, refused."""
    px = draw_phantom(120, False, np.random.default_rng(3), side=768, pose=False).picture
    found = {}
    for size in (1, .28, .17):
        try: found[size] = '; '.join(assessor.register(cv2.resize(px, None, fx=size, fy=size, interpolation=3)).notes)
        except PictureError as error: found[size] = str(error)
    assert 'pixels' not in found[1] and SMALL in found[.28] and 'too few to see its bones' in found[.17]


@pytest.mark.parametrize('grey', [0, None])
def test_a_small_hand_on_a_large_film(assessor, hand, tmp_path, grey):
    """Twice as high and as broad as the hand's own picture, black or as dark as that."""
    height, width = (side // 2 for side in hand.mask.shape)
    level = int(np.median(hand.picture[:4])) if grey is None else grey
    cv2.imwrite(str(tmp_path/'own.png'), hand.picture)
    cv2.imwrite(str(tmp_path/'large.png'), np.pad(hand.picture, [(height,) * 2, (width,) * 2], constant_values=level))
    own, large = (assessor.assess(tmp_path/f'{name}.png', 'F') for name in ('own', 'large'))
    assert large.accepted and abs(own.bone_age_months - large.bone_age_months) < 3


@pytest.mark.parametrize('where, box', [('a corner', (0, 0)), ('below', (-120, 0))])
@pytest.mark.parametrize('grey', [0, 255])
def test_a_box_beside_the_hand_changes_nothing(assessor, hand, tmp_path, where, box, grey):
    """As programs that take names out paint one."""
    px = np.pad(hand.picture, [(0, 0), (160, 0)], constant_values=int(np.median(hand.picture[:, 0])))
    cv2.imwrite(str(tmp_path/'plain.png'), px)
    row, column = box
    px[row:row + 120 or None, column:column + 130] = grey
    cv2.imwrite(str(tmp_path/'boxed.png'), px)
    plain, boxed = (assessor.assess(tmp_path/f'{name}.png', 'F') for name in ('plain', 'boxed'))
    assert plain.accepted and boxed.accepted and abs(plain.bone_age_months - boxed.bone_age_months) < 3


def test_parse_sex(): assert [parse_sex(t) for t in ('F', 'm', ' f ', 'Girl')] == ['F', 'M', 'F', 'F']


@given(st.dates(), st.sampled_from(['{:04}{:02}{:02}', '{:04}.{:02}.{:02}']), st.integers(1, 9))
def test_a_date_is_eight_digits(day, form, left):
    """A day of any form is that day; with less of it than eight digits, or more, it is none, not another day."""
    text = form.format(day.year, day.month, day.day)
    assert read_date(text) == read_date(f' {text} ') == day
    assert read_date(text[:-left]) is None and read_date(f'{text}1') is None


@given(st.permutations(EXPOSED), st.integers(0, 4000))
def test_two_days_of_one_exposure(keys, apart):
    """Whichever two of study and acquisition say it: more than a month apart, the age is not used, and that is said."""
    first = date(2016, 3, 1)
    days = zip(keys, (first, first + timedelta(apart)))
    header = {key: f'{day:%Y%m%d}' + '101500.000' * key.endswith('DateTime') for key, day in days}
    found = read_patient(dict(PatientBirthDate='20100301') | header)
    assert (found.age_months is None) == ('the age is not used' in found.note) == (apart > MONTH_APART)


def test_a_series_before_its_study():
    """Nothing of an exposure is written before it; after it, years may pass."""
    header = dict(PatientBirthDate='20100101', StudyDate='20250601')
    assert 'the age is not used' in read_patient(header | dict(SeriesDate='20200601')).note
    assert read_patient(header | dict(ContentDate='20260601')).age_months == age_by_dates(header)


@pytest.mark.parametrize('header, says', [
    (dict(SeriesDate='20200601'), 'at SeriesDate 2020-06-01'),
    (dict(ContentDate='20260601'), 'at ContentDate 2026-06-01'),
    (dict(StudyDate='20200601', LongitudinalTemporalInformationModified='MODIFIED'), 'dates were modified')])
def test_an_age_by_doubtful_dates_says_so(header, says):
    """A day that is no exposure's counts where there is no other, and is named; so are dates that were modified."""
    found = read_patient(dict(PatientBirthDate='20100101') | header)
    assert found.age_months and says in found.note
    assert says in find_child(found, 'F', None).note and not find_child(found, 'F', found.age_months).note
    assert not read_patient(dict(PatientBirthDate='20100101', StudyDate='20200601', ContentDate='20260601')).note


@pytest.mark.parametrize('header, says', [
    (dict(PatientAge='999Y'), 'PatientAge 999Y is no age'),
    (dict(PatientAge='10Y'), 'PatientAge 10Y is no age'), (dict(PatientAge='0125M '), 'PatientAge 0125M is no age'),
    (dict(PatientBirthDate='20261301', StudyDate='20200601'), 'give no age'),
    (dict(PatientBirthDate='20300101', StudyDate='20200601'), 'give no age'),
    (dict(StudyDate='20200601'), ''), (dict(PatientAge='', PatientBirthDate=''), '')])
def test_an_age_that_is_none(header, says):
    """What a header says in vain is said; the birth date itself is not repeated."""
    found = read_patient(header)
    assert found.age_months is None and says in found.note and bool(found.note) == bool(says)
    assert header.get('PatientBirthDate', '-') not in found.note or not header.get('PatientBirthDate')


@pytest.mark.parametrize('sex', ['', 'X', 'FM', '1', None])
def test_wrong_sex(sex):
    with pytest.raises(ValueError, match='give F or M'): parse_sex(sex)


# Weights that do not belong together

def change(file):
    """Change one bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def edit(file, change):
    """Change what a JSON file holds."""
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


@pytest.fixture
def weights(tmp_path):
    """A copy of the shipped weights that a test may spoil."""
    return shutil.copytree(WEIGHTS, tmp_path/'weights')


def refused(weights):
    """Why a folder of weights is not used, in one line."""
    with pytest.raises(WeightsError) as error: Assessor(weights)
    reason = str(error.value)
    assert str(weights) in reason and '\n' not in reason
    return reason


AGE_NETWORK = sorted(WEIGHTS.glob('B-*.onnx'))[0].name
SPOILT = 'mask.onnx', 'points.onnx', 'hand_space.npz', AGE_NETWORK


@pytest.mark.parametrize('name', SPOILT)
def test_a_changed_byte(weights, name):
    change(weights/name)
    assert 'is damaged or of other weights' in refused(weights)


def test_a_missing_file(weights):
    (weights/'points.onnx').unlink()
    assert 'has no points.onnx; copy or export all of the folder again' in refused(weights)


def test_a_calibration_of_other_weights(weights):
    edit(weights/'calibration.json', lambda found: found.update(reader='0' * 64))
    assert 'calibration.json: is of other weights' in refused(weights)


def test_another_manifest_is_of_other_weights(weights):
    """The errors were recorded with another ensemble than the one that answers now."""
    edit(weights/MANIFEST, lambda found: found['ensemble']['F'].update(constant=0.))
    assert 'calibration.json: is of other weights' in refused(weights)
    (weights/'calibration.json').unlink()
    assert Assessor(weights).calibration is None


def test_an_ensemble_of_other_networks(weights):
    other = 'A-female-regression-paper-vgg-0-0'
    edit(weights/MANIFEST, lambda found: found['ensemble']['F']['weights'].update({other: .5}))
    assert f'holds parts that do not fit (has no {other})' in refused(weights)


@pytest.mark.parametrize('wrong', [dict(region='A'), dict(shrink=2), dict(size=[1, 1])])
def test_a_network_of_another_region(weights, wrong):
    """Whether a network sees its region is known when the weights are loaded, before there is a radiograph."""
    edit(weights/MANIFEST, lambda found: found['networks'][AGE_NETWORK.removesuffix('.onnx')].update(wrong))
    (weights/'calibration.json').unlink()
    assert 'its region is' in refused(weights)


def test_a_network_that_is_not_what_the_manifest_says(weights, hand, save):
    """And a file that takes another size than the manifest says, at its first use."""
    def wrong(found): found['networks'][AGE_NETWORK.removesuffix('.onnx')].update(region='A', size=[250, 188])
    edit(weights/MANIFEST, wrong)
    (weights/'calibration.json').unlink()
    assessor, file = Assessor(weights), save(hand.picture)
    with pytest.raises(WeightsError, match='takes .* px, its region is'): assessor.assess(file, 'F')


# Real radiographs

@pytest.mark.parametrize('name', ['rsna-768', 'rsna-fullsize'])
def test_real_ages(real_data, assessor, name):
    """Five radiographs: hardly one refused, the others about right."""
    dataset = find_dataset(real_data/name)
    labels = read_labels(dataset.labels).sort_values('id').head(5)
    found = [assessor.assess(dataset.images[r.id], 'M' if r.male else 'F') for r in labels.itertuples()]
    errors = [abs(a.bone_age_months - age) for a, age in zip(found, labels.boneage) if a.accepted]
    assert len(errors) >= 4, [a.reason for a in found]
    assert max(errors) < 25 and np.mean(errors) < 12, errors


PEAK = """
import resource, sys
from pathlib import Path
# what the kernel says of this program alone; `ru_maxrss` also counts the process that it was started from
status = Path('/proc/self/status')
lines = status.read_text().splitlines() if status.exists() else []
peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM')]
print(*(peaks or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)]))
"""


def test_real_speed_and_memory(real_data):
    """One radiograph when the networks are loaded, generous as the machine may be busy; the most memory."""
    file = next(iter(find_dataset(real_data/'rsna-768').images.values()))
    ask = f'assessor.assess({str(file)!r}, "F")\n'
    load = 'import time\nfrom boneage.assessment import Assessor\nassessor = Assessor()\n'
    code = f'{load}{ask}t = time.perf_counter()\n{ask}print(time.perf_counter() - t){PEAK}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
    warm, memory = map(float, done.stdout.split())
    assert warm < 2 and memory < 600e6


def test_the_memory_of_a_report(save, tmp_path):
    """Its maps ask the networks hundreds of times."""
    file = save(draw_phantom(120, True, np.random.default_rng(8), 768, pose=False).picture)
    ask = ['assess', str(file), '--sex', 'M', '--report', str(tmp_path/'report.html')]
    code = f'from boneage.cli import main\nassert main({ask}) == 0{PEAK}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout.split()[-1]) < 750e6


@pytest.mark.parametrize('male', (True, False))
def test_a_short_wrist_is_said(assessor, save, male):
    """Cut off at the carpals there is no age, below them a word with it, and of a whole forearm nothing is said."""
    hand = draw_phantom(120, male, np.random.default_rng(8), 600, pose=False).picture
    tip, _, capitate = assessor.register(hand).points
    length = np.linalg.norm(tip - capitate)
    def cut(below): return assessor.assess(save(hand[:round(capitate[1] + below * length)]), 'FM'[male])
    assert 'forearm' not in cut(.4).note
    for below in (.19, .12): assert 'forearm' in (found := cut(below)).note or not found.accepted
    assert not cut(.02).accepted


def test_nothing_is_reported(save, tmp_path):
    """To nobody: no library leaves an identifier or events for its makers behind."""
    hand = draw_phantom(120, True, np.random.default_rng(8), 400, pose=False).picture
    home = tmp_path/'home'
    home.mkdir()
    keep = {key: value for key, value in os.environ.items() if key != 'CI' and not key.startswith(('ORT_', 'XDG_'))}
    done = subprocess.run([sys.executable, '-c', 'import sys; from boneage.cli import main; sys.exit(main())', 'assess',
                           str(save(hand)), '--sex', 'M'],
                          env=keep | dict(HOME=str(home)), capture_output=True, text=True)
    assert done.returncode == 0 and 'months' in done.stdout, done.stderr
    assert not [file for file in home.rglob('*') if file.is_file()]
