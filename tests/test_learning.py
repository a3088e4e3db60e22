"""Learning: a killed run ends as one that is not, networks answer alike outside PyTorch, hands keep their rows."""
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner, Metric
from fastai.losses import L1LossFlat
from fastai.torch_core import set_seed

from boneage.drawn.cohort import write_cohort
from boneage.hand import Registrar
from boneage.learn import fit as fitting
from boneage.learn.data import DatasetError
from boneage.learn.export import read_state, to_onnx
from boneage.learn.keypoints import PointNet
from boneage.learn.masks import UNet
from boneage.learn.registered import list_jobs, pack_registered, register_datasets, unpack_registered
from boneage.learn.scales import SCALES
from boneage.networks import WEIGHTS, Network
from boneage.regions import REGIONS, cut_region, window_of

QUIET = lambda event: None


# A fit that is killed: in a process of its own, which trains nothing itself and forks one child after the other

class Preset(Metric):
    """An error that is least in the second of five epochs."""
    name = 'error'
    def reset(self): pass
    def accumulate(self, learn): self.epoch = learn.epoch
    @property
    def value(self): return [3., 1., 2., 2., 2.][self.epoch]


def train(folder, moment=None):
    """Fit a small network in five epochs of five batches, dying on the way; leave the weights it ends with."""
    torch.set_num_threads(1)
    set_seed(0)
    data = [(torch.rand(3), torch.rand(1)) for _ in range(40)]
    loaders = [DataLoader(data, bs=8, shuffle=shuffle) for shuffle in (True, False)]
    dls = DataLoaders(*loaders, device=torch.device('cpu'))
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
    learn = Learner(dls, net, L1LossFlat(), metrics=Preset())
    if moment: die(*MOMENTS[moment])
    fitting.fit(learn, 5, 1e-2, folder, progress=QUIET, best='error')
    torch.save(net.state_dict(), folder/'end.pth')


def die(owner, function, name, nth, half):
    """Make a function kill the process when it gets a file of that name for the nth time, with half of it written."""
    call, seen = getattr(owner, function), []
    def wrapped(*args, **options):
        file = next((a for a in args if isinstance(a, Path)), None)
        if file is not None: seen.extend([file] * (file.name == name))
        if file is None or file.name != name or len(seen) < nth: return call(*args, **options)
        if half:
            call(*args, **options)
            file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, function, wrapped)


MOMENTS = {
    'half a history': (pd.DataFrame, 'to_csv', 'history.csv.part', 3, True),
    'a history too old': (Path, 'replace', 'history.csv.part', 3, False),
    'half a state': (fitting, 'save_model', 'epoch-0003.pth.part', 1, True),
    'a history too new': (Path, 'replace', 'epoch-0003.pth.part', 1, False),
    'two states': (Path, 'unlink', 'epoch-0002.pth', 1, False),
    'the first state': (fitting, 'save_model', 'epoch-0001.pth.part', 1, True),
    'half of the best': (fitting, 'save_model', 'best.pth.part', 2, True)}


def kill_and_go_on(folder):
    """Train once without a stop; once for each moment, killed there and started again."""
    def run(*args):
        child = multiprocessing.get_context('fork').Process(target=train, args=args)
        child.start(), child.join()
        return child.exitcode
    assert run(folder/'never') == 0
    for moment in MOMENTS:
        assert run(folder/moment, moment) == -signal.SIGKILL, moment
        assert not (folder/moment/'end.pth').exists()
        assert run(folder/moment) == 0, moment


def test_a_killed_fit_ends_the_same(tmp_path):
    """Whatever it was writing: the weights of the best epoch and of the last are those of a run that was not killed."""
    code = 'import sys, pathlib, test_learning; test_learning.kill_and_go_on(pathlib.Path(sys.argv[1]))'
    command = [sys.executable, '-c', code, tmp_path]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    def load(run, name): return torch.load(tmp_path/run/name, weights_only=False)  # our own
    end, last = load('never', 'end.pth'), load('never', 'epoch-0005.pth')['model']
    assert not torch.equal(end['0.weight'], last['0.weight'])
    losses = pd.read_csv(tmp_path/'never/history.csv')[['epoch', 'train_loss', 'valid_loss', 'error']]
    for moment in MOMENTS:
        for truth, state in ((end, load(moment, 'end.pth')), (last, load(moment, 'epoch-0005.pth')['model'])):
            assert all(torch.equal(value, state[key]) for key, value in truth.items()), moment
        again = pd.read_csv(tmp_path/moment/'history.csv')
        pd.testing.assert_frame_equal(again[losses.columns], losses)


