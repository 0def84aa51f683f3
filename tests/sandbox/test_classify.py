"""From how a trial ended to its failure class."""

from __future__ import annotations

import pytest

from wtsbench.contract.measurements import TrialResult
from wtsbench.sandbox.base import Outcome
from wtsbench.sandbox.classify import classify
from wtsbench.spec.failure import FailureClass

DONE = TrialResult(status="done")
SAID = {"failure_class": "diverged", "message": "the loss is NaN", "detail": "trace"}
DIVERGED = TrialResult.model_validate({"status": "failed", "failure": SAID})


@pytest.mark.parametrize(
    ("outcome", "result", "expected"),
    [
        (Outcome(cancelled=True, signal=15), None, FailureClass.CANCELLED),
        (Outcome(timed_out=True, signal=9), None, FailureClass.TIMEOUT),
        (Outcome(oom_killed=True, signal=9), None, FailureClass.OUT_OF_MEMORY),
        (Outcome(exit_code=134, log_tail="terminate: std::bad_alloc"), None, FailureClass.OUT_OF_MEMORY),
        (Outcome(signal=6, log_tail="CUDA error: out of memory"), None, FailureClass.OUT_OF_MEMORY),
        (Outcome(error="the engine stopped answering"), None, FailureClass.INFRASTRUCTURE),
        (Outcome(exit_code=1, log_tail="Failed to initialize NVML: Unknown Error"), None, FailureClass.INFRASTRUCTURE),
        (Outcome(exit_code=70), None, FailureClass.INFRASTRUCTURE),
        (Outcome(exit_code=0), None, FailureClass.INFRASTRUCTURE),
        (Outcome(exit_code=1), None, FailureClass.INFRASTRUCTURE),
        (Outcome(exit_code=2), None, FailureClass.INFRASTRUCTURE),
        (Outcome(signal=9), None, FailureClass.INFRASTRUCTURE),
        (Outcome(signal=7), None, FailureClass.INFRASTRUCTURE),
        (Outcome(signal=11), None, FailureClass.TRIAL_ERROR),
        (Outcome(signal=6), None, FailureClass.TRIAL_ERROR),
        (Outcome(exit_code=3), None, FailureClass.TRIAL_ERROR),
        (Outcome(exit_code=1), DIVERGED, FailureClass.DIVERGED),
        (Outcome(exit_code=1, oom_killed=True), DIVERGED, FailureClass.OUT_OF_MEMORY),
        (Outcome(signal=9), DONE, FailureClass.INFRASTRUCTURE),
        (Outcome(exit_code=1), DONE, FailureClass.INFRASTRUCTURE),
    ],
)
def test_every_end_has_its_class(outcome: Outcome, result: TrialResult | None, expected: FailureClass) -> None:
    """Limits and stops, faults of the node, crashes and the trial's own failures are told apart."""
    failure = classify(outcome, result)

    assert failure is not None
    assert failure.failure_class is expected
    assert "\n" not in failure.message


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_trial_that_ends_itself_in_the_middle_is_not_run_again(code: int) -> None:
    """`os._exit` in a trial's own work is the trial's failure, whatever its code: it would do the same again."""
    failure = classify(Outcome(exit_code=code), None, begun=True)

    assert failure is not None
    assert failure.failure_class is FailureClass.TRIAL_ERROR
    assert failure.message == f"ended with exit code {code} and no result"


def test_a_finished_trial_is_no_failure_whatever_came_after() -> None:
    """A trial that wrote its result and ended well stays done though it was stopped in the same moment."""
    assert classify(Outcome(exit_code=0), DONE) is None
    assert classify(Outcome(exit_code=0, cancelled=True, timed_out=True), DONE) is None
    assert classify(Outcome(error="the preloaded parent process of the trial died"), DONE) is None


def test_a_failure_keeps_what_the_trial_said() -> None:
    """The trial's own message and traceback are kept; without a traceback the end of its log stands in."""
    said = classify(Outcome(exit_code=1, log_tail="log"), DIVERGED)
    bare = classify(
        Outcome(exit_code=1, log_tail="log"),
        TrialResult.model_validate({"status": "failed", "failure": SAID | {"detail": ""}}),
    )

    assert said is not None
    assert (said.message, said.detail) == ("the loss is NaN", "trace")
    assert bare is not None
    assert bare.detail == "log"


def test_a_signal_is_named() -> None:
    """A record says SIGSEGV and not only 11."""
    failure = classify(Outcome(signal=11, log_tail="Fatal Python error"), None)

    assert failure is not None
    assert "SIGSEGV" in failure.message
    assert failure.detail == "Fatal Python error"
