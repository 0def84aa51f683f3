"""A leaderboard as text: for terminals, pipes, Markdown, LaTeX, CSV and JSON. The same board gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import Any

from wtsbench.reports import text
from wtsbench.reports.compose import board_document
from wtsbench.reports.latex import latex
from wtsbench.reports.markdown import markdown
from wtsbench.reports.rows import Leaderboard, Measured, Row
from wtsbench.visible import visible_texts


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
        return text.terminal(board_document(board, details=details), width=width, color=color)
    return RENDERERS[form](board, details)


def notebook(board: Leaderboard, *, width: int) -> str:
    """What a terminal of so many columns shows, in HTML, for notebooks."""
    return text.notebook(board_document(replace(board, rows=tuple(visible_texts(board.rows)))), width=width)


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
    "plain": lambda board, details: text.plain(board_document(board, details=details)),
    "markdown": lambda board, details: markdown(board_document(board, details=details)),
    "latex": lambda board, details: latex(board_document(board, details=details)),
    "csv": comma_separated,
    "json": json_text,
    "terminal": lambda board, details: text.terminal(board_document(board, details=details)),
}
"""Every form by name."""
