"""Every notebook runs, is clean and readable, and is in step with the modules and the README made from it."""
import filecmp
import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import prose_numbers
import pytest
import yaml
from conftest import ROOT
from nbdev.test import nbdev_test

NBS = ROOT/'nbs'
NOTEBOOKS = sorted(p for p in NBS.rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(NBS).parts))
each_notebook = pytest.mark.parametrize('notebook', NOTEBOOKS,
                                        ids=lambda p: p.relative_to(NBS).with_suffix('').as_posix())

MAX_LINES, MAX_EXPORTED, MAX_WIDTH, MAX_BYTES, MAX_RUN = 40, 25, 120, 1_000_000, 3
LINK = re.compile(r'\[[^]]+\]\(([^)]+)\)')
# an absolute path of some machine; the slash of a web address or of a relative path has a letter or a dot before it
MACHINE_PATH = re.compile(r'(?<![\w.:/-])(/(home|root|tmp|Users|usr|opt|mnt|var|srv|data|work\w*)/|[A-Z]:\\)[^\s\'"]*')



def run(*command, cwd, timeout=540):
    """Run a command and fail with what it printed."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, timeout=timeout, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode: pytest.fail(f'{" ".join(map(str, command))}\n{done.stdout}', pytrace=False)
    return done.stdout


def nbdev(command):
    """The path of an nbdev command beside the running Python."""
    return Path(sys.executable).with_name(f'nbdev-{command}')


def cells(notebook): return json.loads(notebook.read_text(encoding='utf-8'))['cells']


def is_exported(cell): return cell['cell_type'] == 'code' and ''.join(cell['source']).startswith('#| export')


def pages(contents):
    """The notebooks of the sidebar, in its order."""
    for item in contents:
        if isinstance(item, str): yield NBS/item
        else: yield from pages(item['contents'])


ORDER = list(pages(yaml.safe_load((NBS/'sidebar.yml').read_text())['website']['sidebar']['contents']))


def output_text(cell):
    """The text of a cell's outputs, without pictures."""
    for out in cell.get('outputs', []):
        parts = [out.get('text', ''), out.get('traceback', '')]
        parts += [v for k, v in out.get('data', {}).items() if k.startswith('text/')]
        yield re.sub(r'base64,[A-Za-z0-9+/=\s]+', '', '\n'.join(''.join(p) for p in parts))


def differences(a, b, pattern):
    """Names of the files matching `pattern` that are not the same under folders `a` and `b`."""
    names = {p.relative_to(d).as_posix() for d in (a, b) for p in d.glob(pattern)}
    return sorted(n for n in names if not ((a/n).exists() and (b/n).exists() and filecmp.cmp(a/n, b/n, shallow=False)))


# a notebook runs in a process of its own, forked from one that has loaded what most of them take seconds to load
FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(['nbdev.test', 'fastai.vision.augment', 'matplotlib.pyplot'])


def run_notebook(notebook, log):
    """As `nbdev-test` runs it; all that it prints goes to a file."""
    with log.open('w') as file:
        for stream in (1, 2): os.dup2(file.fileno(), stream)
    os.chdir(ROOT)
    nbdev_test(str(notebook))


@each_notebook
def test_runs(notebook, tmp_path):
    process = FORKS.Process(target=run_notebook, args=(notebook, log := tmp_path/'log'))
    process.start()
    process.join(540)
    process.kill()
    process.join()
    if process.exitcode: pytest.fail(log.read_text(), pytrace=False)


@each_notebook
def test_readable(notebook):
    """Short cells, a file that can be reviewed, no path of the machine it ran on."""
    assert notebook.stat().st_size <= MAX_BYTES, f'{notebook.name} is over {MAX_BYTES} bytes: fewer or smaller figures'
    for i, cell in enumerate(cells(notebook)):
        lines = ''.join(cell['source']).splitlines()
        if cell['cell_type'] == 'code': assert len(lines) <= MAX_LINES, f'cell {i} has {len(lines)} lines'
        if is_exported(cell):
            code = [line for line in lines if not line.startswith('#|')]
            assert len(code) <= MAX_EXPORTED, f'cell {i} exports {len(code)} lines'
            wide = [line for line in lines if len(line) > MAX_WIDTH]
            assert not wide, f'cell {i} is exported and wider than {MAX_WIDTH} columns: {wide[0]}'
        for text in output_text(cell):
            found = MACHINE_PATH.search(text)
            assert not found, f'the output of cell {i} names a path of a machine: {found[0]}'


def test_sidebar_is_whole():
    """Every notebook has its place in the sidebar, once."""
    assert sorted(ORDER) == NOTEBOOKS


@pytest.mark.parametrize('before, notebook, after',
                         [(b, n, a) for b, n, a in zip(ORDER, ORDER[1:], [*ORDER[2:], None])],
                         ids=[n.relative_to(NBS).with_suffix('').as_posix() for n in ORDER[1:]])
def test_neighbours_are_linked(before, notebook, after):
    """The links before and after a lesson are those of the sidebar."""
    text = '\n'.join(''.join(c['source']) for c in cells(notebook) if c['cell_type'] == 'markdown')
    for words, neighbour in (('Before it: ', before), ('After it: ', after)):
        if neighbour is None: continue
        assert words in text, f'{notebook.name} says nothing of what is {words.lower()}'
        link = LINK.search(text, text.index(words))[1]
        assert (notebook.parent/link).resolve() == neighbour.resolve(), f'{notebook.name}: {words}{link}'


