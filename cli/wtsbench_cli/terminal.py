"""Output: consoles, colours, widths, and whether somebody is watching.

Only wtsbench's own escape sequences may reach a terminal: see `streams` for plain text on standard output, `console`
for what rich draws, and `say` for standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from wtsbench.visible import LINES, visible
from wtsbench_cli.streams import styled

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_COLUMNS = 200
"""Width of tables in a pipe or file, where no screen limits it."""
_GAP = 2
"""Columns between those of a table."""
_FOLDED, _NARROW = 12, 8
"""Columns that a text takes at least before it is folded, where there is room for as many, and where there is not."""
_HEADING = 5
"""The same of headings above numbers."""


def watched() -> bool:
    """Whether standard output is a terminal that a person watches: not a pipe, a file, CI or a dumb terminal."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return sys.stdout.isatty() and not in_ci and os.environ.get("TERM") != "dumb"


def console(*, least: int = 0) -> Console:
    """A rich console of standard output that shows text literally, control characters too; rich honours NO_COLOR.

    Args:
        least: columns that it has at least, whatever the terminal has.
    """
    from wtsbench.reports.console import ShownConsole

    terminal = sys.stdout.isatty()
    made = ShownConsole(
        file=styled(sys.stdout),
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not terminal,
        force_terminal=None if terminal else False,
        width=None if terminal or os.environ.get("COLUMNS") else PIPE_COLUMNS,
    )
    if least > made.width:
        made.width = least
    return made


def print_table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], *, right: Collection[str] = ()) -> None:
    """A borderless table on standard output, with nothing cut off, and no wider than the terminal where that goes.

    Args:
        headings: of the columns; no heading line if all are empty. Where the terminal is too narrow for all that is to
            be shown, long texts are folded, the first column after all others; right-aligned ones never are.
        rows: text, cell by cell; a line break in one is shown as its code.
        right: headings of the columns that are aligned to the right.
    """
    from rich.cells import cell_len
    from rich.table import Table

    shown = [tuple(map(visible, row)) for row in rows]
    columns = [
        (cell_len(heading), max((cell_len(row[place]) for row in shown), default=0), bool(heading) and heading in right)
        for place, heading in enumerate(headings)
    ]
    widths = _widths(columns, console().width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=any(headings))
    for heading, width, (_, _, number) in zip(headings, widths, columns, strict=True):
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(heading, width=width, overflow="fold", justify=justify)
    for row in shown:
        table.add_row(*row)
    put(table, least=sum(widths) + _GAP * len(widths))


def _widths(columns: Sequence[tuple[int, int, bool]], room: int) -> list[int]:
    """The widths of a table's columns: all that they need, or, where there is less room, enough to be read folded.

    Args:
        columns: width of the heading, width of the widest cell, and whether it holds numbers, which are not folded.
        room: that they share with the gaps between them.
    """
    whole = [max(heading, cell) for heading, cell, _ in columns]
    room -= _GAP * (len(columns) - 1)
    names = whole[0] if whole[0] <= room // 2 else 0
    least = [_least(columns, name, folded) for name in (names, 0) for folded in range(_FOLDED, _NARROW - 1, -1)]
    widths = next((some for some in least if sum(some) <= room), least[-1])
    spare = room - sum(widths)
    while spare > 0:
        short = [place for place, needed in enumerate(whole) if widths[place] < needed]
        if not short:
            break
        numbers = [place for place in short if columns[place][2]]  # whose headings are folded: short words
        for place in (numbers or short)[:spare]:
            widths[place] += 1
            spare -= 1
    return widths


def _least(columns: Sequence[tuple[int, int, bool]], name: int, folded: int) -> list[int]:
    """Widths where the first column has at least as much as `name`, and other texts are folded to so many columns."""
    return [
        max(1, cell, min(heading, _HEADING)) if number else max(1, name * (place == 0), min(max(heading, cell), folded))
        for place, (heading, cell, number) in enumerate(columns)
    ]


def put(what: RenderableType, *, least: int = 0) -> None:
    """Print on standard output, without rich's trailing blanks.

    Args:
        what: to print.
        least: columns that it takes; on a narrower terminal its lines go on in the next one.
    """
    out = console(least=least)
    with out.capture() as captured:
        out.print(what)
    put_styled("".join(f"{line.rstrip()}\n" for line in captured.get().split("\n")[:-1]))


def put_styled(text: str) -> None:
    """Print a text on standard output whose escape sequences are all our own."""
    print(text, end="", file=styled(sys.stdout), flush=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def say(text: str) -> None:
    """Print messages on standard error, so that standard output has only the result."""
    print(visible(text, LINES), file=sys.stderr, flush=True)


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """A function that shows the current step: on a terminal each line replaces the last one."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield say
        return

    def replace(text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[2K{visible(text)[:room]}")
        sys.stderr.flush()

    try:
        yield replace
    finally:
        replace("")


def duration(seconds: float) -> str:
    """A duration for people: `3.1 s`, `2 min 05 s`, `1 h 04 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """A short form of a duration: `9 s`, `2:05`, `1:04:10`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def size(number: int) -> str:
    """Bytes for people: `512 B`, `1.5 MiB`."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} GiB"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
