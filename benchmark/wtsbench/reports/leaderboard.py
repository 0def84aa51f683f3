"""The leaderboard: a pure function of what a store holds.

Trials are compared by seed: a seed counts once its weak supervisor, its ceiling and its student are all done, and every
number of a row, the weak and the ceiling score included, is over exactly those seeds. So rows of one pair that have
different seeds done may show slightly different weak and ceiling scores; `seeds` says which they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from wtsbench.reports.contents import Ending, GridCell, Readable, endings, submissions
from wtsbench.reports.evidence import ScoredItems, scored_items, scorers
from wtsbench.reports.resampling import RESAMPLES
from wtsbench.reports.rows import Comparison, Leaderboard, Row
from wtsbench.reports.table import Scorer, Table
from wtsbench.spec.trial import TEST_SPLITS, Split


def leaderboard(store: Readable, grid: str | None = None, *, resamples: int = RESAMPLES) -> Leaderboard:
    """The leaderboard of a store.

    Args:
        store: where the trials are.
        grid: the newest submission of this grid only; by default that of every grid.
        resamples: of the bootstrap.

    Raises:
        SpecError: there is no grid of that name.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    for table in tables(store, grid, resamples=resamples):
        rows += table.rows()
        comparisons += table.comparisons()
    return Leaderboard(rows=tuple(rows), comparisons=tuple(comparisons))


def tables(store: Readable, grid: str | None = None, *, resamples: int = RESAMPLES) -> Iterator[Table]:
    """The tables of a leaderboard: one for each grid, task, pair, split with items and, for generation, scorer.

    Raises:
        SpecError: there is no grid of that name.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    known: dict[tuple[str, Split], ScoredItems | None] = {}
    for submission in submissions(store, grid):
        ended = endings(store, submission.trial_ids)
        for cells in _pairs(submission.cells):
            for split in TEST_SPLITS:
                key = (cells[0].data_digest, split)
                if key not in known:
                    known[key] = scored_items(store, *key)
                tests = known[key]
                if tests is not None:
                    for scorer in _scorers(store, cells, ended, tests):
                        yield Table(store, submission.grid, cells, ended, tests, scorer, resamples=resamples)


def _pairs(cells: Sequence[GridCell]) -> Iterator[list[GridCell]]:
    """Cells by task and pair."""
    groups: dict[tuple[str, ...], list[GridCell]] = {}
    for cell in cells:
        groups.setdefault((cell.task, cell.weak, cell.strong, cell.data_digest), []).append(cell)
    yield from groups.values()


def _scorers(
    store: Readable, cells: Sequence[GridCell], ended: dict[str, Ending], tests: ScoredItems
) -> list[Scorer | None]:
    """Whose scores a table can be made of: nobody's for classification."""
    if tests.form == "classification":
        return [None]
    named = {trial_id for cell in cells for trial_id in cell.trials.values()}
    done = sorted(trial_id for trial_id in named if trial_id in ended and ended[trial_id].done)
    names = {}
    for trial_id in done:
        spec = json.loads(ended[trial_id].spec)
        names[spec.get("scorer")] = (spec.get("generation") or {}).get("scorer")
    found = scorers(store, done, tests.split)
    return [
        Scorer(digest=digest, name=names.get(digest), trials=frozenset(trials)) for digest, trials in found.items()
    ] or [Scorer(digest=None, name=None, trials=frozenset())]
