"""A store is asked for a grid's own trials and for the columns that are needed, however much else it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.performance.fake_store import put_done
from tests.planning.grids import make_grid, make_inputs, plan_of
from wtsbench.execution.known import known_of, reuse_of
from wtsbench.planning.plan import Reuse
from wtsbench.planning.report import compare
from wtsbench.spec.trial import TrialSpec
from wtsbench.store.engine.queries import Look, Query
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.folder import DATABASE, FolderStore
from wtsbench.store.lock import locked


class Watched(FolderStore):
    """A store in a folder that notes what it is asked."""

    asked: list[Query]
    only: str | None = None

    @property
    def only_grid(self) -> str | None:
        return self.only

    def _read(self, query: Query | Look) -> pa.Table:
        if isinstance(query, Query):
            self.asked.append(query)
        return super()._read(query)


def row(spec: TrialSpec, /, **said: Any) -> dict[str, Any]:
    """What a store's row says of a trial."""
    return {
        "role": spec.role.value,
        "task": spec.task,
        "model": spec.model.name,
        "strategy": None if spec.strategy is None else spec.strategy.name,
        "seed": spec.seed,
        "spec": spec.model_dump_json(),
        **said,
    }


def stored(folder: Path, rows: dict[str, dict[str, Any]]) -> Watched:
    """A store of trials by id, all ended."""
    store = Watched(folder)
    store.asked = []
    store.open(create=True)
    with locked(folder, shared=False), Engine.open(folder / DATABASE, read_only=False) as engine:
        put_done(engine, rows, 1)
    return store


def test_nothing_of_other_grids_is_read(tmp_path: Path) -> None:
    """Of a grid that is stored, states are asked by id, and no specification is read; other trials never are."""
    plan, other = plan_of(tasks=["t1"]), plan_of(tasks=["t2"])
    store = stored(tmp_path, {key: row(spec) for key, spec in {**plan.trials, **other.trials}.items()})
    report = compare(plan, *known_of(store, plan))
    assert (report.stored, report.total) == (len(plan.trials), len(plan.trials))
    (query,) = store.asked
    assert set(query.parameters[0]) == set(plan.trials)
    assert not {"spec", "measurements"} & set(query.only)


def test_states_and_reasons(tmp_path: Path) -> None:
    """Failed, begun and new trials are told apart; a new one says in what it differs from one that is done."""
    old = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"])
    plan = plan_of(tasks=["t1"], seeds=[0, 1], strategies=["naive"], training={"models": {"large": {"epochs": 9}}})
    weak, failed, running = (key for key, spec in plan.trials.items() if spec.seed == 1)
    rows = {key: row(spec) for key, spec in old.trials.items()}
    rows[failed] = row(plan.trials[failed], status="failed", failure_class="diverged", failure_message="NaN")
    store = stored(tmp_path, rows)
    assert store.begin_attempt(running, run="r") == 1
    report = {trial.trial_id: trial for trial in compare(plan, *known_of(store, plan)).trials}
    assert (report[weak].state, report[weak].reason) == ("new", "never run")
    assert (report[failed].state, report[failed].reason) == ("failed", "failed last time: diverged: NaN")
    assert report[running].state == "running"
    ceiling = next(trial for trial in report.values() if (trial.spec.role, trial.spec.seed) == ("ceiling", 0))
    assert ceiling.state == "new"
    assert "training.epochs: 3 -> 9" in ceiling.reason


def test_an_unreadable_specification_explains_nothing(tmp_path: Path) -> None:
    """What another version stored is passed over."""
    old, new = (plan_of(tasks=["t1"], seeds=[0], strategies=["naive"], training={"epochs": n}) for n in (1, 2))
    store = stored(tmp_path, {key: row(spec, spec='{"role": "judge"}') for key, spec in old.trials.items()})
    assert {trial.reason for trial in compare(new, *known_of(store, new)).trials} == {"never run"}


def test_finished_trials_are_asked_for_where_a_plan_depends_on_them(tmp_path: Path) -> None:
    """Whose results count for all grids plans without the store; others take what their task's trials have done."""
    grid = make_grid(tasks=["t1"])
    inputs = make_inputs(grid)
    plan = plan_of(tasks=["t1"])
    store = stored(tmp_path, {key: row(spec) for key, spec in {**plan.trials, **plan_of(tasks=["t2"]).trials}.items()})
    assert reuse_of(store, inputs, ()) == Reuse()
    assert not store.asked
    trusting = reuse_of(store, inputs, ("mine",))
    assert trusting == Reuse(trusted=("mine",), done=frozenset(plan.trials))
    store.only = "narrow"
    assert reuse_of(store, inputs, ()).grid == "narrow"
