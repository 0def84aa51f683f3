"""The runs that a store knows, and how they stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wtsbench.contract.operations import LEASE_SECONDS
from wtsbench.errors import SpecError
from wtsbench.spec.cell import Cell
from wtsbench.store.client import Store

_ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as it last reported itself."""

    run: str
    grid: str
    cluster: str | None
    job: str | None
    host: str
    owner: str | None
    priority: int
    state: str
    """`queued`, `running`, `done`, `failed`, `cancelled`; `lost` where it has not ended and is silent."""
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None
    total: int
    stored: int
    done: int
    failed: int
    waiting: int
    running: int
    detail: str | None
    cancelled: bool
    """Whether somebody asked for its end."""
    resumed: int
    silent_s: float
    """Seconds since it was last heard of."""

    @property
    def ended(self) -> bool:
        """Whether it has come to an end of its own."""
        return self.state in _ENDED


def stored_runs(store: Store) -> list[StoredRun]:
    """All runs, the oldest first."""
    return [StoredRun(**{**row, "state": _state(row)}) for row in store.runs().to_pylist()]


def _state(row: Mapping[str, Any]) -> str:
    lost = row["state"] == "running" and row["silent_s"] > LEASE_SECONDS
    return "lost" if lost else str(row["state"])


def run_of(store: Store, name: str) -> StoredRun:
    """A run by its name, or by a part of it that no other's has; a grid's name means its newest run.

    Raises:
        SpecError: there is none, or several fit.
    """
    runs = stored_runs(store)
    fitting = [run for run in runs if run.run == name] or [run for run in runs if run.grid == name][-1:]
    fitting = fitting or [run for run in runs if name in run.run]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise SpecError(f"the store has no run {name!r}", remedy="`wtsbench runs` lists them.")
    listed = ", ".join(run.run for run in fitting[:5])
    raise SpecError(f"{len(fitting)} runs fit {name!r}", remedy=f"give more of the name: {listed}")


def cancel_run(store: Store, name: str, trial_ids: Sequence[str] | None = None) -> StoredRun:
    """Ask for the end of a run, or of some of its trials; the run obeys within `BEAT_SECONDS`.

    Raises:
        SpecError: there is no such run, or it has ended.
    """
    run = run_of(store, name)
    if not store.cancel(run.run, trial_ids):
        raise SpecError(f"run {run.run} has ended: it is {run.state}")
    return run


def students_of(
    store: Store,
    name: str,
    *,
    tasks: Collection[str] = (),
    models: Collection[str] = (),
    strategies: Collection[str] = (),
) -> list[str]:
    """Ids of students and controls of a run's grid that fit what is given, each kind only if it is given.

    Args:
        store: with the grid's newest submission.
        name: of the run.
        tasks: names.
        models: names of strong models.
        strategies: labels as in the leaderboard, or names without parameters.

    Raises:
        SpecError: there is no such run, or its plan is not stored yet.
    """
    run = run_of(store, name)
    grids = store.grids().select(["name", "submission", "cells"]).to_pylist()
    of_grid = [row for row in grids if row["name"] == run.grid]
    if not of_grid:
        raise SpecError(f"run {run.run} has no plan yet", remedy="cancel all of it, or wait a moment.")
    cells = Cell.listed(max(of_grid, key=lambda row: int(row["submission"]))["cells"])
    return sorted(
        {
            cell.student_trial
            for cell in cells
            if (not tasks or cell.task in tasks)
            and (not models or cell.strong in models)
            and (not strategies or cell.strategy in strategies or cell.strategy.partition("(")[0] in strategies)
        }
    )


def printed_since(store: Store, trial_id: str, attempt: int, line: int) -> tuple[list[tuple[int, str]], bool]:
    """What an attempt has printed after a line, as numbered lines; and whether that is all there will be.

    Supervisors send what trials print every `BEAT_SECONDS`; once an attempt has ended, its log is complete.
    """
    ended = store.sealed(trial_id, attempt)
    table = store.logs(trial_id, attempt) if ended else store.printed(trial_id, attempt, line)
    lines = zip(table["line"].to_pylist(), table["text"].to_pylist(), strict=True)
    return [(number, text) for number, text in sorted(lines) if number > line], ended


def attempts_of(store: Store, run: str) -> list[tuple[str, int]]:
    """Trial ids and numbers of the attempts of a run that are running now."""
    rows = store.running().to_pylist()
    return [(row["trial_id"], row["attempt"]) for row in rows if row["run"] == run]
