"""Values of a grid: durations, sizes, short forms, bounds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.spec.files import GRID
from wtsbench.spec.failure import FailureClass
from wtsbench.spec.grid import Exclusion, Grid, Resources, Retry
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import GridTraining, Training, TrainingOverride


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("1d2h3m4.5s", 93784.5),
        ("0.5s", 0.5), (" 2h ", 7200), (90, 90), (0.5, 0.5),
    ],
)  # fmt: skip
def test_durations(text: Any, seconds: float) -> None:
    """A duration is a number of seconds, or days, hours, minutes and seconds in this order."""
    assert Resources.model_validate({"time": text}).time == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours", "30m2h", "1:30", "-1h", "0s", 0, -1, "1h 30m", None, [1]])
def test_no_durations(text: Any) -> None:
    """Anything else is refused, and so is no time at all."""
    with pytest.raises(ValidationError):
        Resources.model_validate({"time": text})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("40GiB", 40 * 2**30), ("1.5 KiB", 1536), ("2GB", 2 * 10**9), ("1TiB", 2**40), ("7B", 7),
        ("3MB", 3 * 10**6), (1024, 1024),
    ],
)  # fmt: skip
def test_sizes(text: Any, size: int) -> None:
    """A size is a number of bytes, or a number with a binary or decimal unit."""
    assert Resources.model_validate({"memory": text}).memory == size


@pytest.mark.parametrize("text", ["40", "40G", "40gib", "GiB", "-1GiB", "0GiB", "1 2GiB", 0, -5, 1.5])
def test_no_sizes(text: Any) -> None:
    """A size without a unit, or with one that could mean two things, is refused."""
    with pytest.raises(ValidationError):
        Resources.model_validate({"memory": text})


def test_strategy_forms_are_one() -> None:
    """A name, a mapping, and the stored form give the same call."""
    calls = [
        StrategyCall.model_validate(form)
        for form in ({"name": "logconf", "max_weight": 0.5}, {"name": "logconf", "parameters": {"max_weight": 0.5}})
    ]
    assert calls[0] == calls[1]
    assert StrategyCall.model_validate("naive") == StrategyCall(name="naive")
    assert StrategyCall.model_validate({"name": "naive", "parameters": None}) == StrategyCall(name="naive")


def test_labels_do_not_depend_on_the_order_of_parameters() -> None:
    """The leaderboard calls equal strategies by one label."""
    one = StrategyCall.model_validate({"name": "s", "b": [1, 2], "a": True})
    two = StrategyCall.model_validate({"name": "s", "a": True, "b": [1, 2]})
    assert one.label == two.label == "s(a=True,b=1+2)"


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": []},
        {"seeds": [0, 0]},
        {"seeds": [-1]},
        {"seeds": [1000]},
        {"tasks": []},
        {"tasks": ["t", "t"]},
        {"pairs": [{"weak": "a", "strong": "b"}, {"strong": "b", "weak": "a"}]},
        {"strategies": ["naive", {"name": "naive", "parameters": {}}]},
        {"name": "../escape"},
        {"name": "a" * 101},
        {"exclude": [{}]},
        {"retry": {"cancelled": 1}},
        {"retry": {"infrastructure": 11}},
        {"data": {"test": 1}},
        {"training": {"warmup": 1}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_bounds(change: dict[str, Any]) -> None:
    """What could only be a mistake is refused."""
    Grid.model_validate(GRID)
    with pytest.raises(ValidationError):
        Grid.model_validate({**GRID, **change})


def test_settings_cannot_change_after_the_check() -> None:
    """A grid is frozen."""
    grid = Grid.model_validate(GRID)
    with pytest.raises(ValidationError, match="frozen"):
        grid.name = "other"  # type: ignore[misc]  # that it is refused is the point


def test_retry_rules() -> None:
    """Each class of failure has its own number of further attempts; a cancelled trial has none."""
    retry = Retry(timeout=3)
    assert {kind: retry.allowed(kind) for kind in FailureClass} == {
        FailureClass.INFRASTRUCTURE: 2,
        FailureClass.OUT_OF_MEMORY: 0,
        FailureClass.TIMEOUT: 3,
        FailureClass.DIVERGED: 0,
        FailureClass.TRIAL_ERROR: 0,
        FailureClass.CANCELLED: 0,
    }


def test_overrides_keep_what_they_do_not_name() -> None:
    """A training override changes the fields it gives and no other, zero included."""
    base = Training(epochs=7, weight_decay=0.1)
    assert TrainingOverride(weight_decay=0).over(base) == Training(epochs=7, weight_decay=0)
    assert GridTraining(batch_size=4, models={"m": TrainingOverride(epochs=1)}).over(base) == Training(
        epochs=7, weight_decay=0.1, batch_size=4
    )
    assert set(TrainingOverride.model_fields) == set(Training.model_fields)


def test_an_exclusion_by_seed_zero_is_one() -> None:
    """Seed 0 is a seed, not a missing value."""
    assert Exclusion(seed=0).seed == 0
