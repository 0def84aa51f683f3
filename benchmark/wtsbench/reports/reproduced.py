"""A run held against the one it repeats: do predictions, metrics and ranks agree, and within what?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.planning.stored import cells_of
from wtsbench.reports.anchors import source_of
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.rows import RESAMPLES
from wtsbench.store.base import Store

_KEYS = {
    "predictions": ["trial_id", "split", "item_id"],
    "generations": ["trial_id", "split", "item_id", "sample"],
    "scores": ["trial_id", "scorer", "split", "item_id", "sample"],
    "trials": ["trial_id", "attempt"],
}


@dataclass(frozen=True, kw_only=True)
class TrialAgreement:
    """One trial, then and now."""

    trial_id: str
    """In the store."""
    now: str
    """Where it was repeated."""
    outputs: int
    """Predicted distributions, or generated texts."""
    other: int = 0
    """Of these, those whose likeliest class, or text, is another now; those that only one of the two has count too."""
    largest: float = 0.0
    """Largest difference of a probability, or of a text's score."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Differences of final metrics that are not 0, by `split/name`; infinite where only one of the two has a value."""

    @property
    def difference(self) -> float:
        """The largest of all, 0 where everything is equal bit for bit; infinite where outputs are others."""
        return max(float("inf") if self.other else 0.0, self.largest, *map(abs, self.metrics.values()), 0.0)

    def within(self, tolerance: float) -> bool:
        """Whether all outputs are the same, and no number differs by more."""
        return self.difference <= tolerance


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A run and its repetition."""

    trials: tuple[TrialAgreement, ...]
    entries: int
    """Entries of tables whose ranks were computed from what was repeated, and for the rest from what is stored."""
    ranks: Mapping[str, tuple[int | None, int | None]]
    """Entries with another rank now, with both."""

    def agrees(self, tolerance: float) -> bool:
        """Whether every trial does, and no rank is another."""
        return not self.ranks and all(trial.within(tolerance) for trial in self.trials)

    def record(self, tolerance: float) -> dict[str, Any]:
        """As JSON values; an infinite difference is null."""
        told = [
            {**asdict(each), "metrics": {name: _finite(value) for name, value in each.metrics.items()}}
            for each in self.trials
        ]
        return {"agrees": self.agrees(tolerance), "tolerance": tolerance, "trials": told, "entries": self.entries,
                "ranks": {name: list(both) for name, both in self.ranks.items()}}  # fmt: skip


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def agreement(
    store: Store, again: Store, ids: Mapping[str, str], submission: int, *, resamples: int = RESAMPLES
) -> Agreement:
    """Hold trials against their repetition.

    Args:
        store: where they are.
        again: where they were repeated.
        ids: by the id in the first, the id in the second.
        submission: of whose tables the ranks are looked at.
        resamples: of the bootstrap.
    """
    trials = tuple(_trial(store, again, before, now) for before, now in ids.items())
    mixed = _Mixed(store, again, dict(ids), submission)
    if not mixed.has_cells or all(trial.difference == 0 for trial in trials):  # of equal outputs come equal ranks
        return Agreement(trials=trials, entries=mixed.rows, ranks={})
    boards = [leaderboard(side, resamples=resamples) for side in (_Mixed(store, again, {}, submission, ids), mixed)]
    before, now = ({source_of(row): row.rank for row in board.rows if row.kind == "strategy"} for board in boards)
    changed = {name: (rank, now.get(name)) for name, rank in before.items() if rank != now.get(name)}
    return Agreement(trials=trials, entries=len(before), ranks=changed)


def _trial(store: Store, again: Store, before: str, now: str) -> TrialAgreement:
    outputs, other, largest = _outputs(store, again, before, now)
    return TrialAgreement(
        trial_id=before, now=now, outputs=outputs, other=other, largest=largest,
        metrics=dict(_metrics(store, again, before, now)),
    )  # fmt: skip


def _outputs(store: Store, again: Store, before: str, now: str) -> tuple[int, int, float]:
    """How many outputs there are, how many are others now, and the largest difference of a number."""
    old, new = (_keyed(side.predictions([one]), "probabilities") for side, one in ((store, before), (again, now)))
    if old or new:
        common = old.keys() & new.keys()
        arrays = [(np.asarray(old[key]), np.asarray(new[key])) for key in common]
        other = sum(one.shape != two.shape or one.argmax() != two.argmax() for one, two in arrays)
        apart = [float(np.abs(one - two).max()) for one, two in arrays if one.shape == two.shape]
        return len(old), int(other) + len(old.keys() ^ new.keys()), max(apart, default=0.0)
    texts = [_keyed(side.generations([one]), "text") for side, one in ((store, before), (again, now))]
    scores = [_keyed(side.scores([one]), "value") for side, one in ((store, before), (again, now))]
    other = sum(texts[0].get(key) != texts[1].get(key) for key in texts[0].keys() | texts[1].keys())
    apart = [abs(scores[0][key] - scores[1][key]) for key in scores[0].keys() & scores[1].keys()]
    return len(texts[0]), other, max(apart, default=0.0)


def _keyed(table: pa.Table, value: str) -> dict[tuple[Any, ...], Any]:
    keys = [name for name in ("scorer", "split", "item_id", "sample") if name in table.column_names]
    columns = [table[name].to_pylist() for name in (*keys, value)]
    return {tuple(row[:-1]): row[-1] for row in zip(*columns, strict=True)}


def _metrics(store: Store, again: Store, before: str, now: str) -> Iterator[tuple[str, float]]:
    sides = []
    for side, trial_id in ((store, before), (again, now)):
        table = side.metrics([trial_id], final_only=True).select(["split", "name", "value"])
        sides.append({f"{row['split']}/{row['name']}": row["value"] for row in table.to_pylist()})
    for name in sorted(sides[0].keys() | sides[1].keys()):
        one, two = (side.get(name) for side in sides)
        if one != two:
            yield name, float("inf") if one is None or two is None else two - one


class _Mixed(Store):
    """A store in which some trials are those of another: for the ranks of tables of which only some were repeated."""

    def __init__(
        self, store: Store, again: Store, ids: Mapping[str, str], submission: int, of: Mapping[str, str] = {}
    ) -> None:
        """As `agreement`; `of` are the trials that decide which tables there are, where none is to be replaced."""
        self._store, self._again, self._new = store, again, frozenset(ids.values())
        table = store.grids().filter(pc.field("submission") == submission)
        (row,) = table.to_pylist()
        cells = [cell.record() for cell in cells_of(row, store)]
        touched = {_table(cell) for cell in cells if not (ids or of).keys().isdisjoint(_trials(cell))}
        self._cells = [cell for cell in cells if _table(cell) in touched]
        text = json.dumps(self._cells)
        for before, now in ids.items():
            text = text.replace(before, now)
        self._grids = table.set_column(table.schema.get_field_index("cells"), "cells", pa.array([text]))

    @property
    def has_cells(self) -> bool:
        """Whether any table shows one of the trials."""
        return bool(self._cells)

    @property
    def rows(self) -> int:
        """Entries of its tables, each once for all test sets."""
        return len({(*_table(cell), cell["strategy"]) for cell in self._cells if cell.get("kind") != "control"})

    @property
    def uri(self) -> str:
        return self._store.uri

    def _engine(self, *, read_only: bool = False) -> AbstractContextManager[Any]:
        return self._store._engine(read_only=read_only)

    def grids(self) -> pa.Table:
        return self._grids

    def trials(self, trial_ids: Sequence[str] | None = None, **options: Any) -> pa.Table:
        return self._both("trials", trial_ids or (), **options)

    def predictions(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        return self._both("predictions", trial_ids, splits=splits)

    def generations(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        return self._both("generations", trial_ids, splits=splits)

    def scores(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        return self._both("scores", trial_ids, splits=splits)

    def _both(self, table: str, trial_ids: Sequence[str], **options: Any) -> pa.Table:
        parts = [
            getattr(side, table)([one for one in trial_ids if (one in self._new) == new], **options)
            for side, new in ((self._store, False), (self._again, True))
        ]
        whole = pa.concat_tables(parts)
        return whole.sort_by([(name, "ascending") for name in _KEYS[table] if name in whole.column_names])


def _table(cell: Mapping[str, Any]) -> tuple[str, ...]:
    items = "" if cell.get("data_seed") is not None else cell["data_digest"]  # all draws are of one task's items
    return (cell["task"], cell["weak"], cell["strong"], items)


def _trials(cell: Mapping[str, Any]) -> set[str]:
    return {cell["weak_trial"], cell["ceiling_trial"], cell["student_trial"]}
