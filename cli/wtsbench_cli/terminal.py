"""Output: consoles, colours, widths, and whether somebody is watching.

Only wtsbench's own escape sequences may reach a terminal: see `streams` for plain text on standard output, `console`
for what rich draws, and `say` for standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from wtsbench.visible import LINES, visible
from wtsbench_cli.streams import styled

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_COLUMNS = 200
"""Width of tables in a pipe or file, where no screen limits it."""


def watched() -> bool:
    """Whether standard output is a terminal that a person watches: not a pipe, a file, CI or a dumb terminal."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return sys.stdout.isatty() and not in_ci and os.environ.get("TERM") != "dumb"


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes text literally and shows its control characters; rich itself honours NO_COLOR."""
    from wtsbench.reports.console import ShownConsole

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return ShownConsole(
        file=styled(stream),
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not terminal,
        force_terminal=None if terminal else False,
        width=None if terminal or os.environ.get("COLUMNS") else PIPE_COLUMNS,
    )


def print_table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], *, right: Collection[str] = ()) -> None:
    """A borderless table on standard output, no wider than the terminal.

    Args:
        headings: of the columns; no heading line if all are empty. The first column is only folded if it would take
            more than half of the width, and right-aligned ones never are.
        rows: text, cell by cell; a line break in one is shown as its code.
        right: headings of the columns that are aligned to the right.
    """
    from rich.table import Table

    shown = [tuple(map(visible, row)) for row in rows]
    longest = max((len(row[0]) for row in shown), default=0)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(headings))
    for number, heading in enumerate(headings):
        justify: Literal["left", "right"] = "right" if heading and heading in right else "left"
        whole = justify == "right" or (number == 0 and longest <= console().width // 2)
        table.add_column(heading, no_wrap=whole, overflow="fold", justify=justify)
    for row in shown:
        table.add_row(*row)
    put(table)


def put(what: RenderableType) -> None:
    """Print on standard output, without rich's trailing blanks."""
    out = console()
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
