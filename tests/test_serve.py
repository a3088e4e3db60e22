"""The page in a real browser: a drawn hand dropped on it comes back with an age, a text file with the reason."""
import subprocess
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import cv2
import httpx
import pytest
from conftest import BONEAGE, write_dicom
from pacs import free_port
from fastapi import FastAPI
from fastapi.testclient import TestClient

from boneage.assessment import Assessment
from boneage.clinic.serve import UPLOADS, add_service
from boneage.drawn.cohort import write_hand

pytestmark = pytest.mark.xdist_group('serve')  # one server


@pytest.fixture(scope='module')
def server():
    """`boneage serve` on a free port: its address."""
    port = free_port()
    command = [BONEAGE, 'serve', '--port', str(port), '--no-browser']
    process, address = subprocess.Popen(command, stderr=subprocess.PIPE, text=True), f'http://127.0.0.1:{port}'
    for _ in range(120):
        try: urllib.request.urlopen(address).close(); break
        except OSError: time.sleep(.5)
        assert process.poll() is None, process.stderr.read()
    yield address
    process.terminate()
    assert process.wait(20) == 0 and not list(Path(tempfile.gettempdir()).glob(f'{UPLOADS}{process.pid}-*'))


def test_taken_port(server, capsys):
    from boneage import cli
    assert cli.main(['serve', '--port', server.rsplit(':')[-1], '--no-browser']) == 2
    assert 'is taken; name another one' in capsys.readouterr().err


def test_page(server, browser, hand, tmp_path):
    cv2.imwrite(str(tmp_path/'hand.png'), hand.picture)
    (tmp_path/'notes.txt').write_text('no picture')
    page, asked, wrong = browser.new_page(), [], []
    page.on('request', lambda request: asked.append(request.url))
    page.on('console', lambda message: message.type == 'error' and wrong.append(message.text))
    page.goto(server)
    page.get_by_text('Sex').first.wait_for(timeout=30_000)
    page.locator('input[type=file]').first.set_input_files([tmp_path/'hand.png', tmp_path/'notes.txt'])
    page.get_by_label('boy' if hand.male else 'girl').check()
    page.get_by_text('notes').first.wait_for(timeout=20_000)
    page.get_by_role('button', name='Assess').click()
    answer = page.get_by_label('In short')
    for _ in range(120):
        if 'notes.txt' in (said := answer.input_value()): break
        page.wait_for_timeout(250)
    assert 'hand.png: ' in said and ' months (' in said and 'notes.txt: not assessed: is not a picture' in said
    assert 'beside the age' not in said
    report = page.locator('.report')
    assert 'Not assessed' in report.inner_text() and 'What the age rests on' in report.inner_text()
    assert report.locator('img').evaluate_all('found => found.map(img => img.naturalWidth > 200)') == [True] * 3
    with page.expect_download() as kept: page.get_by_role('button', name='Keep this report').click()
    assert kept.value.suggested_filename == 'bone_age_report.html'
    assert all(url.startswith((server, 'data:', 'blob:', 'about:')) for url in asked), asked
    assert not wrong, wrong
    page.screenshot(path=str(tmp_path/'page.png'), full_page=True)


def go_to(page, name, steps=40):
    """Walk with the tabulator to what has this name."""
    for _ in range(steps):
        page.keyboard.press('Tab')
        says = page.evaluate('(document.activeElement.ariaLabel || document.activeElement.innerText || "") + '
                             '[...(document.activeElement.labels || [])].map(label => label.innerText)')
        if name in says: return
    pytest.fail(f'{name} is not reached by the keyboard')


