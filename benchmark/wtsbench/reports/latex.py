"""The tables of a document in LaTeX, for papers: booktabs, one table environment each.

A text becomes what LaTeX prints for it and never a command; the packages that are needed are named at the top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from wtsbench.reports.document import Block, Document, Listing, Prose, Section, Table
from wtsbench.visible import visible

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",  # \textquotedbl is unknown to LaTeX's default encoding of fonts
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "−": r"$-$",
    "→": r"$\rightarrow$",
    "·": r"\textperiodcentered{}",
    "[": r"{[}",
    "]": r"{]}",
}


def latex(document: Document) -> str:
    r"""Every table of the document; `\input` it after `\usepackage{booktabs,textcomp}`.

    A caption begins with the headings that the table stands under, and what is to be known of a table stands below it.
    What stands in a section without tables, such as how to read them, are comments.
    """
    lines = [r"% \usepackage{booktabs,textcomp}"]
    for section in document.sections:
        lines += _section(section, ())
    return "\n".join(lines) + "\n"


def _section(section: Section, above: tuple[str, ...]) -> Iterator[str]:
    headings = (*above, section.title)
    tables = list(_noted(section.blocks))
    if not tables:
        yield from _comments(section)
    for number, (table, notes) in enumerate(tables, start=1):
        label = section.anchor if number == 1 else f"{section.anchor}-table-{number}"
        yield from _table(table, ". ".join(text for text in (*headings, table.caption) if text), label, notes)
    for inner in section.sections:
        yield from _section(inner, headings)


def _comments(section: Section) -> Iterator[str]:
    texts = [text for block in section.blocks if isinstance(block, Listing) for text in block.items]
    if texts:
        yield ""
        yield from (f"% {visible(' '.join(text.split()))}" for text in (section.title, *texts))


def _noted(blocks: Sequence[Block]) -> Iterator[tuple[Table, list[str]]]:
    """Tables, each with the warnings before it and the footnotes right behind it."""
    warnings: list[str] = []
    for place, block in enumerate(blocks):
        if isinstance(block, Prose) and block.tone == "warn":
            warnings.append(block.text)
        elif isinstance(block, Table):
            behind = takewhile(lambda one: isinstance(one, Listing), blocks[place + 1 :])
            yield block, [*warnings, *(item for one in behind if isinstance(one, Listing) for item in one.items)]
            warnings = []


def _table(table: Table, caption: str, label: str, notes: Sequence[str]) -> Iterator[str]:
    yield from ("", r"\begin{table}", r"\centering", rf"\caption{{{escaped(caption)}}}", rf"\label{{tab:{label}}}")
    yield rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in table.columns)}}}"
    yield from (r"\toprule", _row([column.heading for column in table.columns]), r"\midrule")
    for number, line in enumerate(table.lines):
        if number and line.kind in ("control", "trivial") and table.lines[number - 1].kind != line.kind:
            yield r"\midrule"
        yield _row([cell.text or "-" for cell in line.cells])
    yield from (r"\bottomrule", r"\end{tabular}")
    if notes:
        yield from (r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize")
        yield from (rf"{escaped(note)}\par" for note in notes)
        yield r"\end{minipage}"
    yield r"\end{table}"


def _row(cells: list[str]) -> str:
    return rf"{' & '.join(map(escaped, cells))} \\"


def escaped(text: str) -> str:
    """Text as LaTeX prints it; letters beyond ASCII are for an engine or input encoding that knows UTF-8."""
    signs = "".join(_SIGNS.get(sign, sign) for sign in visible(" ".join(text.split())))
    return re.sub("-(?=-)", "-{}", signs)  # else LaTeX makes a dash of two hyphens
