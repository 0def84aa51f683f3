"""A grid's entries, before trials are planned: what is measured, at which seeds, and with which models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from wtsbench.errors import SpecError
from wtsbench.planning import controls
from wtsbench.spec.grid import ControlName, Exclusion, Grid, Pair
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import Form, Role
from wtsbench.strategies import registry
from wtsbench.strategies.base import PlanningContext, Strategy, Supervisor


@dataclass(frozen=True)
class Entry:
    """A strategy or control for one task and pair: a row of the leaderboard."""

    task: str
    form: Form
    pair: Pair
    call: StrategyCall
    """For controls, a call by the control's name."""
    strategy: Strategy | None
    """None for a control that is no student."""
    control: ControlName | None
    label: str
    """Name of its row in the leaderboard."""
    supervisors: Mapping[int, tuple[Supervisor, ...]]
    """Supervisors of the student by seed, without excluded seeds; empty if there is no student."""


@dataclass(frozen=True)
class Entries:
    """Every entry of a grid: tasks x pairs x (strategies and controls) without exclusions, each with its seeds."""

    grid: Grid
    each: tuple[Entry, ...]

    def models(self) -> tuple[str, ...]:
        """Names of all models that trials use, including those that strategies ask for."""
        names: dict[str, None] = {}

        def visit(supervisor: Supervisor) -> None:
            names[supervisor.model] = None
            for below in supervisor.supervisors:
                visit(below)

        for entry in self.each:
            names.update({entry.pair.weak: None, entry.pair.strong: None})
            for supervisors in entry.supervisors.values():
                for supervisor in supervisors:
                    visit(supervisor)
        return tuple(names)


def expand(grid: Grid, tasks: Mapping[str, TaskManifest], ladders: Mapping[Pair, tuple[str, ...]]) -> Entries:
    """Every entry of a grid that has a seed left; strategies and controls only for tasks of a form that they suit.

    Args:
        grid: a grid whose names are checked.
        tasks: by the grid's names.
        ladders: the models of a pair's family strictly between weak and strong, smallest first.

    Raises:
        SpecError: a strategy does not fit a pair or a task, all such cases at once; or nothing is left to measure.
    """
    each, wrong = [], dict[str, SpecError]()
    for entry in _rows(grid, tasks):
        rules = [rule for rule in grid.exclude if _excludes(rule, entry)]
        seeds = [seed for seed in grid.seeds if not any(rule.seed in (None, seed) for rule in rules)]
        try:
            ladder, task = ladders.get(entry.pair, ()), tasks[entry.task]
            supervisors = {seed: _supervisors(entry, seed, ladder, task) for seed in seeds}
        except SpecError as error:
            wrong[error.message] = error
            continue
        if supervisors:
            each.append(replace(entry, supervisors=supervisors))
    if wrong:
        raise SpecError("\n  ".join(wrong), remedy=next(iter(wrong.values())).remedy)
    if not each:
        raise SpecError(
            f"grid {grid.name}: every cell is excluded, nothing is left to measure",
            remedy="remove a rule under `exclude`, or take strategies that are for the tasks.",
        )
    return Entries(grid, tuple(each))


def _rows(grid: Grid, tasks: Mapping[str, TaskManifest]) -> Iterator[Entry]:
    """Every entry, before exclusions and without its supervisors."""
    strategies = [(call.label, call, registry.resolve(call)) for call in grid.strategies]
    for task in grid.tasks:
        form = tasks[task].form
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
        for pair in grid.pairs:
            for label, call, taught_by, special in kinds:
                yield Entry(task, form, pair, call, taught_by, special, label, {})


def _supervisors(entry: Entry, seed: int, ladder: tuple[str, ...], task: TaskManifest) -> tuple[Supervisor, ...]:
    if entry.strategy is None:
        return ()
    if entry.control == "weak_equals_strong":
        return (Supervisor(role=Role.WEAK, model=entry.pair.strong, seed=seed),)  # finetuned on ground truth
    context = PlanningContext(
        weak=entry.pair.weak,
        strong=entry.pair.strong,
        ladder=ladder,
        seed=seed,
        form=entry.form,
        frames=task.frames,
        zero_shot=task.zero_shot,
    )
    supervisors = entry.strategy.supervisors(context)
    if entry.form == "generation" and any(supervisor.has_student for supervisor in supervisors):
        raise SpecError(
            f"strategy {entry.label}, task {entry.task}: a student cannot supervise in a generative task, as it writes "
            "nothing on `transfer`",
            remedy="let the strategy's supervisors be of the role `weak`, or leave it out for generative tasks.",
        )
    return supervisors


def _excludes(rule: Exclusion, entry: Entry) -> bool:
    """Whether a rule excludes an entry, for the seed that it names or for all."""
    strategies = {None, entry.call.name, entry.label}
    if entry.control == controls.RANDOM_FILTER:  # useless without the strategy that it matches
        matched = entry.label.removeprefix(f"{controls.RANDOM_FILTER}(").removesuffix(")")
        strategies |= {entry.call.parameters["like"]["name"], matched}
    return (
        rule.task in (None, entry.task)
        and rule.weak in (None, entry.pair.weak)
        and rule.strong in (None, entry.pair.strong)
        and rule.strategy in strategies
    )
