"""The documentation site: every link leads somewhere, nothing comes from another host, a browser shows every page."""
import functools
import http.server
import json
import re
import subprocess
import sys
import threading
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import copy_checkout

pytestmark = pytest.mark.xdist_group('site')  # built once

ADDRESS = 'http://site/'
WIDE, NARROW = {'width': 1280, 'height': 900}, {'width': 390, 'height': 844}
# what a browser fetches by itself; links are followed by people
LOADED = '[src], [srcset], [poster], object[data], link[href], use[href], image[href]'
STYLE_FROM_ELSEWHERE = re.compile(r'(?:@import|url\()[\s\'"(url]*(?:https?:)?//[^)\s]*')


def stamps(folder):
    """When every file under a folder was last written."""
    files = (p for p in folder.rglob('*') if p.is_file() and '__pycache__' not in p.parts)
    return {p.relative_to(folder).as_posix(): p.lstat().st_mtime_ns for p in files}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The site of a copy of the checkout, and the other files that building it wrote."""
    checkout = copy_checkout(tmp_path_factory.mktemp('site')/'checkout')
    before = stamps(checkout)
    done = subprocess.run([sys.executable, 'tools/docs.py'], cwd=checkout, timeout=400, text=True, capture_output=True)
    # a broken link is for test_links to tell
    if not (checkout/'_docs').is_dir(): pytest.fail(done.stdout + done.stderr, pytrace=False)
    after = stamps(checkout)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return checkout/'_docs', {name for name in changed if not name.startswith('_docs/')}


@pytest.fixture(scope='module')
def site(built): return built[0]


@pytest.fixture(scope='module')
def pages(site):
    """Every page, parsed, by its path in the site."""
    def parsed(page): return BeautifulSoup(page.read_text(encoding='utf-8'), 'html.parser')
    return {page.relative_to(site).as_posix(): parsed(page) for page in sorted(site.rglob('*.html'))}


@pytest.fixture(scope='module')
def places(pages):
    """What a link can lead to within every page: tags by their id."""
    return {name: {tag['id']: tag for tag in page.find_all(id=True)} for name, page in pages.items()}


@pytest.fixture(scope='module')
def server(site):
    """The site on a port of this machine: its address."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


def page_name(listed):
    """The page of a notebook as nbs/sidebar.yml lists it: without the number, in the same folder."""
    return re.sub(r'(^|/)\d+_', r'\1', listed.removesuffix('.ipynb')) + '.html'


def watched(browser, viewport, address):
    """A browser page, and the list of what goes wrong on it."""
    page, wrong = browser.new_page(viewport=viewport), []
    def note(what, when=True): when and wrong.append(f'{page.url}: {what}')
    page.on('console', lambda message: note(message.text, message.type == 'error'))
    page.on('pageerror', lambda error: note(error))
    page.on('requestfailed', lambda request: note(f'{request.url} failed'))
    page.on('response', lambda response: note(f'{response.url}: {response.status}', response.status >= 400))
    page.on('request', lambda request: note(f'asks for {request.url}', not request.url.startswith((address, 'data:'))))
    return page, wrong


def test_only_the_site_is_written(built): assert not built[1]


