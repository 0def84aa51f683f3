"""The leaderboard: a pure function of what a store holds, but for figures that others published (see `published`).

Trials are compared by seed: a seed counts once its weak supervisor, its ceiling and its student are all done, and every
number of a row, the weak and the ceiling score included, is over exactly those seeds. So rows of one pair that have
different seeds done may show slightly different weak and ceiling scores; `seeds` says which they are.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

from wtsbench.errors import StoreError
from wtsbench.json_text import parsed
from wtsbench.planning.report import name_of
from wtsbench.reports.contents import Ending, Submission, endings, of_one_weights, submissions
from wtsbench.reports.kept import KeptTables
from wtsbench.reports.published import with_published
from wtsbench.reports.rows import DECIMALS, RESAMPLES, Leaderboard, Shown
from wtsbench.scoring.trivial import TRIVIAL, trivial_in
from wtsbench.store.client import Store
from wtsbench.visible import visible

if TYPE_CHECKING:  # what computes is imported where it does: where all tables are kept, it is not
    from wtsbench.data.account import Account
    from wtsbench.reports.evidence import ScoredItems
    from wtsbench.reports.resampling import Resampler
    from wtsbench.reports.table import Scorer, Table
    from wtsbench.spec.cell import Cell
from wtsbench.spec.trial import Split

_DRAWS = 4
"""Sets of items whose draws are known at once: two tasks', of two splits each."""
_AT_ONCE = 4
"""Tables that are computed side by side, each in some 100 MiB."""


