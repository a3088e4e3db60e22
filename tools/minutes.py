"""Run the notebooks one after the other and record what each takes in results/notebook-minutes.csv.

    python tools/minutes.py [NOTEBOOK ...]

Without names: all. One that has not changed since it was recorded is not run again, so that a stopped run goes on.
One thread each (OMP_NUM_THREADS=1): seconds of the processor say what a quiet machine takes, even where other work runs
beside; those of the clock say how much there was."""
import csv
import hashlib
import json
import os
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT/'results/notebook-minutes.csv'
COLUMNS = ('notebook', 'processor_seconds', 'clock_seconds', 'peak_mb', 'cells', 'date')


def cells_digest(notebook: Path) -> str:
    "What a notebook says, without its outputs: eight hexadecimal digits."
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def measure(notebook: Path) -> tuple[float, float, float]:
    "Seconds of the processor and of the clock, and the peak of memory in MB, of a run with all its processes."
    command, start = Path(sys.executable).with_name('nbdev-test'), time.monotonic()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command, [str(command), str(notebook)], os.environ | {'OMP_NUM_THREADS': '1'},
                         file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    if status: sys.exit(f'{notebook}: does not run')
    return used.ru_utime + used.ru_stime, time.monotonic() - start, used.ru_maxrss / 1000


def recorded() -> dict[str, dict[str, str]]:
    "The rows of the table, by notebook."
    if not TABLE.exists(): return {}
    with TABLE.open(encoding='utf-8', newline='') as file: return {row['notebook']: row for row in csv.DictReader(file)}


def record(notebook: Path):
    "Run a notebook, unless it is recorded as it stands, and write its row."
    name, digest, rows = notebook.relative_to(ROOT/'nbs').as_posix(), cells_digest(notebook), recorded()
    if rows.get(name, {}).get('cells') == digest: return
    processor, clock, peak = measure(notebook)
    rows[name] = dict(zip(COLUMNS, (name, round(processor), round(clock), round(peak), digest, date.today())))
    with TABLE.open('w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
    print(*rows[name].values(), flush=True)


if __name__ == '__main__':
    named = [Path(name).resolve() for name in sys.argv[1:]]
    for path in named or sorted((ROOT/'nbs').glob('[a-z]*/*.ipynb')): record(path)
