"""Build the documentation site into _docs without Quarto and without the network: nbdev prepares the notebooks,
smalldocs renders them by the same _quarto.yml that `nbdev-docs` takes. Pages load nothing from another host, terms lead
to the glossary, and the source of what is exported is folded into its page."""
import ast
import html
import json
import os
import re
import shutil
import sys
from pathlib import Path

import nbdev.serve
import nbdev.showdoc
from fastcore.docments import MarkdownRenderer
from latex2mathml.converter import convert
from nbdev.processors import FilterDefaults, exec_show_docs
from smalldocs.config import BuildError, ConfigError
from smalldocs.highlight import highlight
from smalldocs.site import build

ROOT = Path(__file__).resolve().parent.parent
NBS, SITE = ROOT/'nbs', ROOT/'_docs'
EXPORTS = {'export', 'exports', 'exporti'}
# nbdev names pages without the number that orders notebooks
NUMBER = re.compile(r'^\d+_')
LINK = re.compile(r'\]\((?:nbs/)?((?:\.\./|\w+/)*)(?:\d+_)?(\w+\.ipynb)')
# nbdev links names of the reference also where the text of a link holds them
NAMED = r'\[(`[^`\n]+`)\]\([^)\s]*\)'
OUTER = re.compile(rf'\[((?:[^\[\]\n]|{NAMED})*)\]\(')
LISTED = re.compile(r'(- (?:\w+/)*)\d+_')
MATH = re.compile(r'<span class="math (?:inline|display)">\\([(\[])(.*?)\\[)\]]</span>', re.S)
# what a page or a style would load from another host: KaTeX, the fonts of a theme
ELSEWHERE = re.compile(r'<(?:link|script)[^>]*https?://[^>]*/katex[^>]*>(?:</script>)?\s*|@import url\([^)]*//[^)]*\);')
# a heading or a figure that nothing describes yet
DESCRIBED = re.compile(r'<h[1-6][^>]*>(?P<heading>.*?)</h[1-6]>|'
                       r'<img (?=src="data:image)(?!src="[^"]*"[^>]* alt=)', re.S)
# the anchor of a numbered line, which says nothing to whom does not see the numbers
NUMBERED = re.compile(r'(<a href="#L-\d+")(?=></a>)')
GLOSSARY = 'tutorials/glossary.ipynb'
TERM = re.compile(r'^### (?P<term>.+)\n+(?P<entry>.*)', re.M)
# said otherwise than an entry is named
OTHER_WORDS = {'conformal interval': ['conformal'], 'IoU': ['Jaccard index'], 'phantom': ['drawn hand']}
# their everyday meaning is as frequent in the lessons
EVERYDAY = {'cell', 'doubt', 'film', 'fold', 'head', 'label', 'reading'}
# markdown in which no term is linked: code, formulas, headings, links, blocks of HTML, tags
NO_PROSE = (r'```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|^#.*?$|!?\[(?:[^][]|\[[^]]*\])*\]\([^)]*\)'
            r'|^<.*?(?:\n[ \t]*\n|\Z)|<[^>]*>')
FOLDED = '''[{file}](/source/{page}.md#L-{line}){{.module}}

````{{=html}}
<details class="source"><summary>source</summary>
<pre><code class="sourceCode python">{code}</code></pre></details>
````
'''
SOURCE_PAGE = '''---
title: "{title}"
search: false
toc: false
page-layout: full
---

```` {{.python #L code-line-numbers=true}}
{code}
````
'''


class Reference(MarkdownRenderer):
    "The documentation of a symbol; its source is in the module of its notebook, whoever else has its name."
    module = ''  # learn.masks

    def source(self) -> str:
        "The link to the module's page, and the symbol's source, folded."
        path = self.module.replace('.', '/')
        code = (ROOT/f'boneage/{path}.py').read_text(encoding='utf-8')
        node = next(node for node in ast.parse(code).body if getattr(node, 'name', None) == self.nm)
        first = min(part.lineno for part in [node, *node.decorator_list])
        lines = '\n'.join(code.splitlines()[first - 1:node.end_lineno])
        return FOLDED.format(file=f'{path}.py', page=path, line=node.lineno, code=highlight(lines, 'python'))

    def _repr_markdown_(self):
        return f'---\n\n{"#" * self.title_level} {self.nm}\n\n{super()._repr_markdown_()}\n\n{self.source()}'


class RunExported(exec_show_docs):
    "Run what signatures are read from and no more: exported cells, what they import for annotations, and `show_doc`."
    def begin(self):
        super().begin()
        names = [cell.directives_['default_exp'] for cell in self.nb.cells if 'default_exp' in cell.directives_]
        Reference.module = names[0] if names else ''

    def __call__(self, cell):
        if cell.cell_type != 'code' or not (EXPORTS & cell.directives_.keys() or 'show_doc(' in cell.source): return
        cell.source = cell.source.replace('if TYPE_CHECKING:', 'if True:')
        super().__call__(cell)


