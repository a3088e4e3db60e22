"""List the numbers in prose that nothing beside them holds.

A number that a notebook says must stand, to the digits given, in its code, in the output of one of its cells, or in a
recorded table (results/*.csv) that it names; other documents may name a table, too, or a constant of the package, as
`boneage.picture.MOST_BYTES`. What a paragraph says with a link to another site or with an article is that one's
number. Single digits, years and what EXCEPTIONS lists need nothing."""
import csv
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, RESULTS = ROOT/'nbs', ROOT/'results'
# README.md is made from index.ipynb
DOCUMENTS = ['CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md']
# code, formulas, addresses, tags
NO_PROSE = re.compile(r'```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|(?<=\])\([^)]*\)|<[^>]*>', re.S)
# no part of a word, a version, an identifier or a date
NUMBER = re.compile(r'(?<![\w.,:/-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w/:-]|[.,]\d)')
HELD = re.compile(r'\d+(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+(?:e[+-]?\d+)?')
TABLE = re.compile(r'[\w-]+\.csv')
ROWS = 60
CONSTANT = re.compile(r'`(boneage(?:\.\w+)*\.[A-Z][A-Z_]+)`')
# a definition: per cent, months and parts of a turn; the radiographs of the challenge, the withheld, and their sizes in
# pixels; the paper's errors in months
EXCEPTIONS = {'10', '12', '24', '90', '95', '100', '180', '255', '256', '360', '12,611', '1,000', '299', '768',
              '8.08', '6.10'}
# an article: its year, volume and page
CITED = re.compile(r'\d{4};\d+')
VERSION = re.compile(r'(?:Python|Apache|CC BY[A-Z-]*) \d[.\d]*')


def paragraphs(text: str) -> Iterator[str]:
    "The paragraphs of markdown; each row of a table and each point of a list is one."
    for block in re.split(r'\n[ \t]*\n|\n(?=[ \t]*(?:[-*|]|\d+\.) ?)', text): yield block


def numbers(paragraph: str) -> list[str]:
    "The numbers of a paragraph that want something beside them."
    if '](http' in paragraph or CITED.search(paragraph): return []
    prose = VERSION.sub(' ', NO_PROSE.sub(' ', paragraph))
    found = NUMBER.findall(re.sub(r'(?m)^[ \t]*\d+\. |^\*\*\d+\.\*\*', '', prose))
    return [n for n in found if n not in EXCEPTIONS and len(n) > 1 and not re.fullmatch('(19|20)\\d\\d', n)]


def held(text: str) -> set[float]: return {float(n.replace(',', '')) for n in HELD.findall(text)}


def is_held(number: str, among: set[float]) -> bool:
    "Whether one of these, rounded as the number is, is that number; as it stands or as a share in per cent."
    value, digits = float(number.replace(',', '')), len(number.partition('.')[2])
    return any(abs(other * scale - value) <= .5 * 10**-digits + 1e-9 for other in among for scale in (1, 100))


def beside(nb: dict) -> str:
    "What a notebook's cells say and answer, pictures left out."
    parts = []
    for cell in nb['cells']:
        if cell['cell_type'] != 'code': continue
        parts.append(''.join(cell['source']))
        for out in cell['outputs']:
            data = out.get('data', {})
            texts = [out.get('text', ''), *(data[kind] for kind in data if kind.startswith('text/') or 'svg' in kind)]
            parts += [re.sub(r'base64,[\w+/=\s]+', '', ''.join(text)) for text in texts]
    return '\n'.join(parts)


def recorded(table: Path) -> str:
    "What a table records: its rows, and how many they are; of a long one, in which any number is found, only that."
    with table.open(encoding='utf-8', newline='') as file: _, *rows = csv.reader(file)
    return '\n'.join([str(len(rows)), *(' '.join(row) for row in rows if len(rows) <= ROWS)])


def constants(prose: str) -> set[float]:
    "The constants of the package that a document names, and what they are in millions."
    values = [float(pkgutil.resolve_name(name)) for name in CONSTANT.findall(prose)]
    return {value / unit for value in values for unit in (1, 1e6)}


def unheld(prose: str, said: str) -> list[tuple[str, str]]:
    "The numbers of a document that neither its cells nor the tables it names hold, each with its paragraph."
    tables = {name for name in TABLE.findall(prose + said) if (RESULTS/name).is_file()}
    among = held('\n'.join([said, *(recorded(RESULTS/name) for name in tables)])) | constants(prose)
    return [(n, ' '.join(p.split())) for p in paragraphs(prose) for n in numbers(p) if not is_held(n, among)]


def read_documents() -> dict[str, tuple[str, str]]:
    "Each document by its name: its prose, and what the cells beside it say."
    documents = {name: ((ROOT/name).read_text(encoding='utf-8'), '') for name in DOCUMENTS}
    for path in sorted(NBS.rglob('[!_.]*.ipynb')):
        nb = json.loads(path.read_text(encoding='utf-8'))
        prose = '\n\n'.join(''.join(cell['source']) for cell in nb['cells'] if cell['cell_type'] == 'markdown')
        documents[path.relative_to(ROOT).as_posix()] = prose, beside(nb)
    return documents


def main():
    total, documents = 0, read_documents()
    for name in sys.argv[1:] or documents:
        found = unheld(*documents[name])
        total += len(found)
        for number, paragraph in found:
            at = paragraph.find(number)
            print(f'{name}: {number}: ...{paragraph[max(0, at - 60):at + len(number) + 60]}...')
    print(f'{total} numbers with nothing beside them')


if __name__ == '__main__': main()
