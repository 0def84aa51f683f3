"""The plan of a grid: which trials it needs, parents first, and which cells of the leaderboard they serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from wtsbench.errors import SpecError
from wtsbench.planning import controls
from wtsbench.planning.points import Point, Wordings, points, supervisors_of
from wtsbench.spec.generation import GenerationSettings, ZeroShot
from wtsbench.spec.grid import Grid, Pair, StrategyCall
from wtsbench.spec.identity import digest
from wtsbench.spec.training import Training, TrainingOverride
from wtsbench.spec.trial import Form, ModelRef, Role, TrialSpec
from wtsbench.strategies import registry
from wtsbench.strategies.base import Strategy, Supervisor


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model of the grid, with the training settings its manifest asks for."""

    ref: ModelRef
    training: TrainingOverride
    writes: bool | None = None
    """Whether it continues texts; None where nothing here knows."""


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

    @property
    def wordings(self) -> Wordings:
        """How its items are put to a model."""
        return Wordings(frames=self.frames, zero_shot=self.zero_shot)


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
    others: tuple[str, ...] = ()
    """Further trials that the student comes from, sorted: stages between, and supervisors beside the weak one."""

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
        cells = [cell.record() for cell in self.cells]
        for cell in cells:
            del cell["others"]  # the student's id says them
        return digest({"name": self.grid.name, "cells": cells})

    def baselines(self) -> dict[str, dict[str, str]]:
        """For each student, the exact weak and ceiling trials that its PGR is computed from."""
        return {
            cell.student_trial: {"weak": cell.weak_trial, "ceiling": cell.ceiling_trial}
            for cell in reversed(self.cells)
        }


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Whose finished trials a plan takes in place of new ones."""

    grid: str | None = None
    """The only grid whose trials the submitter may finish; None where they count for all."""
    trusted: tuple[str, ...] = ()
    """Further grids, whose own trials are taken too."""
    done: frozenset[str] = frozenset()
    """Trials that the store holds as done."""

    def chosen(self, spec: TrialSpec) -> TrialSpec:
        """The trial as it is stored: the submitter's own, else one for all grids, else a trusted one; or a new one."""
        every = [spec.model_copy(update={"grid": grid}) for grid in (self.grid, None, *self.trusted)]
        return next((one for one in every if one.trial_id in self.done), every[0])


EVERYBODYS = Reuse()
"""Trials that count for all grids."""


def make_plan(grid: Grid, inputs: Inputs, reuse: Reuse = EVERYBODYS) -> Plan:
    """The DAG of trials for a grid. Equal trials are planned once, whatever cells need them.

    Raises:
        SpecError: a model cannot do what is asked of it; all such cases at once.
    """
    return _Planner(grid, inputs, reuse).plan()


