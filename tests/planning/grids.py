"""Grids and inputs for planning tests: names resolved without touching data or weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wtsbench.planning.plan import Inputs, Plan, ResolvedModel, ResolvedTask, Reuse, make_plan
from wtsbench.planning.points import expand
from wtsbench.spec.grid import Grid
from wtsbench.spec.identity import digest
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.training import TrainingOverride
from wtsbench.spec.trial import ModelRef

SIZES = {"small": 1, "middle": 2, "large": 3, "other": 9}


def make_grid(**changes: Any) -> Grid:
    """Two tasks, one pair, two strategies, three seeds; change what a test needs."""
    fields: dict[str, Any] = {
        "name": "g",
        "tasks": ["t1", "t2"],
        "pairs": [{"weak": "small", "strong": "large"}],
        "strategies": ["naive", "logconf"],
        "seeds": [0, 1, 2],
    }
    return Grid.model_validate({**fields, **changes})


def make_inputs(grid: Grid, **changes: Any) -> Inputs:
    """Every name resolved to a digest of itself; `middle` stands between `small` and `large`."""
    fields: dict[str, Any] = {
        "tasks": {task: make_task(task, draws_of(grid, task)) for task in grid.tasks},
        "models": {
            name: ResolvedModel(
                ref=ModelRef(name=name, kind="embedded", id=name, revision=digest(name), family="f", parameters=size),
                training=TrainingOverride(),
            )
            for name, size in SIZES.items()
        },
        "environment": "process:0",
    }
    return Inputs(**{**fields, **changes})


def make_task(
    name: str,
    draws: Mapping[int, str] | None = None,
    *,
    scorer: str | None = None,
    reference: ModelRef | None = None,
    **changes: Any,
) -> ResolvedTask:
    """A task whose items have a digest of its name; the changes are of its manifest."""
    return ResolvedTask(
        manifest=TaskManifest.model_construct(name=name, **changes),
        draws={0: digest(name)} if draws is None else draws,
        scorer=scorer,
        reference=reference,
    )


def draws_of(grid: Grid, task: str) -> dict[int, str]:
    """The digest of each draw of a task's items; that of the grid's own data seed is of the task alone."""
    named = {data_seed: {} if data_seed == grid.data.seed else {"draw": data_seed} for data_seed in grid.data.draws}
    return {data_seed: digest({"items": task, **drawn}) for data_seed, drawn in named.items()}


def planned(grid: Grid, inputs: Inputs, reuse: Reuse | None = None) -> Plan:
    """The plan of a grid whose names were resolved so; `middle` stands between `small` and `large`."""
    ladders = {pair: ("middle",) for pair in grid.pairs if (pair.weak, pair.strong) == ("small", "large")}
    return make_plan(
        expand(grid, {name: task.manifest for name, task in inputs.tasks.items()}, ladders), inputs, reuse or Reuse()
    )


def plan_of(**changes: Any) -> Plan:
    """The plan of a grid with these changes."""
    grid = make_grid(**changes)
    return planned(grid, make_inputs(grid))
