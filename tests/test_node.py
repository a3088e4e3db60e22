"""The DICOM node: what was stored is on disk, read once, and sent back into its study, whatever happens."""
import errno
import json
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from conftest import BONEAGE, ROOT
from corpus import kinds
from pacs import Archive, Orthanc, call, free_port, orthanc_path, radiograph, wait_for
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from boneage.assessment import Assessment, Examined
from boneage.clinic import node as nodes, queue as queues
from boneage.clinic.dicom import read_report
from boneage.clinic.node import LEFT_OUT, MISMATCH, NO_ROOM, SUCCESS, UNREADABLE, ConfigError, read_config, running
from boneage.clinic.queue import Queue, QueueError, count, put

NAMES = 'Doe', 'Jane', '4711', '0815', '20110301'


class Setting:
    """A configuration in a folder, and what is asked of a node that has it."""
    def __init__(self, folder, archive_port, more=''):
        self.port, self.status, self.file = free_port(), free_port(), folder/'node.toml'
        self.file.write_text(f'queue = "queue"\n{more}\n[node]\ncallers = ["ORTHANC", "OTHER"]\nport = {self.port}\n'
                             f'[archive]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {archive_port}\n'
                             f'[status]\nport = {self.status}\n')
        self.folder, self.log = folder/'queue', folder/'log'

    @property
    def config(self): return read_config(self.file)

    def ask(self, path):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.status}{path}', timeout=5) as answer:
            return answer.read().decode()

    def start(self):
        """A node in a process of its own, which answers."""
        process = subprocess.Popen([BONEAGE, 'node', self.file], stderr=self.log.open('a'))
        wait_for(lambda: process.poll() is not None or call(self.port) == [SUCCESS])
        assert process.poll() is None, self.log.read_text()
        return process

    def states(self):
        """How many are in each state, of a node in another process."""
        lines = self.ask('/metrics').splitlines()
        return {line.split('"')[1]: int(line.split()[1]) for line in lines if 'state=' in line}


class Reader:
    """In place of an `Assessor`: refuses everything, once it is let go."""
    model = 'a reader'
    def __init__(self, go=True):
        self.seen, self.go = [], threading.Event()
        if go: self.go.set()

    def examine(self, file, anyway=False):
        self.seen.append(Path(file).read_bytes())
        self.go.wait(30)
        return Examined(Assessment(str(file), 'F', False, 'a reason', None, None, self.model))


@pytest.fixture
def archive():
    made = Archive()
    yield made
    made.stop()


@pytest.fixture
def setting(archive, tmp_path): return Setting(tmp_path, archive.port)


@pytest.fixture
def examined(assessor, hand, tmp_path): return assessor.examine(write(radiograph(hand.picture), tmp_path/'hand.dcm'))


def done(node): return count(node.queue)['done']


# The configuration

GOOD = 'queue = "q"\n[node]\ncallers = ["A"]\n[archive]\nae_title = "A"\nhost = "h"\nport = 104\n'


@pytest.mark.parametrize('text, lines', [
    ('', ['queue is missing', 'node.callers is missing', 'archive.ae_title is missing', 'archive.host is missing',
          'archive.port is missing']),
    ('queue = \n', ['is no TOML']),
    (GOOD + 'colour = 1\n', ['archive.colour is unknown; known: ae_title, host, port']),
    ('color = 1\n' + GOOD, ['color is unknown; known: queue, node, archive, refusals, filter']),
    (GOOD + '[filtr]\nmodalities = []\n', ['filtr is unknown']),
    (GOOD.replace('["A"]', '[]'), ['node.callers is []; give a list of AE titles']),
    (GOOD.replace('"A"\n', '"A back\\\\slash"\n'), ['archive.ae_title is ', 'give an AE title']),
    (GOOD.replace('= 104', '= 104.5'), ['archive.port is 104.5; give a port, 1 to 65535']),
    (GOOD.replace('= 104', '= true'), ['archive.port is true']),
    (GOOD + 'give_up_hours = 0\n', ['archive.give_up_hours is 0']),
    (GOOD + '[filter]\nmodalities = "CR"\nsecondary_captures = 1\n', ['filter.modalities is "CR"; give a list of texts',
                                                                     'filter.secondary_captures is 1; give true']),
    (GOOD + '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n', ['tls.ca is missing']),
    (GOOD + '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\nca = "a.pem"\n', ['tls.ca: ', 'a.pem is missing or']),
    ('queue = "q"\nnode = 3\narchive = []\n', ['node is no table', 'archive is no table'])])