class Pages(FilterDefaults):
    "nbdev's processors of a notebook, with examples left as they were saved."
    def base_procs(self): return [RunExported if p is exec_show_docs else p for p in super().base_procs()]


def published(text: str) -> str:
    "A notebook's text with links to pages by their names in the site, and no link within a link."
    text = OUTER.sub(lambda m: '[' + re.sub(NAMED, r'\1', m[1]) + '](', text)
    return LINK.sub(r'](\1\2', text)


def glossary() -> dict[str, re.Pattern]:
    "The terms of the glossary: where each is explained on its page, and how it is written in prose."
    cells = json.loads((NBS/GLOSSARY).read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown')
    terms = {}
    for m in TERM.finditer(text):
        if m['term'] in EVERYDAY: continue
        words = [m['term'], *OTHER_WORDS.get(m['term'], []), *re.findall(r'Plural: (\w+)', m['entry'])]
        written = '|'.join(f'[{word[0].upper()}{word[0].lower()}]{word[1:]}' for word in words)
        place = m['term'].lower().replace(' ', '-')
        terms[place] = re.compile(rf'{NO_PROSE}|(?<![\w-])((?:{written})s?)(?![\w-])', re.M | re.S)
    return terms


def link_terms(
    nb: dict,
    terms: dict[str, re.Pattern], # of `glossary`
    page: str, # the glossary, from the notebook's folder
) -> dict:
    "A notebook whose prose links every term to the glossary where it first occurs, if no link leads there yet."
    prose = [cell for cell in nb['cells'] if cell['cell_type'] == 'markdown']
    for place, written in terms.items():
        if any(f'glossary.ipynb#{place})' in ''.join(cell['source']) for cell in prose): continue
        for cell in prose:
            text = ''.join(cell['source'])
            first = next((m for m in written.finditer(text) if m[1]), None)
            if first is None: continue
            cell['source'] = f'{text[:first.start()]}[{first[1]}]({page}#{place}){text[first.end():]}'
            break
    return nb


def processed() -> Path:
    "The notebooks as nbdev publishes them, under the names and with the links they have in the site."
    nbdev.serve.FilterDefaults, nbdev.showdoc.BasicMarkdownRenderer = Pages, Reference
    proc = nbdev.serve.proc_nbs(str(NBS), force=True, n_workers=0)
    terms = glossary()
    for path in proc.rglob('*.ipynb'):
        text = published(path.read_text(encoding='utf-8'))
        page = os.path.relpath(proc/GLOSSARY, path.parent)
        if path != proc/GLOSSARY: text = json.dumps(link_terms(json.loads(text), terms, page))
        path.unlink()
        path.with_name(NUMBER.sub('', path.name)).write_text(text, encoding='utf-8')
    sidebar = proc/'sidebar.yml'
    sidebar.write_text(LISTED.sub(r'\1', sidebar.read_text(encoding='utf-8')), encoding='utf-8')
    return proc


def add_sources(proc: Path):
    "A page for every module, in folders as the modules are, where the source links of the reference lead."
    package = ROOT/'boneage'
    for module in sorted(package.rglob('[!_]*.py')):
        page = (proc/'source'/module.relative_to(package)).with_suffix('.md')
        page.parent.mkdir(parents=True, exist_ok=True)
        title, code = module.relative_to(ROOT).as_posix(), module.read_text(encoding='utf-8')
        page.write_text(SOURCE_PAGE.format(title=title, code=code), encoding='utf-8')


def mathml(m: re.Match) -> str:
    "The formula that smalldocs left for KaTeX, as MathML."
    if m[1] == '(': return convert(html.unescape(m[2]), display='inline')
    return f'<span class="formula">{convert(html.unescape(m[2]), display="block")}</span>'


def describe(text: str) -> str:
    "A page whose figures say to whom does not see them which section they belong to."
    heading = ''

    def described(m: re.Match) -> str:
        nonlocal heading
        if m['heading'] is None: return f'{m[0]}alt="Figure: {heading}" '
        heading = html.escape(html.unescape(re.sub(r'<[^>]*>', '', m['heading'])).strip())
        return m[0]
    return DESCRIBED.sub(described, text)


def make_offline(site: Path):
    "Formulas become MathML, and nothing comes from another host: letters are those of the reader's system."
    for path in [*site.rglob('*.html'), *site.rglob('*.css')]:
        text = ELSEWHERE.sub('', MATH.sub(mathml, path.read_text(encoding='utf-8')))
        path.write_text(describe(NUMBERED.sub(r'\1 aria-hidden="true" tabindex="-1"', text)), encoding='utf-8')


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