def leaderboard(
    store: Store,
    grid: str | None = None,
    *,
    submission: int | None = None,
    resamples: int = RESAMPLES,
    kept: KeptTables | None = None,
) -> Leaderboard:
    """The leaderboard of a store.

    Args:
        store: where the trials are.
        grid: this grid only; by default every grid of the store.
        submission: this submission of a grid only; by default the newest of each grid.
        resamples: of the bootstrap.
        kept: finished tables of earlier calls, to take and to add to; the leaderboard is the same with and without.

    Raises:
        SpecError: there is no grid of that name, or no such submission; or published figures are wrong.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    asked = submissions(store, grid, submission)
    parts = list(_parts(store, asked))
    named = sorted({trial_id for part in parts for cell in part.cells for trial_id in cell.trials.values()})
    contents = {} if kept is None else kept.contents(store, named)
    keys = [None if kept is None else _key(kept, part, resamples, contents) for part in parts]
    boards = [None if kept is None or key is None else kept.load(key) for key in keys]
    missing = [number for number, board in enumerate(boards) if board is None]
    known = _Known(store, resamples)

    def compute(number: int) -> Leaderboard:
        board, key = known.board(parts[number]), keys[number]
        if kept is not None and key is not None:
            kept.save(key, board)
        return board

    for number, board in zip(missing, _at_once(compute, missing), strict=True):
        boards[number] = board
    if kept is not None and missing:
        kept.tidy()
    whole = [board for board in boards if board is not None]
    return Leaderboard(
        rows=with_published(row for board in whole for row in board.rows),
        comparisons=tuple(each for board in whole for each in board.comparisons),
        submissions=tuple(one.shown for one in asked),
        data=_accounts(store, parts),
        unread=tuple(dict.fromkeys(line for part in parts for line in part.unread())),
    )


def _accounts(store: Store, parts: Sequence[_Part]) -> tuple[Account, ...]:
    """What became of the rows of some data sets, of those that the store can tell it of.

    Data of one task that differ from grid to grid are called by the grids that took them.
    """
    grids: dict[str, dict[str, None]] = {}
    for part in parts:
        grids.setdefault(part.cells[0].data_digest, {})[part.shown.grid] = None
    if not grids:
        return ()
    from wtsbench.data.account import stored_account

    known = {row["data_digest"]: row for row in store.datasets().to_pylist() if row["data_digest"] in grids}
    sets = Counter(row["task"] for row in known.values())
    found = []
    for digest, taken_by in grids.items():
        if digest in known:
            row = known[digest]
            called = row["task"] if sets[row["task"]] == 1 else f"{row['task']} of {' and '.join(taken_by)}"
            found.append(stored_account({**row, "task": called}))
    return tuple(account for account in found if account is not None)


def _key(kept: KeptTables, part: _Part, resamples: int, contents: Mapping[str, str]) -> str | None:
    decided_by = part.decided_by(resamples, contents)
    return None if decided_by is None else kept.key(decided_by)


def _at_once(compute: Callable[[int], Leaderboard], numbers: Sequence[int]) -> Iterator[Leaderboard]:
    """Compute tables side by side, each in a thread: within one, sums are too small to be worth sharing.

    Threads of the library that adds would wait for each other most of the time, for ever on a machine that is busy.
    """
    if not numbers:
        return
    from threadpoolctl import threadpool_limits

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(max_workers=min(_AT_ONCE, cores, len(numbers)))
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield from pool.map(compute, numbers)
    finally:
        pool.shutdown(cancel_futures=True)


def tables(store: Store, asked: Sequence[Submission], *, resamples: int = RESAMPLES) -> Iterator[Table]:
    """The tables of submissions: one for each grid, task, pair, split with items and, for generation, scorer.

    Raises:
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    known = _Known(store, resamples)
    for part in _parts(store, asked):
        yield from known.tables(part)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The cells of one grid, task and pair: a table for each split that has items, or one for each scorer."""

    shown: Shown
    cells: Sequence[Cell]
    ended: dict[str, Ending]
    """Of all trials of the grid."""
    dataset: dict[str, Any]
    """Its row in `datasets`, but for what no table depends on; empty where the store lacks it. What trivial classifiers
    score is None where its report cannot be read."""
    scorers: dict[str, str | None]
    """Names of scorers by digest, as the trials of the grid were planned with them."""

    def decided_by(self, resamples: int, contents: Mapping[str, str]) -> dict[str, Any] | None:
        """All that the tables are a function of, beside the code; None where the store does not tell all of it."""
        named = {trial_id for cell in self.cells for trial_id in cell.trials.values()}
        trials = {trial_id: self.ended.get(trial_id) for trial_id in sorted(named)}
        if any(one is not None and one.records_digest is None for one in trials.values()):
            return None
        return {
            "grid": self.shown.grid,
            "submission": [self.shown.shown.submission, *(other.submission for other in self.shown.others)],
            "cells": self.cells,
            "trials": trials,
            "contents": [contents.get(key) for key in (*trials, *sorted({cell.data_digest for cell in self.cells}))],
            "dataset": self.dataset,
            "scorers": self.scorers,
            "resamples": resamples,
        }

    def unread(self) -> Iterator[str]:
        """What the store has of the data and of finished trials that cannot be read."""
        if self.dataset.get(TRIVIAL, {}) is None:
            yield visible(
                f"the report of data set {self.cells[0].data_digest[:12]} of task {self.dataset['task']}: what became"
                " of its rows, and what trivial classifiers score"
            )
        named = {trial_id for cell in self.cells for trial_id in cell.trials.values()}
        for trial_id in sorted(named & self.ended.keys()):
            one = self.ended[trial_id]
            if one.done and not one.measured:
                what = name_of(one.role, one.task, one.model, one.strategy, one.seed, one.data_seed)
                yield visible(f"the measurements of trial {trial_id[:12]} ({what}): which weights it began with, too")


def _parts(store: Store, asked: Sequence[Submission]) -> Iterator[_Part]:
    columns = ["data_digest", "task", "form", "labels", "metric", "settings", "report"]
    known = store.datasets().select(columns).to_pylist() if asked else []
    datasets = {row["data_digest"]: row | {TRIVIAL: _trivial(row.pop("report"))} for row in known}
    for submission in asked:
        ended = of_one_weights(endings(store, submission.trial_ids))
        generative = {key for key, row in datasets.items() if row["form"] == "generation"}
        names = _scorer_names(store, [cell for cell in submission.cells if cell.data_digest in generative], ended)
        for cells in _pairs(submission.cells):
            digest = cells[0].data_digest
            drawn = [datasets.get(key, {}) for key in dict.fromkeys(cell.data_digest for cell in cells)]
            yield _Part(
                shown=submission.shown,
                cells=cells,
                ended=ended,
                dataset={**drawn[0], TRIVIAL: _over_draws([row.get(TRIVIAL, {}) for row in drawn])} if drawn[0] else {},
                scorers=names if digest in generative else {},
            )


def _trivial(report: str) -> dict[str, Any] | None:
    """What trivial classifiers score; None where the report cannot be read."""
    try:
        return trivial_in(report)
    except ValueError:
        return None


def _over_draws(told: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Mean scores of trivial classifiers, which learn from training items, over draws of these: by split and name.

    Only what every draw has; None where a draw's cannot be read.
    """
    if len(told) == 1:
        return told[0]
    known = [one for one in told if one is not None]
    if len(known) < len(told):
        return None
    return {
        split: {
            name: {
                metric: round(fmean(one[split][name][metric] for one in known), DECIMALS)
                for metric in scores
                if all(metric in one[split][name] for one in known)
            }
            for name, scores in named.items()
            if all(name in one[split] for one in known)
        }
        for split, named in known[0].items()
        if all(split in one for one in known)
    }


