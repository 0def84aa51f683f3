"""`wtsbench leaderboard`: the results of a store."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wtsbench_cli.options import JsonOption, StoredGridOption, StoreOption, SubmissionOption, expanded, store_of
from wtsbench_cli.terminal import console, put_styled


class Format(StrEnum):
    """Values of `--format`."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


def leaderboard(
    grid: StoredGridOption = None,
    submission: SubmissionOption = None,
    store: StoreOption = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", metavar="table|markdown|latex|csv|json", help="How to print it. Default: table."),
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Show all metrics below each table. JSON and CSV always hold them.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write it to this file, in place of printing.", callback=expanded),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the results of a store.

    For each task, pair and strategy: weak, student and ceiling score with 95% intervals, PGR where the gap is proven,
    seeds done of seeds asked, and rank; then the controls, and which strategies help. A task with a test set out of its
    distribution has a second table for it. The same store gives the same bytes.
    """
    if json and form not in (None, Format.JSON):
        raise typer.BadParameter(f"--json and --format {form} exclude each other", param_hint="--format")
    chosen = Format.JSON if json else form or Format.TABLE
    show(store_of(store), grid=grid, submission=submission, form=chosen, details=metrics, out=out)


def show(
    store: str,
    *,
    grid: str | None = None,
    submission: int | None = None,
    form: Format = Format.TABLE,
    details: bool = False,
    out: Path | None = None,
) -> None:
    """Print the leaderboard of a store, or of one of its grids, or write it to a file."""
    from wtsbench import api
    from wtsbench.reports.files import write
    from wtsbench.reports.renderers import render

    board = api.leaderboard(store, grid, submission=submission)
    if out is not None:
        write(out, render(board, "plain" if form is Format.TABLE else form.value, details=details).encode())
    elif form is Format.TABLE and sys.stdout.isatty():
        color = not os.environ.get("NO_COLOR")
        put_styled(render(board, "terminal", width=console().width, color=color, details=details))
    else:
        sys.stdout.write(render(board, "plain" if form is Format.TABLE else form.value, details=details))