class Harm:
    """Writes a file where it is unpickled."""
    def __init__(self, file): self.file = file
    def __reduce__(self): return Path.touch, (self.file,)


def test_a_checkpoint_runs_no_code(tmp_path):
    """One that would is refused in one line, and has done nothing."""
    train(tmp_path)
    torch.save(dict(model=Harm(tmp_path/'harm')), tmp_path/'epoch-0005.pth')
    with pytest.raises(fitting.CheckpointError, match='more than weights') as error: train(tmp_path)
    assert not (tmp_path/'harm').exists() and '\n' not in str(error.value)


# Networks outside PyTorch

NETWORKS = {'unet': (UNet(8), 96), 'flat': (UNet(4, 3), 64), 'points': (PointNet(8), 96)}


@pytest.mark.parametrize('net, side', NETWORKS.values(), ids=list(NETWORKS))
def test_answers_are_alike_outside_pytorch(tmp_path, net, side):
    """Trained a little, so that batch norm has seen something; for one picture and for several; and back again."""
    set_seed(0)
    net.train()(torch.rand(4, 1, side, side))
    net = net.half().float().eval()
    to_onnx(net, {'stage': 'any'}, tmp_path/'net.onnx', x=torch.zeros(1, 1, side, side))
    read = Network(tmp_path/'net.onnx', threads=1)
    assert read.shape == (side, side)
    for n in (1, 3):
        x = torch.rand(n, 1, side, side)
        with torch.no_grad(): truth = net(x).numpy()
        assert np.abs(read(x=x.numpy()) - truth).max() < 1e-4
    state, card = read_state(tmp_path/'net.onnx')
    kept = {name: value for name, value in net.state_dict().items() if not name.endswith('num_batches_tracked')}
    assert card == {'stage': 'any'} and state.keys() == kept.keys()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    net.load_state_dict(state)


def test_equal_weights_keep_their_names(tmp_path):
    """The batch norms of a fresh network are all alike; each is in the file."""
    to_onnx(UNet(4), {}, tmp_path/'net.onnx', x=torch.zeros(1, 1, 32, 32))
    UNet(4).load_state_dict(read_state(tmp_path/'net.onnx')[0])


@pytest.mark.parametrize('wrong', [float('nan'), float('inf'), -1e6])
def test_no_network_without_finite_weights(tmp_path, wrong):
    net = PointNet(4)
    net.maps.bias.data[1] = wrong
    with pytest.raises(DatasetError, match='maps.bias: some weights are no finite numbers') as error:
        to_onnx(net, {}, tmp_path/'net.onnx', x=torch.zeros(1, 1, 32, 32))
    assert '\n' not in str(error.value) and not list(tmp_path.iterdir())


# Regions

@pytest.mark.parametrize('scale', SCALES.values(), ids=list(SCALES))
@pytest.mark.parametrize('name', REGIONS)
def test_regions_are_averaged_by_whole_blocks(scale, name):
    """Each pixel that a network sees is the mean of its block of the canvas, or the canvas's own."""
    region, n = REGIONS[name], scale.age.shrink[name]
    height, width = window_of(region, scale.canvas, n)
    assert (height * n, width * n) == window_of(region, scale.canvas)
    canvas = np.random.default_rng(0).integers(0, 256, scale.canvas).astype(np.uint8)
    top, left = round(region.top * scale.canvas[0]), round(region.left * scale.canvas[1])
    blocks = canvas[top:top + n * height, left:left + n * width].reshape(height, n, width, n)
    assert np.abs(cut_region(canvas, region, n) - blocks.mean((1, 3))).max() <= .5


# Registered hands

@pytest.fixture(scope='module')
def drawn(tmp_path_factory): return write_cohort(tmp_path_factory.mktemp('drawn')/'drawn', 6, 1, side=200)