def longest_run(notebook):
    """How many cells are exported one after the other, imports left out, before one shows or checks something."""
    longest = run = 0
    for cell in cells(notebook):
        if cell['cell_type'] != 'code': continue
        body = [line for line in ''.join(cell['source']).splitlines() if line and line[0] not in '# )']
        if not is_exported(cell): run = 0
        elif not all(line.startswith(('import ', 'from ', 'if TYPE_CHECKING')) for line in body): run += 1
        longest = max(longest, run)
    return longest


def test_what_is_exported_is_shown():
    """One export, one demonstration: no long run of exported cells without something seen or checked."""
    long = [p.relative_to(NBS).as_posix() for p in NOTEBOOKS if longest_run(p) > MAX_RUN]
    assert not long, f'more than {MAX_RUN} exported cells with nothing between: {long}'


def has_answers(notebook):
    """Whether every exercise of a lesson has a hint and an answer, folded, with code that runs and Jupyter hides."""
    found = cells(notebook)
    start = next(i for i, cell in enumerate(found) if '## Try it' in ''.join(cell['source']))
    text = '\n'.join('CODE' if c['cell_type'] == 'code' else ''.join(c['source']) for c in found[start:])
    folds = re.findall(r'<details><summary>(\w+)</summary>(.*?)</details>', text, re.S)
    exercises = len(re.findall(r'^\*\*\d+\.\*\* ', text, re.M))
    answers = [body for name, body in folds if name == 'Answer']
    hidden = all(c['metadata'].get('jupyter', {}).get('source_hidden') or ''.join(c['source']).startswith('#| hide')
                 for c in found[start:] if c['cell_type'] == 'code')
    return exercises == len(answers) == len(folds) / 2 > 0 and all('CODE' in body for body in answers) and hidden


def test_exercises_have_answers():
    lessons = [p for p in NOTEBOOKS if p.parent.name in ('reading', 'learning', 'drawn')]
    without = [p.relative_to(NBS).as_posix() for p in lessons if not has_answers(p)]
    assert not without, f'give each exercise a hint and an answer: {without}'


@pytest.mark.parametrize('prose, said, found', [
    ('It errs by 6.87 months.', '', ['6.87']), ('It errs by 6.87 months.', '6.874', []),
    ('It errs by 6.87 months.', '6.88', ['6.87']), ('It holds 97 % of them.', '0.9712', []),
    ('Round 2 kept 994 masks.', '', ['994']), ('Round 2 kept 994 masks (`results/mining.csv`).', '', []),
    ('[Halabi](https://a.b) has 14,236.', '', []), ('Radiology 2019;290:498 has 14,236.', '', []),
    ('It is [told](a.ipynb): 14,236.', '', ['14,236']), ('It answers `503`, in $33$ of them, since 2017.', '', []),
    ('At most 600 MB (`boneage.picture.MOST_BYTES`).', '', []),
    ('At most 700 MB (`boneage.picture.MOST_BYTES`).', '', ['700'])])
def test_prose_numbers_are_found(prose, said, found):
    """A number is held by a cell, a table or a constant that is named, or is somebody else's, or it is found."""
    assert [number for number, _ in prose_numbers.unheld(prose, said)] == found


def test_prose_numbers_are_held():
    """Every number that a document says stands in a cell beside it, or in a recorded table that it names."""
    documents = prose_numbers.read_documents()
    left = [f'{name}: {number}: {paragraph}' for name, document in documents.items()
            for number, paragraph in prose_numbers.unheld(*document)]
    if left: pytest.fail('show these numbers, or name the table that holds them\n' + '\n'.join(left), pytrace=False)


def test_exported_cells_are_short():
    """Half of them have at most 10 lines."""
    exported = [cell for notebook in NOTEBOOKS for cell in cells(notebook) if is_exported(cell)]
    lengths = [len(''.join(cell['source']).splitlines()) - 1 for cell in exported]
    assert sorted(lengths)[len(lengths) // 2] <= 10


def test_index_is_linked():
    """The notebook at the top level is the file, the one in `nbs` the link."""
    link = NBS/'index.ipynb'
    assert link.is_symlink() and link.readlink() == Path('../index.ipynb')


def test_clean(checkout):
    run(nbdev('clean'), cwd=checkout)
    dirty = differences(NBS, checkout/'nbs', '**/*.ipynb')
    assert not dirty, f'run nbdev-clean: {dirty}'


def test_export_in_step(checkout):
    """The modules are what the notebooks export, no more and no less."""
    for module in (checkout/'boneage').rglob('[!_]*.py'): module.unlink()
    (checkout/'boneage/_modidx.py').unlink(missing_ok=True)
    run(nbdev('export'), cwd=checkout)
    stale = differences(ROOT/'boneage', checkout/'boneage', '**/*.py')
    assert not stale, f'run nbdev-export (modules are never edited by hand): {stale}'


def test_lint():
    """The code is tidy, and the exported modules keep to the types they state."""
    run(Path(sys.executable).with_name('ruff'), 'check', '.', cwd=ROOT)
    run(Path(sys.executable).with_name('mypy'), cwd=ROOT)


def test_readme_in_step(checkout):
    run(sys.executable, 'tools/readme.py', cwd=checkout)
    stale = differences(ROOT, checkout, 'README.md') + differences(ROOT, checkout, 'nbs/images/index_*')
    assert not stale, f'run make readme: {stale}'
