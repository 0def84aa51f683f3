"""How far each grid of a store is: a pure function of its cells, attempts and trials."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wtsbench.planning.report import name_of
from wtsbench.reports.contents import Ending, Submission, endings, submissions
from wtsbench.reports.rows import Shown
from wtsbench.spec.cell import Cell
from wtsbench.store.client import Store

SLOW = 3.0
"""A running trial that takes so many times what its kind took is named as slow."""
_SLOW_SECONDS = 60.0
"""But none is before this."""
_Kind = tuple[str, str, str]
"""Task, role and model."""
State = Literal["done", "failed", "running", "abandoned", "waiting"]


@dataclass(frozen=True, kw_only=True)
class TrialFailure:
    """A trial whose last attempt failed."""

    trial_id: str
    role: str
    task: str
    model: str
    strategy: str | None
    seed: int
    data_seed: int
    """Which draw of the task's items."""
    failure_class: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Trials by state."""

    done: int = 0
    failed: int = 0
    """The last attempt failed."""
    running: int = 0
    """An attempt was begun and is supervised."""
    abandoned: int = 0
    """An attempt was begun, has not ended, and has been silent for a minute: the next submission runs the trial."""
    waiting: int = 0
    """Never begun."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.failed + self.running + self.abandoned + self.waiting


@dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """An attempt that is being run now."""

    trial_id: str
    attempt: int
    name: str
    """The trial, as people call it; the beginning of its id where no grid asks for it."""
    run: str
    host: str
    seconds: float
    """Since it was begun."""
    share: float | None
    """How much of it is done, in [0, 1]; None before it has said so."""
    slow: bool
    """Whether it takes more than SLOW times what trials of its task, role and model took."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What trials have taken, over all of their attempts that have ended."""

    attempts: int = 0
    seconds: float = 0.0
    """From the start of each attempt to its end, added up."""
    failed_attempts: int = 0
    failed_seconds: float = 0.0
    """Of these, what attempts took that failed."""


@dataclass(frozen=True, kw_only=True)
class GridStatus:
    """How far the newest submission of a grid is."""

    grid: str
    submission: int
    shown: Shown
    """When that was, and which earlier ones of the same name the store has."""
    cells_done: int
    """Cells of which weak supervisor, ceiling and student are all done."""
    cells_total: int
    trials: Counts
    """The distinct trials of its plan, as `submit` counts them."""
    compute: Compute
    """Of those trials, which other grids may share."""
    failures: tuple[TrialFailure, ...]


@dataclass(frozen=True, kw_only=True)
class Status:
    """All grids, and what else is in the store."""

    grids: tuple[GridStatus, ...]
    others: Counts
    """Trials of no grid's newest submission: those of earlier ones."""
    other_failures: tuple[TrialFailure, ...]
    compute: Compute
    """Of all trials of the store."""
    running: tuple[RunningTrial, ...]
    """What is being run now, the oldest first."""


def status(store: Store, grid: str | None = None) -> Status:
    """How far the grids of a store are.

    Args:
        store: where the trials are.
        grid: this grid only; by default all.

    Raises:
        SpecError: there is no grid of that name.
        StoreError: the store cannot be read.
    """
    every = submissions(store)
    shown = every if grid is None else submissions(store, grid)
    leased = store.running().to_pylist()
    begun = _begun(store, {(row["trial_id"], row["attempt"]) for row in leased})
    taken = _taken(store)
    ended = endings(store)
    named = {trial_id for submission in every for trial_id in submission.planned}
    others = sorted((set(ended) | set(begun)) - named)
    return Status(
        grids=tuple(_grid(submission, ended, begun, taken) for submission in shown),
        others=_count(others, ended, begun),
        other_failures=_failures(others, ended, begun),
        compute=_added(taken, taken),
        running=_running(store, leased, shown),
    )


def _running(
    store: Store, leased: Sequence[Mapping[str, Any]], shown: Sequence[Submission]
) -> tuple[RunningTrial, ...]:
    cells = cells_by_trial(shown)
    kinds = {row["trial_id"]: _kind(row["trial_id"], cells) for row in leased}
    usual = _usual(store, {kind for kind in kinds.values() if kind is not None}) if leased else {}
    return tuple(
        RunningTrial(
            trial_id=row["trial_id"],
            attempt=row["attempt"],
            name=called(row["trial_id"], cells) or row["trial_id"][:12],
            run=row["run"],
            host=row["host"],
            seconds=row["age_s"],
            share=row["share"],
            slow=row["age_s"] > max(_SLOW_SECONDS, SLOW * usual.get(kinds[row["trial_id"]], math.inf)),
        )
        for row in sorted(leased, key=lambda row: (-row["age_s"], row["trial_id"]))
    )


def cells_by_trial(shown: Sequence[Submission]) -> dict[str, Cell]:
    """For every trial of some submissions a cell that it is of."""
    return {trial_id: cell for one in shown for cell in one.cells for trial_id in cell.every_trial}