class _Planner:
    def __init__(self, grid: Grid, inputs: Inputs, reuse: Reuse) -> None:
        self._grid = grid
        self._reuse = reuse
        self._inputs = inputs
        self._trials: dict[str, TrialSpec] = {}
        self._refused: dict[str, str] = {}
        """What no trial could do, and what to do about it."""

    def plan(self) -> Plan:
        cells: list[Cell] = []
        uses: Counter[str] = Counter()
        self._check_roles()
        for point in points(self._grid, {name: task.form for name, task in self._inputs.tasks.items()}):
            weak = self._add(Role.WEAK, point.task, point.pair.weak, point.seed)
            ceiling = self._add(Role.CEILING, point.task, point.pair.strong, point.seed)
            student = self._student_of(point, weak)
            ancestry = self._ancestry(student)
            uses.update({weak, ceiling} | ancestry)
            cells.append(
                Cell(
                    task=self._inputs.tasks[point.task].name,
                    weak=self._inputs.models[point.pair.weak].ref.name,
                    strong=self._inputs.models[point.pair.strong].ref.name,
                    strategy=point.label,
                    kind="strategy" if point.control is None else "control",
                    seed=point.seed,
                    weak_trial=weak,
                    ceiling_trial=ceiling,
                    student_trial=student,
                    data_digest=self._inputs.tasks[point.task].data_digest,
                    others=tuple(sorted(ancestry - {weak, ceiling, student})),
                )
            )
        if self._refused:
            raise SpecError("\n  ".join(self._refused), remedy="\n".join(dict.fromkeys(self._refused.values())))
        return Plan(grid=self._grid, trials=self._trials, cells=tuple(cells), uses=dict(uses))

    def _check_roles(self) -> None:
        for pair in self._grid.pairs:
            if not self._inputs.models[pair.strong].ref.trained:
                raise SpecError(
                    f"pair {pair}: {pair.strong} is a source of labels, not a model that wtsbench trains",
                    remedy="take it as `weak`, and a model as `strong`.",
                )

    def _student_of(self, point: Point, weak: str) -> str:
        """The trial whose score a cell shows."""
        if point.strategy is not None:
            supervisors = supervisors_of(point, self._inputs.ladders, self._inputs.tasks[point.task].wordings)
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
        self._check(spec, model, task)
        spec = self._reuse.chosen(spec)
        self._trials.setdefault(spec.trial_id, spec)
        return spec.trial_id

    def _check(self, spec: TrialSpec, model: str, task: str) -> None:
        """Note what this trial could not do; model and task are named as in the grid."""
        generates = spec.form == "generation"
        if not spec.model.trained and (spec.recipe is not None or generates):
            why = "it writes no texts" if generates else "it cannot be trained anew"
            self._refused[f"{model} is a source of labels: {why}"] = (
                "exclude the strategies and tasks that need a weak model of weights."
            )
        if generates and spec.finetune == "linear_probe":
            self._refused[
                f"task {task}, model {model}: finetune: linear_probe trains a classification head, and a generative "
                "task has none"
            ] = f"take full or lora for it: `training.tasks: {{{task}: {{finetune: full}}}}`."
        if generates and spec.generation is not None and spec.generation.max_new_tokens >= spec.training.max_length:
            self._refused[
                f"task {task}, model {model}: {spec.generation.max_new_tokens} new tokens leave no room for a prompt "
                f"within training.max_length, {spec.training.max_length} tokens"
            ] = "lower generation.max_new_tokens, or raise training.max_length."
        if self._inputs.models[model].writes is not False:
            return
        if generates:
            self._refused[f"task {task}: {model} is an encoder, and writes no texts"] = (
                f"take a model that continues texts, or exclude {{task: {task}, {_as(spec.role)}: {model}}}."
            )
        elif spec.strategy is not None:
            strategy, label = registry.resolve(spec.strategy), registry.short_label(spec.strategy)
            remedy = f"exclude {{strategy: {spec.strategy.name}, strong: {model}}}."
            if strategy.language or strategy.asks:
                why = "no language model to be trained as one" if strategy.language else "answers no prompt"
                self._refused[f"strategy {label}: {model} is an encoder, and {why}"] = remedy
        elif spec.recipe is not None and spec.recipe.name == "zero_shot":
            self._refused[f"control zero_shot: {model} is an encoder, and answers no prompt"] = (
                f"exclude {{strategy: zero_shot, strong: {model}}}."
            )

    def _ancestry(self, trial_id: str) -> set[str]:
        return {trial_id}.union(*(self._ancestry(parent) for parent in self._trials[trial_id].parents))


def _as(role: Role) -> str:
    """What a pair calls the model of a trial."""
    return "weak" if role is Role.WEAK else "strong"


def training_of(grid: Grid, model: str, manifest: TrainingOverride, task: str) -> Training:
    """Training settings of a model at a task, both named as in the grid.

    Defaults, under the model's manifest, under the grid's, under the grid's for this task, under those for this model.
    """
    settings = manifest.over(Training())
    for override in (grid.training, grid.training.tasks.get(task), grid.training.models.get(model)):
        settings = settings if override is None else override.over(settings)
    return settings
