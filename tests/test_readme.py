"""What README.md tells people to type works as it stands there."""
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

README = (ROOT/'README.md').read_text(encoding='utf-8')
LINES = [line for fence in re.findall(r'```sh\n(.*?)```', README, re.S) for line in fence.splitlines() if line.strip()]
ROWS = [row for row in README.splitlines() if row.startswith('| `boneage ')]


def test_it_tells_something(): assert len(LINES) >= 3 and len(ROWS) >= 9


def test_commands(tmp_path):
    """One after the other, in a folder that is empty at first; a target of make is one."""
    for line in LINES:
        program, *args = shlex.split(line, comments=True)
        if program == 'make': command = [program, '--dry-run', *args]
        else: command = [Path(sys.executable).with_name(Path(program).name), *args]
        done = subprocess.run(command, cwd=ROOT if program == 'make' else tmp_path, capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0 and done.stdout, f'{line}: {done.stderr}'


def test_the_first_answer_holds_the_age_that_was_drawn():
    """The README draws a hand of 98 months: the interval that it prints is around it."""
    low, high = map(float, re.search(r'interval ([\d.]+) to ([\d.]+) months', README).groups())
    assert '--months 98' in README and low <= 98 <= high


@pytest.mark.parametrize('row', ROWS)
def test_row(row):
    """A command of the table exists and has the options that its row names."""
    command = re.match(r'\| `boneage ([\w-]+)', row)[1]
    options = re.findall(r'--[\w-]+', row)
    done = subprocess.run([Path(sys.executable).with_name('boneage'), command, '--help'], capture_output=True,
                          text=True, timeout=60,
                          env={'COLUMNS': '200', 'PATH': '', 'NO_COLOR': '1'})
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in options), options
