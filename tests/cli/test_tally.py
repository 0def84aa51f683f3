"""Counting events and guessing the time left."""

from __future__ import annotations

import pytest

from wtsbench.execution.events import Blocked, Cancelled, Done, Failed, Progressed, Started, TrialEvent
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.training import Training
from wtsbench.spec.trial import ModelRef, Role, TrialSpec
from wtsbench_cli.tally import Tally


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


FAILURE = Failure(failure_class=FailureClass.TRIAL_ERROR, message="")


def _spec(role: Role, seed: int, parents: tuple[str, ...] = ()) -> TrialSpec:
    return TrialSpec(
        role=role,
        task="safety-mini",
        data_digest="0" * 64,
        data_seed=0,
        model=ModelRef(name="nano-1", kind="embedded", id="nano-1", revision="r"),
        training=Training(),
        seed=seed,
        parents=parents,
        environment="process:x",
    )


WEAK = [_spec(Role.WEAK, seed) for seed in range(3)]
CHILD = _spec(Role.STUDENT, 0, (WEAK[0].trial_id,))
GRANDCHILD = _spec(Role.STUDENT, 1, (CHILD.trial_id,))
"""Three weak trials, and a chain of two students below the first."""


def _tally(*stored: TrialSpec, clock: Clock | None = None) -> Tally:
    trials = {spec.trial_id: spec for spec in (*WEAK, CHILD, GRANDCHILD)}
    return Tally(trials, {spec.trial_id for spec in stored}, clock=clock or Clock())


def _take(tally: Tally, *events: TrialEvent) -> None:
    for event in events:
        tally.take(event)


def _done(trial: TrialSpec, seconds: float, attempt: int | None = 1) -> Done:
    return Done(trial=trial, attempt=attempt, seconds=seconds)


def test_counts() -> None:
    """Stored trials count as done; failures are counted apart; what ended runs no longer."""
    first, second, third = WEAK
    tally = _tally(third)
    _take(tally, Started(trial=first), Started(trial=second), Progressed(trial=second, share=0.5))
    assert (tally.done, tally.total, tally.failed) == (1, 5, 0)
    shares = {item.trial_id: item.share for item in tally.running()}
    assert shares == {first.trial_id: None, second.trial_id: 0.5}
    _take(tally, _done(first, 2.0), Failed(trial=second, attempt=1, failure=FAILURE, seconds=1.0, again=False))
    assert (tally.done, tally.failed, tally.running()) == (2, 1, [])


def test_unknown_until_something_is_known() -> None:
    """There is no guess before a trial has finished or come far enough; then its own pace is the guess."""
    clock = Clock()
    tally = _tally(clock=clock)
    _take(tally, Started(trial=WEAK[0]))
    clock.now += 1
    assert tally.seconds_left() is None
    _take(tally, Progressed(trial=WEAK[0], share=0.25))
    assert tally.seconds_left() == pytest.approx(3 + 4 * 4)


def test_time_left() -> None:
    """Time left is the work left over the trials side by side, by the mean of those of the same role and model."""
    first, second, _ = WEAK
    tally = _tally()
    _take(tally, Started(trial=first), Started(trial=second), _done(first, 10.0), _done(second, 20.0))
    assert tally.seconds_left() == pytest.approx(max(3 * 15 / 2, 2 * 15))
    _take(tally, Started(trial=CHILD), _done(CHILD, 100.0))
    assert tally.seconds_left() == pytest.approx(max((15 + 100) / 2, 100))


def test_an_attempt_that_is_tried_again_is_still_to_be_done() -> None:
    """What failed and comes again neither runs nor counts as failed."""
    tally = _tally()
    again = Failed(trial=WEAK[0], attempt=1, failure=FAILURE, seconds=1.0, again=True)
    _take(tally, Started(trial=WEAK[0]), again)
    assert (tally.done, tally.failed, tally.running()) == (0, 0, [])
    _take(tally, *(_done(trial, 1.0) for trial in WEAK))
    assert tally.done == 3


def test_reused_results_do_not_count_as_fast() -> None:
    """A result that another submission had stored meanwhile says nothing of durations."""
    tally = _tally()
    _take(tally, Started(trial=WEAK[0]), _done(WEAK[0], 0.0, attempt=None))
    assert (tally.done, tally.seconds_left()) == (1, None)


def test_nothing_left() -> None:
    """What failed or cannot run is no work that is left."""
    tally = _tally(*WEAK[:2])
    failed = Failed(trial=WEAK[2], attempt=1, failure=FAILURE, seconds=1.0, again=False)
    _take(tally, failed, Blocked(trial=CHILD), Cancelled(trial=GRANDCHILD, attempt=1))
    assert tally.seconds_left() == 0
