"""Status: every trial of a grid is in exactly one state."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.planning.grids import plan_of
from tests.reports.worlds import START, World, simple, trial_name
from wtsbench.errors import SpecError
from wtsbench.reports.contents import submissions
from wtsbench.reports.live import Live
from wtsbench.reports.status import Counts, status
from wtsbench.spec.cell import Cell


def half_way() -> World:
    """Six trials of a grid done, one failed, one running again after a failure, one waiting; one beside the grid."""
    world = simple({"naive": 0.7}, items=20, skip=[("naive", 1), ("naive", 2), ("ceiling", 2)])
    (digest,) = world.items
    world.trial("student", "colours", "large", 1, digest, strategy="naive", failure=("timeout", "ran past 2 h"))
    world.trial("ceiling", "colours", "large", 2, digest, failure=("infrastructure", "the node went away"))
    world.begin(trial_name("ceiling", "colours", "large", 2), attempt=2)
    world.trial("weak", "colours", "small", 1002, digest, failure=("diverged", "NaN"))
    return world


def test_every_trial_has_one_state() -> None:
    """Done, failed, running and waiting add up to the trials that the grid's cells name."""
    found = status(half_way().memory(shuffle=1))
    (grid,) = found.grids
    assert (grid.grid, grid.submission, grid.cells_done, grid.cells_total) == ("first", 1, 1, 3)
    assert grid.trials == Counts(done=6, failed=1, running=1, waiting=1)


def test_failures_say_class_and_message() -> None:
    """A trial that failed last is listed with its reason; one that runs again is not."""
    found = status(half_way().memory())
    (failure,) = found.grids[0].failures
    assert (failure.role, failure.seed, failure.strategy) == ("student", 1, "naive")
    assert (failure.failure_class, failure.message) == ("timeout", "ran past 2 h")
    json.dumps(asdict(found), allow_nan=False)


def test_pages_tell_draws_apart(tmp_path: Path) -> None:
    """A page names trials with the draw of the items: those that run, those that failed, and the one it is of."""
    world = half_way()
    world.grids[0]["cells"] = world.grids[0]["cells"].replace('"seed": 2,', '"seed": 2, "data_seed": 7,')
    (row,) = (row for row in world.trials if row["failure_class"] == "timeout")
    row["data_seed"] = 5
    live = Live(uri=world.folder(tmp_path).uri, grid=None)
    page = live.page()
    assert page is not None
    assert "student colours large naive seed 1 data seed 5" in page.page.inner
    assert "ceiling colours large seed 2 data seed 7" in page.page.inner
    titles = {row["trial_id"]: "seed 1 data seed 5", trial_name("ceiling", "colours", "large", 2): "seed 2 data seed 7"}
    for trial_id, title in titles.items():
        of_trial = live.page(trial_id)
        assert of_trial is not None
        assert of_trial.title.endswith(title)


def test_trials_of_no_grid_are_counted_apart() -> None:
    """Trials of earlier submissions show up with their failures, so that nothing fails unseen."""
    found = status(half_way().memory())
    assert found.others == Counts(failed=1)
    assert [(failure.seed, failure.failure_class) for failure in found.other_failures] == [(1002, "diverged")]


def test_done_wins_over_later_attempts() -> None:
    """A result stays a result when another attempt was begun or failed after it."""
    world = simple({"naive": 0.7}, items=20, seeds=[0])
    (digest,) = world.items
    world.trial("weak", "colours", "small", 0, digest, failure=("infrastructure", "lost"), attempt=2)
    world.begin(trial_name("ceiling", "colours", "large", 0), attempt=2)
    (grid,) = status(world.memory()).grids
    assert grid.trials == Counts(done=3)
    assert (grid.failures, grid.cells_done) == ((), 1)


def test_who_has_no_lease_runs_nothing() -> None:
    """A trial that was begun and that nobody supervises any more is abandoned, unless a later attempt is run."""
    world = half_way()
    trial_id = trial_name("ceiling", "colours", "large", 2)
    assert status(world.memory()).grids[0].trials.running == 1
    world.leases.clear()
    assert status(world.memory()).grids[0].trials == Counts(done=6, failed=1, abandoned=1, waiting=1)
    world.begin(trial_id, attempt=3)
    assert status(world.memory()).grids[0].trials.running == 1


