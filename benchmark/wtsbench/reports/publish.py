"""A report of a store: the document of a whole leaderboard, and the folder that it is published in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

from wtsbench.reports import blocks, compose
from wtsbench.reports.anchors import anchor_of
from wtsbench.reports.document import Block, Document, Prose, Section
from wtsbench.reports.eee import EveryEvalEver
from wtsbench.reports.exchange import Exchange
from wtsbench.reports.files import PAGE, remove_others, require_own, write
from wtsbench.reports.html import page
from wtsbench.reports.latex import latex
from wtsbench.reports.markdown import markdown
from wtsbench.reports.renderers import comma_separated, json_text
from wtsbench.reports.rows import Comparison, Leaderboard
from wtsbench.reports.runs import Runs
from wtsbench.reports.wording import EMPTY, Group, Notes
from wtsbench.store.client import Store
from wtsbench.visible import visible_texts

_PER_STUDENT = ("eval_results/*.yaml", "every_eval_ever/data/wtsbench/wtsbench/*/*.json*")
"""Files for every student, whose names another report of the same folder need not have."""


def document(board: Leaderboard, runs: Runs) -> Document:
    """The report on a leaderboard.

    Args:
        board: what is shown.
        runs: what stands behind it.
    """
    notes = Notes(board.rows)
    names = list(dict.fromkeys(row.grid for row in board.rows))
    sections = [_grid(board, grid, tables, runs, notes) for grid, tables in compose.grids(board)]
    return Document(
        title=f"Weak-to-strong generalization: {', '.join(names) or 'no grid yet'}",
        lead=() if names else (Prose(text=EMPTY),),
        sections=(*sections, *compose.closing(board, notes), compose.METHODS),
        sources=runs.sources(),
        trials=runs.trials,
    )


def publish(store: Store, board: Leaderboard, out: Path, *, samples: bool = False) -> list[Path]:
    """Write the report of a leaderboard into a folder: a page, and its tables for other tools.

    Args:
        store: where the trials are.
        board: the leaderboard.
        out: the folder, made where there is none; a report in it is replaced, and nothing else is.
        samples: whether what students said of every test item is written as well; raw texts are in it.

    Returns:
        The files, the page first.

    Raises:
        SpecError: the folder cannot be written, or holds files of these names that are of no report.
    """
    board = replace(board, rows=tuple(visible_texts(board.rows)))
    runs = Runs(store, board)
    made = document(board, runs)
    texts = {
        PAGE: page(made, runs.failure_logs()),
        "tables.md": markdown(made),
        "tables.tex": latex(made),
        "rows.csv": comma_separated(board),
        "rows.json": json_text(board),
    }
    files = {name: text.encode() for name, text in texts.items()} | Exchange(board, runs).files()
    require_own(out, [*files, *_PER_STUDENT])
    written = []
    for name, content in chain(files.items(), EveryEvalEver(board, runs, samples=samples).files()):
        write(out / name, content)
        written.append(out / name)
    for pattern in _PER_STUDENT:
        remove_others(out, pattern, written)
    return written


def _grid(
    board: Leaderboard, grid: str, tables: Sequence[tuple[Group, list[Comparison]]], runs: Runs, notes: Notes
) -> Section:
    return Section(
        title=f"Grid {grid}",
        anchor=anchor_of("grid", grid),
        blocks=(*compose.opening(board, grid, len(tables)), *_across([group for group, _ in tables], runs)),
        sections=tuple(_table(group, compared, runs, notes) for group, compared in tables),
    )


def _table(group: Group, compared: Sequence[Comparison], runs: Runs, notes: Notes) -> Section:
    drawn = [chart for chart in (blocks.forest(group), blocks.inheritance(group)) if chart is not None]
    verdicts = blocks.matrix(compared)
    more = [*([verdicts] if verdicts else []), *blocks.metrics(group)]
    folded = {"Comparisons and further metrics": more, "Training and outputs": [*runs.extra(group)]}
    whole = compose.table_section(group, notes, (Prose(text=compose.sentence(group, compared)), *drawn))
    return replace(
        whole,
        sections=tuple(
            Section(title=title, anchor=f"{whole.anchor}-{place}", blocks=tuple(shown), folded=True)
            for place, (title, shown) in enumerate(folded.items())
            if shown
        ),
    )


def _across(tables: Sequence[Group], runs: Runs) -> Iterator[Block]:
    """Charts that several tables of a grid share."""

    def task(group: Group) -> tuple[str, str, str]:
        row = group.rows[0]
        return (row.task, row.split, row.scorer or "")

    def pair(group: Group) -> tuple[str, str, str, str]:
        row = group.rows[0]
        return (row.task, row.weak, row.strong, row.scorer or "")

    for _, some in groupby(sorted(tables, key=task), key=task):
        chart = runs.by_size(list(some))
        if chart is not None:
            yield chart
    for _, some in groupby(sorted(tables, key=pair), key=pair):
        chart = blocks.sets(list(some))
        if chart is not None:
            yield chart