def _kind(trial_id: str, cells: Mapping[str, Cell]) -> _Kind | None:
    """Task, role and model of a trial; None where no grid asks for it, or it is a stage between weak and strong."""
    cell = cells.get(trial_id)
    if cell is None or trial_id in cell.others:
        return None
    roles = {cell.weak_trial: ("weak", cell.weak), cell.ceiling_trial: ("ceiling", cell.strong)}
    role, model = roles.get(trial_id, ("student" if cell.kind == "strategy" else "control", cell.strong))
    return cell.task, role, model


def called(trial_id: str, cells: Mapping[str, Cell]) -> str | None:
    """A trial as people call it, by the cells of trials; None as for `_kind`."""
    kind = _kind(trial_id, cells)
    if kind is None:
        return None
    (task, role, model), cell = kind, cells[trial_id]
    strategy = cell.strategy if role in ("student", "control") else None
    return name_of(role, task, model, strategy, cell.seed, cell.data_seed or 0)


def _usual(store: Store, kinds: Collection[_Kind]) -> dict[_Kind | None, float]:
    """Median seconds of what trials of these kinds took that are done."""
    taken: dict[_Kind | None, list[float]] = {}
    columns = ["task", "role", "model", "status", "duration_s"]
    for row in store.trials(columns=columns).to_pylist():
        kind = (row["task"], row["role"], row["model"])
        if kind in kinds and row["status"] == "done" and row["duration_s"] is not None:
            taken.setdefault(kind, []).append(row["duration_s"])
    return {kind: statistics.median(seconds) for kind, seconds in taken.items()}


def _begun(store: Store, leased: Collection[tuple[str, int]]) -> dict[str, State]:
    """Trials with an attempt that was begun and has not ended, later than any that has: running or abandoned.

    What was begun is read before what has ended: a trial that ends meanwhile is in one of the two at least.
    """
    attempts = store.attempts().select(["trial_id", "attempt"]).to_pylist()
    last: dict[str, int] = {}
    for row in store.trials(columns=["trial_id", "attempt"]).to_pylist():
        last[row["trial_id"]] = max(row["attempt"], last.get(row["trial_id"], 0))
    found: dict[str, State] = {}
    for row in attempts:
        key = row["trial_id"], row["attempt"]
        if row["attempt"] > last.get(row["trial_id"], 0) and found.get(row["trial_id"]) != "running":
            found[row["trial_id"]] = "running" if key in leased else "abandoned"
    return found


def _taken(store: Store) -> dict[str, list[tuple[bool, float]]]:
    """Of each trial, whether its attempts failed, and the seconds that they took."""
    found: dict[str, list[tuple[bool, float]]] = {}
    for row in store.trials(columns=["trial_id", "status", "duration_s"]).to_pylist():
        found.setdefault(row["trial_id"], []).append((row["status"] != "done", row["duration_s"] or 0.0))
    return found


def _added(trial_ids: Iterable[str], taken: Mapping[str, list[tuple[bool, float]]]) -> Compute:
    every = [attempt for trial_id in trial_ids for attempt in taken.get(trial_id, ())]
    failed = [seconds for bad, seconds in every if bad]
    return Compute(
        attempts=len(every),
        seconds=math.fsum(seconds for _, seconds in every),
        failed_attempts=len(failed),
        failed_seconds=math.fsum(failed),
    )


def _state(trial_id: str, ended: Mapping[str, Ending], begun: Mapping[str, State]) -> State:
    ending = ended.get(trial_id)
    if ending is not None and ending.done:
        return "done"
    if trial_id in begun:
        return begun[trial_id]
    return "waiting" if ending is None else "failed"


def _count(trial_ids: Iterable[str], ended: Mapping[str, Ending], begun: Mapping[str, State]) -> Counts:
    found: dict[str, int] = Counter(_state(trial_id, ended, begun) for trial_id in trial_ids)
    return Counts(**found)


def _failures(
    trial_ids: Iterable[str], ended: Mapping[str, Ending], begun: Mapping[str, State]
) -> tuple[TrialFailure, ...]:
    failed = [ended[trial_id] for trial_id in trial_ids if _state(trial_id, ended, begun) == "failed"]
    failed.sort(
        key=lambda end: (end.task, end.role, end.model, end.strategy or "", end.data_seed, end.seed, end.trial_id)
    )
    return tuple(
        TrialFailure(
            trial_id=ending.trial_id,
            role=ending.role,
            task=ending.task,
            model=ending.model,
            strategy=ending.strategy,
            seed=ending.seed,
            data_seed=ending.data_seed,
            failure_class=ending.failure_class or "unknown",
            message=ending.failure_message or "",
        )
        for ending in failed
    )


def _grid(
    submission: Submission,
    ended: Mapping[str, Ending],
    begun: Mapping[str, State],
    taken: Mapping[str, list[tuple[bool, float]]],
) -> GridStatus:
    done = [
        cell
        for cell in submission.cells
        if all(_state(trial_id, ended, begun) == "done" for trial_id in cell.trials.values())
    ]
    return GridStatus(
        grid=submission.grid,
        submission=submission.submission,
        shown=submission.shown,
        cells_done=len(done),
        cells_total=len(submission.cells),
        trials=_count(submission.planned, ended, begun),
        compute=_added(submission.planned, taken),
        failures=_failures(submission.planned, ended, begun),
    )
