"""Killed at any moment and started again: nothing is lost, nothing is there twice, nothing stays behind."""
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from conftest import BONEAGE
from pacs import free_port

from boneage.clinic.serve import UPLOADS
from boneage.drawn.cohort import write_cohort
from boneage.learn.export import read_state

KILLS = int(os.environ.get('BONEAGE_KILLS', 3))  # 50 in a recorded run


def rows(table):
    with table.open(newline='') as file: return list(csv.DictReader(file))


def test_batch(tmp_path, record_property):
    """The table that killed runs leave and one more run completes is that of a run which nobody killed."""
    folder, chance = write_cohort(tmp_path/'cohort', 30, 2, side=300)/'images', random.Random(0)
    command = [BONEAGE, 'batch', folder, '--sex', 'F', '--threads', '1', '--out']
    begun = time.monotonic()
    subprocess.run([*command, tmp_path/'whole.csv'], capture_output=True)
    needed, whole, table, between = time.monotonic() - begun, rows(tmp_path/'whole.csv'), tmp_path/'killed.csv', 0
    for _ in range(KILLS):
        process = subprocess.Popen([*command, table], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(.2, 1) * needed)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = table.read_bytes().count(b'\n') - 1 if table.exists() else 0
        between += 0 < done < len(whole)
        if done == len(whole): table.unlink()  # begin again
    subprocess.run([*command, table], capture_output=True)
    assert rows(table) == whole and len(whole) == 30
    assert between, 'no kill fell between the first row and the last'
    record_property('in the middle', between)


DEMO = """
import sys
from dataclasses import replace
from boneage.learn.demo import run_demo
from boneage.learn.scales import TINY
few = dict(mask=replace(TINY.mask, epochs=30), points=replace(TINY.points, epochs=20), age=replace(TINY.age, epochs=2))
run_demo(sys.argv[1], 120, seed=5, scale=replace(TINY, **few))
"""


def test_demo(tmp_path, record_property):
    """Every stage of a demo that was killed again and again ends with the weights of one that nobody killed."""
    def start(out):
        return subprocess.Popen([sys.executable, '-c', DEMO, out], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    begun = time.monotonic()
    process = start(tmp_path/'whole')
    assert not process.wait(), process.stdout.read().decode()
    needed, chance, between = time.monotonic() - begun, random.Random(1), 0
    for _ in range(KILLS):
        process = start(tmp_path/'killed')
        try: process.wait(chance.uniform(.1, .35) * needed)
        except subprocess.TimeoutExpired: between += 1
        process.kill()
        process.wait()
        if (tmp_path/'killed/table.csv').exists(): shutil.rmtree(tmp_path/'killed')  # begin again
    process = start(tmp_path/'killed')
    assert not process.wait(), process.stdout.read().decode()
    whole, killed = (tmp_path/name for name in ('whole', 'killed'))
    names = {file.name for file in whole.glob('weights/*.onnx')}
    assert len(names) == 3 and names == {file.name for file in killed.glob('weights/*.onnx')} and between
    for name in names:  # the files say how long they took, too
        one, other = (read_state(out/'weights'/name)[0] for out in (whole, killed))
        assert one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one)
    assert rows(whole/'predictions.csv') == rows(killed/'predictions.csv')
    record_property('in the middle', between)


def test_serve(tmp_path, record_property):
    """A server that was killed leaves a folder, and the next one removes it."""
    env = os.environ | {'TMPDIR': str(tmp_path)}
    left = []
    for _ in range(KILLS):
        port = free_port()
        process = subprocess.Popen([BONEAGE, 'serve', '--port', str(port), '--no-browser'], env=env,
                                   stderr=subprocess.DEVNULL)
        for _ in range(120):
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/health').close(); break
            except OSError: time.sleep(.25)
        left.append({path.name for path in Path(tmp_path).glob(f'{UPLOADS}*')})
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert all(len(each) == 1 for each in left) and len(set.union(*left)) == KILLS
    record_property('in the middle', len(left))
