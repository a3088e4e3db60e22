"""Archives to test a node with: one of a few lines, and Orthanc where it is installed; and radiographs for them."""
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from boneage.drawn.cohort import as_dicom

CHILD = dict(PatientName='Doe^Jane', PatientID='4711-0815', PatientSex='F', PatientBirthDate='20110301',
             StudyDate='20200301', AccessionNumber='A0815')
HAND = dict(Modality='DX', BodyPartExamined='HAND', SeriesDescription='left hand', ImageLaterality='L',
            StudyID='1', SeriesNumber=1, InstanceNumber=1)


def free_port():
    """A port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait_for(what, seconds=60):
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f'not so after {seconds} s'
        time.sleep(.05)
    return found


def radiograph(px, number=1, **tags):
    """A picture, uint8, as a scanner's file, with identifiers of its own for each number."""
    uids = zip(('StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID'), (1, 2, 3))
    return as_dicom(px, **{name: f'1.2.826.0.1.{number}.{n}' for name, n in uids}, **(HAND | CHILD | tags))


def call(port, *radiographs, title='ORTHANC', called='BONEAGE', tls=None):
    """What a node answers to each radiograph, or to C-ECHO; None where it does not talk to us."""
    ae = AE(title)
    ae.add_requested_context(Verification)
    for kind in {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in radiographs}:
        ae.add_requested_context(*kind)
    link = ae.associate('127.0.0.1', port, ae_title=called, tls_args=tls)
    if not link.is_established: return None
    answers = [link.send_c_store(ds) for ds in radiographs] or [link.send_c_echo()]
    link.release()
    return [answer.get('Status') for answer in answers]


class Archive:
    """Keeps what it is sent, by SOPInstanceUID, and counts how often."""
    def __init__(self, tls=None):
        self.port, self.tls, self.status = free_port(), tls, 0x0000
        self.objects, self.times = {}, Counter()
        self.start()

    def start(self):
        ae = AE('ORTHANC')
        for kind in (ComprehensiveSRStorage, SecondaryCaptureImageStorage): ae.add_supported_context(kind)
        ae.start_server(('127.0.0.1', self.port), False, self.tls, [(evt.EVT_C_STORE, self.store)])
        self.ae = ae

    def stop(self): self.ae.shutdown()

    def store(self, event):
        if self.status: return self.status
        ds = dcmread(BytesIO(event.encoded_dataset()))
        self.objects[ds.SOPInstanceUID] = ds
        self.times[ds.SOPInstanceUID] += 1
        return 0x0000

    def of(self, modality):
        """What it has of a modality."""
        return [ds for ds in [*self.objects.values()] if ds.Modality == modality]


class Orthanc:
    """Orthanc on this machine, in a folder of its own, with the node at `node_port` as its modality `boneage`."""
    def __init__(self, folder, node_port, **more):
        self.folder, self.http, self.port = Path(folder), free_port(), free_port()
        options = dict(StorageDirectory=str(self.folder/'db'), IndexDirectory=str(self.folder/'db'), Plugins=[],
                       HttpPort=self.http, AuthenticationEnabled=False, DicomAet='ORTHANC', DicomPort=self.port,
                       DicomModalities=dict(boneage=['BONEAGE', '127.0.0.1', node_port]), OverwriteInstances=True)
        (self.folder/'orthanc.json').write_text(json.dumps(options | more))
        self.start()

    def start(self):
        log = (self.folder/'orthanc.log').open('a')
        command = [shutil.which('Orthanc') or '/usr/sbin/Orthanc', self.folder/'orthanc.json']
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self.is_up, 30)

    def is_up(self):
        try: return self.get('/system')
        except OSError: return False

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def request(self, path, data=None):
        request = urllib.request.Request(f'http://127.0.0.1:{self.http}{path}', data)
        with urllib.request.urlopen(request, timeout=60) as answer: return answer.read()

    def get(self, path): return json.loads(self.request(path))

    def upload(self, ds):
        """Store a data set; its identifier in Orthanc."""
        file = BytesIO()
        ds.save_as(file, enforce_file_format=True)
        return json.loads(self.request('/instances', file.getvalue()))['ID']

    def send(self, *identifiers):
        """Let it send what it has to the node."""
        return json.loads(self.request('/modalities/boneage/store', json.dumps(identifiers).encode()))

    def results(self, modality='SR'):
        """The data sets of a modality that it has, without pixels."""
        found = json.loads(self.request('/tools/find', json.dumps(dict(
            Level='Instance', Query=dict(Modality=modality))).encode()))
        return [dcmread(BytesIO(self.request(f'/instances/{each}/file'))) for each in found]

    def number(self, modality='SR'):
        return len(json.loads(self.request('/tools/find', json.dumps(dict(
            Level='Instance', Query=dict(Modality=modality))).encode())))


def orthanc_path():
    """Where Orthanc is, which Debian installs where only root looks; None where it is not."""
    return shutil.which('Orthanc') or shutil.which('/usr/sbin/Orthanc')
