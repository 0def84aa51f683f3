"""How far each grid of a store is: a pure function of its cells, attempts and trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from wtsbench.reports.contents import Ending, Readable, Submission, endings, submissions
from wtsbench.reports.rows import Shown

State = Literal["done", "failed", "running", "waiting"]


@dataclass(frozen=True, kw_only=True)
class TrialFailure:
    """A trial whose last attempt failed."""

    trial_id: str
    role: str
    task: str
    model: str
    strategy: str | None
    seed: int
    failure_class: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Trials by state."""

    done: int = 0
    failed: int = 0
    """The last attempt failed."""
    running: int = 0
    """An attempt was begun and has not ended. One whose submission was killed stays so until the next submission."""
    waiting: int = 0
    """Never begun."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.failed + self.running + self.waiting


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
    """The distinct trials that the cells name."""
    failures: tuple[TrialFailure, ...]


@dataclass(frozen=True, kw_only=True)
class Status:
    """All grids, and what else is in the store."""

    grids: tuple[GridStatus, ...]
    others: Counts
    """Trials that no grid's cells name: intermediate stages and further supervisors of strategies, and trials of
    earlier submissions."""
    other_failures: tuple[TrialFailure, ...]

    def record(self) -> dict[str, Any]:
        """The status as JSON values."""
        return asdict(self)


def status(store: Readable, grid: str | None = None) -> Status:
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
    begun = _begun(store)
    ended = endings(store)
    named = {trial_id for submission in every for trial_id in submission.trial_ids}
    others = sorted((set(ended) | begun) - named)
    return Status(
        grids=tuple(_grid(submission, ended, begun) for submission in shown),
        others=_count(others, ended, begun),
        other_failures=_failures(others, ended, begun),
    )


def _begun(store: Readable) -> set[str]:
    """Trials with an attempt that was begun and has not ended, later than any that has.

    What was begun is read before what has ended: a trial that ends meanwhile is in one of the two at least.
    """
    attempts = store.attempts().select(["trial_id", "attempt"]).to_pylist()
    last: dict[str, int] = {}
    for row in store.trials(columns=["trial_id", "attempt"]).to_pylist():
        last[row["trial_id"]] = max(row["attempt"], last.get(row["trial_id"], 0))
    return {row["trial_id"] for row in attempts if row["attempt"] > last.get(row["trial_id"], 0)}


def _state(trial_id: str, ended: Mapping[str, Ending], begun: set[str]) -> State:
    ending = ended.get(trial_id)
    if ending is not None and ending.done:
        return "done"
    if trial_id in begun:
        return "running"
    return "waiting" if ending is None else "failed"


def _count(trial_ids: Iterable[str], ended: Mapping[str, Ending], begun: set[str]) -> Counts:
    found: dict[str, int] = Counter(_state(trial_id, ended, begun) for trial_id in trial_ids)
    return Counts(**found)


def _failures(trial_ids: Iterable[str], ended: Mapping[str, Ending], begun: set[str]) -> tuple[TrialFailure, ...]:
    failed = [ended[trial_id] for trial_id in trial_ids if _state(trial_id, ended, begun) == "failed"]
    failed.sort(key=lambda end: (end.task, end.role, end.model, end.strategy or "", end.seed, end.trial_id))
    return tuple(
        TrialFailure(
            trial_id=ending.trial_id,
            role=ending.role,
            task=ending.task,
            model=ending.model,
            strategy=ending.strategy,
            seed=ending.seed,
            failure_class=ending.failure_class or "unknown",
            message=ending.failure_message or "",
        )
        for ending in failed
    )


def _grid(submission: Submission, ended: Mapping[str, Ending], begun: set[str]) -> GridStatus:
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
        trials=_count(submission.trial_ids, ended, begun),
        failures=_failures(submission.trial_ids, ended, begun),
    )
