"""What a second worker of Ray is worth: results/workers.csv.

    python benchmarks/workers.py [ROUNDS] [RADIOGRAPHS]

A grid of six cells at tiny scale, on one worker of one processor and on two; a batch of 400 drawn hands, likewise; in
turns, round by round, on workers that have begun before the clock does and have the priority of this process (Ray would
give them a low one, which counts beside other work). The ratio is the median of those of the rounds.
With RADIOGRAPHS a batch of so many is read besides, and the memory of the command and of its workers is written down
every tenth part of it.
"""
import csv
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import ray
import torch

from boneage.clinic.batch import find_jobs
from boneage.cluster.archive import assess_archive
from boneage.cluster.cells import run_cells
from boneage.cluster.workers import LOCAL, join
from boneage.drawn.cohort import draw_cohort
from boneage.learn.age import COHORTS, Cell
from boneage.learn.grid import ONE_CYCLE, run_cells as one_by_one
from boneage.learn.registered import read_registered
from boneage.learn.scales import TINY

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = TINY.age.epochs


def memory():
    """Of the command and of its workers, MB: resident, without what they share."""
    found = {'command_mb': 0, 'workers_mb': 0}
    for folder in Path('/proc').glob('[0-9]*'):
        try: title, (_, resident, shared, *_) = (folder/'cmdline').read_bytes(), (folder/'statm').read_text().split()
        except (OSError, ValueError): continue
        who = 'workers_mb' if title.startswith(b'ray::') else 'command_mb' * (folder.name == str(os.getpid()))
        if who: found[who] += (int(resident) - int(shared)) * 4096 / 1e6
    return found


def write_hands(folder, n):
    """Registered hands whose grey tells their age, as a run has them."""
    folder.mkdir()
    ages = np.random.default_rng(0).uniform(24, 200, n)
    np.save(folder/'canvas.npy', np.full((n, *TINY.canvas), ages[:, None, None], np.uint8))
    rows = dict(id=[f'p{i}' for i in range(n)], data='d', male=ages > 100, boneage=ages, doubt=0., problem='')
    pd.DataFrame(rows).to_csv(folder/'registered.csv', index=False)
    return read_registered(folder)


def load_pytorch(processes):
    """Let so many processes of Ray load what a cell needs: one for each worker, and one that the desk takes."""
    @ray.remote(num_cpus=0)
    def load():
        import boneage.learn.grid  # noqa: F401
        time.sleep(2) # until all of them have begun
        return os.getpid()
    while len(set(ray.get([load.remote() for _ in range(processes)]))) < processes: pass


def grid(hands, out, workers, epochs):
    """Seconds for six cells."""
    scale = replace(TINY, age=replace(TINY.age, epochs=epochs))
    starts = dict.fromkeys(Cell(region, cohort, scale=scale) for region in 'BC' for cohort in COHORTS)
    run = one_by_one if workers == 1 else run_cells
    if workers > 1: load_pytorch(workers + 1)
    begun = time.perf_counter()
    run(starts, *hands, out, lambda event: None, recipe=ONE_CYCLE)
    return time.perf_counter() - begun


def batch(jobs, out, workers, progress=None):
    """Seconds for a batch, from its first tenth on: until then the workers begin."""
    first, seen = len(jobs) // 10, {}
    def tell(done, total):
        seen[done] = time.perf_counter()
        if progress: progress(done, total)
    assess_archive(jobs, out, size=workers, progress=tell)
    return (seen[len(jobs)] - seen[first]) * len(jobs) / (len(jobs) - first)


def main(rounds=3, many=0):
    torch.set_num_threads(1)
    os.environ['RAY_worker_niceness'] = '0' # as this process, with which they are compared
    os.environ['RAY_num_workers_soft_limit'] = '4' # those that have loaded PyTorch are kept
    join(LOCAL, num_cpus=2)
    with tempfile.TemporaryDirectory() as work:
        work, times = Path(work), {(kind, n): [] for kind in ('grid of 6 tiny cells', 'batch of 400') for n in (1, 2)}
        hands = write_hands(work/'registered', 400)
        (work/'scans').mkdir()
        for n, hand in enumerate(draw_cohort(40, 6, side=300)):
            for copy in range(max(400, many) // 40): cv2.imwrite(f'{work}/scans/{copy:04}-{n:02}.png', hand.picture)
        jobs = find_jobs([work/'scans'], 'F')
        for n in range(rounds + 1): # the first one begins the workers
            for (kind, workers), of in times.items():
                out = work/f'{n}-{kind[:4]}-{workers}'
                some = jobs[:400] if n else jobs[:16]
                if kind[0] == 'g': seconds = grid(hands, out, workers, EPOCHS if n else 1)
                else: seconds = batch(some, out/'ages.csv', workers)
                if n: of.append(seconds)
                print(n, kind, workers, f'{seconds:.1f} s', flush=True)
                shutil.rmtree(out)
        rows = []
        for kind in dict.fromkeys(kind for kind, _ in times):
            one, two = (times[kind, n] for n in (1, 2))
            ratio = statistics.median(a / b for a, b in zip(one, two))
            rows.append(dict(work=kind, one_worker_s=round(statistics.median(one), 1),
                             two_workers_s=round(statistics.median(two), 1), ratio=round(ratio, 2),
                             seconds_of='the clock', rounds=rounds))
        if many:
            seen = []
            def look(done, total):
                if done % (total // 10) == 0: seen.append(dict(done=done, **memory())); print(seen[-1], flush=True)
            batch(jobs, work/'many.csv', 2, look)
            pd.DataFrame(seen).round(0).to_csv(ROOT/'results/batch-memory.csv', index=False)
    if not rounds: return
    with (ROOT/'results/workers.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