def test_a_wrong_configuration(tmp_path, capsys, text, lines):
    """Every fault in a line of its own, with the name of the file, and the status of wrong usage."""
    from boneage.cli import main
    file = tmp_path/'node.toml'
    file.write_text(text)
    with pytest.raises(ConfigError) as error: read_config(file)
    said = '\n'.join(error.value.faults)
    assert all(line in said for line in lines), said
    assert main(['node', str(file)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == len(error.value.faults)


def test_a_file_that_is_none(tmp_path):
    for path in (tmp_path, tmp_path/'none.toml'):
        with pytest.raises(ConfigError, match='cannot be read'): read_config(path)
    (tmp_path/'mark.toml').write_text(GOOD, 'utf-8-sig')
    assert read_config(tmp_path/'mark.toml').archive.port == 104
    (tmp_path/'bytes.toml').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ConfigError, match='is no TOML'): read_config(tmp_path/'bytes.toml')


# What comes in

def test_there_and_back(setting, archive, assessor, hand, caplog):
    """Report and picture in the study of the radiograph; nothing stays in the queue; the node says no name."""
    caplog.set_level(logging.DEBUG, 'boneage.node')
    sent = radiograph(hand.picture)
    with pytest.warns(UserWarning): unfit = radiograph(hand.picture, 2, StudyTime='Doe^Jane')
    with running(setting.config, assessor) as node:
        assert call(setting.port) == [SUCCESS]
        assert call(setting.port, sent, unfit) == [SUCCESS] * 2
        wait_for(lambda: done(node) and count(node.queue)['refused'])
        wait_for(lambda: not [*node.queue.files.iterdir()])
        said = setting.ask('/metrics') + setting.ask('/queue') + setting.ask('/healthz')
    [report], [picture] = archive.of('SR'), archive.of('OT')
    for result in (report, picture):
        assert (result.StudyInstanceUID, result.PatientName) == (sent.StudyInstanceUID, 'Doe^Jane')
    assert assessor.assess(write(sent, setting.file.with_name('a.dcm'))).bone_age_months == \
        read_report(write(report, setting.file.with_name('r.dcm')))['XR Bone age'][0]
    text = said + ''.join(r.getMessage() for r in caplog.records if r.name == 'boneage.node')
    assert 'radiograph 1: done' in text and 'boneage_sent_total 2' in text
    assert not [name for name in NAMES if name in text]


def write(ds, path):
    ds.save_as(path, enforce_file_format=True)
    return path


def test_every_transfer_syntax(setting, hand):
    """What arrives lies on disk as it was sent, whatever it is compressed with."""
    reader, syntaxes = Reader(), set()
    with running(setting.config, reader) as node:
        for n, data in enumerate(data for kind, data in kinds(hand.picture).items() if 'dicom' in kind):
            sent = dcmread(BytesIO(data))
            sent.SOPInstanceUID = sent.file_meta.MediaStorageSOPInstanceUID = f'1.2.{n}'
            sent.BodyPartExamined, sent.Modality = 'HAND', 'DX'
            assert call(setting.port, sent) == [SUCCESS]
            wait_for(lambda: len(reader.seen) > n)
            kept = dcmread(BytesIO(reader.seen[n]))
            syntax = kept.file_meta.TransferSyntaxUID
            assert syntax == sent.file_meta.TransferSyntaxUID and kept.PixelData == sent.PixelData
            syntaxes.add(syntax)
        wait_for(lambda: count(node.queue)['refused'] == n + 1)
    assert len(syntaxes) == 8


def test_what_is_left_out(setting, archive, assessor, hand):
    """Other body parts, other modalities, and what boneage made itself, secondary captures wanted or not."""
    text = setting.file.read_text() + '[filter]\nsecondary_captures = true\nmodalities = ["DX", "OT"]\n'
    setting.file.write_text(text)
    others = [dict(BodyPartExamined='CHEST', SeriesDescription='thorax'), dict(Modality='US'), dict(Modality='')]
    with running(setting.config, assessor) as node:
        sent = [radiograph(hand.picture, n, **other) for n, other in enumerate(others)]
        assert call(setting.port, *sent) == [LEFT_OUT] * 3 and node.counts['left_out'] == 3
        assert call(setting.port, radiograph(hand.picture, 9)) == [SUCCESS]
        wait_for(lambda: done(node))
        [picture] = archive.of('OT')
        picture.BodyPartExamined = 'HAND'
        assert call(setting.port, picture) == [LEFT_OUT]
        assert sum(count(node.queue).values()) == 1
    with running(Setting(setting.file.parent, archive.port).config, Reader()) as node:  # as it is unless asked for
        picture.Manufacturer, picture.Modality = 'another', 'DX'
        assert call(node.config.node.port, picture, *archive.of('SR')) == [LEFT_OUT] * 2


def test_who_may_not_call(setting, hand):
    with running(setting.config, Reader()) as node:
        assert call(setting.port, title='STRANGER') is None and call(setting.port, called='SOMEBODY') is None
        assert call(setting.port, radiograph(hand.picture), title='OTHER') == [SUCCESS]
        assert node.counts['callers_rejected'] == 2


def test_objects_that_are_none(setting, hand, monkeypatch):
    """Another identifier than the request says, and one that is too large; the next is taken."""
    monkeypatch.setattr(nodes, 'MOST_BYTES', 1_000_000)
    sent, large = radiograph(hand.picture), radiograph(hand.picture, 2, PatientComments='x' * 2_000_000)
    def no_header(data, syntax): raise KeyError('Doe^Jane')
    with running(setting.config, Reader()) as node:
        for read_head, status in ((lambda data, syntax: Dataset(), MISMATCH), (no_header, UNREADABLE)):
            with monkeypatch.context() as patch:
                patch.setattr(nodes, 'read_head', read_head)
                assert call(setting.port, sent) == [status]
        assert call(setting.port, large) == [None]
        assert sum(count(node.queue).values()) == 0
        assert call(setting.port, sent) == [SUCCESS]


def test_a_header_that_cannot_be_understood(setting, hand, monkeypatch, caplog):
    """A description that is said to be a number: the caller and the log are told, without its words."""
    sent, tag = radiograph(hand.picture, BodyPartExamined=''), Tag('SeriesDescription')
    header = Dataset()
    header.update(sent)
    header[tag] = RawDataElement(tag, 'FL', 6, b'Doe^Ja', 0, False, True)
    monkeypatch.setattr(nodes, 'read_head', lambda data, syntax: header)
    with running(setting.config, Reader()) as node:
        assert call(setting.port, sent) == [UNREADABLE]
        assert node.counts['not_stored'] == 1
    said = [record.getMessage() for record in caplog.records if record.name == 'boneage.node']
    assert said == ['a radiograph is not stored: its header cannot be read']


@pytest.mark.parametrize('fault', ['fsync', 'table'])
def test_a_disk_that_does_not_take_it(setting, hand, monkeypatch, fault):
    """Nobody is told "stored", nothing half is left, and the same radiograph is taken when there is room again."""
    with running(setting.config, Reader()) as node:
        with monkeypatch.context() as patch:
            def full(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if fault == 'fsync': patch.setattr(os, 'fsync', full)
            else: node.queue.db.execute('PRAGMA query_only = TRUE')
            assert call(setting.port, radiograph(hand.picture)) == [NO_ROOM]
            if fault == 'table': node.queue.db.execute('PRAGMA query_only = FALSE')
        assert not [*node.queue.files.iterdir()] and sum(count(node.queue).values()) == 0
        assert node.counts['not_stored'] == 1
        assert call(setting.port, radiograph(hand.picture)) == [SUCCESS]
        wait_for(lambda: count(node.queue)['refused'])


# What goes out

def test_a_radiograph_that_comes_again(setting, archive, assessor, hand):
    """Its results take the place of the first: two objects, each sent twice."""
    with running(setting.config, assessor) as node:
        for n in (1, 2):
            assert call(setting.port, radiograph(hand.picture)) == [SUCCESS]
            wait_for(lambda: node.counts['sent'] == 2 * n)
        assert done(node) == 1
    assert sorted(archive.times.values()) == [2, 2]


def test_again_while_it_is_read(setting, hand):
    """The one that is read no longer counts; the new one is read from its beginning."""
    reader = Reader(go=False)
    with running(setting.config, reader) as node:
        for n in (1, 2):
            assert call(setting.port, radiograph(hand.picture, PatientID=str(n))) == [SUCCESS]
            wait_for(lambda: reader.seen)
        reader.go.set()
        wait_for(lambda: count(node.queue)['refused'] == 1)
    assert [dcmread(BytesIO(data)).PatientID for data in reader.seen] == ['1', '2']


def test_an_archive_that_is_away(setting, archive, assessor, hand):
    """What comes meanwhile is read, and sent in its order when the archive is back."""
    archive.stop()
    with running(setting.config, assessor) as node:
        assert call(setting.port, *(radiograph(hand.picture, n) for n in range(3))) == [SUCCESS] * 3
        wait_for(lambda: count(node.queue)['read'] == 3 and node.failures)
        assert 'boneage_archive_away 1' in setting.ask('/metrics')
        archive.start()
        wait_for(lambda: done(node) == 3)
        assert not node.failures
    assert len(archive.objects) == 6 and set(archive.times.values()) == {1}
    assert [ds.StudyInstanceUID for ds in archive.of('SR')] == [f'1.2.826.0.1.{n}.1' for n in range(3)]


def test_an_archive_that_refuses(setting, archive, assessor, hand, monkeypatch):
    """One radiograph waits and the others go on; in the end it fails with the reason."""
    archive.status = 0xa900
    with running(setting.config, assessor) as node:
        assert call(setting.port, radiograph(hand.picture)) == [SUCCESS]
        wait_for(lambda: node.counts['archive_failures'])
        assert count(node.queue)['read'] == 1 and not node.failures
        node.queue.do('UPDATE jobs SET received = received - 73 * 3600, tries = 5, due = 0')
        wait_for(lambda: count(node.queue)['failed'])
        [said] = json.loads(setting.ask('/queue'))
        assert said['reason'] == 'the archive answers with the status A900'


def test_what_was_refused(setting, archive, assessor, hand):
    """Its reason is in the queue; where it is asked for, a report says so."""
    child = dict(PatientBirthDate='19500101')
    with running(setting.config, assessor) as node:
        assert call(setting.port, radiograph(hand.picture, **child)) == [SUCCESS]
        wait_for(lambda: count(node.queue)['refused'])
        [said] = json.loads(setting.ask('/queue'))
        assert "an adult's" in said['reason'] and not archive.objects
    setting.file.write_text('refusals = true\n' + setting.file.read_text())
    with running(setting.config, assessor) as node:
        assert call(setting.port, radiograph(hand.picture, **child)) == [SUCCESS]
        [report] = wait_for(lambda: archive.of('SR'))
        wait_for(lambda: count(node.queue)['refused'])
        assert "an adult's" in json.loads(setting.ask('/queue'))[0]['reason']
    assert "an adult's" in ' '.join(read_report(write(report, setting.file.with_name('r.dcm')))['remarks'])
    assert not archive.of('OT')


# What goes wrong

def test_a_radiograph_that_ends_the_program(setting, hand):
    """It is tried five times, then it has failed, and the next is read."""
    class Fails(Reader):
        def examine(self, file, anyway=False):
            super().examine(file)
            raise MemoryError
    reader = Fails()
    with running(setting.config, reader) as node:
        assert call(setting.port, radiograph(hand.picture)) == [SUCCESS]
        for n in range(1, 6):
            wait_for(lambda: len(reader.seen) == n)
            wait_for(lambda: node.queue.do("SELECT 1 FROM jobs WHERE reason LIKE '%MemoryError'"))
            node.queue.do('UPDATE jobs SET due = 0')
        wait_for(lambda: count(node.queue)['failed'])
        assert len(reader.seen) == 5 and setting.ask('/healthz') == 'ok\n'
    queue = Queue(setting.folder)
    put(queue, '1.9', b'kills')
    queue.do('UPDATE jobs SET tries = 5')  # as five kills while it was read leave it
    queue.close()
    with running(setting.config, reader) as node: wait_for(lambda: count(node.queue)['failed'] == 2)


def test_two_nodes(setting, assessor, capsys):
    """The second is told at once; so is one whose port is taken."""
    with running(setting.config, assessor):
        done = subprocess.run([BONEAGE, 'node', setting.file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and done.stderr.splitlines() == [
            f'boneage: {setting.folder}: another node works on this queue; stop it or name another queue']
        text = setting.file.read_text().replace('"queue"', '"another"')
        setting.file.write_text(text)
        done = subprocess.run([BONEAGE, 'node', setting.file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and 'cannot be listened to' in done.stderr.splitlines()[-1]


def test_no_room_for_results(setting, archive, assessor, hand, monkeypatch):
    """As often as it may be: a full disk is no fault of the radiograph, and ends neither it nor the node."""
    with running(setting.config, assessor) as node:
        with monkeypatch.context() as patch:
            def full(path): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            patch.setattr(nodes, 'sync', full)
            assert call(setting.port, radiograph(hand.picture)) == [SUCCESS]
            for _ in range(nodes.TRIES + 1):
                wait_for(lambda: node.queue.do("SELECT 1 FROM jobs WHERE reason LIKE '%No space%' AND due > 0"))
                node.queue.do("UPDATE jobs SET due = 0, reason = ''")
                node.news.set()
            assert count(node.queue)['waiting'] == 1
        node.queue.do('UPDATE jobs SET due = 0')
        wait_for(lambda: done(node))
    assert len(archive.objects) == 2


def test_a_disk_that_does_not_give_it(setting, hand, monkeypatch):
    """What cannot be read for a moment is not refused, and its file stays; what is gone has failed."""
    read, reader = Path.read_bytes, Reader()
    def broken(path):
        if path.name == 'radiograph.dcm': raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)
    with running(setting.config, reader) as node:
        with monkeypatch.context() as patch:
            patch.setattr(Path, 'read_bytes', broken)
            assert call(setting.port, radiograph(hand.picture)) == [SUCCESS]
            wait_for(lambda: node.queue.do("SELECT 1 FROM jobs WHERE reason LIKE '%Input/output%' AND due > 0"))
        assert not reader.seen and len([*node.queue.files.rglob('*.dcm')]) == 1
        node.queue.do('UPDATE jobs SET due = 0')
        wait_for(lambda: reader.seen)
        wait_for(lambda: count(node.queue)['refused'])
    queue = Queue(setting.folder)
    put(queue, '1.9', b'')
    for path in queue.files.rglob('*.dcm'): path.unlink()
    queue.close()
    with running(setting.config, reader) as node:
        wait_for(lambda: count(node.queue)['failed'])
        assert json.loads(setting.ask('/queue'))[0]['reason'] == 'its file is gone; send it again'


def test_a_try_that_was_cut_short(examined, tmp_path):
    """A picture with an age that it left behind does not go with the report of a refusal."""
    nodes.write_results(examined, tmp_path)
    assert {path.name for path in tmp_path.glob('result_*')} == {'result_1.dcm', 'result_2.dcm'}
    found = replace(examined.found, accepted=False, reason='a reason')
    nodes.write_results(replace(examined, found=found, hand=None), tmp_path)
    assert [path.name for path in tmp_path.glob('result_*')] == ['result_1.dcm']


def test_after_a_week_without_power(setting, archive, assessor, hand):
    """The archive starts later than the node: nothing is given up at the first try."""
    archive.stop()
    queue, file = Queue(setting.folder), BytesIO()
    radiograph(hand.picture).save_as(file, enforce_file_format=True)
    put(queue, radiograph(hand.picture).SOPInstanceUID, file.getvalue())
    queue.do('UPDATE jobs SET received = received - 168 * 3600')
    queue.close()
    with running(setting.config, assessor) as node:
        wait_for(lambda: node.counts['archive_failures'])
        archive.start()
        wait_for(lambda: done(node) or count(node.queue)['failed'])
        assert done(node) == 1


def test_results_that_are_gone_or_damaged(setting, archive, assessor, hand):
    """What is gone is read again; what is damaged is tried again and given up in the end, and the next is sent."""
    archive.stop()
    with running(setting.config, assessor) as node:
        assert call(setting.port, *(radiograph(hand.picture, n) for n in range(3))) == [SUCCESS] * 3
        wait_for(lambda: count(node.queue)['read'] == 3)
    first, second = (folder for folder, in sqlite3.connect(setting.folder/'queue.sqlite').execute(
        'SELECT folder FROM jobs WHERE n < 3 ORDER BY n'))
    for path in (setting.folder/'radiographs'/first).glob('result_*'): path.unlink()
    for path in (setting.folder/'radiographs'/second).glob('result_*'): path.write_bytes(b'damaged')
    archive.start()
    with running(setting.config, assessor) as node:
        wait_for(lambda: done(node) == 2)
        node.queue.do('UPDATE jobs SET received = received - 73 * 3600, tries = 5, due = 0')
        wait_for(lambda: count(node.queue)['failed'] == 1)
    assert len(archive.of('SR')) == 2


def test_an_archive_that_has_no_address(setting, assessor, hand):
    setting.file.write_text(setting.file.read_text().replace('"127.0.0.1"', '"archive.invalid"'))
    with running(setting.config, assessor) as node:
        assert call(setting.port, radiograph(hand.picture)) == [SUCCESS]
        wait_for(lambda: node.failures)
        assert count(node.queue)['read'] == 1


def test_a_queue_that_cannot_be_opened(tmp_path):
    """No folder, no lock, no table: a line each, and nothing is swept away."""
    (tmp_path/'file').touch()
    for folder in ('lock/queue.lock', 'table/queue.sqlite', 'damaged', 'without/radiographs/a'):
        (tmp_path/folder).mkdir(parents=True)
    (tmp_path/'damaged/queue.sqlite').write_bytes(b'no table ' * 1000)
    for name, why in dict(file='is no folder', lock='is no folder', table='cannot be used', damaged='cannot be used',
                          without='no queue.sqlite').items():
        with pytest.raises(QueueError, match=f'{name}: .*{why}'): Queue(tmp_path/name)
    assert (tmp_path/'without/radiographs/a').exists()
    shutil.rmtree(tmp_path/'table/queue.sqlite')
    Queue(tmp_path/'table').close()  # the lock was let go


def test_a_new_queue_is_on_disk(tmp_path, monkeypatch):
    """The names of its folders too, and nobody else looks into them."""
    synced = []
    monkeypatch.setattr(queues, 'sync', synced.append)
    queue = Queue(tmp_path/'q')
    queue.close()
    assert synced == [tmp_path, tmp_path/'q']
    assert [path.stat().st_mode & 0o77 for path in (tmp_path/'q', queue.files)] == [0, 0]


def test_the_same_radiograph_at_the_same_time(tmp_path):
    """The last stays, and nothing of the others is left on disk."""
    queue = Queue(tmp_path)
    with ThreadPoolExecutor(8) as pool: places = list(pool.map(lambda n: put(queue, '1.1', bytes(n)), range(80)))
    [(n, folder)] = queue.do('SELECT n, folder FROM jobs')
    assert n == max(places) and [path.name for path in queue.files.iterdir()] == [folder]
    queue.close()


def test_killed(setting, archive, hand):
    """Killed twice in the middle of its work: nothing is lost, nothing is there twice; then it stops when asked."""
    with pytest.warns(UserWarning): sent = [radiograph(hand.picture, n, PatientAge='Doe^Jane') for n in range(8)]
    process = setting.start()
    assert call(setting.port, *sent) == [SUCCESS] * 8
    for enough in (2, 8):
        wait_for(lambda: len(archive.objects) >= enough)
        process.kill()
        process.wait()
        process = setting.start()
    wait_for(lambda: setting.states()['done'] == 8)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert len(archive.of('SR')) == len(archive.of('OT')) == 8
    assert {ds.StudyInstanceUID for ds in archive.of('SR')} == {ds.StudyInstanceUID for ds in sent}
    assert not [*(setting.folder/'radiographs').iterdir()]
    assert not [name for name in NAMES if name in setting.log.read_text()]


def test_stopped_in_the_middle(setting, archive, assessor, hand):
    """The radiograph that is read is read to its end; the others wait for the next start."""
    reader = Reader(go=False)
    with running(setting.config, reader):
        assert call(setting.port, *(radiograph(hand.picture, n) for n in range(2))) == [SUCCESS] * 2
        wait_for(lambda: reader.seen)
        threading.Timer(.5, reader.go.set).start()
    queue = Queue(setting.folder)
    assert count(queue)['refused'] == count(queue)['waiting'] == 1
    queue.close()


@pytest.fixture
def certificates(tmp_path):
    """An authority, a node and an archive that it knows, and one that it does not know."""
    if not shutil.which('openssl'): pytest.skip('certificates: no openssl on this machine')
    def openssl(*args): subprocess.run(['openssl', *map(str, args)], cwd=tmp_path, check=True, capture_output=True)
    ec = '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'
    for name in ('ca', 'stranger'):
        openssl('req', '-x509', *ec, '-keyout', f'{name}.key', '-out', f'{name}.pem', '-subj', f'/CN={name}')
    (tmp_path/'names').write_text('subjectAltName=IP:127.0.0.1')
    for name in ('node', 'archive'):
        openssl('req', *ec, '-keyout', f'{name}.key', '-out', f'{name}.csr', '-subj', f'/CN={name}')
        openssl('x509', '-req', '-in', f'{name}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
                '-out', f'{name}.pem', '-extfile', 'names')
    return tmp_path


def test_a_key_that_asks_for_a_password(certificates):
    """Nobody is asked, since a service has nobody to ask."""
    command = 'openssl', 'pkey', '-in', 'node.key', '-out', 'locked.key', '-aes128', '-passout', 'pass:word'
    subprocess.run(command, cwd=certificates, check=True)
    file = certificates/'node.toml'
    file.write_text(GOOD + '[tls]\ncertificate = "node.pem"\nkey = "locked.key"\nca = "ca.pem"\n')
    with pytest.raises(ConfigError, match=r'^tls.certificate: .*locked by a password'): read_config(file)


def test_tls(certificates, assessor, hand, monkeypatch):
    """Both ways, with certificates on both sides; not in the clear, not with a stranger's; who is silent is let go."""
    monkeypatch.setattr(nodes, 'HANDSHAKE', .5)
    def context(name, purpose):
        made = ssl.create_default_context(purpose, cafile=certificates/'ca.pem')
        made.load_cert_chain(certificates/f'{name}.pem', certificates/f'{name}.key')
        made.verify_mode = ssl.CERT_REQUIRED
        return made
    archive = Archive(context('archive', ssl.Purpose.CLIENT_AUTH))
    setting = Setting(certificates, archive.port)
    more = '[tls]\ncertificate = "node.pem"\nkey = "node.key"\nca = "ca.pem"\n'
    setting.file.write_text(setting.file.read_text() + more)
    with running(setting.config, assessor) as node:
        assert call(setting.port) is None
        stranger = context('stranger', ssl.Purpose.SERVER_AUTH), '127.0.0.1'
        assert call(setting.port, tls=stranger) is None
        known = context('archive', ssl.Purpose.SERVER_AUTH), '127.0.0.1'
        silent = socket.create_connection(('127.0.0.1', setting.port))
        assert call(setting.port, radiograph(hand.picture), tls=known) == [SUCCESS]
        wait_for(lambda: done(node))
        silent.close()
    archive.stop()
    assert len(archive.objects) == 2


# The real thing

@pytest.fixture
def pacs(tmp_path):
    """Orthanc, and a setting whose archive it is."""
    if not orthanc_path(): pytest.skip('an archive: Orthanc is not on this machine (Debian: apt-get install orthanc)')
    port = free_port()
    orthanc = Orthanc(tmp_path, port)
    setting = Setting(tmp_path, orthanc.port)
    setting.file.write_text(setting.file.read_text().replace(f'port = {setting.port}', f'port = {port}'))
    setting.port = port
    yield orthanc, setting
    orthanc.stop()


def test_orthanc(pacs, assessor, hand, tmp_path):
    """A radiograph stored there comes to the node and back into its study; two other programs find no fault in it."""
    orthanc, setting = pacs
    with running(setting.config, assessor) as node:
        hands = [orthanc.upload(radiograph(hand.picture, n)) for n in (1, 2)]
        chest = orthanc.upload(radiograph(hand.picture, 3, BodyPartExamined='CHEST', SeriesDescription='chest'))
        start = time.monotonic()
        assert orthanc.send(hands[0])['FailedInstancesCount'] == 0
        wait_for(lambda: orthanc.number('SR') and orthanc.number('OT'), 30)
        seconds = time.monotonic() - start
        assert orthanc.send(hands[1], chest)['FailedInstancesCount'] == 0  # a warning is no failure
        wait_for(lambda: done(node) == 2)
        orthanc.send(*hands)
        wait_for(lambda: node.counts['sent'] == 8)
    reports, pictures = orthanc.results('SR'), orthanc.results('OT')
    assert len(reports) == len(pictures) == 2 and seconds < 20
    for n, ds in enumerate([*reports, *pictures]):
        assert ds.PatientName == 'Doe^Jane' and ds.StudyInstanceUID in ('1.2.826.0.1.1.1', '1.2.826.0.1.2.1')
        for program in [['dciodvfy'], *[['dsrdump']] * (ds.Modality == 'SR')]:
            if not shutil.which(program[0]): continue
            file = write(ds, tmp_path/f'{n}.dcm')
            said = subprocess.run([*program, file], capture_output=True, text=True, errors='replace')
            assert 'Error' not in said.stdout + said.stderr and 'E: ' not in said.stderr, said.stdout + said.stderr


def test_orthanc_by_itself(tmp_path, hand):
    """The script of the tutorial sends each hand that comes in, and no chest."""
    if not orthanc_path(): pytest.skip('an archive: Orthanc is not on this machine (Debian: apt-get install orthanc)')
    cells = json.loads((ROOT/'nbs/tutorials/beside_your_pacs.ipynb').read_text())['cells']
    [script] = [text for cell in cells for text in re.findall(r'```lua\n(.*?)```', ''.join(cell['source']), re.S)]
    (tmp_path/'hands.lua').write_text(script)
    setting = Setting(tmp_path, free_port())
    orthanc = Orthanc(tmp_path, setting.port, LuaScripts=[str(tmp_path/'hands.lua')])
    with running(setting.config, Reader()) as node:
        orthanc.upload(radiograph(hand.picture, 1, BodyPartExamined='CHEST', SeriesDescription='chest'))
        orthanc.upload(radiograph(hand.picture, 2))
        wait_for(lambda: count(node.queue)['refused'] == 1)
        assert node.counts['left_out'] == 0
    orthanc.stop()