def test_every_notebook_has_its_page_in_order(site, pages):
    """The sidebar is that of nbs/sidebar.yml, titles of sections and all."""
    nbs = site.parent/'nbs'
    contents = yaml.safe_load((nbs/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    sections = [item for item in contents if isinstance(item, dict)]
    wanted = [page_name(name) for item in contents for name in (item['contents'] if isinstance(item, dict) else [item])]
    sidebar = pages['index.html'].select_one('#quarto-sidebar')
    shown = [a['href'].removeprefix('./') for a in sidebar.select('.sidebar-item a[href]')]
    assert [href for href in shown if not href.startswith('#')] == wanted
    headings = sidebar.select('.sidebar-item-section > .sidebar-item-container .menu-text')
    assert [heading.get_text(strip=True) for heading in headings] == [section['section'] for section in sections]
    assert {name for name in pages if not name.startswith('source/')} == set(wanted)
    notebooks = {p.relative_to(nbs).as_posix() for p in nbs.rglob('[!_]*.ipynb') if '.ipynb_checkpoints' not in p.parts}
    assert set(wanted) == {page_name(name) for name in notebooks}


def test_links(site, pages, places):
    """Every link between pages, and every result of a search, leads to a page and a place in it that exist."""
    links = [(name, a['href']) for name, page in pages.items() for a in page.find_all('a', href=True)]
    links += [('search.json', entry['href']) for entry in json.loads((site/'search.json').read_text(encoding='utf-8'))]
    broken = []
    for name, href in links:
        url = urlsplit(urljoin(ADDRESS + name, href))
        if url.netloc != urlsplit(ADDRESS).netloc: continue
        target, place = unquote(url.path)[1:] or 'index.html', unquote(url.fragment)
        is_there = (site/target).is_file() and (not place or place in places.get(target, ()))
        if not is_there: broken.append(f'{name} -> {href}')
    assert not broken, '\n'.join(sorted(set(broken)))
    assert len(links) > 1000


def test_no_link_is_left_as_text(pages):
    """Markdown's links, links within links too, became links."""
    left = [f'{name}: {tag.text}' for name, page in pages.items() for tag in page.select('main p, main li, main td')
            if re.search(r'\]\([\w./-]+\.(?:ipynb|html|md)', tag.text)]
    assert not left, '\n'.join(left)


def test_every_export_is_documented_with_its_source(places):
    """Each public function and class has a heading, and its source link leads to the line that defines it."""
    from boneage._modidx import d
    for module, symbols in d['syms'].items():
        for symbol, (address, _) in symbols.items():
            name = symbol.removeprefix(f'{module}.')
            if '.' in name or name.startswith('_'): continue
            page, _, place = address.partition('#')
            assert place in places[page], f'{page} has no {name}'
            url = urlsplit(urljoin(ADDRESS + page, places[page][place].find_previous('a', string='source')['href']))
            assert url.path == f'/source/{module.removeprefix("boneage.").replace(".", "/")}.html'
            line = places[url.path[1:]][url.fragment]
            assert re.search(rf'(def|class) {name}\b', line.text), f'{page}: the source link of {name}'


def elsewhere(name, url):
    """Whether what a page names by this address is on another host."""
    return urlsplit(urljoin(ADDRESS + name, url)).netloc not in ('', urlsplit(ADDRESS).netloc)


def test_nothing_from_another_host(site, pages):
    """No script, style, font or picture of another host, and no formula that waits for a script."""
    loaded = [(name, tag.get(attribute)) for name, page in pages.items() for tag in page.select(LOADED)
              for attribute in ('src', 'srcset', 'poster', 'data', 'href') if tag.get(attribute)]
    styles = [p.read_text(encoding='utf-8') for p in site.rglob('*.css')]
    styles += [style.text for page in pages.values() for style in page.find_all('style')]
    assert len(loaded) > len(pages) and styles
    foreign = [f'{name}: {url}' for name, url in loaded if elsewhere(name, url)]
    foreign += [url for style in styles for url in STYLE_FROM_ELSEWHERE.findall(style)]
    assert not foreign, '\n'.join(foreign)
    assert pages['learning/masks.html'].select('math[display=block] munderover')
    assert not [name for name, page in pages.items() if page.find(class_='math')]


@pytest.mark.parametrize('word', ['jaccard', 'capitate', 'expectation'])
def test_search_index(site, word):
    entries = json.loads((site/'search.json').read_text(encoding='utf-8'))
    assert any(word in f'{e["title"]} {e["section"]} {e["text"]}'.lower() for e in entries)


@pytest.mark.parametrize('viewport', [WIDE, NARROW], ids=['wide', 'narrow'])
def test_pages_in_a_browser(pages, server, browser, viewport):
    """Every page loads without an error, shows its pictures, and fits the window."""
    page, wrong = watched(browser, viewport, server)
    for name in pages:
        page.goto(server + name)
        is_wide = page.evaluate('document.scrollingElement.scrollWidth > innerWidth')
        if is_wide: wrong.append(f'{name}: wider than the window')
        is_whole = page.evaluate('[...document.images].every(i => i.complete && i.naturalWidth)')
        if not is_whole: wrong.append(f'{name}: a picture is not shown')
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('viewport', [WIDE, NARROW], ids=['wide', 'narrow'])
def test_search_in_a_browser(server, browser, viewport):
    page, wrong = watched(browser, viewport, server)
    page.goto(server)
    if viewport is NARROW: page.locator('.navbar-toggler').click()
    page.get_by_placeholder('Search').locator('visible=true').fill('capitate')
    found = page.locator('.search-result').locator('visible=true').first
    assert 'capitate' in found.inner_text().lower()
    found.click()
    page.wait_for_url(lambda url: url != server)
    assert 'capitate' in page.locator('main').inner_text().lower()
    assert not wrong, '\n'.join(wrong)