def widths(page):
    """A page in a wide window, and in one of a telephone."""
    for width in (400, 1300):
        page.set_viewport_size({'width': width, 'height': 900})
        page.wait_for_timeout(300)
        yield width


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_page_for_everyone(server, browser, violations, tmp_path, scheme):
    """Empty, with an error, with one child's course and what was refused: no serious violation, nothing cut off."""
    for n in range(2):
        px = cv2.imread(str(write_hand(tmp_path/f'{n}.png', 96 + 24 * n, False, 3, 600)), 0)
        write_dicom(tmp_path/f'{n}.dcm', px, PatientID='4711', PatientSex='F', PatientBirthDate='20100301',
                    StudyDate=f'20{18 + 2 * n}0301')
    (tmp_path/'notes.txt').write_text('no picture')
    page = browser.new_page(color_scheme=scheme)
    page.goto(server)
    page.get_by_role('button', name='Assess').wait_for(timeout=30_000)
    for width in widths(page): assert not violations(page), width
    page.locator('input[type=file]').first.set_input_files([tmp_path/name for name in ('0.dcm', '1.dcm', 'notes.txt')])
    page.get_by_text('notes').first.wait_for(timeout=20_000)
    page.evaluate('document.activeElement.blur()')
    go_to(page, 'as the DICOM file says')
    go_to(page, 'Age in months')
    go_to(page, 'Height in cm')
    page.keyboard.type('140')
    go_to(page, 'Assess')
    page.keyboard.press('Enter')
    answer = page.get_by_label('In short')
    page.wait_for_function('field => field.value.includes("give that one alone")', arg=answer.element_handle())
    for width in widths(page): assert not violations(page), width
    page.get_by_label('Height in cm').fill('')
    page.get_by_role('button', name='Assess').click()
    page.get_by_role('heading', name='Over the years: a girl').wait_for(timeout=60_000)
    page.wait_for_timeout(500)
    said = answer.input_value()
    assert 'pace: ' in said and 'notes.txt: not assessed' in said and str(tmp_path) not in said
    assert page.locator('h1').all_inner_texts() == ['Bone age']
    for width in widths(page):
        assert not violations(page), width
        cut = page.evaluate('''[...document.querySelectorAll('.report :is(img, svg, td, figcaption, h2, p)')].filter(
            each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))''')
        assert not cut and page.evaluate('document.scrollingElement.scrollWidth <= innerWidth'), (width, cut)
        page.screenshot(path=str(tmp_path/f'page_{scheme}_{width}.png'), full_page=True)


class Slow:
    """In place of an `Assessor`: keeps count of how many radiographs it has in hand."""
    now = most = 0
    model = 'slow'

    def __init__(self): self.counting = Lock()

    def count(self, more):
        with self.counting:
            self.now += more
            self.most = max(self.most, self.now)

    def assess(self, file, sex, age_months=None, level=.9, height_cm=None):
        self.count(1)
        time.sleep(.05)
        self.count(-1)
        return Assessment(str(file), sex, False, 'a reason', None, None, 'slow')


def test_two_at_a_time():
    """Whoever asks waits for those before, and everyone gets the answer to the own file."""
    app, slow = FastAPI(), Slow()
    add_service(app, slow)
    client = TestClient(app)
    def ask(n): return client.post('/assess', files=dict(file=(f'{n}.png', b'x')), data=dict(sex='F')).json()['file']
    with ThreadPoolExecutor(6) as pool: assert list(pool.map(ask, range(12))) == [f'{n}.png' for n in range(12)]
    assert slow.most == 2


PICTURE = 'a.png', b'x'


@pytest.mark.parametrize('files, data, says', [
    ({}, dict(sex='F', file='hand.png'), 'file is sent as text'),
    (dict(x=PICTURE), dict(sex='F', file='<svg>'), 'file is sent as text'),
    (dict(file=PICTURE, sex=('s', b'F')), {}, 'sex is sent as a file'),
    (dict(file=PICTURE, age_months=('s', b'9')), dict(sex='F'), 'age_months is sent as a file'),
    ([('file', PICTURE)] * 2, dict(sex='F'), 'file is sent twice'),
    (dict(file=PICTURE), dict(sex='F', age_months='10_5'), "'10_5' is not a number"),
    (dict(file=PICTURE), dict(sex='F', height_cm='1_40'), "'1_40' is not a number"),
    (dict(file=PICTURE), dict(sex='F', age_months='ten'), "'ten' is not a number"),
    (dict(file=PICTURE), dict(sex='X'), "'F' or 'M'"),
    (dict(file=PICTURE), dict(sex='F', width='300'), "'width' is no field"),
    ({}, dict(sex='F'), 'Field required')])
