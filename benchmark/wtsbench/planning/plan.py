"""The plan of a grid: which trials it needs, parents first, and which cells of the leaderboard they serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from wtsbench.errors import SpecError
from wtsbench.planning import controls
from wtsbench.spec.generation import GenerationSettings, ZeroShot
from wtsbench.spec.grid import ControlName, Exclusion, Grid, Pair, StrategyCall
from wtsbench.spec.identity import digest
from wtsbench.spec.training import Training, TrainingOverride
from wtsbench.spec.trial import Form, ModelRef, Role, TrialSpec
from wtsbench.strategies import registry
from wtsbench.strategies.base import PlanningContext, Strategy, Supervisor


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model of the grid, with the training settings its manifest asks for."""

    ref: ModelRef
    training: TrainingOverride


@dataclass(frozen=True, kw_only=True)
class ResolvedTask:
    """A task of the grid, which may be named by the path of its manifest."""

    name: str
    data_digest: str
    """Of its prepared items."""
    form: Form = "classification"
    generation: GenerationSettings | None = None
    """For generation: how continuations are drawn."""
    scorer: str | None = None
    """For generation: digest of what scores them."""
    reference: ModelRef | None = None
    """For generation: the model that their perplexity is taken under."""
    zero_shot: ZeroShot | None = None
    """How a model that was not trained on the task is asked."""
    frames: tuple[str, ...] = ()
    """Other wordings of an item."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the other rooms found out about a grid's names, which are the keys."""

    tasks: Mapping[str, ResolvedTask]
    models: Mapping[str, ResolvedModel]
    ladders: Mapping[Pair, tuple[str, ...]]
    """The models of a pair's family strictly between weak and strong, smallest first."""
    environment: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One student or control of the grid and the two trials its score is compared with."""

    task: str
    weak: str
    strong: str
    strategy: str
    """Label of the strategy, or name of the control."""
    kind: Literal["strategy", "control"] = "strategy"
    seed: int
    weak_trial: str
    ceiling_trial: str
    student_trial: str
    data_digest: str

    def record(self) -> dict[str, Any]:
        """The cell as the store keeps it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A grid's trials and cells."""

    grid: Grid
    trials: Mapping[str, TrialSpec]
    """By id, parents before children."""
    cells: tuple[Cell, ...]
    uses: Mapping[str, int]
    """In how many cells a trial has a part: as weak supervisor, ceiling, student or a stage between."""

    @property
    def grid_digest(self) -> str:
        """Identity of what was asked: the grid's name and its cells."""
        return digest({"name": self.grid.name, "cells": [cell.record() for cell in self.cells]})

    def baselines(self) -> dict[str, dict[str, str]]:
        """For each student, the exact weak and ceiling trials that its PGR is computed from."""
        return {
            cell.student_trial: {"weak": cell.weak_trial, "ceiling": cell.ceiling_trial}
            for cell in reversed(self.cells)
        }


@dataclass(frozen=True)
class _Point:
    """A cell before its trials are known."""

    task: str
    form: Form
    pair: Pair
    call: StrategyCall
    """For controls, its name is the control's."""
    strategy: Strategy | None
    """None for a control that is no student."""
    control: ControlName | None
    label: str
    """What the leaderboard calls its row."""
    seed: int


