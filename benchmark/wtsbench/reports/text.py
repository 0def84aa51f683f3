"""A document for terminals and pipes.

On a terminal nothing is wider than it and nothing is cut off: long names fold, and columns that are not `narrow` are
left out where there is no room. On a pipe a line of a table is a line of text, with all columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wtsbench.reports.document import Block, Chart, Document, Formula, Line, Listing, Section, Table, Tone
from wtsbench.reports.wording import TEXTS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable

_STYLES: dict[Tone, str] = {"plain": "", "good": "green", "bad": "red", "warn": "yellow", "dim": "dim"}
_RIGHT = ("#", "seeds", TEXTS)
"""Headings of columns that are short, and never folded."""
_APART = ("unranked", "control", "trivial")
"""Kinds of lines with a rule before the first of them."""
_NAMES = 26
"""Columns that names take at most, before they are folded."""
_LEAST_NAMES = 10
"""Columns that names take at least, so that they can be read, but for a narrow terminal, where they take a share."""
_LEAST_SHARE = 8
"""What share of a terminal that is, as one divided by this number."""
_HEADING = 15
"""Columns that a heading takes before it is folded, where a table has many columns."""
_WIDE = 110
"""Columns of a terminal from which on all columns of a table are shown."""
_LEAST_PLOT, _MOST_PLOT = 24, 48
"""Columns that intervals are drawn in, where a table leaves as many."""


def terminal(document: Document, *, width: int = 80, color: bool = False) -> str:
    """The document for a terminal of so many columns."""
    from wtsbench.reports.console import ShownConsole

    out = io.StringIO()
    console = ShownConsole(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        _environ={},  # the caller says what the terminal is; the same document gives the same text everywhere
    )
    for part in _renderables(document, width):
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().split("\n")[:-1])


def notebook(document: Document, *, width: int) -> str:
    """What a terminal of so many columns shows, in HTML."""
    from wtsbench.reports.console import ShownConsole

    console = ShownConsole(
        file=io.StringIO(), record=True, width=width, markup=False, highlight=False, emoji=False, force_jupyter=False
    )
    for part in _renderables(document, width):
        console.print(part)
    return console.export_html(inline_styles=True, code_format='<pre style="line-height:normal">{code}</pre>')


def _renderables(document: Document, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    for number, (heading, depth, blocks) in enumerate(_flat(document)):
        if number:
            yield Text()
        if heading:
            yield Text(heading, style="bold cyan" if depth else "bold")
        for place, block in enumerate(blocks):
            if isinstance(block, Table):
                if place and isinstance(blocks[place - 1], Table):
                    yield Text()
                if block.caption:
                    yield Text(block.caption, style="dim")
                for places in _parts(block, width):
                    yield _rich(block, places, width)
            for line in _lines(block):
                yield Text(line, style=_STYLES[getattr(block, "tone", "plain")])


def _parts(table: Table, width: int) -> Iterator[list[int]]:
    """Columns to draw together: those there is room for, and where a table may be parted, the rest after them."""
    shown = [place for place, column in enumerate(table.columns) if column.narrow or width >= _WIDE]
    if not table.parted:
        yield shown
        return
    name = table.name_column
    needed = [_needed(table, place) + 2 for place in range(len(table.columns))]
    room = width - min(needed[name], _NAMES)
    some: list[int] = []
    used = 0
    for place in shown:
        if place == name:
            continue
        if some and used + needed[place] > room:
            yield [name, *some]
            some, used = [], 0
        some.append(place)
        used += needed[place]
    yield [name, *some]


def _needed(table: Table, place: int) -> int:
    """Columns of the terminal that a column takes with its heading folded."""
    cells = max((len(line.cells[place].text) for line in table.lines), default=1)
    return max(cells, min(len(table.columns[place].heading), _HEADING))


def _room(table: Table, places: Sequence[int], width: int) -> int:
    """Columns that are left to draw the intervals of a table in; 0 where it has none, or too little is left."""
    if not any(line.interval for line in table.lines):
        return 0
    needed = [max([len(table.columns[place].heading), *(len(line.cells[place].text) for line in table.lines)])
              for place in places]  # fmt: skip
    left = width - sum(size + 2 for size in needed)  # beside each column two blanks
    return 0 if left < _LEAST_PLOT else min(left, _MOST_PLOT)


def _plots(table: Table, width: int) -> tuple[str, list[str]]:
    """The ends of the scale, and for each line its interval with the value as a mark."""
    ends = [end for line in table.lines if line.interval for end in line.interval]
    low, high = min(ends), max(ends)
    step = (high - low) / (width - 1) or 1.0
    left, right = (f"{end:.3f}" for end in (low, high))
    plots = []
    for line in table.lines:
        signs = [" "] * width
        if line.interval:
            first, mark, last = (round((end - low) / step) for end in line.interval)
            signs[first : last + 1] = "─" * (last + 1 - first)
            signs[first], signs[last], signs[mark] = "├", "┤", "●"
        plots.append("".join(signs))
    return left + right.rjust(width - len(left)), plots


def _rich(table: Table, places: Sequence[int], width: int) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    plot = _room(table, places, width)
    least = min(_LEAST_NAMES, width // _LEAST_SHARE)
    drawn = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place in places:
        column, name = table.columns[place], place == table.name_column
        drawn.add_column(
            column.heading,
            justify="right" if column.numeric and column.heading in _RIGHT else "left",
            overflow="fold",
            no_wrap=column.heading in _RIGHT,
            min_width=least if name else _needed(table, place) if table.parted else None,
            max_width=_needed(table, place) if table.parted and not name else None,
        )
    plots: list[str] = []
    if plot:
        scale, plots = _plots(table, plot)
        drawn.add_column(scale, no_wrap=True, min_width=plot)
    for number, line in enumerate(table.lines):
        if number and line.kind in _APART and table.lines[number - 1].kind != line.kind:
            drawn.add_section()
        cells = [Text(line.cells[place].text, style=_STYLES[line.cells[place].tone]) for place in places]
        drawn.add_row(*cells, *plots[number : number + 1])
    return drawn


def plain(document: Document) -> str:
    """Aligned columns, one line a row and nothing folded: for pipes, logs and CI."""
    return "".join(f"{line.rstrip()}\n" for line in _plain(document))


def _plain(document: Document) -> Iterator[str]:
    for number, (heading, _, blocks) in enumerate(_flat(document)):
        if number:
            yield ""
        if heading:
            yield heading
        for place, block in enumerate(blocks):
            if isinstance(block, Table):
                if place and isinstance(blocks[place - 1], Table):
                    yield ""
                if block.caption:
                    yield block.caption
                yield from aligned([[column.heading for column in block.columns], *map(_texts, block.lines)])
            yield from _lines(block)


def _texts(line: Line) -> list[str]:
    return [cell.text or "-" for cell in line.cells]


def aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of cells as text, columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True))


def _flat(document: Document) -> Iterator[tuple[str, int, tuple[Block, ...]]]:
    """Headings with their depth and blocks, in reading order."""
    if document.lead:
        yield "", 0, document.lead
    pending: list[tuple[int, Section]] = [(0, section) for section in reversed(document.sections)]
    while pending:
        depth, section = pending.pop()
        yield section.title, depth, section.blocks
        pending += [(depth + 1, inner) for inner in reversed(section.sections)]


def _lines(block: Block) -> Iterator[str]:
    """What is not a table, a paragraph each; charts are for pages, and a table has their numbers."""
    if isinstance(block, Listing):
        yield from block.items
    elif isinstance(block, Formula):
        yield f"{block.name} = {block.text}"
    elif not isinstance(block, Table | Chart):
        yield block.text
