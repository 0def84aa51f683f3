"""Controls are planned of ordinary trials wherever they can be, so that the store shares them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.planning.grids import make_grid, make_inputs, make_task, plan_of, planned
from wtsbench.errors import SpecError
from wtsbench.planning.plan import Plan, ResolvedModel, ResolvedTask
from wtsbench.planning.points import expand
from wtsbench.spec.cell import Cell
from wtsbench.spec.generation import GenerationSettings, ZeroShot
from wtsbench.spec.grid import Exclusion
from wtsbench.spec.training import Training, TrainingOverride
from wtsbench.spec.trial import ModelRef, Role, TrialSpec
from wtsbench.strategies.confidence_filter import ConfidenceFilter

ASKING = ZeroShot(prompt="{text} Answer:", answers={"a": " yes", "b": " no"})


def _plan(**changes: object) -> Plan:
    grid = make_grid(**{"tasks": ["t1"], "strategies": ["naive"], **changes})
    tasks = {"t1": make_task("t1", zero_shot=ASKING)}
    return planned(grid, make_inputs(grid, tasks=tasks))


def _cells(plan: Plan, control: str) -> list[Cell]:
    found = [cell for cell in plan.cells if cell.strategy == control]
    assert {cell.kind for cell in found} == {"control"}
    return found


def _student(plan: Plan, cell: Cell) -> TrialSpec:
    return plan.trials[cell.student_trial]


def test_no_controls_by_default() -> None:
    """A grid that asks for none has only cells of strategies."""
    assert {cell.kind for cell in plan_of().cells} == {"strategy"}


def test_strong_on_weak_train_is_the_strong_models_weak_trial() -> None:
    """It costs one trial a seed: the strong model in the role of a weak one."""
    plan = _plan(controls=["strong_on_weak_train"])
    specs = [_student(plan, cell) for cell in _cells(plan, "strong_on_weak_train")]
    assert [(spec.role, spec.model.name, spec.seed) for spec in specs] == [(Role.WEAK, "large", s) for s in (0, 1, 2)]


def test_weak_equals_strong_shares_the_supervisor() -> None:
    """The student is supervised by just the trial that `strong_on_weak_train` shows."""
    plan = _plan(controls=["weak_equals_strong", "strong_on_weak_train"])
    own = {cell.seed: cell.student_trial for cell in _cells(plan, "strong_on_weak_train")}
    for cell in _cells(plan, "weak_equals_strong"):
        spec = _student(plan, cell)
        assert spec.role is Role.STUDENT
        assert spec.strategy is not None
        assert spec.strategy.name == "naive"
        assert spec.parents == (own[cell.seed],)


def test_random_labels_know_the_weak_trial_whose_errors_they_match() -> None:
    """Their parent is the cell's weak trial; they are no student."""
    plan = _plan(controls=["random_labels"])
    for cell in _cells(plan, "random_labels"):
        spec = _student(plan, cell)
        assert (spec.role, spec.parents, spec.seed) == (Role.CONTROL, (cell.weak_trial,), cell.seed)
        assert spec.recipe is not None
        assert spec.recipe.name == "random_labels"


def test_zero_shot_is_one_trial_for_all_seeds() -> None:
    """Asking draws nothing; how the task asks is part of the trial's identity, and of no other trial's."""
    plan = _plan(controls=["zero_shot"])
    (trial_id,) = {cell.student_trial for cell in _cells(plan, "zero_shot")}
    spec = plan.trials[trial_id]
    assert spec.recipe is not None
    assert spec.recipe.parameters == ASKING.model_dump(mode="json")
    assert set(_plan().trials) == set(plan.trials) - {trial_id}


def test_a_task_that_does_not_say_how_to_ask_has_no_zero_shot() -> None:
    """The error says where to write it, or what to exclude."""
    with pytest.raises(SpecError, match="does not say how an untrained model is asked") as raised:
        plan_of(controls=["zero_shot"])
    assert "exclude" in (raised.value.remedy or "")


