"""The cells of a grid before their trials are known: what is measured, and which models that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wtsbench.errors import SpecError
from wtsbench.planning import controls
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.grid import ControlName, Exclusion, Grid, Pair, StrategyCall
from wtsbench.spec.trial import Form
from wtsbench.strategies import registry
from wtsbench.strategies.base import PlanningContext, Strategy, Supervisor


@dataclass(frozen=True)
class Point:
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


@dataclass(frozen=True)
class Wordings:
    """What a task's manifest says of how its items are put to a model."""

    frames: tuple[str, ...] = ()
    """Other wordings of an item."""
    zero_shot: ZeroShot | None = None
    """How a model that was not trained on the task is asked."""


def points(grid: Grid, forms: Mapping[str, Form]) -> Iterator[Point]:
    """Every cell that is not excluded; a strategy and a control only with tasks of a form it is for."""
    strategies = [(call.label, call, registry.resolve(call)) for call in grid.strategies]
    for task in grid.tasks:
        form = forms[task]
        for pair in grid.pairs:
            kinds: list[tuple[str, StrategyCall, Strategy | None, ControlName | None]] = []
            kinds += [(*entry, None) for entry in strategies if form in entry[2].suits]
            for control in grid.controls:
                if form not in controls.FORMS[control]:
                    continue
                if control == controls.RANDOM_FILTER:
                    filters = controls.random_filters(grid, form)
                    kinds += [(label, call, registry.resolve(call), control) for label, call in filters]
                else:
                    kinds.append((control, StrategyCall(name=control), controls.taught_by(control), control))
            for label, call, strategy, special in kinds:
                for seed in grid.seeds:
                    point = Point(task, form, pair, call, strategy, special, label, seed)
                    if not any(_excluded(rule, point) for rule in grid.exclude):
                        yield point


def supervisors_of(point: Point, ladders: Mapping[Pair, tuple[str, ...]], wordings: Wordings) -> tuple[Supervisor, ...]:
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
        frames=wordings.frames,
        zero_shot=wordings.zero_shot,
    )
    return point.strategy.supervisors(context)


def _excluded(rule: Exclusion, point: Point) -> bool:
    return (
        rule.task in (None, point.task)
        and rule.weak in (None, point.pair.weak)
        and rule.strong in (None, point.pair.strong)
        and (rule.strategy in (None, point.call.name, point.label) or _matches(rule, point))
        and rule.seed in (None, point.seed)
    )


def _matches(rule: Exclusion, point: Point) -> bool:
    """Whether the rule leaves out the strategy whose random filter this is: a control of what is not there."""
    if point.control != controls.RANDOM_FILTER:
        return False
    return rule.strategy in (point.call.parameters["like"]["name"], controls.matched(point.label))


def require_cells(grid: Grid, forms: Mapping[str, Form]) -> None:
    """Refuse a grid that has nothing to measure: everything is excluded, or no strategy is for the tasks' forms."""
    if next(points(grid, forms), None) is None:
        raise SpecError(
            f"grid {grid.name}: every cell is excluded, nothing is left to measure",
            remedy="remove a rule under `exclude`, or take strategies that are for the tasks.",
        )


def required_models(
    grid: Grid,
    ladders: Mapping[Pair, tuple[str, ...]],
    forms: Mapping[str, Form],
    wordings: Mapping[str, Wordings],
) -> tuple[str, ...]:
    """Names of all models the grid's trials use, those that strategies ask for included.

    Args:
        grid: a checked grid.
        ladders: the models between weak and strong of each pair.
        forms: the form of each task, by the name that the grid has.
        wordings: how the items of each task are put to a model.

    Raises:
        SpecError: a strategy does not fit a pair or a task; all such cases at once.
    """
    names: dict[str, None] = {}

    def visit(supervisor: Supervisor) -> None:
        names[supervisor.model] = None
        for below in supervisor.supervisors:
            visit(below)

    wrong: dict[str, SpecError] = {}
    for point in points(grid, forms):
        names.update({point.pair.weak: None, point.pair.strong: None})
        try:
            for supervisor in supervisors_of(point, ladders, wordings[point.task]):
                visit(supervisor)
        except SpecError as error:
            wrong[error.message] = error
    if wrong:
        raise SpecError("\n  ".join(wrong), remedy=next(iter(wrong.values())).remedy)
    return tuple(names)
