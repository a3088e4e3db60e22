"""Build the documentation site into _docs without Quarto and without the network: nbdev prepares the notebooks, smalldocs
renders them by the same _quarto.yml that `nbdev-docs` takes. Pages load nothing from another host."""
import html
import os
import re
import shutil
import sys
from pathlib import Path

import nbdev.serve
from latex2mathml.converter import convert
from nbdev.processors import FilterDefaults, exec_show_docs
from nbdev.quarto import nbdev_sidebar
from smalldocs.config import BuildError, ConfigError
from smalldocs.site import build

ROOT = Path(__file__).resolve().parent.parent
NBS, SITE = ROOT/'nbs', ROOT/'_docs'
EXPORTS = {'export', 'exports', 'exporti'}
# nbdev names pages without the number that orders notebooks
NUMBER = re.compile(r'^\d+[a-z]?_')
LINK = re.compile(r'\]\((?:nbs/)?((?:\.\./|\w+/)*)(?:\d+[a-z]?_)?(\w+\.ipynb)')
SOURCE = re.compile(r'\]\([^)\s]*/blob/\w+/boneage/(\w+)\.py#L(\d+)\)')
MATH = re.compile(r'<span class="math (?:inline|display)">\\([(\[])(.*?)\\[)\]]</span>', re.S)
# what a page or a style would load from another host: KaTeX, the fonts of a theme
ELSEWHERE = re.compile(r'<(?:link|script)[^>]*https?://[^>]*/katex[^>]*>(?:</script>)?\s*|@import url\([^)]*//[^)]*\);')
SOURCE_PAGE = '---\ntitle: "{title}"\nsearch: false\ntoc: false\npage-layout: full\n---\n\n```` {{.python #L code-line-numbers=true}}\n{code}\n````\n'


class RunExported(exec_show_docs):
    "Run what signatures are read from and no more: exported cells, what they import for annotations, and `show_doc`."
    def __call__(self, cell):
        if cell.cell_type != 'code' or not (EXPORTS & cell.directives_.keys() or 'show_doc(' in cell.source): return
        cell.source = cell.source.replace('if TYPE_CHECKING:', 'if True:')
        super().__call__(cell)


class Pages(FilterDefaults):
    "nbdev's processors of a notebook, with examples left as they were saved."
    def base_procs(self): return [RunExported if p is exec_show_docs else p for p in super().base_procs()]


def processed() -> Path:
    "The notebooks as nbdev publishes them, under the names and with the links they have in the site."
    nbdev_sidebar.__wrapped__(path=NBS)
    nbdev.serve.FilterDefaults = Pages
    proc = nbdev.serve.proc_nbs(str(NBS), force=True, n_workers=0)
    for path in proc.rglob('*.ipynb'):
        text = LINK.sub(r'](\1\2', path.read_text(encoding='utf-8'))
        path.unlink()
        path.with_name(NUMBER.sub('', path.name)).write_text(SOURCE.sub(r'](/source/\1.md#L-\2)', text), encoding='utf-8')
    sidebar = proc/'sidebar.yml'
    sidebar.write_text(re.sub(r'(- (?:\w+/)*)\d+[a-z]?_', r'\1', sidebar.read_text()))
    return proc


def add_sources(proc: Path):
    "A page for every module, where the source links of the reference lead."
    (proc/'source').mkdir()
    for module in sorted((ROOT/'boneage').glob('[!_]*.py')):
        page = SOURCE_PAGE.format(title=f'boneage/{module.name}', code=module.read_text(encoding='utf-8'))
        (proc/'source'/f'{module.stem}.md').write_text(page, encoding='utf-8')


def mathml(m: re.Match) -> str:
    "The formula that smalldocs left for KaTeX, as MathML."
    return convert(html.unescape(m[2]), display='block' if m[1] == '[' else 'inline')


def make_offline(site: Path):
    "Formulas become MathML, and nothing comes from another host: letters are those of the reader's system."
    for path in [*site.rglob('*.html'), *site.rglob('*.css')]:
        text = path.read_text(encoding='utf-8')
        path.write_text(ELSEWHERE.sub('', MATH.sub(mathml, text)), encoding='utf-8')


def write_site():
    "Build the site; end with a message where a link between pages leads nowhere."
    os.chdir(ROOT)
    proc = processed()
    add_sources(proc)
    site = build(proc, quiet=True)
    make_offline(site.out)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(site.out, SITE)
    shutil.rmtree(proc)
    print(f'{len(site.pages)} pages in {SITE.name}')
    if site.broken: sys.exit('links that lead nowhere:\n' + '\n'.join(f'{page}: {link}' for page, link in site.broken))


if __name__ == '__main__':
    try: write_site()
    except (BuildError, ConfigError) as e: sys.exit(str(e))
