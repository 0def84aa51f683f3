"""A leaderboard as text: for terminals, pipes, Markdown, LaTeX, CSV and JSON. The same board gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from wtsbench.reports import text
from wtsbench.reports.compose import board_document
from wtsbench.reports.latex import latex
from wtsbench.reports.markdown import markdown
from wtsbench.reports.rows import Leaderboard, Row
from wtsbench.visible import visible_texts

FORMS = ("plain", "markdown", "latex", "csv", "json", "terminal")


def render(board: Leaderboard, form: str, *, width: int = 80, color: bool = False, details: bool = False) -> str:
    """The board as text that ends in a line break.

    Args:
        board: what to show.
        form: one of `FORMS`.
        width: columns of the terminal; the other forms have no width.
        color: whether the terminal shows colours.
        details: whether people see the metrics beside the one that ranks; JSON and CSV always have them.
    """
    if form != "json":  # which writes control characters as codes anyway
        board = replace(board, rows=tuple(visible_texts(board.rows)))
    if form == "json":
        return json_text(board)
    if form == "csv":
        return comma_separated(board)
    document = board_document(board, details=details)
    if form == "terminal":
        return text.terminal(document, width=width, color=color)
    return {"plain": text.plain, "markdown": markdown, "latex": latex}[form](document)


def notebook(board: Leaderboard, *, width: int) -> str:
    """What a terminal of so many columns shows, in HTML, for notebooks."""
    return text.notebook(board_document(replace(board, rows=tuple(visible_texts(board.rows)))), width=width)


def comma_separated(board: Leaderboard) -> str:
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


def json_text(board: Leaderboard) -> str:
    """A list of objects, one a row."""
    written = TypeAdapter(list[dict[str, Any]]).dump_json(board.records(), indent=2)  # many times as fast as `json`
    return written.decode() + "\n"
