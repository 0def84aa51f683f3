"""The tables of a document in LaTeX, for papers: booktabs, one table environment each.

A text becomes what LaTeX prints for it and never a command; the packages that are needed are named at the top.
"""

from __future__ import annotations

from collections.abc import Iterator

from wtsbench.reports.document import Document, Section, Table
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
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": r"-{}",
    "−": r"$-$",
    "→": r"$\rightarrow$",
    "·": r"\textperiodcentered{}",
    "[": r"{[}",
    "]": r"{]}",
}


def latex(document: Document) -> str:
    r"""Every table of the document; `\input` it after `\usepackage{booktabs,textcomp}`."""
    lines = [r"% \usepackage{booktabs,textcomp}"]
    for section in document.sections:
        lines += _section(section)
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    for block in section.blocks:
        if isinstance(block, Table):
            yield from _table(block, section.anchor)
    for inner in section.sections:
        yield from _section(inner)


def _table(table: Table, label: str) -> Iterator[str]:
    yield from (
        "",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.caption)}}}",
        rf"\label{{tab:{label}}}",
    )
    yield rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in table.columns)}}}"
    yield from (r"\toprule", _row([column.heading for column in table.columns]), r"\midrule")
    for number, line in enumerate(table.lines):
        if number and line.kind in ("control", "trivial") and table.lines[number - 1].kind != line.kind:
            yield r"\midrule"
        yield _row([cell.text or "-" for cell in line.cells])
    yield from (r"\bottomrule", r"\end{tabular}", r"\end{table}")


def _row(cells: list[str]) -> str:
    return rf"{' & '.join(map(escaped, cells))} \\"


def escaped(text: str) -> str:
    """Text as LaTeX prints it; letters beyond ASCII are for an engine or input encoding that knows UTF-8."""
    return "".join(_SIGNS.get(sign, sign) for sign in visible(" ".join(text.split())))
