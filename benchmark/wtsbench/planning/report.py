"""A plan compared with the store: which trials are stored, which are missing, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wtsbench.planning.plan import Plan
from wtsbench.spec.trial import TrialSpec
from wtsbench.strategies import registry

State = Literal["stored", "new", "failed", "running"]


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial's state in the store: that of its successful attempt, else of its latest."""

    trial_id: str
    status: Literal["done", "failed", "running"]
    message: str
    """For failures: class and message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """A trial of the plan and its state in the store."""

    trial_id: str
    spec: TrialSpec
    uses: int
    state: State
    reason: str
    """Why it has to run; empty for stored ones."""


_SHOWN = 20
"""Trials that a plan's text names."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PlanReport:
    """Every trial of a plan, parents first."""

    trials: tuple[PlannedTrial, ...]

    def __repr__(self) -> str:
        return f"<plan of {self.total} trials: {self.stored} stored, {self.to_run} to run>"

    def __str__(self) -> str:
        missing = [trial for trial in self.trials if trial.state != "stored"]
        lines = [f"{self.total} trials: {self.stored} stored, {self.to_run} to run; {self.shared} shared by cells"]
        lines += [f"  {title(trial.spec)}: {trial.reason}" for trial in missing[:_SHOWN]]
        more = len(missing) - _SHOWN
        return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)

    @property
    def total(self) -> int:
        """Trials of the plan."""
        return len(self.trials)

    @property
    def shared(self) -> int:
        """Trials that serve more than one cell."""
        return sum(trial.uses > 1 for trial in self.trials)

    @property
    def stored(self) -> int:
        """Trials whose results are in the store already."""
        return sum(trial.state == "stored" for trial in self.trials)

    @property
    def to_run(self) -> int:
        """Trials that a submission would run."""
        return self.total - self.stored


def title(spec: TrialSpec) -> str:
    """Readable name of a trial, such as `student safety-mini nano-3 naive(labels=hard) seed 0`."""
    strategy = None if spec.strategy is None else registry.short_label(spec.strategy)
    if spec.recipe is not None:
        strategy = f"({spec.recipe.name})"
    return name_of(spec.role.value, spec.task, spec.model.name, strategy, spec.seed, spec.data_seed)


def name_of(role: str, task: str, model: str, strategy: str | None, seed: int, data_seed: int = 0) -> str:
    """The same from its parts."""
    data = f"data seed {data_seed}" if data_seed else ""
    return " ".join(part for part in (role, task, model, strategy, f"seed {seed}", data) if part)


Purpose = tuple[str, str, str, str, int]
"""Purpose of a trial: role, task, model, strategy's name (or none) and seed. Trials of equal purpose are compared."""


def purpose(spec: TrialSpec) -> Purpose:
    """Purpose of a trial."""
    strategy = "" if spec.strategy is None else spec.strategy.name
    return spec.role.value, spec.task, spec.model.name, strategy, spec.seed


def compare(plan: Plan, stored: Mapping[str, StoredTrial], done: Iterable[tuple[str, TrialSpec]] = ()) -> PlanReport:
    """State and reason of every trial.

    Args:
        plan: the plan.
        stored: those of its trials that are in the store, by id.
        done: trials of the store that are done, by id; a similar one explains why a planned trial has to run.
    """
    alike: dict[Purpose, list[tuple[str, TrialSpec]]] = {}
    for trial_id, spec in done:
        alike.setdefault(purpose(spec), []).append((trial_id, spec))
    planned = []
    for trial_id, spec in plan.trials.items():
        state, reason = _state(spec, stored.get(trial_id), alike)
        planned.append(
            PlannedTrial(trial_id=trial_id, spec=spec, uses=plan.uses.get(trial_id, 0), state=state, reason=reason)
        )
    return PlanReport(trials=tuple(planned))


def _state(
    spec: TrialSpec, stored: StoredTrial | None, alike: Mapping[Purpose, Sequence[tuple[str, TrialSpec]]]
) -> tuple[State, str]:
    if stored is None:
        return "new", _nearest_difference(spec, alike.get(purpose(spec), ()))
    if stored.status == "done":
        return "stored", ""
    if stored.status == "running":
        return "running", "an attempt was begun and has not ended"
    return "failed", f"failed last time: {stored.message}"


def _nearest_difference(spec: TrialSpec, alike: Sequence[tuple[str, TrialSpec]]) -> str:
    """The differing fields of the most similar stored trial of the same purpose."""
    if not alike:
        return "never run"
    every = ((trial_id, other, differences(other, spec)) for trial_id, other in alike)
    trial_id, nearest, fields = min(every, key=lambda one: (len(one[2]), one[0]))
    if not fields:
        return (
            f"finished for grid {nearest.grid} only, by whoever may submit no other: `--trust {nearest.grid}` takes it"
        )
    return f"differs from stored trial {trial_id[:12]} in {'; '.join(fields)}"


def differences(old: TrialSpec, new: TrialSpec) -> list[str]:
    """The identity fields in which two trials differ, as `field: old -> new`."""
    before, after = _flat(old.identity()), _flat(new.identity())
    return [
        f"{field}: {_short(before.get(field))} -> {_short(after.get(field))}"
        for field in sorted(before.keys() | after.keys())
        if before.get(field) != after.get(field)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {
            path: leaf
            for key, item in value.items()
            for path, leaf in _flat(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: value}


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    return text[:12] + "…" if len(text) == 64 else text
