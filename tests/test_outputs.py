"""The outputs of notebooks are those of the shipped weights, and `tools/outputs.py` keeps them so."""
import os
import subprocess
import sys

import nbformat
import outputs
import pytest



def test_outputs_are_of_the_shipped_weights():
    """Each cell of a notebook that asks the shipped networks says that its outputs are theirs."""
    left = [f'{name}: {len(cells)} cells, first {cells[0]}' for name, cells in outputs.every_stale().items()]
    if left: pytest.fail('run tools/outputs.py, outputs of other weights are in\n' + '\n'.join(left), pytrace=False)


def run(*command, cwd):
    """What `tools/outputs.py` says, and whether all is well."""
    done = subprocess.run([sys.executable, 'tools/outputs.py', *command], cwd=cwd, text=True, capture_output=True,
                          env=os.environ | {'PYTHONPATH': str(cwd)})
    return done.returncode == 0, done.stdout + done.stderr


def test_outputs_are_named_and_found_stale(checkout):
    """What ran is named, which `nbdev-clean` keeps; other weights make it stale, and running it mends that."""
    nbs = checkout/'nbs'
    for notebook in nbs.rglob('*.ipynb'): notebook.unlink()
    sources = {'asks': ['from boneage.networks import WEIGHTS', 'WEIGHTS.name', '#| slow\n1 + 1'], 'other': ['2 + 2']}
    for name, cells in sources.items():
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        nbformat.write(nb, nbs/f'{name}.ipynb')

    def names(notebook='asks'):
        return [cell.metadata.get('weights') for cell in nbformat.read(nbs/f'{notebook}.ipynb', 4).cells]
    for name in ('asks', 'other'): assert run('--flags', '', f'nbs/{name}.ipynb', cwd=checkout)[0]
    first = outputs.shipped()
    assert names() == [None, first, None] and names('other') == [None]
    assert run('--list', cwd=checkout) == (True, '')
    manifest = checkout/'boneage/weights/reader.json'
    manifest.write_text(manifest.read_text() + '\n')
    ok, said = run('--list', cwd=checkout)
    assert not ok and 'asks.ipynb' in said and 'other.ipynb' not in said and names() == [None, first, None]
    assert run(cwd=checkout)[0]
    assert len(set(names())) == 2 and first not in names() and names()[2], 'slow cells run, too'
    assert run('--list', cwd=checkout) == (True, '')
