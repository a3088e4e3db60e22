"""Ten thousand files to which something happened, and what became of them: results/hostile.csv.

    python tools/hostile.py 10000

The files are those of corpus.py: radiographs of the folder that BONEAGE_DATA names where there is one (rsna-768,
none of the withheld), a drawn hand else. Half of them meet accidents to their bytes, a third strange headers, the rest
are tables. Off: an age more than three months from the unharmed file's, without a note.
"""
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import pandas as pd

from corpus import ACCIDENTS, CELLS, EXPLICIT, FIELDS, NAMES, NUMBERS, TEXTS, TYPES, befall, kinds, rewrite

from boneage.assessment import Assessor
from boneage.clinic.batch import BatchError, find_jobs
from boneage.drawn.cohort import draw_cohort

ROOT = Path(__file__).resolve().parent.parent
STRANGE = [None, *NUMBERS, *TEXTS]


def pictures():
    """Radiographs to begin with, uint8."""
    if data := os.environ.get('BONEAGE_DATA'):
        withheld = set(pd.read_csv(ROOT/'results/withheld.csv', dtype=str).id)
        files = [f for f in sorted(Path(data, 'rsna-768/images').iterdir()) if f.stem not in withheld]
        return [cv2.imread(str(f), cv2.IMREAD_GRAYSCALE) for f in files[::60]]
    return [phantom.picture for phantom in draw_cohort(20, 5, side=500)]


def unharmed(assessor, folder):
    """Files by kind and their ages, of each picture that is accepted in every kind; kept on disk."""
    for n, picture in enumerate(pictures()):
        files = {kind: Path(folder, f'{n}-{kind}') for kind in kinds(picture)}
        for kind, data in kinds(picture).items(): files[kind].write_bytes(data)
        ages = {kind: assessor.assess(file, 'F').bone_age_months for kind, file in files.items()}
        if None not in ages.values(): yield files, ages


def harm(chance, data, kind):
    """What happened, and the file after it."""
    if kind in EXPLICIT and chance.random() < .6:
        return 'header', rewrite(data, {chance.choice(sorted(FIELDS)): chance.choice(STRANGE) for _ in range(3)})
    places = [chance.random() if chance.random() < .6 else chance.randint(2, 2000) for _ in range(chance.randint(1, 3))]
    what = [(chance.choice(ACCIDENTS), place, chance.randint(1, 4096), chance.randbytes(8)) for place in places]
    return 'bytes', befall(data, what)


def verdict(assessor, path, age):
    """What becomes of a file: right, refused, noted, or what should never be."""
    start = time.monotonic()
    try: found = assessor.assess(path, 'F')
    except Exception as error: return f'raised {type(error).__name__}'
    if time.monotonic() - start > 10: return 'slow'
    if not found.accepted: return 'bad words' if TYPES.search(found.reason) or '\n' in found.reason else 'refused'
    if abs(found.bone_age_months - age) <= 3: return 'right'
    return 'noted' if found.note else 'off'


def table(chance, path):
    """What becomes of a strange table."""
    rows = [[chance.choice(NAMES) for _ in range(4)]]
    rows += [[chance.choice(CELLS) for _ in range(chance.randint(0, 5))] for _ in range(chance.randint(0, 3))]
    text = '\n'.join(chance.choice(',;\t').join(row) for row in rows)
    path.write_bytes(text.encode(chance.choice(['utf-8', 'utf-16'])))
    try: jobs = find_jobs([path], warn=lambda line: None)
    except BatchError: return 'refused'
    except Exception as error: return f'raised {type(error).__name__}'
    return 'right' if all(job.sex in (None, 'F', 'M') for job in jobs) else 'off'


def main(n):
    assessor, chance, found = Assessor(threads=1), random.Random(2018), Counter()
    with tempfile.TemporaryDirectory() as folder:
        path, children = Path(folder, 'file'), Path(folder, 'children.csv')
        whole = list(unharmed(assessor, folder))
        for i in range(n):
            if i % 6 == 5: found['table', 'csv', table(chance, children)] += 1; continue
            files, ages = chance.choice(whole)
            kind = chance.choice(sorted(files))
            what, data = harm(chance, files[kind].read_bytes(), kind)
            path.write_bytes(data)
            found[what, kind, verdict(assessor, path, ages[kind])] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    counts = pd.Series(found).unstack(fill_value=0).rename_axis(['harm', 'kind'])
    counts.to_csv(ROOT/'results/hostile.csv')
    print(counts.groupby('harm').sum(), f'\n{len(whole)} radiographs, peak memory {peak} MB')


if __name__ == '__main__': main(int(sys.argv[1]))
