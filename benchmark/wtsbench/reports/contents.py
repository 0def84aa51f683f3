"""What reports read of a store, independent of the order in which rows were written, of attempts and of times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from math import isfinite
from typing import Any, NamedTuple

from wtsbench.contract.measurements import Measurements
from wtsbench.errors import SpecError
from wtsbench.planning.stored import cells_of
from wtsbench.reports.rows import Shown, Submitted
from wtsbench.spec.cell import Cell
from wtsbench.spec.faults import nearest
from wtsbench.store.client import Store


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A submission of a grid, by default the newest."""

    grid: str
    submission: int
    cells: tuple[Cell, ...]
    shown: Shown
    """Which one this is, and which others there are."""

    @property
    def trial_ids(self) -> list[str]:
        """Every trial whose score a cell shows, sorted."""
        return sorted({trial_id for cell in self.cells for trial_id in cell.trials.values()})

    @property
    def planned(self) -> list[str]:
        """Every trial of the plan, sorted: those, and what their students come from."""
        return sorted({*self.trial_ids, *(trial_id for cell in self.cells for trial_id in cell.others)})


def submissions(store: Store, grid: str | None = None, submission: int | None = None) -> list[Submission]:
    """The newest submission of each grid name, or of one, by name; or one submission by its number.

    Raises:
        SpecError: the store holds no grid of that name, or no such submission of it.
        StoreError: the store cannot be read, or the cells of a submission cannot.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in store.grids().select(["name", "submission", "submitted_at", "cells"]).to_pylist():
        rows.setdefault(row["name"], []).append(row)
    if grid is not None:
        if grid not in rows:
            near = nearest(grid, rows)
            known_names = ", ".join(sorted(rows)) or "none"
            raise SpecError(
                f"the store {store.uri} holds no grid {grid!r}",
                remedy=f"did you mean {near!r}?" if near else f"grids in it: {known_names}.",
            )
        rows = {grid: rows[grid]}
    if submission is not None:
        numbers = sorted(row["submission"] for of_grid in rows.values() for row in of_grid)
        rows = {name: some for name, some in rows.items() if submission in [row["submission"] for row in some]}
        if not rows:
            of_which = "" if grid is None else f" of grid {grid!r}"
            raise SpecError(
                f"the store {store.uri} holds no submission {submission}{of_which}",
                remedy=f"it has {', '.join(map(str, numbers)) or 'none'}.",
            )
    return [_chosen(store, some, submission) for _, some in sorted(rows.items())]


def _chosen(store: Store, rows: Sequence[dict[str, Any]], submission: int | None) -> Submission:
    """Of a grid's submissions, the one of a number, or the newest: numbers are in the order of time."""
    ordered = sorted(rows, key=lambda row: -int(row["submission"]))
    row = next(row for row in ordered if submission in (None, row["submission"]))
    others = tuple(_submitted(other) for other in ordered if other is not row)
    return Submission(
        grid=row["name"],
        submission=row["submission"],
        cells=cells_of(row, store),
        shown=Shown(grid=row["name"], shown=_submitted(row), others=others),
    )


_A_CELL = '"student_trial":'
"""What stands in the JSON of cells once for each, and in no text, where quotes are escaped: counting is quick."""


def _submitted(row: Mapping[str, Any]) -> Submitted:
    at = row["submitted_at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Submitted(submission=row["submission"], submitted_at=at, cells=row["cells"].count(_A_CELL))


class Ending(NamedTuple):
    """How a trial ended last: the attempt that succeeded, else the latest that failed."""

    trial_id: str
    done: bool
    role: str
    task: str
    model: str
    strategy: str | None
    seed: int
    data_seed: int
    failure_class: str | None
    failure_message: str | None
    sandbox: str
    environment: str
    attempt: int
    records_digest: str | None
    """Of all that the attempt recorded: which execution of the trial this was, in whatever store."""
    model_revision: str
    weights: str | None
    """SHA-256 of the weights, as the trial measured them; None where nothing was trained, or `measured` is False."""
    late_fall: float | None
    """As the trial measured it (`Measurements.late_fall`)."""
    measured: bool
    """Whether its measurements can be read."""


OTHER_WEIGHTS = "other_weights"
"""Failure class of a trial that is done and does not count, for it began with other weights than its revision names."""
_MADE = {"done": "status", "weights": "measurements", "late_fall": "measurements", "measured": "measurements"}
"""Columns of `trials` that fields of an `Ending` are made of; the others have their names."""


def endings(store: Store, trial_ids: Sequence[str] | None = None) -> dict[str, Ending]:
    """How each trial with a sealed attempt ended, by id; all trials of the store where no ids are given."""
    table = store.trials(trial_ids, columns=list(dict.fromkeys(_MADE.get(name, name) for name in Ending._fields)))
    measured = [Measurements.of_stored(text) for text in table["measurements"].to_pylist()]
    made = {
        "done": [status == "done" for status in table["status"].to_pylist()],
        "weights": [None if one is None else one.weights_sha256 for one in measured],
        "late_fall": [None if one is None or not isfinite(one.late_fall or 0) else one.late_fall for one in measured],
        "measured": [one is not None for one in measured],
    }
    columns = [made[name] if name in made else table[name].to_pylist() for name in Ending._fields]
    every = [Ending(*values) for values in zip(*columns, strict=True)]
    last = {one.trial_id: one for one in sorted(every, key=lambda one: (one.done, one.attempt))}
    return dict(sorted(last.items()))


def of_one_weights(ended: Mapping[str, Ending]) -> dict[str, Ending]:
    """The same trials, but those that began with other weights than most trials of their model's revision failed.

    A revision stands for one set of weights, so no number may be made of two. Where as many trials began with one as
    with another, nobody can tell which is right, and none of them counts.
    """
    found: dict[str, Counter[str]] = {}
    for one in ended.values():
        if one.done and one.weights is not None:
            found.setdefault(one.model_revision, Counter())[one.weights] += 1
    mixed = {revision: counts.most_common(2) for revision, counts in found.items() if len(counts) > 1}
    right = {revision: first if often > less else None for revision, ((first, often), (_, less)) in mixed.items()}
    return {
        trial_id: one
        if not one.done or one.model_revision not in right or one.weights in (None, right[one.model_revision])
        else one._replace(
            done=False,
            failure_class=OTHER_WEIGHTS,
            failure_message=f"it began with weights {str(one.weights)[:12]}, others of model {one.model} at the same"
            " revision with others: `wtsbench store verify` lists them",
        )
        for trial_id, one in ended.items()
    }
