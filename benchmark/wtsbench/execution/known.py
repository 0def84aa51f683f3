"""What a store knows of a grid's trials: asked for these alone, and for the columns that are needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TypeVar

import pyarrow as pa

from wtsbench.planning.plan import Inputs, Plan, Reuse
from wtsbench.planning.report import StoredTrial, purpose
from wtsbench.spec.trial import TrialSpec
from wtsbench.store.client import Store

_AT_ONCE = 100_000
"""Trials that one question names."""
_EXPLAINED = 10_000
"""Stored trials that are read to say in what new ones differ from them."""

_T = TypeVar("_T")


def done_trials(store: Store, trial_ids: Sequence[str]) -> set[str]:
    """Those of the trials whose results are in the store."""
    return {
        trial_id
        for some in _portions(trial_ids)
        for trial_id in _done(store.trials(some, columns=["trial_id", "status"]))
    }


def reuse_of(store: Store | None, inputs: Inputs, trusted: tuple[str, ...]) -> Reuse:
    """Whose finished trials a plan takes: only where some do not count for all grids must they be known before."""
    only = None if store is None else store.only_grid
    if store is None or (only is None and not trusted):
        return Reuse()
    tasks = sorted(task.manifest.name for task in inputs.tasks.values())
    done = _done(store.trials(tasks=tasks, columns=["trial_id", "status"]))
    return Reuse(grid=only, trusted=trusted, done=frozenset(done))


def known_of(store: Store | None, plan: Plan) -> tuple[dict[str, StoredTrial], list[tuple[str, TrialSpec]]]:
    """The plan's trials that the store knows, by id; and finished trials that may say why others are new."""
    if store is None:
        return {}, []
    known: dict[str, StoredTrial] = {}
    columns = ["trial_id", "status", "failure_class", "failure_message"]
    for some in _portions(list(plan.trials)):
        for row in store.trials(some, columns=columns).to_pylist():
            before = known.get(row["trial_id"])
            if before is None or before.status != "done":
                message = f"{row['failure_class']}: {row['failure_message']}"
                known[row["trial_id"]] = StoredTrial(trial_id=row["trial_id"], status=row["status"], message=message)
    for some in _portions([trial_id for trial_id in plan.trials if trial_id not in known]):
        for trial_id in store.attempts(some)["trial_id"].unique().to_pylist():
            known[trial_id] = StoredTrial(trial_id=trial_id, status="running", message="")
    return known, _alike(store, [spec for trial_id, spec in plan.trials.items() if trial_id not in known])


def _alike(store: Store, new: Sequence[TrialSpec]) -> list[tuple[str, TrialSpec]]:
    """Finished trials of the purposes of new ones, as far as this version can read them."""
    if not new:
        return []
    purposes = {purpose(spec) for spec in new}
    columns = ["trial_id", "status", "role", "task", "model", "strategy", "seed"]
    found = store.trials(tasks=sorted({spec.task for spec in new}), columns=columns)
    ids = []
    for trial_id, status, *about, strategy, seed in zip(*(found[name].to_pylist() for name in columns), strict=True):
        if status == "done" and (*about, (strategy or "").partition("(")[0], seed) in purposes:
            ids.append(trial_id)
    specs = store.trials(ids[:_EXPLAINED], columns=["trial_id", "status", "spec"]).to_pylist()
    read = ((row["trial_id"], stored_spec(row["spec"])) for row in specs if row["status"] == "done")
    return [(trial_id, spec) for trial_id, spec in read if spec is not None]


def stored_spec(text: str) -> TrialSpec | None:
    """A stored trial's specification; None where this version cannot read it."""
    try:
        return TrialSpec.model_validate(json.loads(text))
    except ValueError:
        return None


def _done(trials: pa.Table) -> list[str]:
    pairs = zip(trials["trial_id"].to_pylist(), trials["status"].to_pylist(), strict=True)
    return [trial_id for trial_id, status in pairs if status == "done"]


def _portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]