def test_controls_are_excluded_by_name() -> None:
    """A rule's `strategy` may name a control."""
    plan = _plan(controls=["strong_on_weak_train"], exclude=[{"strategy": "strong_on_weak_train", "seed": 1}])
    assert [cell.seed for cell in _cells(plan, "strong_on_weak_train")] == [0, 2]


def test_strategies_meet_tasks_of_their_form() -> None:
    """A strategy for labels is not planned with a task of texts, and its trials say how texts are drawn and judged."""
    grid = make_grid(strategies=["naive", "logconf"], controls=["random_labels"], seeds=[0])
    reference = ModelRef(name="r", kind="embedded", id="r", revision="r")
    tasks = {
        "t1": make_task("t1"),
        "t2": make_task("t2", form="generation", generation=GenerationSettings(), scorer="s",
            reference=reference,
        ),
    }  # fmt: skip
    plan = planned(grid, make_inputs(grid, tasks=tasks))
    assert Counter((cell.task, cell.strategy) for cell in plan.cells) == {
        ("t1", "naive"): 1, ("t1", "logconf"): 1, ("t1", "random_labels"): 1, ("t2", "naive"): 1,
    }  # fmt: skip
    for spec in plan.trials.values():
        made = (spec.form, spec.generation is not None, spec.scorer, spec.reference)
        assert made == (
            ("generation", True, "s", reference) if spec.task == "t2" else ("classification", False, None, None)
        )


def test_a_source_of_labels_is_one_weak_trial_and_never_strong() -> None:
    """Labels from elsewhere are taken once, whatever the seeds; a student cannot be made of them."""
    grid = make_grid(tasks=["t1"], strategies=["naive"])
    inputs = make_inputs(grid)
    labels = ModelRef(name="small", kind="labels", id="labels.csv", revision="f" * 64)
    models = {**inputs.models, "small": ResolvedModel(ref=labels, training=TrainingOverride())}
    plan = planned(grid, make_inputs(grid, models=models))
    assert len({cell.weak_trial for cell in plan.cells}) == 1
    assert len({cell.student_trial for cell in plan.cells}) == 3
    turned = make_grid(tasks=["t1"], strategies=["naive"], pairs=[{"weak": "large", "strong": "small"}])
    with pytest.raises(SpecError, match="source of labels"):
        planned(turned, make_inputs(turned, models=models))


def test_random_filters_match_the_filters_of_a_tasks_form() -> None:
    """Every filter has its size-matched control, in the tasks that the filter itself is for."""
    grid = make_grid(
        strategies=["naive", "confidence_filter", "generation_filter"], controls=["random_filter"], seeds=[0]
    )
    generated = make_task("t2", form="generation", generation=GenerationSettings(), scorer="s")
    inputs = make_inputs(grid)
    plan = planned(grid, make_inputs(grid, tasks={**inputs.tasks, "t2": generated}))
    found = {(cell.task, cell.strategy) for cell in plan.cells if cell.kind == "control"}
    assert found == {("t1", "random_filter(confidence_filter)"), ("t2", "random_filter(generation_filter)")}


def test_a_filter_that_is_excluded_has_no_random_filter() -> None:
    """The control of a strategy is left out with it."""
    plan = _plan(
        strategies=["naive", {"name": "confidence_filter", "top": 0.5}],
        controls=["random_filter"],
        exclude=[{"strategy": "confidence_filter(top=0.5)", "seed": 0}, {"strategy": "confidence_filter", "seed": 1}],
    )
    cells = [cell for cell in plan.cells if cell.strategy != "naive"]
    assert [(cell.strategy, cell.seed) for cell in cells] == [
        ("confidence_filter(top=0.5)", 2),
        ("random_filter(confidence_filter(top=0.5))", 2),
    ]


def test_a_random_filter_is_another_trial_where_what_it_matches_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A raised version of a filter leaves no stored control of the old filter's size behind."""

    def controls() -> set[str]:
        plan = _plan(strategies=["confidence_filter"], controls=["random_filter"])
        return {cell.student_trial for cell in plan.cells if cell.kind == "control"}

    before = controls()
    assert before == controls()
    monkeypatch.setattr(ConfidenceFilter, "version", ConfidenceFilter.version + 1)
    assert before.isdisjoint(controls())