class _Known:
    """What several tables share: the items of a split, and the draws of them."""

    def __init__(self, store: Store, resamples: int) -> None:
        self._store = store
        self._resamples = resamples
        self._mutex = threading.Lock()
        self._items: dict[tuple[str, Split], ScoredItems | None] = {}
        self._resampler = lru_cache(maxsize=_DRAWS)(self._new_resampler)

    def tables(self, part: _Part) -> Iterator[Table]:
        """The tables of a part."""
        from wtsbench.reports.table import Table
        from wtsbench.spec.trial import TEST_SPLITS

        for split in TEST_SPLITS:
            tests, resampler = self._shared(part.cells[0].data_digest, split)
            for digest in dict.fromkeys(cell.data_digest for cell in part.cells[1:]):
                _require_same(part.cells[0].task, tests, self._shared(digest, split)[0])
            if tests is not None and resampler is not None:
                for scorer in _scorers(self._store, part, tests):
                    trivial = (part.dataset.get(TRIVIAL) or {}).get(split.value, {})
                    found = self._store, part.shown, part.cells, part.ended, tests, scorer
                    yield Table(*found, trivial, resampler=resampler)

    def board(self, part: _Part) -> Leaderboard:
        """The finished tables of a part."""
        made = list(self.tables(part))
        return Leaderboard(
            rows=tuple(row for table in made for row in table.rows()),
            comparisons=tuple(each for table in made for each in table.comparisons()),
        )

    def _shared(self, *key: Any) -> tuple[ScoredItems | None, Resampler | None]:
        """The items of a data set's split, and their draws, made once; None where it has no items."""
        from wtsbench.reports.evidence import scored_items

        with self._mutex:
            if key not in self._items:
                self._items[key] = scored_items(self._store, *key)
            tests = self._items[key]
            return tests, None if tests is None else self._resampler(*key, tests.group_count)

    def _new_resampler(self, data_digest: str, split: Split, groups: int) -> Resampler:
        from wtsbench.reports.resampling import Resampler
        from wtsbench.spec.trial import Split

        name = data_digest if split is Split.TEST else f"{data_digest}|{split.value}"
        return Resampler(name, groups, resamples=self._resamples)


def _require_same(task: str, tests: ScoredItems | None, others: ScoredItems | None) -> None:
    """Raise StoreError where two draws of a task's training items have other test items, which none may."""
    one, two = (None if each is None else each.items.drop_columns(["data_digest"]) for each in (tests, others))
    if one != two:
        raise StoreError(
            f"the draws of task {task} have different test items",
            remedy="the store is damaged, or was written by something else; restore it from a copy.",
        )


def _pairs(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Cells by task and pair."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        items = cell.data_digest if cell.data_seed is None else ""  # all draws are of one task's items
        groups.setdefault((cell.task, cell.weak, cell.strong, items), []).append(cell)
    yield from groups.values()


def _scorers(store: Store, part: _Part, tests: ScoredItems) -> list[Scorer | None]:
    """Whose scores a table can be made of: nobody's for classification."""
    from wtsbench.reports.evidence import scorers
    from wtsbench.reports.table import Scorer

    if not tests.form.judged:
        return [None]
    found = scorers(store, _done(part.cells, part.ended), tests.split)
    return [
        Scorer(digest=digest, name=part.scorers.get(digest), trials=frozenset(trials))
        for digest, trials in found.items()
    ] or [Scorer(digest=None, name=None, trials=frozenset())]


def _scorer_names(store: Store, cells: Sequence[Cell], ended: dict[str, Ending]) -> dict[str, str | None]:
    """By digest, the names of the scorers that finished trials were planned with."""
    done = _done(cells, ended)
    if not done:
        return {}
    found = store.trials(done, columns=["trial_id", "attempt", "status", "spec"])
    names: dict[str, str | None] = {}
    for status, text in zip(found["status"].to_pylist(), found["spec"].to_pylist(), strict=True):
        scorer, name = _scorer_in(text) if status == "done" else (None, None)
        if scorer is not None:
            names[scorer] = name
    return names


def _scorer_in(spec: str) -> tuple[str | None, str | None]:
    """Digest and name of the scorer in a trial's specification (JSON); None where it has none, or cannot be read."""
    try:
        values = parsed(spec)
    except ValueError:
        return None, None
    scorer, generation = (values.get(name) if isinstance(values, dict) else None for name in ("scorer", "generation"))
    name = generation.get("scorer") if isinstance(generation, dict) else None
    return scorer if isinstance(scorer, str) else None, name if isinstance(name, str) else None


def _done(cells: Iterable[Cell], ended: dict[str, Ending]) -> list[str]:
    named = {trial_id for cell in cells for trial_id in cell.trials.values()}
    return sorted(trial_id for trial_id in named if trial_id in ended and ended[trial_id].done)
