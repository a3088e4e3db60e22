"""What README.md tells people to type works as it stands there."""
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT/'README.md').read_text(encoding='utf-8')
LINES = [line for fence in re.findall(r'```sh\n(.*?)```', README, re.S) for line in fence.splitlines() if line.strip()]
ROWS = [row for row in README.splitlines() if row.startswith('| `boneage ')]


def test_it_tells_something(): assert len(LINES) >= 3 and len(ROWS) >= 9


@pytest.mark.parametrize('line', LINES)
def test_command(line, hand, tmp_path):
    """A target of make is one; a command of boneage assesses a hand."""
    program, *args = shlex.split(line, comments=True)
    if program == 'make': command = [program, '--dry-run', *args]
    else: command = [Path(sys.executable).with_name(Path(program).name), *args]
    cv2.imwrite(str(tmp_path/'hand.png'), hand.picture)
    done = subprocess.run(command, cwd=ROOT if program == 'make' else tmp_path, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0 and done.stdout, done.stderr


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
