"""A document as Markdown of the kind that GitHub shows: texts of others stay text, tables are tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wtsbench.reports.document import Block, Chart, Document, Formula, Listing, Prose, Section, Table
from wtsbench.visible import visible


def markdown(document: Document) -> str:
    """The document; charts are left out, for a table has their numbers."""
    lines: list[str] = []
    for block in document.lead:
        lines += [*_block(block), ""]
    for section in document.sections:
        lines += _section(section, 2)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(section: Section, level: int) -> Iterator[str]:
    if section.blocks and not section.sections and all(isinstance(block, Chart) for block in section.blocks):
        return
    yield from (f"{'#' * level} {escaped(section.title)}", "")
    for block in section.blocks:
        if not isinstance(block, Chart):
            yield from (*_block(block), "")
    for inner in section.sections:
        yield from _section(inner, level + 1)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Listing):
        yield from (f"- {escaped(item)}" for item in block.items)
    elif isinstance(block, Formula):
        yield f"**{escaped(block.name)}** = {escaped(block.text)}"
    elif isinstance(block, Prose):
        yield escaped(block.text)


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield from (escaped(table.caption), "")
    yield _row(column.heading for column in table.columns)
    yield f"| {' | '.join('---:' if column.numeric else '---' for column in table.columns)} |"
    for line in table.lines:
        yield _row(cell.text or "-" for cell in line.cells)


def _row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"


def escaped(text: str) -> str:
    """Text of users and trials as Markdown shows it literally, on one line, and notifying nobody.

    A number or sign at the beginning makes no list, a `$` no formula, an `@` no mention, an address no link.
    """
    text = re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", visible(" ".join(text.split())))
    text = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)
    text = re.sub(r"^([-+=])(?=\s|$)", r"\\\1", text)
    return text.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")
