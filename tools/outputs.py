"""Keep the outputs of notebooks in step with the shipped weights.

A cell that ran beside the weights carries the start of their manifest's digest in its metadata, `weights`. Without
names, the notebooks that other weights answered in are run and saved; with `--list` they are only listed."""
import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from boneage.networks import MANIFEST, WEIGHTS, digest_of

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
# what code says that asks the shipped networks, or the command line, which does
ASKS = re.compile(r'\b(Assessor|open_weights|WEIGHTS)\b|\bmain\(|with_name\([\'"]boneage[\'"]\)|^!.*\bboneage\b', re.M)
# run as well: what a test run leaves out
FLAGS = 'slow data' if os.environ.get('BONEAGE_DATA') else 'slow'


def shipped() -> str:
    "The name of the shipped weights: the first eight characters of their manifest's digest."
    return digest_of(WEIGHTS/MANIFEST)[:8]


def code(nb: dict) -> list[dict]: return [cell for cell in nb['cells'] if cell['cell_type'] == 'code']


def read(notebook: Path) -> dict: return json.loads(notebook.read_text(encoding='utf-8'))


def asks(nb: dict) -> bool: return any(ASKS.search(''.join(cell['source'])) for cell in code(nb))


def stale(notebook: Path) -> list[str]:
    "For every cell whose outputs other weights made, or nobody knows which: the first line of its code."
    nb, name = read(notebook), shipped()
    if not asks(nb): return []
    return [''.join(cell['source']).splitlines()[0] for cell in code(nb)
            if cell['outputs'] and cell['metadata'].get('weights') != name]


def every_stale() -> dict[str, list[str]]:
    "The notebooks, as paths within nbs, that hold outputs of other weights, with their cells."
    notebooks = sorted(p for p in NBS.rglob('[!_.]*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    return {p.relative_to(NBS).as_posix(): stale(p) for p in notebooks if stale(p)}


def record(notebook: Path):
    "Note the shipped weights in each cell that has just run, and take the note from those that need none."
    nb, name = read(notebook), shipped()
    for cell in code(nb):
        if not (asks(nb) and cell['outputs']): cell['metadata'].pop('weights', None)
        elif 'execution' in cell['metadata']: cell['metadata']['weights'] = name  # until nbdev-clean
    notebook.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')


def save(notebook: Path, flags: str) -> bool:
    "Run a notebook and keep its outputs, clean, with the weights that made them; False where it failed."
    print(notebook, flush=True)
    command = Path(sys.executable).with_name('nbdev-test')
    quiet = os.environ | {'PYTHONWARNINGS': 'ignore::FutureWarning'}  # of libraries, for their authors
    if subprocess.run([command, '--save', '--flags', flags, notebook], cwd=ROOT, env=quiet).returncode: return False
    record(notebook)
    subprocess.run([command.with_name('nbdev-clean'), '--fname', notebook], cwd=ROOT, check=True)
    return True


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('notebooks', nargs='*', type=Path, help='run these instead, stale or not')
    ask.add_argument('--list', action='store_true', help='run nothing')
    ask.add_argument('--flags', default=FLAGS, help='tags of cells that run, too: %(default)s')
    args = ask.parse_args()
    notebooks = [notebook.absolute() for notebook in args.notebooks] or [NBS/name for name in every_stale()]
    failed = [notebook for notebook in notebooks if not args.list and not save(notebook, args.flags)]
    left = {notebook: len(stale(notebook)) for notebook in notebooks if stale(notebook)}
    for notebook, n in left.items(): print(f'{notebook}: outputs of other weights than {shipped()} in {n} cells')
    sys.exit(bool(failed or left))


if __name__ == '__main__': main()