def test_what_runs_is_named_and_stragglers_are_told() -> None:
    """Each by its name and host, the oldest first; slow is what takes three times as long as its kind took."""
    world = half_way()
    weak = trial_name("weak", "colours", "small", 3)
    (usual,) = {row["duration_s"] for row in world.trials if row["role"] == "ceiling" and row["status"] == "done"}
    for age, slow in ((max(60.0, 3 * usual) + 1, True), (max(60.0, 3 * usual) - 1, False)):
        world.leases.clear()
        world.begin(trial_name("ceiling", "colours", "large", 2), attempt=3, age=age)
        world.begin(weak, age=900.0)  # which no grid asks for, and whose kind is not known
        found = status(world.memory(shuffle=3)).running
        assert [(one.name, one.host, one.share, one.slow) for one in found] == [
            (weak[:12], "node", 0.25, False),
            ("ceiling colours large seed 2", "node", 0.25, slow),
        ]


def test_compute_is_that_of_all_attempts() -> None:
    """What failed was computed as well; trials beside the cells count for the store and for no grid."""
    found = status(half_way().memory())
    grid, every = found.grids[0].compute, found.compute
    assert (grid.attempts, grid.failed_attempts) == (8, 2)
    assert (every.attempts, every.failed_attempts) == (9, 3)
    assert every.seconds > grid.seconds > grid.failed_seconds > 0


def test_a_real_store_has_the_same_status(tmp_path: Path) -> None:
    """What a folder holds and what memory holds are counted the same."""
    world = half_way()
    folder, memory = status(world.folder(tmp_path)), status(world.memory())
    same_time = [replace(grid, shown=memory.grids[0].shown) for grid in folder.grids]
    assert [one.name for one in folder.running] == [one.name for one in memory.running]
    assert replace(folder, grids=tuple(same_time), running=memory.running) == memory


def test_one_grid_or_an_unknown_one() -> None:
    """One grid can be asked for; a name that is not there is the user's fault and named."""
    world = half_way()
    assert [grid.grid for grid in status(world.memory(), "first").grids] == ["first"]
    with pytest.raises(SpecError, match="no grid 'second'"):
        status(world.memory(), "second")
    assert status(World().memory()).grids == ()


def test_a_trial_that_ends_while_it_is_looked_for_is_not_lost() -> None:
    """Running or done, whatever was read before and what after; never neither."""
    world = simple({"naive": 0.7}, items=20, seeds=[0])
    (digest,) = world.items
    world.begin(trial_name("weak", "colours", "small", 1))
    before = world.memory()
    world.attempts.pop()
    world.trial("weak", "colours", "small", 1, digest, failure=("diverged", "NaN"))
    after = world.memory()
    for calls in range(8):
        moving = Moving(before, after, calls)
        assert status(moving).others.total == 1, calls  # type: ignore[arg-type]  # every call goes to a store


class Moving:
    """A store in which something ends after so many calls."""

    def __init__(self, before: object, after: object, calls: int) -> None:
        self._stores = (before, after)
        self._left = calls

    def __getattr__(self, name: str) -> object:
        """A method of the store as it is now."""
        self._left -= 1
        return getattr(self._stores[self._left < 0], name)


def test_a_grid_counts_the_trials_that_its_plan_has() -> None:
    """Stages and supervisors that no cell names belong to the grid: `submit` and `status` say the same number."""
    plan = plan_of(strategies=["bootstrap", "ensemble", "naive"])
    world = World()
    cells = json.dumps([cell.record() for cell in plan.cells])
    world.grids.append(
        {"name": "deep", "grid_digest": plan.grid_digest, "submission": 1, "yaml": "", "cells": cells}
        | {"submitted_at": START}
    )
    stage = next(trial_id for trial_id in plan.trials if not any(trial_id in c.trials.values() for c in _cells(world)))
    world.begin(stage)
    found = status(world.memory())
    assert found.grids[0].trials == Counts(running=1, waiting=len(plan.trials) - 1)
    assert found.others == Counts()


def _cells(world: World) -> tuple[Cell, ...]:
    (submission,) = submissions(world.memory())
    return submission.cells