def test_registered_pictures_are_of_these_radiographs(drawn, tmp_path):
    """A folder of registered pictures is gone on with, never taken for that of others."""
    registrar, labels = Registrar.load(WEIGHTS, (260, 200), threads=1), drawn/'labels.csv'
    def register(folders=(drawn,)): return register_datasets(folders, registrar, tmp_path/'registered', QUIET, chunk=4)
    canvas, table = register()
    assert len(table) == len(canvas) == 6
    pd.testing.assert_frame_equal(register()[1], table)
    more = write_cohort(tmp_path/'more', 2, 3, side=64)
    with pytest.raises(DatasetError, match='holds other radiographs'): register([drawn, more])
    before = labels.read_text()
    rows = pd.read_csv(labels, dtype=str)
    try:
        for other in (rows.iloc[:5], rows.assign(boneage='99'), rows.iloc[::-1]):
            other.to_csv(labels, index=False)
            with pytest.raises(DatasetError, match='holds other radiographs'): register()
    finally: labels.write_text(before)
    pd.testing.assert_frame_equal(register()[1], table)


def test_data_sets_of_one_name_are_not_mixed(tmp_path, monkeypatch):
    """A name tells a data set apart in every table, also that of a folder given as `.`."""
    one, other = (write_cohort(tmp_path/name/'train', 2, 3, side=64) for name in 'ab')
    with pytest.raises(DatasetError) as error: list_jobs([one, other])
    assert str(error.value) == f'{one}, {other}: are two data sets of one name, train; rename one'
    monkeypatch.chdir(one)
    assert {job.data for job in list_jobs(['.'])} == {'train'}


def test_what_cannot_be_registered_has_a_row(drawn, tmp_path):
    """Unreadable or refused: a black canvas and the reason, and the others keep their places."""
    labels = pd.read_csv(drawn/'labels.csv', dtype=str)
    folder = tmp_path/'some'
    (folder/'images').mkdir(parents=True)
    labels.to_csv(folder/'labels.csv', index=False)
    for number, file in enumerate(sorted((drawn/'images').iterdir())):
        data = file.read_bytes()
        (folder/'images'/file.name).write_bytes(data[:len(data) // 2] if number == 2 else data)
    registrar = Registrar.load(WEIGHTS, (260, 200), threads=1)
    canvas, table = register_datasets([folder], registrar, tmp_path/'one', QUIET)
    whole, others = register_datasets([drawn], registrar, tmp_path/'two', QUIET)
    assert table.id.tolist() == labels.id.tolist() and 'cut short' in table.problem[2] and not canvas[2].any()
    kept = [n for n in range(6) if n != 2]
    assert np.array_equal(canvas[kept], whole[kept]) and (table.problem[kept] == others.problem[kept]).all()
    assert (table.problem == '').sum() >= 3


def test_packed_hands_are_the_same_hands(drawn, tmp_path):
    """The table to the byte, the pictures but for the loss of JPEG; never others over them, never half a file."""
    folder, file = tmp_path/'registered', tmp_path/'hands.npz'
    canvas, table = register_datasets([drawn], Registrar.load(WEIGHTS, (260, 200), threads=1), folder, QUIET)
    pack_registered(folder, file)
    for _ in range(2): unpacked, its = unpack_registered(file, tmp_path/'there')
    pd.testing.assert_frame_equal(its, table)
    assert unpacked.shape == canvas.shape and np.abs(unpacked.astype(int) - canvas).mean() < 2
    (folder/'registered.csv').write_text('id\n')
    with pytest.raises(DatasetError, match='other hands'): unpack_registered(file, folder)
    whole = file.read_bytes()
    for wrong in (b'', b'not a file of hands', whole[:len(whole) // 2]):
        file.write_bytes(wrong)
        with pytest.raises(DatasetError, match='pack them again'): unpack_registered(file, tmp_path/'new')
    assert not (tmp_path/'new').exists()


def test_nothing_to_register(drawn, tmp_path):
    (tmp_path/'images').mkdir()
    (tmp_path/'images/x.png').write_bytes((drawn/'images').joinpath('p0000.png').read_bytes())
    (tmp_path/'labels.csv').write_text('id,boneage,male\nother,100,M\n')
    with pytest.raises(DatasetError, match='no picture has a label'):
        register_datasets([tmp_path], Registrar.load(WEIGHTS, (260, 200)), tmp_path/'out', QUIET)
