"""Tables in LaTeX, with the package booktabs and no other: wide ones in parts, each of which fits article's text
width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from twin_merging.reporting.cells import BEST, SECOND, Cell, Table

WIDTH = 345.0  # pt; of the text of article at 10 pt
SIZES = {r"\small": 4.7, r"\footnotesize": 4.25, r"\scriptsize": 3.98}  # pt a digit
SPLIT = r"\footnotesize"  # of a table in parts
COLUMN_SEPARATION = 3.0  # pt, on both sides of a column
SMALL = 0.75  # of a digit in an index, to one on the line
LETTER = 0.9  # of a letter, on average
ROWS = 45  # of a part

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''",
    "…": r"\ldots{}", "×": r"$\times$", "±": r"$\pm$", "·": r"$\cdot$", "→": r"$\rightarrow$", "≤": r"$\leq$",
    "≥": r"$\geq$", "≈": r"$\approx$", "∞": r"$\infty$", "−": "$-$", "°": r"$^\circ$", "ß": r"\ss{}", "æ": r"\ae{}",
    "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ł": r"\l{}", "Ł": r"\L{}", "§": r"\S{}",
}  # fmt: skip
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
           "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c"}  # fmt: skip
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (FINAL )?(\w+)")
_LATIN_CAPITALS = {"ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K",
                   "MU": "M", "NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X"}  # fmt: skip


def latex(text: str) -> str:
    """A text as LaTeX shows it, in plain ASCII. A character that LaTeX has not without further packages becomes its
    number, as (U+4E2D)."""
    return "".join(_character(char) for char in unicodedata.normalize("NFC", text))


def _character(char: str) -> str:
    if char in SPECIAL:
        return SPECIAL[char]
    if char.isspace() or not char.isprintable():
        return " "
    if ord(char) < 128:
        return char
    base, *marks = list(unicodedata.normalize("NFD", char))
    if len(marks) == 1 and marks[0] in ACCENTS and ord(base) < 128:
        return rf"\{ACCENTS[marks[0]]}{{{base}}}"
    if greek := _GREEK.fullmatch(unicodedata.name(char, "")):
        size, _, name = greek.groups()
        if name == "OMICRON" and size == "SMALL":
            return "o"
        own = _LATIN_CAPITALS.get(name) if size == "CAPITAL" else None
        name = {"LAMDA": "LAMBDA"}.get(name, name)
        return own or rf"$\{name.capitalize() if size == 'CAPITAL' else name.lower()}$"
    plain = unicodedata.normalize("NFKD", char)
    return plain if plain.isascii() else f"(U+{ord(char):04X})"


def latex_cell(cell: Cell) -> str:
    r"""A number with its interval as index and exponent, as $94.52_{93.4}^{95.5}$: the best bold, the second
    underlined."""
    if not cell.number:
        return ""
    number = {BEST: rf"\mathbf{{{cell.number}}}", SECOND: rf"\underline{{{cell.number}}}"}.get(cell.mark, cell.number)
    low, high = cell.ends or ("", "")
    return f"${number}_{{{low}}}^{{{high}}}$" if cell.ends else f"${number}$"


def floats(table: Table, caption: str, label: str, ends: int) -> str:
    """A table with its caption as one float, or as several where it is wider or longer than a page of article.

    caption: in LaTeX; ends: how many of the last columns belong to the first part with the texts. The other parts have
    the first column and as many of the others as fit.
    """
    size = next((size for size in SIZES if _width(table, size) <= WIDTH), None)
    parts = [table] if size else _parts(table, ends)
    pages = [page for part in parts for page in _pages(part)]
    found = []
    for number, page in enumerate(pages):
        many = f" ({number + 1} of {len(pages)})" if len(pages) > 1 else ""
        said = f"{caption}{many}" if number == 0 else rf"Continued from Table~\ref{{{label}}}{many}."
        own = label if number == 0 else f"{label}-{number + 1}"
        found.append(_float(page, said, own, size or SPLIT))
    return "\n\n".join(found) + "\n"


def _parts(table: Table, ends: int) -> list[Table]:
    count = len(table.heads)
    middle = list(range(table.texts, count - ends))
    chosen = [[*range(table.texts), *range(count - ends, count)]] if ends or table.texts > 1 else []
    part: list[int] = []
    for place in middle:
        if part and _width(table.columns([0, *part, place]), SPLIT) > WIDTH:
            chosen.append([0, *part])
            part = []
        part.append(place)
    return [table.columns(own) for own in [*chosen, *([[0, *part]] if part else [])]]


def _pages(table: Table) -> list[Table]:
    starts = range(0, max(1, len(table.rows)), ROWS)
    return [Table(table.heads, table.rows[start : start + ROWS], table.texts) for start in starts]


def _width(table: Table, size: str) -> float:
    """About how wide a table is, in pt."""
    columns = [[head, *cells] for head, *cells in zip(table.heads, *table.rows, strict=True)]
    letters = [max(map(_letters, column)) for column in columns]
    return sum(count * SIZES[size] + 2 * COLUMN_SEPARATION for count in letters)


def _letters(cell: str | Cell) -> float:
    if isinstance(cell, str):
        return LETTER * len(cell)
    return len(cell.number) + SMALL * max(map(len, cell.ends or ("",)))


def _float(table: Table, caption: str, label: str, size: str) -> str:
    lines = [[latex_cell(cell) if isinstance(cell, Cell) else latex(cell) for cell in row] for row in table.rows]
    heads = [latex(head) for head in table.heads]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{{label}}}",
        rf"{size}\setlength{{\tabcolsep}}{{{COLUMN_SEPARATION:g}pt}}\renewcommand{{\arraystretch}}{{1.2}}",
        rf"\begin{{tabular}}{{@{{}}{'l' * table.texts}{'r' * (len(heads) - table.texts)}@{{}}}}",
        r"\toprule", _line(heads), r"\midrule", *map(_line, lines), r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ])  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
