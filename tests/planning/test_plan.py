"""A plan holds every trial once, parents first, and says which serve which cells."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tests.planning.grids import draws_of, make_grid, make_inputs, make_task, plan_of, planned
from wtsbench.contract.digests import grid_digest_of
from wtsbench.errors import SpecError
from wtsbench.planning.plan import Inputs, Reuse
from wtsbench.planning.points import expand
from wtsbench.planning.report import StoredTrial, compare
from wtsbench.spec.cell import Cell
from wtsbench.spec.generation import GenerationSettings, ZeroShot
from wtsbench.spec.grid import DataSettings, Grid, GridData
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role
from wtsbench.strategies import registry
from wtsbench.strategies.naive import Naive


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


def test_no_student_supervises_in_a_generative_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Students of generative tasks write nothing on `transfer`, so a strategy that learns from one is refused."""
    chain = registry.resolve(StrategyCall(name="bootstrap"))
    monkeypatch.setattr(Naive, "supervisors", lambda self, context: chain.supervisors(context))
    grid = make_grid(tasks=["t1"], strategies=["naive"])
    inputs = make_inputs(grid)
    assert planned(grid, inputs).trials
    texts = make_task("t1", form="generation", generation=GenerationSettings(), scorer="s" * 64)
    with pytest.raises(SpecError, match="strategy naive, task t1: a student cannot supervise in a generative task"):
        planned(grid, replace(inputs, tasks={"t1": texts}))


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
        plan_of(exclude=[{"weak": "small"}])


def test_training_precedence() -> None:
    """Defaults are under the manifest's settings, those under the grid's, those under the grid's for one model."""
    grid = make_grid(training={"epochs": 7, "models": {"large": {"epochs": 9}}})
    plan = planned(grid, make_inputs(grid))
    epochs = {spec.model.name: spec.training.epochs for spec in plan.trials.values()}
    assert epochs == {"small": 7, "large": 9}


def test_settings_of_single_tasks() -> None:
    """A grid's settings for a task are over its own, and under those for a model; so are bounds on items."""
    training = {"epochs": 7, "tasks": {"t2": {"epochs": 8}}, "models": {"large": {"epochs": 9}}}
    data = {"seed": 3, "test": 50, "tasks": {"t2": {"test": 20, "ood": 10}}}
    grid = make_grid(training=training, data=data)
    plan = planned(grid, make_inputs(grid))
    epochs = {(spec.task, spec.model.name): spec.training.epochs for spec in plan.trials.values()}
    assert epochs == {("t1", "small"): 7, ("t2", "small"): 8, ("t1", "large"): 9, ("t2", "large"): 9}
    assert grid.data.of("t1") == DataSettings(seed=3, test=50)
    assert grid.data.of("t2") == DataSettings(seed=3, test=20, ood=10)


def test_report_says_why() -> None:
    """A trial that is not stored says in which fields it differs from the nearest stored one, or how it failed."""
    old = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"])
    stored = {key: StoredTrial(trial_id=key, status="done", message="") for key in old.trials}
    done = list(old.trials.items())
    same = compare(old, stored, done)
    assert (same.total, same.stored, same.to_run) == (3, 3, 0)
    new = plan_of(
        tasks=["t1"], seeds=[0], strategies=["naive"], training={"epochs": 5, "models": {"small": {"epochs": 3}}}
    )
    report = {trial.spec.role: trial for trial in compare(new, stored, done).trials}
    assert report[Role.WEAK].state == "stored"
    assert report[Role.CEILING].state == "new"
    assert "training.epochs: 3 -> 5" in report[Role.CEILING].reason
    fresh = compare(plan_of(tasks=["t2"], seeds=[0], strategies=["naive"]), stored, done)
    assert {trial.reason for trial in fresh.trials} == {"never run"}
    failed = {key: StoredTrial(trial_id=key, status="failed", message="diverged: NaN") for key in old.trials}
    assert all("diverged: NaN" in trial.reason and trial.state == "failed" for trial in compare(old, failed).trials)


def test_a_tasks_wordings_count_when_models_are_named() -> None:
    """Nine wordings are there with a task's own and the general ones, and are no fault before a plan is made either."""
    grid = make_grid(tasks=["t1"], strategies=[{"name": "reliability", "wordings": 9}])
    own = ("It says: {text}",)
    assert expand(grid, {"t1": make_task("t1", frames=own).manifest}, {}).models() == ("small", "large")
    with pytest.raises(SpecError, match="8 further wordings are asked for, 7 are known"):
        expand(grid, {"t1": make_task("t1").manifest}, {})


def test_a_model_has_one_name() -> None:
    """Cells, and so the tables, call a model as its trials do: by its manifest's name where the grid writes a path."""
    grid = make_grid(pairs=[{"weak": "./judge.yaml", "strong": "large"}])
    inputs = make_inputs(grid)
    judge = inputs.models["small"].ref.model_copy(update={"name": "judge"})
    models = {"large": inputs.models["large"], "./judge.yaml": replace(inputs.models["small"], ref=judge)}
    plan = planned(grid, replace(inputs, models=models))
    assert {cell.weak for cell in plan.cells} == {"judge"}
    assert {plan.trials[cell.weak_trial].model.name for cell in plan.cells} == {"judge"}