def required_models(
    grid: Grid,
    ladders: Mapping[Pair, tuple[str, ...]],
    forms: Mapping[str, Form],
    frames: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """Names of all models the grid's trials use, those that strategies ask for included.

    Args:
        grid: a checked grid.
        ladders: the models between weak and strong of each pair.
        forms: the form of each task, by the name that the grid has.
        frames: other wordings of an item of each task.

    Raises:
        SpecError: a strategy does not fit a pair or a task; all such cases at once.
    """
    names: dict[str, None] = {}

    def visit(supervisor: Supervisor) -> None:
        names[supervisor.model] = None
        for below in supervisor.supervisors:
            visit(below)

    wrong: dict[str, SpecError] = {}
    for point in _points(grid, forms):
        names.update({point.pair.weak: None, point.pair.strong: None})
        try:
            for supervisor in _supervisors(point, ladders, frames[point.task]):
                visit(supervisor)
        except SpecError as error:
            wrong[error.message] = error
    if wrong:
        raise SpecError("\n  ".join(wrong), remedy=next(iter(wrong.values())).remedy)
    return tuple(names)


def make_plan(grid: Grid, inputs: Inputs) -> Plan:
    """The DAG of trials for a grid. Equal trials are planned once, whatever cells need them."""
    return _Planner(grid, inputs).plan()


class _Planner:
    def __init__(self, grid: Grid, inputs: Inputs) -> None:
        self._grid = grid
        self._inputs = inputs
        self._trials: dict[str, TrialSpec] = {}

    def plan(self) -> Plan:
        cells: list[Cell] = []
        uses: Counter[str] = Counter()
        self._check_roles()
        for point in _points(self._grid, {name: task.form for name, task in self._inputs.tasks.items()}):
            weak = self._add(Role.WEAK, point.task, point.pair.weak, point.seed)
            ceiling = self._add(Role.CEILING, point.task, point.pair.strong, point.seed)
            student = self._student_of(point, weak)
            uses.update({weak, ceiling} | self._ancestry(student))
            cells.append(
                Cell(
                    task=self._inputs.tasks[point.task].name,
                    weak=point.pair.weak,
                    strong=point.pair.strong,
                    strategy=point.label,
                    kind="strategy" if point.control is None else "control",
                    seed=point.seed,
                    weak_trial=weak,
                    ceiling_trial=ceiling,
                    student_trial=student,
                    data_digest=self._inputs.tasks[point.task].data_digest,
                )
            )
        return Plan(grid=self._grid, trials=self._trials, cells=tuple(cells), uses=dict(uses))

    def _check_roles(self) -> None:
        for pair in self._grid.pairs:
            if not self._inputs.models[pair.strong].ref.trained:
                raise SpecError(
                    f"pair {pair}: {pair.strong} is a source of labels, not a model that wtsbench trains",
                    remedy="take it as `weak`, and a model as `strong`.",
                )

    def _student_of(self, point: _Point, weak: str) -> str:
        """The trial whose score a cell shows."""
        if point.strategy is not None:
            frames = self._inputs.tasks[point.task].frames
            supervisors = _supervisors(point, self._inputs.ladders, frames)
            return self._student(point.task, point.pair.strong, point.seed, point.strategy, supervisors)
        assert point.control is not None, "a point without a strategy is a control's"
        if point.control == "strong_on_weak_train":
            return self._add(Role.WEAK, point.task, point.pair.strong, point.seed)
        # Asking a classifier that was not trained draws nothing: one trial serves all seeds.
        asked = point.control == "zero_shot" and point.form == "classification"
        parents = (weak,) if point.control == "random_labels" else ()
        recipe = controls.recipe_of(point.control, point.form, self._inputs.tasks[point.task].zero_shot, point.task)
        seed = 0 if asked else point.seed
        return self._add(Role.CONTROL, point.task, point.pair.strong, seed, recipe=recipe, parents=parents)

    def _supervisor(self, task: str, supervisor: Supervisor) -> str:
        if supervisor.role is Role.WEAK:
            parents = tuple(self._supervisor(task, below) for below in supervisor.supervisors)
            return self._add(
                Role.WEAK, task, supervisor.model, supervisor.seed, recipe=supervisor.recipe, parents=parents
            )
        assert supervisor.strategy is not None, "a student supervisor says how it learns"
        strategy = registry.resolve(supervisor.strategy)
        return self._student(task, supervisor.model, supervisor.seed, strategy, supervisor.supervisors)

    def _student(
        self, task: str, model: str, seed: int, strategy: Strategy, supervisors: tuple[Supervisor, ...]
    ) -> str:
        parents = tuple(self._supervisor(task, supervisor) for supervisor in supervisors)
        return self._add(Role.STUDENT, task, model, seed, strategy=strategy, parents=parents)

    def _add(
        self,
        role: Role,
        task: str,
        model: str,
        seed: int,
        *,
        strategy: Strategy | None = None,
        recipe: StrategyCall | None = None,
        parents: tuple[str, ...] = (),
    ) -> str:
        resolved, about = self._inputs.models[model], self._inputs.tasks[task]
        trained = resolved.ref.trained
        if not trained and (recipe is not None or about.form != "classification"):
            raise SpecError(
                f"{model} is a source of labels: {'it cannot be trained anew' if recipe else 'it writes no texts'}",
                remedy="exclude the strategies and tasks that need a weak model of weights.",
            )
        spec = TrialSpec(
            role=role,
            task=about.name,
            data_digest=about.data_digest,
            data_seed=self._grid.data.seed,
            model=resolved.ref,
            strategy=None if strategy is None else registry.full_call(strategy),
            strategy_version=None if strategy is None else strategy.revision(),
            strategy_package=None if strategy is None else registry.package_of(strategy.name),
            recipe=recipe,
            form=about.form,
            generation=about.generation,
            scorer=about.scorer,
            reference=about.reference,
            training=training_of(self._grid, model, resolved.training, task) if trained else Training(),
            seed=seed if trained else 0,
            parents=parents,
            environment=self._inputs.environment,
        )
        self._trials.setdefault(spec.trial_id, spec)
        return spec.trial_id

    def _ancestry(self, trial_id: str) -> set[str]:
        return {trial_id}.union(*(self._ancestry(parent) for parent in self._trials[trial_id].parents))


def training_of(grid: Grid, model: str, manifest: TrainingOverride, task: str) -> Training:
    """Training settings of a model at a task, both named as in the grid.

    Defaults, under the model's manifest, under the grid's, under the grid's for this task, under those for this model.
    """
    settings = manifest.over(Training())
    for override in (grid.training, grid.training.tasks.get(task), grid.training.models.get(model)):
        settings = settings if override is None else override.over(settings)
    return settings


def _points(grid: Grid, forms: Mapping[str, Form]) -> Iterator[_Point]:
    """Every cell that is not excluded; a strategy and a control only with tasks of a form it is for."""
    strategies = [(call.label, call, registry.resolve(call)) for call in grid.strategies]
    for task in grid.tasks:
        form = forms[task]
        for pair in grid.pairs:
            kinds: list[tuple[str, StrategyCall, Strategy | None, ControlName | None]] = []
            kinds += [(*entry, None) for entry in strategies if form in entry[2].forms]
            for control in grid.controls:
                if form not in controls.FORMS[control]:
                    continue
                if control == controls.RANDOM_FILTER:
                    filters = controls.random_filters(grid, form)
                    kinds += [(label, call, registry.resolve(call), control) for label, call in filters]
                else:
                    student = controls.naive() if control == "weak_equals_strong" else None
                    kinds.append((control, StrategyCall(name=control), student, control))
            for label, call, taught_by, special in kinds:
                for seed in grid.seeds:
                    point = _Point(task, form, pair, call, taught_by, special, label, seed)
                    if not any(_excluded(rule, point) for rule in grid.exclude):
                        yield point


def _supervisors(
    point: _Point, ladders: Mapping[Pair, tuple[str, ...]], frames: tuple[str, ...]
) -> tuple[Supervisor, ...]:
    """Whom the student of a cell learns from; nobody where the cell has no student."""
    if point.strategy is None:
        return ()
    if point.control == "weak_equals_strong":
        return (controls.own_supervisor(point.pair.strong, point.seed),)
    context = PlanningContext(
        weak=point.pair.weak,
        strong=point.pair.strong,
        ladder=ladders.get(point.pair, ()),
        seed=point.seed,
        form=point.form,
        frames=frames,
    )
    return point.strategy.supervisors(context)


def _excluded(rule: Exclusion, point: _Point) -> bool:
    return (
        rule.task in (None, point.task)
        and rule.weak in (None, point.pair.weak)
        and rule.strong in (None, point.pair.strong)
        and (rule.strategy in (None, point.call.name, point.label) or _matches(rule, point))
        and rule.seed in (None, point.seed)
    )


def _matches(rule: Exclusion, point: _Point) -> bool:
    """Whether the rule leaves out the strategy whose random filter this is: a control of what is not there."""
    if point.control != controls.RANDOM_FILTER:
        return False
    return rule.strategy in (point.call.parameters["like"]["name"], controls.matched(point.label))


def require_cells(grid: Grid, forms: Mapping[str, Form]) -> None:
    """Refuse a grid that has nothing to measure: everything is excluded, or no strategy is for the tasks' forms."""
    if next(_points(grid, forms), None) is None:
        raise SpecError(
            f"grid {grid.name}: every cell is excluded, nothing is left to measure",
            remedy="remove a rule under `exclude`, or take strategies that are for the tasks.",
        )
