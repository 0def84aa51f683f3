"""A leaderboard as text: for terminals, pipes, Markdown, CSV and JSON. The same board gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from wtsbench.reports.details import Lines, blocks, missing
from wtsbench.reports.findings import findings
from wtsbench.reports.rows import Leaderboard, Measured, Row
from wtsbench.reports.wording import (
    MISSING,
    TEXTS,
    Baseline,
    Group,
    Notes,
    groups,
    legend,
    missing_seeds,
    other_submissions,
    score,
    seeds,
    spoken,
)
from wtsbench.spec.visible import visible_texts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

COLUMNS = ("#", "strategy", "score [low, high]", "PGR [low, high]", "seeds")
EMPTY = "The store holds no grid yet."


def render(board: Leaderboard, form: str, *, width: int = 80, color: bool = False, details: bool = False) -> str:
    """The board as text that ends in a line break.

    Args:
        board: what to show.
        form: a key of `RENDERERS`, or `terminal`.
        width: columns of the terminal; the other forms have no width.
        color: whether the terminal shows colours.
        details: whether people see the metrics beside the one that ranks; JSON and CSV always have them.
    """
    if form != "json":  # which writes control characters as codes anyway
        board = replace(board, rows=tuple(visible_texts(board.rows)))
    if form == "terminal":
        return terminal(board, width=width, color=color, details=details)
    return RENDERERS[form](board, details)


def terminal(board: Leaderboard, *, width: int = 80, color: bool = False, details: bool = False) -> str:
    """Tables no wider than `width`; nothing is cut off, long names are folded."""
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
        _environ={},  # the caller says what the terminal is; the same board gives the same text everywhere
    )
    for part in renderables(board, width=width, details=details):
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().split("\n")[:-1])


def html(board: Leaderboard, *, width: int) -> str:
    """The same in HTML, for notebooks."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(), record=True, width=width, markup=False, highlight=False, emoji=False, force_jupyter=False
    )
    for part in renderables(board, width=width):
        console.print(part)
    return console.export_html(inline_styles=True, code_format='<pre style="line-height:normal">{code}</pre>')


def renderables(board: Leaderboard, *, width: int = 80, details: bool = False) -> Iterator[RenderableType]:
    """The board as things that a rich console prints."""
    from rich.text import Text

    if not board.rows:
        yield Text(EMPTY)
        return
    notes = Notes(board.rows)
    for grid, tables in groups(board.rows):
        yield Text(grid, style="bold")
        for line in other_submissions(board.submissions, grid):
            yield Text(line, style="yellow")
        for group in tables:
            yield Text()
            yield Text.assemble((group.title, "bold cyan"), "  ", (group.facts, "dim"))
            if group.warning:
                yield Text(group.warning, style="yellow")
            yield _table(group, notes)
            if details:
                for block in blocks(group, width):
                    yield Text()
                    yield _details(block)
                for line in missing(group):
                    yield Text(line, style="yellow")
        yield Text()
        for line in findings(board, grid):
            yield Text(line)
            yield Text()
    for line in missing_seeds(board.rows):
        yield Text(line, style="red")
    for line in notes.lines(len(board.rows)):
        yield Text(line, style="yellow")
    for line in legend(board.rows):
        yield Text(line, style="dim")


def _table(group: Group, notes: Notes) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in _columns(group):
        table.add_column(
            heading,
            justify="right" if heading in ("#", TEXTS, "seeds") else "left",
            overflow="fold",
            no_wrap=heading in ("#", TEXTS, "seeds"),
            min_width=10 if heading == "strategy" else None,
        )
    for baseline in group.weak:
        table.add_row("", baseline.name, baseline.score, *_texts(group, baseline.texts), "", "", style="dim")
    for row in group.ranked:
        count = Text(seeds(row), style="" if row.complete else "red")
        best = "green" if row.rank == 1 and len(group.ranked) > 1 else ""
        texts = _texts(group, spoken(row.metrics))
        table.add_row(Text(group.rank(row), style=best), row.strategy, score(row), *texts, _pgr(row, notes), count)
    if group.ranked and group.unranked:
        table.add_section()
    for row in group.unranked:
        count = Text(seeds(row), style="" if row.complete else "red")
        texts = _texts(group, spoken(row.metrics))
        table.add_row(group.rank(row), row.strategy, score(row), *texts, _pgr(row, notes), count)
    for baseline in group.ceiling:
        table.add_row("", baseline.name, baseline.score, *_texts(group, baseline.texts), "", "", style="dim")
    if group.controls:
        table.add_section()
    for row in group.controls:
        count = Text(seeds(row), style="" if row.complete else "red")
        texts = _texts(group, spoken(row.metrics))
        table.add_row("", f"{row.strategy} (control)", score(row), *texts, _pgr(row, notes), count)
    return table


def _columns(group: Group) -> tuple[str, ...]:
    """Headings of a table."""
    return (*COLUMNS[:3], *_texts(group, TEXTS), *COLUMNS[3:])


def _texts(group: Group, cell: str | None) -> tuple[str, ...]:
    """The cell beside a score that tells of generated texts; none in tables of classification."""
    return (cell or MISSING,) if group.generated else ()


def _details(block: Lines) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    heading, *rest = block
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for number, name in enumerate(heading):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number > 0)
    for line in rest:
        table.add_row(*line)
    return table


def _pgr(row: Row, notes: Notes) -> Any:
    from rich.text import Text

    return Text(notes.pgr(row), style="yellow" if row.pgr is None else "")


def plain(board: Leaderboard, details: bool = False) -> str:
    """Aligned columns, one line a row and nothing folded: for pipes, logs and CI."""
    return "".join(f"{line.rstrip()}\n" for line in _plain(board, details))


