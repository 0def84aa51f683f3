"""A plan holds every trial once, parents first, and says which serve which cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.planning.grids import make_grid, make_inputs, plan_of
from wtsbench.errors import SpecError
from wtsbench.planning.plan import Reuse, make_plan
from wtsbench.planning.points import Wordings, require_cells, required_models
from wtsbench.planning.report import StoredTrial, compare
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.trial import Role


def test_weak_and_ceiling_once_for_all_strategies() -> None:
    """2 tasks x 3 seeds give 6 weak and 6 ceiling trials, however many strategies learn from them."""
    plan = plan_of(strategies=["naive", "logconf", {"name": "naive", "labels": "hard"}])
    roles = Counter(spec.role for spec in plan.trials.values())
    assert roles == {Role.WEAK: 6, Role.CEILING: 6, Role.STUDENT: 18}
    assert len(plan.cells) == 18
    assert all(plan.uses[cell.weak_trial] == 3 for cell in plan.cells)


def test_shared_between_pairs() -> None:
    """Pairs with the same weak model share it, and pairs with the same strong model share the ceiling."""
    plan = plan_of(
        tasks=["t1"],
        seeds=[0],
        strategies=["naive"],
        pairs=[
            {"weak": "small", "strong": "large"},
            {"weak": "small", "strong": "middle"},
            {"weak": "middle", "strong": "large"},
        ],
    )
    roles = Counter(spec.role for spec in plan.trials.values())
    assert roles == {Role.WEAK: 2, Role.CEILING: 2, Role.STUDENT: 3}


def test_parents_before_children() -> None:
    """Every parent stands before its children, so a plan can be run from top to bottom."""
    plan = plan_of(strategies=["bootstrap", "ensemble", "naive"])
    seen: set[str] = set()
    for trial_id, spec in plan.trials.items():
        assert trial_id == spec.trial_id
        assert seen.issuperset(spec.parents)
        seen.add(trial_id)


def test_bootstrap_chain_is_shared_with_the_naive_student_of_the_shorter_pair() -> None:
    """The stage between weak and strong is the very trial that the pair weak -> middle runs as `naive`."""
    chain = plan_of(tasks=["t1"], seeds=[0], strategies=["bootstrap"])
    short = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"], pairs=[{"weak": "small", "strong": "middle"}])
    (cell,) = chain.cells
    (stage,) = chain.trials[cell.student_trial].parents
    assert stage == short.cells[0].student_trial
    assert chain.trials[stage].parents == (cell.weak_trial,)


def test_ensemble_seeds_do_not_depend_on_the_grids_other_seeds() -> None:
    """Adding a seed to a grid leaves the trials of the others as they are."""
    few, many = plan_of(strategies=["ensemble"], seeds=[0, 1]), plan_of(strategies=["ensemble"], seeds=[0, 1, 2])
    assert few.trials.keys() < many.trials.keys()


def test_exclusions() -> None:
    """An excluded cell is gone with the trials that only it needed; excluding everything is an error."""
    plan = plan_of(exclude=[{"task": "t2", "strategy": "logconf"}, {"seed": 2}])
    assert Counter((cell.task, cell.strategy) for cell in plan.cells) == {
        ("t1", "naive"): 2, ("t1", "logconf"): 2, ("t2", "naive"): 2,
    }  # fmt: skip
    assert not [spec for spec in plan.trials.values() if spec.seed == 2]
    with pytest.raises(SpecError, match="every cell is excluded"):
        require_cells(make_grid(exclude=[{"weak": "small"}]), dict.fromkeys(("t1", "t2"), "classification"))


def test_training_precedence() -> None:
    """Defaults are under the manifest's settings, those under the grid's, those under the grid's for one model."""
    grid = make_grid(training={"epochs": 7, "models": {"large": {"epochs": 9}}})
    plan = make_plan(grid, make_inputs(grid))
    epochs = {spec.model.name: spec.training.epochs for spec in plan.trials.values()}
    assert epochs == {"small": 7, "large": 9}


def test_settings_of_single_tasks() -> None:
    """A grid's settings for a task are over its own, and under those for a model; so are bounds on items."""
    training = {"epochs": 7, "tasks": {"t2": {"epochs": 8}}, "models": {"large": {"epochs": 9}}}
    data = {"seed": 3, "test": 50, "tasks": {"t2": {"test": 20, "ood": 10}}}
    grid = make_grid(training=training, data=data)
    plan = make_plan(grid, make_inputs(grid))
    epochs = {(spec.task, spec.model.name): spec.training.epochs for spec in plan.trials.values()}
    assert epochs == {("t1", "small"): 7, ("t2", "small"): 8, ("t1", "large"): 9, ("t2", "large"): 9}
    assert grid.data.of("t1") == DataSettings(seed=3, test=50)
    assert grid.data.of("t2") == DataSettings(seed=3, test=20, ood=10)


