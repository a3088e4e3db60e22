"""The documentation site: every link leads somewhere, nothing comes from another host, a browser shows every page."""
import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from urllib.parse import unquote, urljoin, urlsplit

import docs
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import copy_checkout

pytestmark = pytest.mark.xdist_group('site')  # built once

ADDRESS = 'http://site/'
WIDE, NARROW = {'width': 1300, 'height': 900}, {'width': 400, 'height': 900}
# what a browser fetches by itself; links are followed by people
LOADED = '[src], [srcset], [poster], object[data], link[href], use[href], image[href]'
STYLE_FROM_ELSEWHERE = re.compile(r'(?:@import|url\()[\s\'"(url]*(?:https?:)?//[^)\s]*')
# what lies beyond the window and in no box that scrolls, or is hidden by the box it is in
CUT = '''() => [...document.querySelectorAll('main *')].filter(each => {
  const overflow = node => getComputedStyle(node).overflowX
  if (['hidden', 'clip'].includes(overflow(each)) && each.scrollWidth > each.clientWidth + 1) return true
  const box = each.getBoundingClientRect()
  if (!box.width || box.left > -1 && box.right < innerWidth + 1) return false
  for (let node = each.parentElement; node.tagName != 'MAIN'; node = node.parentElement)
    if (['auto', 'scroll'].includes(overflow(node))) return false
  return true
}).map(each => each.outerHTML.slice(0, 80))'''
# the rules of axe-core that another width or other colours may break
OF_LOOKS = ['color-contrast', 'link-in-text-block', 'scrollable-region-focusable', 'target-size']
# of the words of code that look alike the first stays one, of its lines the longest, of a table the first rows
FEWER = '''() => {
  document.querySelectorAll('tbody > tr:nth-child(n+4)').forEach(row => row.remove())
  const seen = new Set()
  for (const span of document.querySelectorAll('pre span')) {
    const look = `${span.className} in ${span.closest('pre').className} ${!!span.closest('.cell-output')}`
    if (seen.has(look)) span.replaceWith(...span.childNodes); else seen.add(look)
  }
  for (const code of document.querySelectorAll('pre')) {
    code.normalize()
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) {
      const lines = texts.currentNode.data.split('\\n')
      const longest = lines.slice(1, -1).reduce((one, other) => other.length > one.length ? other : one, '')
      if (lines.length > 3) texts.currentNode.data = [lines[0], longest, lines.at(-1)].join('\\n')
    }
  }
}'''