def _plain(board: Leaderboard, details: bool) -> Iterator[str]:
    if not board.rows:
        yield EMPTY
        return
    notes = Notes(board.rows)
    for grid, tables in groups(board.rows):
        yield f"grid {grid}"
        yield from other_submissions(board.submissions, grid)
        for group in tables:
            yield ""
            yield f"{group.title}: {group.facts}"
            if group.warning:
                yield group.warning
            yield from aligned(_lines(group, notes))
            if details:
                for block in blocks(group):
                    yield ""
                    yield from aligned(block)
                yield from missing(group)
        yield ""
        for line in findings(board, grid):
            yield line
            yield ""
    yield from _footer(board, notes)


def _lines(group: Group, notes: Notes) -> list[Sequence[str]]:
    """The cells of a table, heading first."""

    def baselines(some: Sequence[Baseline]) -> list[Sequence[str]]:
        return [(MISSING, one.name, one.score, *_texts(group, one.texts), MISSING, MISSING) for one in some]

    def line(rank: str, name: str, row: Row) -> Sequence[str]:
        return (rank, name, score(row), *_texts(group, spoken(row.metrics)), notes.pgr(row), seeds(row))

    return [
        _columns(group),
        *baselines(group.weak),
        *(line(group.rank(row), row.strategy, row) for row in group.strategies),
        *baselines(group.ceiling),
        *(line(MISSING, f"{row.strategy} (control)", row) for row in group.controls),
    ]


def aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of cells as text, columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True))


def _footer(board: Leaderboard, notes: Notes) -> Iterator[str]:
    yield from missing_seeds(board.rows)
    yield from notes.lines(len(board.rows))
    yield from legend(board.rows)


def markdown(board: Leaderboard, details: bool = False) -> str:
    """A heading a grid, a table a task and pair."""
    return "".join(f"{line}\n" for line in _markdown(board, details))


def _markdown(board: Leaderboard, details: bool) -> Iterator[str]:
    if not board.rows:
        yield EMPTY
        return
    notes = Notes(board.rows)
    for grid, tables in groups(board.rows):
        yield f"## {_escaped(grid)}"
        for line in other_submissions(board.submissions, grid):
            yield from ("", _escaped(line))
        for group in tables:
            heading, *rest = _lines(group, notes)
            yield from ("", f"### {_escaped(group.title)}", "", f"{_escaped(group.facts)}", "")
            if group.warning:
                yield from (_escaped(group.warning), "")
            yield _markdown_row(heading)
            yield f"| ---: | --- | --- |{' ---: |' * group.generated} --- | ---: |"
            yield from map(_markdown_row, rest)
            for block in blocks(group) if details else ():
                yield from ("", _markdown_row(block[0]), f"| --- |{' ---: |' * (len(block[0]) - 1)}")
                yield from map(_markdown_row, block[1:])
        yield ""
        for line in findings(board, grid):
            yield from (_escaped(line), "")
    for line in _footer(board, notes):
        yield f"- {_escaped(line)}"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Text of users and trials as Markdown shows it literally."""
    for sign in "\\`*_{}[]<>#|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def comma_separated(board: Leaderboard, details: bool = True) -> str:
    """One line a row, with a heading; lists are JSON, what is missing is empty."""
    out = io.StringIO()
    names = list(Row.__dataclass_fields__)
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    for record in board.records():
        writer.writerow({name: _field(record[name]) for name in names})
    return out.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, tuple | list | dict | bool):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


def json_text(board: Leaderboard, details: bool = True) -> str:
    """A list of objects, one a row."""
    return _json(board.rows, 0, {}) + "\n"


def _json(value: Any, depth: int, known: dict[Measured, str]) -> str:
    """What `json.dumps` with `indent=2` makes of a list or object: that writes each number in Python, this only nests.

    Args:
        value: of JSON types, or rows or parts of them.
        depth: in how many others it is.
        known: what was written before of the measured numbers that rows share; all are as deep.
    """
    if isinstance(value, Measured):
        if value not in known:
            known[value] = _nested(vars(value), depth, known)
        return known[value]
    return _nested(value if isinstance(value, tuple | list | dict) else vars(value), depth, known)


def _nested(value: Any, depth: int, known: dict[Measured, str]) -> str:
    named = isinstance(value, dict)
    if not value:
        return "{}" if named else "[]"
    lines: list[str] = []
    for plain, run in groupby(value.items() if named else enumerate(value), key=lambda entry: type(entry[1]) in _PLAIN):
        if plain:
            lines.append(_encoder(depth).encode(dict(run) if named else [each for _, each in run])[1:-1])
        else:
            lines += (f"{f'{_encoder(0).encode(key)}: ' * named}{_json(each, depth + 1, known)}" for key, each in run)
    inner, outer = f"\n{'  ' * (depth + 1)}", f"\n{'  ' * depth}"
    text = f",{inner}".join(lines)
    return f"{{{inner}{text}{outer}}}" if named else f"[{inner}{text}{outer}]"


_PLAIN = frozenset({str, int, float, bool, type(None)})


@cache
def _encoder(depth: int) -> json.JSONEncoder:
    """Of values in a list or object that is in so many others: one a line."""
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(f",\n{'  ' * (depth + 1)}", ": "))


RENDERERS: dict[str, Callable[[Leaderboard, bool], str]] = {
    "plain": plain,
    "markdown": markdown,
    "csv": comma_separated,
    "json": json_text,
    "terminal": lambda board, details: terminal(board, details=details),
}
"""Every form by name."""
