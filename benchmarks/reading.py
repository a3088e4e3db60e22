"""How fast radiographs are read: results/reading-speed.csv.

    python benchmarks/reading.py [ROUNDS]

Drawn hands on films of 1,000 x 750 px, read with the shipped weights. Cold: a process from its start to its first
answer. Warm: one more radiograph in a process that has read some, alone on the machine's cores. Batch: 24 radiographs
by one and by two threads. Each alone, and beside as many busy processes as there are cores. Medians over the rounds,
between which all of them take turns; memory is the peak of the process.
"""
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2

from boneage.drawn.cohort import draw_cohort

ROOT = Path(__file__).resolve().parent.parent
BUSY = 'x = 0\nwhile True: x += 1'
COLD = '''
from boneage.assessment import Assessor
Assessor().assess({file!r}, 'F')
'''
WARM = '''
import time
from boneage.assessment import Assessor
assessor = Assessor()
for _ in range(3): assessor.assess({file!r}, 'F')
start = time.perf_counter()
for _ in range(5): assessor.assess({file!r}, 'F')
print((time.perf_counter() - start) / 5)
'''
BATCH = '''
import tempfile, time
from pathlib import Path
from boneage.assessment import Assessor
from boneage.clinic.batch import assess_batch, find_jobs
assessor, jobs = Assessor(threads=1), find_jobs([{folder!r}], 'F')
with tempfile.TemporaryDirectory() as out:
    assess_batch(assessor, jobs[:2], Path(out, 'first.csv'), threads={threads})
    start = time.perf_counter()
    assess_batch(assessor, jobs, Path(out, 'ages.csv'), threads={threads})
print((time.perf_counter() - start) / len(jobs))
'''
MEMORY = '\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)'


def seconds_of(code):
    """Seconds a radiograph, and the peak of memory in MB, of a process of its own."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, '-c', code + MEMORY], capture_output=True, text=True, check=True)
    whole = time.perf_counter() - start
    *said, memory = map(float, done.stdout.split())
    return said[0] if said else whole, memory


def main(rounds=3):
    with tempfile.TemporaryDirectory() as folder:
        for n, hand in enumerate(draw_cohort(24, 6, side=1000)):
            cv2.imwrite(f'{folder}/{n:02}.png', cv2.resize(hand.picture, (750, 1000)))
        file, cores = f'{folder}/00.png', len(os.sched_getaffinity(0))
        kinds = {'cold': COLD.format(file=file), 'warm': WARM.format(file=file)}
        kinds |= {f'batch, {t} threads': BATCH.format(folder=folder, threads=t) for t in (1, 2)}
        found = {(name, busy): [] for name in kinds for busy in (0, cores)}
        for n in range(rounds):
            for (name, busy), of in found.items():
                beside = [subprocess.Popen([sys.executable, '-c', BUSY]) for _ in range(busy)]
                try: of.append(seconds_of(kinds[name]))
                finally:
                    for process in beside: process.kill(); process.wait()
                print(n, name, busy, *(f'{value:.3g}' for value in of[-1]), flush=True)
    def row(kind, busy, of):
        seconds, memory = map(median, zip(*of))
        return dict(kind=kind, busy_processes=busy, seconds_a_radiograph=round(seconds, 3), peak_mb=round(memory),
                    rounds=rounds, cores=cores)
    rows = [row(*key, of) for key, of in found.items()]
    with (ROOT/'results/reading-speed.csv').open('w', newline='') as out:
        writer = csv.DictWriter(out, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows: print(row)


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
