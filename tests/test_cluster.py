"""On the workers of Ray: what one machine does, done by several; nothing lost, nothing twice, nothing begun anew."""
import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pacs import free_port

from boneage.cli import main
from boneage.drawn.cohort import write_cohort
from boneage.learn.registered import pack_registered
from boneage.learn.scales import TINY
from test_rooms import loaded_by

ray = pytest.importorskip('ray', reason='the workers of Ray: ray is not installed')
pytestmark = pytest.mark.xdist_group('cluster')  # one cluster for all
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '--no-python']


@pytest.fixture(scope='module')
def store():
    """An object store of this machine, where one can be had; Ray's workers inherit how it is reached."""
    try:
        import s3fs
        from moto.server import ThreadedMotoServer
    except ImportError: yield None; return
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as env:
        for name, value in dict(ENDPOINT_URL=f'http://{host}:{port}', ACCESS_KEY_ID='a', SECRET_ACCESS_KEY='b',
                                DEFAULT_REGION='us-east-1').items(): env.setenv(f'AWS_{name}', value)
        yield s3fs.S3FileSystem()
    server.stop()


@pytest.fixture(scope='module')
def address(store):
    """Two workers on this machine."""
    from boneage.cluster.workers import LOCAL, join
    join(LOCAL, num_cpus=2)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope='module')
def hands(tmp_path_factory):
    """Packed hands whose grey tells their age, and the ids that are withheld."""
    folder, rng = tmp_path_factory.mktemp('hands'), np.random.default_rng(0)
    ages = rng.uniform(24, 200, 60)
    (folder/'registered').mkdir()
    np.save(folder/'registered/canvas.npy', np.full((60, *TINY.canvas), ages[:, None, None], np.uint8))
    rows = dict(id=range(60), data='d', male=ages > 100, boneage=ages, doubt=0., problem='')
    pd.DataFrame(rows).to_csv(folder/'registered/registered.csv', index=False)
    pack_registered(folder/'registered', folder/'hands.npz')
    (folder/'withheld.csv').write_text('id\n1\n2\n')
    return folder


def training(hands, out, *more, only='B-both'):
    """The arguments that train two small networks, or one."""
    return ['train', 'age', str(hands/'hands.npz'), '--withheld', str(hands/'withheld.csv'), '--scale', 'tiny',
            '--epochs', '2', '--only', only, '--out', str(out), *more]


def predictions(run): return {f.parent.name: f.read_bytes() for f in run.glob('age/*/predictions.csv')}


def read(table):
    with table.open(newline='') as file: return list(csv.DictReader(file))


def test_no_cluster(hands, tmp_path, capsys):
    """One line, at an address where nothing answers."""
    nowhere = f'127.0.0.1:{free_port()}'
    assert main(training(hands, tmp_path, '--ray', nowhere)) == 1
    said = capsys.readouterr().err
    assert said.startswith(f'boneage: no Ray at {nowhere}') and len(said.splitlines()) == 1, said


def test_the_grid(address, hands, tmp_path, capsys):
    """The same predictions as one after the other, and one table at the end."""
    assert main(training(hands, tmp_path/'alone')) == 0
    capsys.readouterr()
    assert main(training(hands, tmp_path/'spread', '--ray')) == 0
    said = capsys.readouterr()
    assert predictions(tmp_path/'alone') == predictions(tmp_path/'spread') and len(predictions(tmp_path/'alone')) == 2
    assert all(name in said.out for name in predictions(tmp_path/'alone')) and 'withheld' in said.out
    assert 'B-both-regression-tiny-vgg-0-0 2/2' in said.err
    assert main(training(hands, tmp_path/'none', '--ray', '--gpus', '1')) == 1
    said = capsys.readouterr()
    assert 'no node has 1 processors and 1 graphics cards' in said.err and len(said.err.splitlines()) == 1


def test_the_grid_without_ray(hands, tmp_path):
    loaded = loaded_by(f'from boneage.cli import main; main({training(hands, tmp_path)!r})')
    assert 'boneage.learn.grid' in loaded and not {'ray', 'accelerate', 'boneage.cluster'} & loaded


BATCH = """
from boneage.cluster import archive
from boneage.cli import main
archive.PART = 4
raise SystemExit(main({}))
"""
SLOWLY = """
import time
from boneage.cluster import archive
at_once = archive.write_part
def write_part(*part): at_once(*part); time.sleep(60)
archive.write_part = write_part
"""


def test_an_object_store(address, store, tmp_path):
    """Read from a bucket: the rows of the same files on a disk. The command is killed after a part and given again."""
    if store is None: pytest.skip('an object store: moto or s3fs is not installed')
    folder, place = write_cohort(tmp_path/'cohort', 12, 2, side=300)/'images', 's3://archive/hands'
    store.mkdir('archive')
    store.put(str(folder), 'archive/hands', recursive=True)
    main(['batch', str(folder), '--sex', 'F', '--out', str(tmp_path/'near.csv')])
    far = tmp_path/'far.csv'
    code = BATCH.format(['batch', place, '--sex', 'F', '--ray', address, '--threads', '1', '--out', str(far)])
    nothing = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = subprocess.Popen([sys.executable, '-c', SLOWLY + code], **nothing)
    parts, until = far.with_suffix('.parts'), time.time() + 120
    while not list(parts.glob('part-*.csv')) and time.time() < until and process.poll() is None: time.sleep(.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = {part: part.stat().st_mtime_ns for part in parts.glob('part-*.csv')}
    assert first and not far.exists()
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode in (0, 1) and 'of 12 refused' in done.stdout, done.stderr
    assert all(part.stat().st_mtime_ns == then for part, then in first.items())  # not read again
    rows, expected = read(far), read(tmp_path/'near.csv')
    assert [row.pop('file') for row in rows] == [f'{place}/{Path(row.pop("file")).name}' for row in expected]
    assert all(row.pop('stamp') for row in expected) and not any(row.pop('stamp') for row in rows)  # objects have none
    assert rows == expected and len(rows) == 12
    assert pd.read_parquet(far.with_suffix('.parquet')).accepted.map(str).tolist() == [row['accepted'] for row in rows]


def test_two_processes_train_one_network(hands, tmp_path):
    """Each step is that of the whole batch; one set of files, which the same command reads again."""
    boneage = [sys.executable, '-c', 'from boneage.cli import main; raise SystemExit(main())']
    command = training(hands, tmp_path, only='B-both-regression')
    env = os.environ | {'ACCELERATE_USE_CPU': 'true'}
    done = subprocess.run([*TORCHRUN, *boneage, *command], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    cell = tmp_path/'age/B-both-regression-tiny-vgg-0-0'
    assert sorted(f.name for f in cell.iterdir()) == ['asked.json', 'best.pth', 'epoch-0002.pth', 'history.csv',
                                                      'network.onnx', 'predictions.csv']
    assert done.stderr.count('B-both-regression-tiny-vgg-0-0 2/2') == 1  # the first process alone tells
    history = pd.read_csv(io.BytesIO((cell/'history.csv').read_bytes()))
    assert len(history) == 2 and np.isfinite(history.valid_loss).all()
    before = (cell/'network.onnx').read_bytes()
    assert main(command) == 0
    assert (cell/'network.onnx').read_bytes() == before
