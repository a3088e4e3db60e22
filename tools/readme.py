"""Make README.md from index.ipynb without Quarto: nbdev prepares the notebook, nbconvert writes the markdown.

Figures become files in nbs/images, so that a forge shows them."""
import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbdev.frontmatter import cell_frontmatter
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parent.parent
NBS, IMAGES = ROOT/'nbs', ROOT/'nbs/images'
SOURCE_NOTE = '<!-- Made from index.ipynb by `make readme`: edit the notebook, not this file. -->\n\n'


def processed_index() -> nbformat.NotebookNode:
    """The index as nbdev publishes it: hidden cells gone, documentation shown."""
    proc = proc_nbs(str(NBS), file_glob='index.ipynb', force=True, n_workers=0)
    nb = nbformat.read(proc/'index.ipynb', as_version=4)
    shutil.rmtree(proc)
    return nb


def plain(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Turn what nbdev writes for Quarto into plain markdown: the frontmatter, the options of cells."""
    front, _, *cells = nb.cells  # the second cell is nbdev's own warning
    fm = cell_frontmatter(front.source)
    head = nbformat.v4.new_markdown_cell(f'{SOURCE_NOTE}# {fm["title"]}\n\n> {fm["description"]}')
    for cell in cells:
        if cell.cell_type != 'code': continue
        if re.search(r'^#\| *echo: *false', cell.source, re.M): cell.metadata['transient'] = {'remove_source': True}
        cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
    nb.cells = [head, *cells]
    nb.metadata['language_info'] = {'name': 'python'}
    return nb


def from_root(markdown: str) -> str:
    """Point relative links, which start from nbs, at the same files seen from the top level."""
    def fix(m):
        link, target = m[2], m[2].split('#')[0]
        return m[1] + (f'nbs/{link}' if (NBS/target).exists() and not (ROOT/target).exists() else link)
    return re.sub(r'(\]\(|src=")(?![a-z]+:|[#/])([^)"\s]+)', fix, markdown)


def write_readme():
    """Write README.md and its figures."""
    exporter = MarkdownExporter()
    names = {'output_files_dir': 'nbs/images', 'unique_key': 'index'}
    text, resources = exporter.from_notebook_node(plain(processed_index()), names)
    for old in IMAGES.glob('index_*'): old.unlink()
    for name, data in resources['outputs'].items():
        IMAGES.mkdir(exist_ok=True)
        (ROOT/name).write_bytes(data)
    text = re.sub(r'\n([ \t]*\n){2,}', '\n\n', from_root(text)).strip()
    (ROOT/'README.md').write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__': write_readme()