def _generated(**changes: Any) -> ResolvedTask:
    settings = {"form": "generation", "generation": GenerationSettings(), "scorer": "s", **changes}
    return make_task("t2", **settings)


def test_hard_labels_and_probes_are_for_classes() -> None:
    """A variant that would repeat `naive` in a task of texts, or could not be trained there, is not planned with it."""
    strategies = ["naive", {"name": "naive", "labels": "hard"}, {"name": "naive", "finetune": "linear_probe"}]
    grid = make_grid(strategies=strategies, seeds=[0])
    plan = planned(grid, make_inputs(grid, tasks={**make_inputs(grid).tasks, "t2": _generated()}))
    assert Counter(cell.task for cell in plan.cells) == {"t1": 3, "t2": 1}


def test_what_no_trial_could_do_is_refused() -> None:
    """An encoder that should write or answer, a probe of texts, texts longer than a context: all is said at once."""
    strategies = ["naive", "task_finetuning", {"name": "task_finetuning", "epochs": 0}, "noisy_channel"]
    asking = ["zero_shot", "self_labels"]
    grid = make_grid(strategies=strategies, controls=asking, training={"finetune": "linear_probe"}, seeds=[0])
    inputs = make_inputs(grid)
    zero_shot = ZeroShot(answers={"a": " x", "b": " y"})
    long = GenerationSettings(max_new_tokens=grid.training.over(Training()).max_length)
    tasks = {"t1": make_task("t1", zero_shot=zero_shot), "t2": _generated(generation=long)}
    models = {**inputs.models, "large": replace(inputs.models["large"], writes=False)}
    with pytest.raises(SpecError) as caught:
        planned(grid, make_inputs(grid, tasks=tasks, models=models))
    for said in (
        "task t2: large is an encoder, and writes no texts",
        "control zero_shot: large is an encoder",
        "strategy task_finetuning: large is an encoder",
        "strategy noisy_channel: large is an encoder, and answers no prompt",
        "strategy self_labels: large is an encoder, and answers no prompt",
        "task t2, model small: finetune: linear_probe",
        "new tokens leave no room for a prompt",
    ):
        assert said in caught.value.message
    assert "epochs" not in caught.value.message
    exclude = [{"task": "t2", "strong": "large"}]
    exclude += [{"strategy": name} for name in ("zero_shot", "task_finetuning", "noisy_channel", "self_labels")]
    left = grid.model_copy(update={"exclude": tuple(Exclusion.model_validate(rule) for rule in exclude)})
    assert {cell.task for cell in planned(left, make_inputs(grid, tasks=tasks, models=models)).cells} == {"t1"}


def test_the_strong_model_is_asked_once() -> None:
    """One untrained trial serves all seeds and strategies that ask it; `self_labels` has a student of it a seed."""
    plan = _plan(strategies=["noisy_channel", "selective"], controls=["self_labels"])
    asked = [key for key, spec in plan.trials.items() if spec.recipe is not None and spec.recipe.name == "prior"]
    assert len(asked) == 1
    students = [spec for spec in plan.trials.values() if spec.role is Role.STUDENT]
    assert Counter(spec.parents[-1] for spec in students) == {asked[0]: 9}
    controls = [cell for cell in plan.cells if cell.kind == "control"]
    assert {cell.strategy for cell in controls} == {"self_labels"}
    assert {plan.trials[cell.student_trial].parents for cell in controls} == {(asked[0],)}


def test_a_task_that_does_not_say_how_to_ask_is_refused() -> None:
    """The control and the strategies that need it are named, each with what to do."""
    grid = make_grid(tasks=["t1"], strategies=["selective"], controls=["self_labels"])
    with pytest.raises(SpecError, match="strategy self_labels: the task does not say") as caught:
        expand(grid, {"t1": make_task("t1").manifest}, {})
    assert "strategy selective: the task does not say" in caught.value.message
