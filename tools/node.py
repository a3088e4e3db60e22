"""A node beside Orthanc: how long one radiograph takes, 200 with the node killed twice, an archive that is away.

    python tools/node.py            # about ten minutes; writes results/node.csv

Four drawn hands of 1500 px, under as many identifiers as needed, go to an Orthanc on this machine, which sends them to
a node in a process of its own. A row for each trial: how many radiographs, how many reports and pictures are in the
archive at the end, in how many studies, and the seconds from the first C-STORE to the last report.
"""
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import cycle, islice
from pathlib import Path

from pacs import Orthanc, call, free_port, orthanc_path, radiograph, wait_for

from boneage.assessment import Assessor
from boneage.drawn.cohort import draw_cohort
from boneage.picture import PictureError

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 'trial', 'radiographs', 'reports', 'pictures', 'studies', 'seconds', 'date', 'cores', 'load'
ONE_BY_ONE, MANY, AWAY, MINUTE = 20, 200, 20, 60


def accepted_hands(n, side=1500):
    """Drawn hands that the shipped networks read."""
    reader, found = Assessor(), []
    for phantom in draw_cohort(40, 5, side=side):
        try: reader.read_bone_age(reader.register(phantom.picture), 'F')
        except PictureError: continue
        found.append(phantom.picture)
        if len(found) == n: return found
    sys.exit('too few drawn hands are taken for hands')


class Trial:
    """An archive and a node in a folder."""
    def __init__(self, folder, pictures):
        self.folder, self.pictures, self.port = Path(folder), pictures, free_port()
        self.status, self.archive = free_port(), Orthanc(folder, self.port)
        (self.folder/'node.toml').write_text(
            f'queue = "queue"\n[node]\ncallers = ["ORTHANC"]\nport = {self.port}\n[archive]\nae_title = "ORTHANC"\n'
            f'host = "127.0.0.1"\nport = {self.archive.port}\n[status]\nport = {self.status}\n')
        self.start()

    def start(self):
        command = [Path(sys.executable).with_name('boneage'), 'node', self.folder/'node.toml']
        self.node = subprocess.Popen(command, stderr=(self.folder/'node.log').open('a'))
        wait_for(lambda: call(self.port) == [0])

    def kill(self):
        self.node.send_signal(signal.SIGKILL)
        self.node.wait()

    def upload(self, n, first=1):
        """Radiographs in the archive, each of a study of its own."""
        return [self.archive.upload(radiograph(px, number))
                for number, px in enumerate(islice(cycle(self.pictures), n), first)]

    def row(self, name, n, seconds):
        """What there is in the end."""
        reports = self.archive.results('SR')
        studies = {ds.StudyInstanceUID for ds in reports}
        return dict(zip(COLUMNS, (name, n, len(reports), self.archive.number('OT'), len(studies), round(seconds, 2),
                                  date.today(), os.cpu_count(), round(os.getloadavg()[0], 1))))

    def close(self):
        self.node.terminate()
        self.node.wait(60)
        self.archive.stop()


def one_by_one(trial):
    """From C-STORE to the report in the study, the median and the longest; and what reading alone takes meanwhile."""
    times, alone, file, assessor = [], [], trial.folder/'alone.dcm', Assessor()
    radiograph(trial.pictures[0]).save_as(file, enforce_file_format=True)
    for n, identifier in enumerate(trial.upload(ONE_BY_ONE), 1):
        start = time.monotonic()
        assessor.assess(file)
        alone.append(time.monotonic() - start)
        start = time.monotonic()
        trial.archive.send(identifier)
        wait_for(lambda: trial.archive.number('SR') == n)
        times.append(time.monotonic() - start)
        wait_for(lambda: trial.archive.number('OT') == n)
    yield trial.row('reading alone, median', ONE_BY_ONE, sorted(alone)[len(alone) // 2])
    times.sort()
    yield trial.row('one at a time, median', ONE_BY_ONE, times[len(times) // 2])
    yield trial.row('one at a time, longest', ONE_BY_ONE, times[-1])


def killed_twice(trial):
    """All at once, the node killed after a third and after two thirds of the reports."""
    identifiers, start = trial.upload(MANY), time.monotonic()
    trial.archive.send(*identifiers)
    for part in (1, 2):
        wait_for(lambda: trial.archive.number('SR') >= part * MANY // 3, 600)
        trial.kill()
        trial.start()
    wait_for(lambda: trial.archive.number('SR') >= MANY, 900)
    seconds = time.monotonic() - start
    time.sleep(5)  # whatever would come twice comes now
    yield trial.row('at once, node killed twice', MANY, seconds)


def archive_away(trial):
    """The archive ends as soon as it has sent, and comes back after a minute."""
    identifiers, start = trial.upload(AWAY), time.monotonic()
    trial.archive.send(*identifiers)
    trial.archive.stop()
    time.sleep(MINUTE)
    trial.archive.start()
    wait_for(lambda: trial.archive.number('OT') >= AWAY, 900)
    yield trial.row('archive away for a minute', AWAY, time.monotonic() - start)


def main():
    if not orthanc_path(): sys.exit('Orthanc is not installed; Debian: apt-get install orthanc')
    rows, pictures = [], accepted_hands(4)
    for trial in (one_by_one, killed_twice, archive_away):
        with tempfile.TemporaryDirectory() as folder:
            at_work = Trial(folder, pictures)
            for row in trial(at_work): rows.append(row); print(row, flush=True)
            at_work.close()
    with (ROOT/'results/node.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


if __name__ == '__main__': main()