def test_report_says_why() -> None:
    """A trial that is not stored says in which fields it differs from the nearest stored one, or how it failed."""
    old = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"])
    stored = {key: StoredTrial(trial_id=key, status="done", message="", spec=spec) for key, spec in old.trials.items()}
    same = compare(old, stored)
    assert (same.total, same.stored, same.to_run) == (3, 3, 0)
    new = plan_of(
        tasks=["t1"], seeds=[0], strategies=["naive"], training={"epochs": 5, "models": {"small": {"epochs": 3}}}
    )
    report = {trial.spec.role: trial for trial in compare(new, stored).trials}
    assert report[Role.WEAK].state == "stored"
    assert report[Role.CEILING].state == "new"
    assert "training.epochs: 3 -> 5" in report[Role.CEILING].reason
    fresh = compare(plan_of(tasks=["t2"], seeds=[0], strategies=["naive"]), stored)
    assert {trial.reason for trial in fresh.trials} == {"never run"}
    failed = {
        key: StoredTrial(trial_id=key, status="failed", message="diverged: NaN", spec=spec)
        for key, spec in old.trials.items()
    }
    assert all("diverged: NaN" in trial.reason and trial.state == "failed" for trial in compare(old, failed).trials)


def test_a_tasks_wordings_count_when_models_are_named() -> None:
    """Nine wordings are there with a task's own and the general ones, and are no fault before a plan is made either."""
    grid = make_grid(tasks=["t1"], strategies=[{"name": "reliability", "wordings": 9}])
    own = ("It says: {text}",)
    assert required_models(grid, {}, {"t1": "classification"}, {"t1": Wordings(frames=own)}) == ("small", "large")
    with pytest.raises(SpecError, match="8 further wordings are asked for, 7 are known"):
        required_models(grid, {}, {"t1": "classification"}, {"t1": Wordings()})


def test_a_model_has_one_name() -> None:
    """Cells, and so the tables, call a model as its trials do: by its manifest's name where the grid writes a path."""
    grid = make_grid(pairs=[{"weak": "./judge.yaml", "strong": "large"}])
    inputs = make_inputs(grid)
    judge = inputs.models["small"].ref.model_copy(update={"name": "judge"})
    models = {"large": inputs.models["large"], "./judge.yaml": replace(inputs.models["small"], ref=judge)}
    plan = make_plan(grid, replace(inputs, models=models))
    assert {cell.weak for cell in plan.cells} == {"judge"}
    assert {plan.trials[cell.weak_trial].model.name for cell in plan.cells} == {"judge"}


def test_results_that_count_for_one_grid_are_not_taken_for_another() -> None:
    """Who may submit one grid finishes trials of other ids; others take them only where they trust that grid."""
    grid = make_grid(tasks=["t1"], seeds=[0], strategies=["naive"])
    inputs = make_inputs(grid)
    shared = make_plan(grid, inputs)
    within = make_plan(grid, inputs, Reuse(grid="g"))
    assert not {*shared.trials} & {*within.trials}
    assert next(one.shared_id for one in within.trials.values()) == next(iter(shared.trials))
    done = frozenset(within.trials)
    for reuse in (Reuse(done=done), Reuse(grid="other", done=done), Reuse(trusted=("other",), done=done)):
        assert not {*make_plan(grid, inputs, reuse).trials} & done
    for reuse in (Reuse(grid="g", done=done), Reuse(trusted=("g",), done=done)):
        assert {*make_plan(grid, inputs, reuse).trials} == done
    for reuse in (Reuse(grid="g", done=frozenset(shared.trials)), Reuse(done=done | {*shared.trials}, trusted=("g",))):
        assert {*make_plan(grid, inputs, reuse).trials} == {*shared.trials}
    weak = next(iter(shared.trials))  # done for all meanwhile: what the grid has of its own stays as it is
    assert {*make_plan(grid, inputs, Reuse(grid="g", done=done | {weak})).trials} == done


def test_a_trial_that_only_another_grid_has_says_how_to_take_it() -> None:
    """The reason names the grid, and the option that trusts it."""
    grid = make_grid(tasks=["t1"], seeds=[0], strategies=["naive"])
    within = make_plan(grid, make_inputs(grid), Reuse(grid="g"))
    stored = {
        trial_id: StoredTrial(trial_id=trial_id, status="done", message="", spec=spec)
        for trial_id, spec in within.trials.items()
    }
    weak = compare(make_plan(grid, make_inputs(grid)), stored).trials[0]
    assert weak.state == "new"
    assert "--trust g" in weak.reason
