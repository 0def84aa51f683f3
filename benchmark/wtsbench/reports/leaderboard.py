"""The leaderboard: a pure function of what a store holds.

Trials are compared by seed: a seed counts once its weak supervisor, its ceiling and its student are all done, and every
number of a row, the weak and the ceiling score included, is over exactly those seeds. So rows of one pair that have
different seeds done may show slightly different weak and ceiling scores; `seeds` says which they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow.compute as pc

from wtsbench.reports.contents import Ending, GridCell, Readable, endings, submissions
from wtsbench.reports.evidence import ScoredItems, scored_items, scorers
from wtsbench.reports.kept import KeptTables
from wtsbench.reports.resampling import RESAMPLES, Resampler
from wtsbench.reports.rows import Comparison, Leaderboard, Row
from wtsbench.reports.table import Scorer, Table
from wtsbench.spec.trial import TEST_SPLITS, Split


def leaderboard(
    store: Readable, grid: str | None = None, *, resamples: int = RESAMPLES, kept: KeptTables | None = None
) -> Leaderboard:
    """The leaderboard of a store.

    Args:
        store: where the trials are.
        grid: the newest submission of this grid only; by default that of every grid.
        resamples: of the bootstrap.
        kept: finished tables of earlier calls, to take and to add to; the leaderboard is the same with and without.

    Raises:
        SpecError: there is no grid of that name.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    known = _Known(store, resamples)
    added = False
    for part in _parts(store, grid):
        key = None if kept is None else kept.key(part.decided_by(resamples))
        found = None if kept is None or key is None else kept.load(key)
        if found is None:
            made = list(known.tables(part))
            found = Leaderboard(
                rows=tuple(row for table in made for row in table.rows()),
                comparisons=tuple(each for table in made for each in table.comparisons()),
            )
            if kept is not None and key is not None:
                kept.save(key, found)
                added = True
        rows += found.rows
        comparisons += found.comparisons
    if kept is not None and added:
        kept.tidy()
    return Leaderboard(rows=tuple(rows), comparisons=tuple(comparisons))


def tables(store: Readable, grid: str | None = None, *, resamples: int = RESAMPLES) -> Iterator[Table]:
    """The tables of a leaderboard: one for each grid, task, pair, split with items and, for generation, scorer.

    Raises:
        SpecError: there is no grid of that name.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    known = _Known(store, resamples)
    for part in _parts(store, grid):
        yield from known.tables(part)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The cells of one grid, task and pair on one split: a table, or one for each scorer, or none without items."""

    grid: str
    cells: Sequence[GridCell]
    split: Split
    ended: dict[str, Ending]
    """Of all trials of the grid."""
    dataset: dict[str, Any]
    """Its row in `datasets`, but for what no table depends on; empty where the store lacks it."""
    scorers: dict[str, str | None]
    """Names of scorers by digest, as the trials of the grid were planned with them."""

    def decided_by(self, resamples: int) -> dict[str, Any]:
        """All that the tables are a function of, beside the code."""
        trials: dict[str, list[Any] | None] = {}
        for cell in self.cells:
            for trial_id in cell.trials.values():
                one = self.ended.get(trial_id)
                trials[trial_id] = None if one is None else [*vars(one).values()]
        return {
            "grid": self.grid,
            "cells": [[*vars(cell).values()] for cell in self.cells],
            "split": self.split.value,
            "trials": trials,
            "dataset": self.dataset,
            "scorers": self.scorers,
            "resamples": resamples,
        }


def _parts(store: Readable, grid: str | None) -> Iterator[_Part]:
    asked = submissions(store, grid)
    columns = ["data_digest", "task", "form", "labels", "metric", "settings"]
    datasets = {row["data_digest"]: row for row in store.datasets().select(columns).to_pylist()} if asked else {}
    for submission in asked:
        ended = endings(store, submission.trial_ids)
        generative = {key for key, row in datasets.items() if row["form"] == "generation"}
        names = _scorer_names(store, [cell for cell in submission.cells if cell.data_digest in generative], ended)
        for cells in _pairs(submission.cells):
            digest = cells[0].data_digest
            for split in TEST_SPLITS:
                yield _Part(
                    grid=submission.grid,
                    cells=cells,
                    split=split,
                    ended=ended,
                    dataset=datasets.get(digest, {}),
                    scorers=names if digest in generative else {},
                )


class _Known:
    """What several tables share: the items of a split, and the draws of them."""

    def __init__(self, store: Readable, resamples: int) -> None:
        self._store = store
        self._resamples = resamples
        self._items: dict[tuple[str, Split], ScoredItems | None] = {}
        self._resampler = lru_cache(maxsize=len(TEST_SPLITS))(self._new_resampler)

    def tables(self, part: _Part) -> Iterator[Table]:
        """The tables of a part."""
        key = (part.cells[0].data_digest, part.split)
        if key not in self._items:
            self._items[key] = scored_items(self._store, *key)
        tests = self._items[key]
        if tests is not None:
            resampler = self._resampler(*key, tests.group_count)
            for scorer in _scorers(self._store, part, tests):
                yield Table(self._store, part.grid, part.cells, part.ended, tests, scorer, resampler=resampler)

    def _new_resampler(self, data_digest: str, split: Split, groups: int) -> Resampler:
        name = data_digest if split is Split.TEST else f"{data_digest}|{split.value}"
        return Resampler(name, groups, resamples=self._resamples)


def _pairs(cells: Sequence[GridCell]) -> Iterator[list[GridCell]]:
    """Cells by task and pair."""
    groups: dict[tuple[str, ...], list[GridCell]] = {}
    for cell in cells:
        groups.setdefault((cell.task, cell.weak, cell.strong, cell.data_digest), []).append(cell)
    yield from groups.values()


def _scorers(store: Readable, part: _Part, tests: ScoredItems) -> list[Scorer | None]:
    """Whose scores a table can be made of: nobody's for classification."""
    if tests.form == "classification":
        return [None]
    found = scorers(store, _done(part.cells, part.ended), tests.split)
    return [
        Scorer(digest=digest, name=part.scorers.get(digest), trials=frozenset(trials))
        for digest, trials in found.items()
    ] or [Scorer(digest=None, name=None, trials=frozenset())]


def _scorer_names(store: Readable, cells: Sequence[GridCell], ended: dict[str, Ending]) -> dict[str, str | None]:
    """By digest, the names of the scorers that finished trials were planned with."""
    done = _done(cells, ended)
    if not done:
        return {}
    found = store.trials(done, columns=["trial_id", "attempt", "status", "spec"])
    names: dict[str, str | None] = {}
    for text in found.filter(pc.equal(found["status"], "done"))["spec"].to_pylist():
        spec = json.loads(text)
        if spec.get("scorer") is not None:
            names[spec["scorer"]] = (spec.get("generation") or {}).get("scorer")
    return names


def _done(cells: Iterable[GridCell], ended: dict[str, Ending]) -> list[str]:
    named = {trial_id for cell in cells for trial_id in cell.trials.values()}
    return sorted(trial_id for trial_id in named if trial_id in ended and ended[trial_id].done)