def stamps(folder):
    """When every file under a folder was last written."""
    files = (p for p in folder.rglob('*') if p.is_file() and '__pycache__' not in p.parts)
    return {p.relative_to(folder).as_posix(): p.lstat().st_mtime_ns for p in files}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The site of a copy of the checkout, and the other files that building it wrote."""
    checkout = copy_checkout(tmp_path_factory.mktemp('site')/'checkout')
    before = stamps(checkout)
    done = subprocess.run([sys.executable, 'tools/docs.py'], cwd=checkout, timeout=540, text=True, capture_output=True)
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
    def parsed(page):
        text = page.read_text(encoding='utf-8')
        return BeautifulSoup(re.sub(r'(;base64,)[\w+/=]+', r'\1', text), 'html.parser')  # pictures are slow to parse
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


def test_the_site_is_built_once(request):
    """pytest-xdist keeps the tests of this file on one worker: their names say so (with pytest 9.2 it does not)."""
    if 'PYTEST_XDIST_WORKER' not in os.environ: pytest.skip('one process, which builds once anyway')
    assert request.node.nodeid.endswith('@site')


def page_name(listed):
    """The page of a notebook as nbs/sidebar.yml lists it: without the number, in the same folder."""
    return re.sub(r'(^|/)\d+_', r'\1', listed.removesuffix('.ipynb')) + '.html'


def watched(browser, viewport, address):
    """A browser page, and the list of what goes wrong on it."""
    page, wrong = browser.new_page(viewport=viewport, color_scheme='light'), []
    def note(what, when=True): when and wrong.append(f'{page.url}: {what}')
    page.on('console', lambda message: note(message.text, message.type == 'error'))
    page.on('pageerror', lambda error: note(error))
    page.on('requestfailed', lambda request: note(f'{request.url} failed'))
    page.on('response', lambda response: note(f'{response.url}: {response.status}', response.status >= 400))
    page.on('request', lambda request: note(f'asks for {request.url}', not request.url.startswith((address, 'data:'))))
    return page, wrong


def test_only_the_site_is_written(built): assert not built[1]


def listed(site):
    """What nbs/sidebar.yml lists: its contents, and the pages of all of its notebooks in their order."""
    sidebar = (site.parent/'nbs/sidebar.yml').read_text(encoding='utf-8')
    contents = yaml.safe_load(sidebar)['website']['sidebar']['contents']
    names = [name for item in contents for name in (item['contents'] if isinstance(item, dict) else [item])]
    return contents, [page_name(name) for name in names]


def test_every_notebook_has_its_page_in_order(site, pages):
    """The sidebar is that of nbs/sidebar.yml, titles of sections and all."""
    contents, wanted = listed(site)
    sections = [item for item in contents if isinstance(item, dict)]
    sidebar = pages['index.html'].select_one('#quarto-sidebar')
    shown = [a['href'].removeprefix('./') for a in sidebar.select('.sidebar-item a[href]')]
    assert [href for href in shown if not href.startswith('#')] == wanted
    headings = sidebar.select('.sidebar-item-section > .sidebar-item-container .menu-text')
    assert [heading.get_text(strip=True) for heading in headings] == [section['section'] for section in sections]
    assert {name for name in pages if not name.startswith('source/')} == set(wanted)
    nbs = site.parent/'nbs'
    notebooks = {p.relative_to(nbs).as_posix() for p in nbs.rglob('[!_]*.ipynb') if '.ipynb_checkpoints' not in p.parts}
    assert set(wanted) == {page_name(name) for name in notebooks}


def test_previous_and_next(site, pages):
    """At the foot of a page are the ones before and after it in the sidebar."""
    order = listed(site)[1]
    for before, name, after in zip([None, *order], order, [*order[1:], None]):
        for side, neighbour in (('previous', before), ('next', after)):
            links = pages[name].select(f'.nav-page-{side} a')
            links = [urlsplit(urljoin(ADDRESS + name, a['href'])).path[1:] for a in links]
            assert links == ([neighbour] if neighbour else []), f'{name}: {side}'


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
    """Each public function and class has a heading, a link to the line that defines it, and its source, folded."""
    from boneage._modidx import d
    for module, symbols in d['syms'].items():
        for symbol, (address, _) in symbols.items():
            name = symbol.removeprefix(f'{module}.')
            if '.' in name or name.startswith('_'): continue
            page, _, place = address.partition('#')
            assert place in places[page], f'{page} has no {name}'
            link = places[page][place].find_next('a', class_='module')
            url = urlsplit(urljoin(ADDRESS + page, link['href']))
            assert url.path == f'/source/{module.removeprefix("boneage.").replace(".", "/")}.html'
            line = places[url.path[1:]][url.fragment]
            assert re.search(rf'(def|class) {name}\b', line.text), f'{page}: the source link of {name}'
            folded = link.find_next('details', class_='source')
            assert line.text in folded.text and not folded.has_attr('open'), f'{page}: the source of {name}'


def test_terms_lead_to_the_glossary(pages, places):
    """A page links a term once at most, in its prose, to the entry; the lessons link the words that they use."""
    linked = Counter()
    for name, page in pages.items():
        found = [a for a in page.select('main a[href*="glossary.html#"]') if name != 'tutorials/glossary.html']
        terms = Counter(urlsplit(a['href']).fragment for a in found)
        assert terms.keys() <= places['tutorials/glossary.html'].keys()
        assert all(n == 1 for n in terms.values()), f'{name}: {terms.most_common(3)}'
        for a in found: assert not a.find_parent(['h1', 'h2', 'h3', 'h4', 'pre', 'code', 'math', 'summary']), name
        linked += terms
    assert {'capitate', 'epiphysis', 'phalanx', 'conformal-interval', 'growth-plate', 'mae'} <= linked.keys()
    assert linked['bone-age'] > 10


def test_first_occurrence_is_linked():
    """Whole words and plurals in prose: not in headings, code, formulas, links or tags, nor where a link is."""
    lines = ['## Epiphysis', '`epiphysis` $epiphysis$ <b epiphysis> [an epiphysis](a.ipynb)', '```\nepiphysis\n```',
             'subepiphysis', 'Two Epiphyses and an epiphysis; a [carpal](../tutorials/glossary.ipynb#carpal), carpals.']
    cells = [{'cell_type': 'code', 'source': 'epiphysis'}, {'cell_type': 'markdown', 'source': '\n\n'.join(lines)}]
    linked = docs.link_terms({'cells': cells}, docs.glossary(), 'g.ipynb')['cells']
    wanted = lines[-1].replace('Epiphyses', '[Epiphyses](g.ipynb#epiphysis)')
    assert linked[0]['source'] == 'epiphysis' and linked[1]['source'] == '\n\n'.join([*lines[:-1], wanted])


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


def show(page, viewport, scheme):
    """A page in a window of another size, light or dark."""
    page.set_viewport_size(viewport)
    page.emulate_media(color_scheme=scheme)
    is_dark = json.dumps(scheme == 'dark')
    page.wait_for_function(f'document.documentElement.classList.contains("quarto-dark") == {is_dark}')


def test_pages_in_a_browser(pages, server, browser):
    """Every page loads without an error, shows its pictures, and cuts nothing off, wide and narrow."""
    page, wrong = watched(browser, WIDE, server)
    for name in pages:
        page.goto(server + name)
        is_whole = page.evaluate('[...document.images].every(i => i.complete && i.naturalWidth)')
        if not is_whole: wrong.append(f'{name}: a picture is not shown')
        page.evaluate('document.querySelectorAll("details").forEach(each => each.open = true)')
        for viewport in (WIDE, NARROW):
            page.set_viewport_size(viewport)
            is_wide = page.evaluate('document.scrollingElement.scrollWidth > innerWidth')
            if is_wide: wrong.append(f'{name}: wider than the window at {viewport["width"]}')
            wrong += [f'{name}: cut at {viewport["width"]}: {each}' for each in page.evaluate(CUT)]
        page.set_viewport_size(WIDE)
    assert not wrong, '\n'.join(wrong)


@pytest.mark.timeout(900)
def test_pages_for_everyone(pages, server, browser):
    """No serious violation, wide and light, narrow and dark: in the whole of `index.html`, in others' contents."""
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    page, wrong = watched(browser, WIDE, server)
    longest = max((name for name in pages if name.startswith('source/')), key=lambda name: len(pages[name].text))
    for name in pages:
        if name.startswith('source/') and name != longest: continue  # they differ in nothing but their code
        page.goto(server + name)
        page.add_style_tag(content='* { transition: none !important }')  # colours are looked at when they have settled
        page.evaluate(FEWER)
        for viewport, scheme, rules in ((WIDE, 'light', {}), (NARROW, 'dark', {'runOnly': OF_LOOKS})):
            show(page, viewport, scheme)
            part = None if name == 'index.html' else 'main'
            found = axe.run(page, part, {'resultTypes': ['violations']} | rules).response
            assert found['passes'], f'axe has looked at {name}'
            serious = [rule for rule in found['violations'] if rule['impact'] in ('serious', 'critical')]
            wrong += [f'{name}, {scheme}: {rule["id"]}, {node["target"]}, {node["failureSummary"]}'
                      for rule in serious for node in rule['nodes']]
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