def test_a_wrong_request_is_answered_in_words(files, data, says):
    """A 422 that says what is wrong, and nothing of Python or of what lies within."""
    app = FastAPI()
    add_service(app, Slow())
    answer = TestClient(app).post('/assess', files=files, data=data)
    assert answer.status_code == 422 and says in answer.text.replace('\\', ''), answer.text
    for never in ('class', 'UploadFile', '_max_size', 'headers', 'rror'): assert never not in answer.text, answer.text
    assert isinstance(answer.json()['detail'], str) and len(answer.text) < 400


def test_what_stands_in_the_address_is_not_passed_over():
    """A boy's radiograph with ?sex=F would be assessed as the header says, without a word."""
    app = FastAPI()
    add_service(app, Slow())
    answer = TestClient(app).post('/assess?sex=F', files=dict(file=PICTURE))
    assert answer.status_code == 422 and 'stands in the address' in answer.text


def test_a_full_queue_says_so_at_once():
    """Who comes when two wait already is told when to come back, and everybody else is served."""
    app, slow = FastAPI(), Slow()
    add_service(app, slow, most_waiting=2)
    client = TestClient(app)
    def ask(n): return client.post('/assess', files=dict(file=(f'{n}.png', b'x')), data=dict(sex='F'))
    with ThreadPoolExecutor(8) as pool: answers = list(pool.map(ask, range(8)))
    served, sent_away = ([a for a in answers if a.status_code == status] for status in (200, 503))
    assert len(served) >= 2 and len(sent_away) >= 1 and len(served) + len(sent_away) == 8
    assert all(int(a.headers['retry-after']) > 0 for a in sent_away)
    assert ask(9).status_code == 200, 'a place is given back'


@pytest.mark.parametrize('host, status', [('0.0.0.0', 'lets others ask'), ('::', 'lets others ask'),
                                          ('192.0.2.7 --allow-host me', 'cannot be listened to')])
def test_hosts(host, status, capsys):
    from boneage import cli
    assert cli.main(['serve', '--no-browser', '--host', *host.split()]) == 2
    assert status in capsys.readouterr().err


def test_hostile_requests(server, hand, tmp_path):
    """Five that mean no good among forty, from eight threads: the good ones get their age, the server lives on."""
    png = cv2.imencode('.png', hand.picture)[1].tobytes()
    hostile = [b'', b'\0' * 20_000_000, png[:len(png) // 2], b'\x89PNG\r\n\x1a\n' + bytes(5000), b'DICM' * 50_000]

    def ask(n):
        data = hostile[n // 8] if n % 8 == 3 else png
        name = '../' * (n % 4) + f'{n}.dcm'
        answer = httpx.post(f'{server}/assess', files=dict(file=(name, data)), data=dict(sex='F'), timeout=60)
        return n % 8 == 3, answer.json()
    with ThreadPoolExecutor(8) as pool: answers = list(pool.map(ask, range(40)))
    good = [answer for is_hostile, answer in answers if not is_hostile]
    assert len({answer['bone_age_months'] for answer in good}) == 1 and all(answer['accepted'] for answer in good)
    assert all(not answer.get('accepted') for is_hostile, answer in answers if is_hostile)
    assert httpx.get(f'{server}/health').json() == {'status': 'ok'}


@pytest.mark.parametrize('name', ['/dev/zero', '/etc/passwd', '/', 'hand.png', 'http://192.0.2.7/hand.png', 'a\0b'])
def test_the_page_opens_only_what_was_uploaded(server, name):
    """A call of the page that names a file of this machine, or an address, gets no more than a line."""
    call = dict(data=[[dict(path=name, meta=dict(_type='gradio.FileData'))], 'F', '', ''])
    for path in ('call/answer', 'queue/join', 'run/answer', 'api/answer'):
        answer = httpx.post(f'{server}/gradio_api/{path}', json=call, timeout=10)
        assert (answer.status_code, 'not uploaded here' in answer.text) == (403, True), path
    assert httpx.post(f'{server}/gradio_api/call/answer', content=bytes(2**21), timeout=10).status_code == 413
    assert httpx.get(f'{server}/health').json() == {'status': 'ok'}


def test_no_page_loads_from_elsewhere(server):
    """FastAPI's own pages of the service would."""
    assert [httpx.get(f'{server}/{page}').status_code for page in ('docs', 'redoc', 'openapi.json')] == [404, 404, 200]