def test_results_that_count_for_one_grid_are_not_taken_for_another() -> None:
    """Who may submit one grid finishes trials of other ids; others take them only where they trust that grid."""
    grid = make_grid(tasks=["t1"], seeds=[0], strategies=["naive"])
    inputs = make_inputs(grid)
    shared = planned(grid, inputs)
    within = planned(grid, inputs, Reuse(grid="g"))
    assert not {*shared.trials} & {*within.trials}
    assert next(one.shared_id for one in within.trials.values()) == next(iter(shared.trials))
    done = frozenset(within.trials)
    for reuse in (Reuse(done=done), Reuse(grid="other", done=done), Reuse(trusted=("other",), done=done)):
        assert not {*planned(grid, inputs, reuse).trials} & done
    for reuse in (Reuse(grid="g", done=done), Reuse(trusted=("g",), done=done)):
        assert {*planned(grid, inputs, reuse).trials} == done
    for reuse in (Reuse(grid="g", done=frozenset(shared.trials)), Reuse(done=done | {*shared.trials}, trusted=("g",))):
        assert {*planned(grid, inputs, reuse).trials} == {*shared.trials}
    weak = next(iter(shared.trials))  # done for all meanwhile: what the grid has of its own stays as it is
    assert {*planned(grid, inputs, Reuse(grid="g", done=done | {weak})).trials} == done


def test_a_trial_that_only_another_grid_has_says_how_to_take_it() -> None:
    """The reason names the grid, and the option that trusts it."""
    grid = make_grid(tasks=["t1"], seeds=[0], strategies=["naive"])
    within = planned(grid, make_inputs(grid), Reuse(grid="g"))
    weak = compare(planned(grid, make_inputs(grid)), {}, within.trials.items()).trials[0]
    assert weak.state == "new"
    assert "--trust g" in weak.reason


def _everything() -> tuple[Grid, Inputs]:
    """Every control, recipes, chains, both forms of tasks, and numbers that are written in several ways."""
    grid = make_grid(
        strategies=["naive", {"name": "logconf", "max_weight": 0.75}, "bootstrap", "ensemble", "confidence_filter"],
        controls=["zero_shot", "random_labels", "weak_equals_strong", "strong_on_weak_train", "random_filter"],
        pairs=[{"weak": "small", "strong": "large"}, {"weak": "other", "strong": "large"}],
        exclude=[{"weak": "other", "strategy": "bootstrap"}, {"seed": 2, "task": "t2"}],
        training={"learning_rate": "5e-7", "epochs": 2.0, "models": {"large": {"weight_decay": 1e-21}}},
    )
    inputs = make_inputs(grid)
    asking = ZeroShot(prompt="{text} \u00e9\U0001f600 Answer:", answers={"a": " yes", "b": " no"})
    tasks = {
        "t1": make_task("t1", draws_of(grid, "t1"), zero_shot=asking),
        "t2": make_task(
            "t2", draws_of(grid, "t2"), form="generation", generation=GenerationSettings(), scorer="s" * 64
        ),
    }
    return grid, replace(inputs, tasks=tasks)


def test_ids_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """How an id is computed has not changed: with the science of an earlier version, ids are what they were then."""
    monkeypatch.setattr("wtsbench.spec.trial.SCIENCE_VERSION", 3)
    grid, inputs = _everything()
    shared, narrow = planned(grid, inputs), planned(grid, inputs, Reuse(grid="narrow", trusted=("other",)))
    assert [hashlib.sha256("\n".join(plan.trials).encode()).hexdigest() for plan in (shared, narrow)] == [
        "a67f2b462871bf5bfb74fa4504a34ff2352cae30b9deedc44518cfe241e9fe74",
        "5f4ac375d0cfa880bc3638f8dca7d311786d8f6c36f6e7f269485b17f1d3f6c5",
    ]
    assert len(shared.trials) == 86
    assert shared.grid_digest == "3506dfe83fd3e2fc621c73a0a3f557a0223962b806f3ff17eff35fa66c3a3396"
    stored = json.dumps([cell.record() for cell in shared.cells])
    assert grid_digest_of(grid.name, stored) == shared.grid_digest  # so that stores can be merged
    for plan in (shared, narrow):
        assert [spec.trial_id for spec in plan.trials.values()] == list(plan.trials)


def test_draws_of_the_training_items() -> None:
    """Every cell is planned on each draw, with items and a data seed of its own; the first is a grid without draws."""
    plain, drawn = plan_of(), plan_of(data={"seeds": [0, 1, 2]})
    assert len(drawn.cells) == 3 * len(plain.cells)
    assert len(drawn.trials) == 3 * len(plain.trials)
    assert set(plain.trials) < set(drawn.trials)
    assert {cell.data_seed for cell in plain.cells} == {None}
    assert len({(cell.task, cell.strategy, cell.run) for cell in drawn.cells}) == len(drawn.cells)
    for cell in drawn.cells:
        specs = [drawn.trials[trial_id] for trial_id in cell.trials.values()]
        assert {(spec.data_seed, spec.data_digest, spec.seed) for spec in specs} == {
            (cell.data_seed, cell.data_digest, cell.seed)
        }
        assert set(specs[2].parents) <= {cell.weak_trial}
    assert len({cell.data_digest for cell in drawn.cells}) == 6
    assert Cell.listed(json.dumps([cell.record() for cell in drawn.cells])) == tuple(drawn.cells)


def test_a_draw_has_one_seed_alone() -> None:
    """A draw of the grid's own data seed is the plain split; others are part of what decides the items."""
    data = make_grid(data={"seed": 2, "seeds": [2, 5], "test": 9}).data
    assert (data.draws, GridData(seed=2).draws) == ((2, 5), (2,))
    assert data.of("t1", 2) == data.of("t1") == DataSettings(seed=2, test=9)
    assert data.of("t1", 5) == DataSettings(seed=2, test=9, draw=5)
    with pytest.raises(ValidationError, match="5 is given twice"):
        make_grid(data={"seeds": [5, 5]})
    with pytest.raises(ValidationError, match="draw"):
        make_grid(data={"draw": 5})
