"""Controls: trials with which a student's gain is compared, one row of the leaderboard each.

zero_shot               role control, no parent: the strong model is asked, not trained
random_labels           role control, parent the weak trial: labels wrong at random as often as the weak labels are
weak_equals_strong      the naive student of the weak trial of the strong model itself
strong_on_weak_train    that weak trial itself
random_filter           for every strategy that filters, a student of as many items, drawn at random
self_labels             a student of what the strong model answers untrained (the strategy of that name)
"""

from __future__ import annotations

from collections.abc import Iterator

from wtsbench.errors import SpecError
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.grid import ControlName, Grid
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Form
from wtsbench.strategies import registry
from wtsbench.strategies.base import Strategy

FORMS: dict[ControlName, tuple[Form, ...]] = {
    "zero_shot": ("classification", "generation"),
    "random_labels": ("classification",),  # continuations have no error rate to match
    "weak_equals_strong": ("classification", "generation"),
    "strong_on_weak_train": ("classification", "generation"),
    "random_filter": ("classification", "generation"),
    "self_labels": ("classification",),  # not defined for texts
}
"""The forms of tasks for which a control is defined."""
RANDOM_FILTER = "random_filter"


def random_filters(grid: Grid, form: Form) -> Iterator[tuple[str, StrategyCall]]:
    """Label and call of the control `random_filter` for every strategy of the grid that filters.

    Only those for tasks of this form.
    """
    if RANDOM_FILTER not in grid.controls:
        return
    for call in grid.strategies:
        strategy = registry.resolve(call)
        if strategy.filters and form in strategy.suits:
            like = registry.full_call(strategy).model_dump(mode="json")
            parameters = {"like": like, "finetune": strategy.parameters.finetune}
            yield f"{RANDOM_FILTER}({call.label})", StrategyCall(name=RANDOM_FILTER, parameters=parameters)


def taught_by(control: ControlName) -> Strategy | None:
    """The strategy of a control's student; None if the control is no student."""
    names = {"weak_equals_strong": "naive", "self_labels": "self_labels"}
    return registry.resolve(StrategyCall(name=names[control])) if control in names else None


def recipe_of(control: ControlName, form: Form, zero_shot: ZeroShot | None, task: str) -> StrategyCall | None:
    """The recipe of a control's trial; None if the control consists of ordinary trials.

    Raises:
        SpecError: the task does not define how to ask an untrained model.
    """
    if control == "random_labels":
        return StrategyCall(name=control)
    if control != "zero_shot":
        return None
    if form == "generation":
        return StrategyCall(name=control)  # the prompt itself is continued
    if zero_shot is None:
        raise SpecError(
            f"task {task} does not say how an untrained model is asked, so it has no zero-shot control",
            remedy="give its manifest `zero_shot: {prompt, answers}`, or exclude {task: "
            f"{task}, strategy: zero_shot}}.",
        )
    return StrategyCall(name=control, parameters=zero_shot.model_dump(mode="json"))
