"""From how a trial ended, as its sandbox saw it, to the class of its failure."""

from __future__ import annotations

import signal

from wtsbench.contract.folder import ExitCode
from wtsbench.contract.measurements import TrialResult
from wtsbench.sandbox.base import Outcome
from wtsbench.spec.failure import Failure, FailureClass

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGSYS, signal.SIGTRAP}
"""Signals that a program brings upon itself: a retry ends the same way. (SIGBUS and SIGILL point to the node.)"""
_FAILED_STARTS: dict[int, str] = {
    ExitCode.DONE: "ended as if all were well, but left no result",
    ExitCode.FAILED: "ended before it could begin: Python or wtsbench could not be loaded",
    ExitCode.NO_FOLDER: "ended before it could begin: its folder was not a trial folder",
}
_MEMORY_WORDS = ("out of memory", "std::bad_alloc", "can't allocate memory", "cannot allocate memory", "memoryerror")
_NODE_WORDS = ("nvml", "no space left on device", "nvidia-container-cli", "cuda driver version is insufficient")


def classify(outcome: Outcome, result: TrialResult | None, *, begun: bool = False) -> Failure | None:
    """Why an attempt failed, or None where it succeeded.

    What the sandbox did to the trial counts first, then what the trial says of itself, then how its process ended.

    Args:
        outcome: of the sandbox.
        result: the trial's own `result.json`, or None where it left none.
        begun: whether the trial had begun its own work, so that loading Python and wtsbench cannot be what failed.
    """
    engine_lost = outcome.exit_code is None and outcome.signal is None and outcome.error is not None
    if (outcome.exit_code == ExitCode.DONE or engine_lost) and result is not None and result.status == "done":
        return None  # finished before a limit, a stop or the loss of its engine could matter
    if outcome.cancelled:
        return _failure(FailureClass.CANCELLED, "stopped by the user", outcome)
    if outcome.timed_out:
        message = f"ran past its time limit (resources.time of the grid), {outcome.seconds:.0f} s after its start"
        return _failure(FailureClass.TIMEOUT, message, outcome)
    if outcome.oom_killed:
        return _failure(
            FailureClass.OUT_OF_MEMORY, "killed for memory: at its limit, or the node had none left", outcome
        )
    if outcome.over_disk:
        return _failure(FailureClass.TRIAL_ERROR, "wrote more to its folder than resources.disk allows", outcome)
    if outcome.error is not None:
        return _failure(FailureClass.INFRASTRUCTURE, outcome.error, outcome)
    if outcome.exit_code == ExitCode.FAILED and result is not None and result.failure is not None:
        reported = result.failure
        return reported if reported.detail else reported.model_copy(update={"detail": outcome.log_tail})
    return _from_exit(outcome, begun=begun and result is None)


def _from_exit(outcome: Outcome, *, begun: bool) -> Failure:
    """The failure of a trial without a usable result, judged by its exit code, signal and log."""
    ended = _ending(outcome)
    tail = outcome.log_tail.lower()
    if any(word in tail for word in _MEMORY_WORDS):
        return _failure(FailureClass.OUT_OF_MEMORY, f"ran out of memory and {ended}", outcome)
    if any(word in tail for word in _NODE_WORDS):
        return _failure(FailureClass.INFRASTRUCTURE, f"the node failed it, and it {ended}", outcome)
    if outcome.signal is not None:
        crashed = outcome.signal in _CRASHES
        return _failure(FailureClass.TRIAL_ERROR if crashed else FailureClass.INFRASTRUCTURE, ended, outcome)
    if outcome.exit_code == ExitCode.NO_RESULT:
        message = "ended itself: its supervisor was gone or stalled, or its result could not be written"
        return _failure(FailureClass.INFRASTRUCTURE, message, outcome)
    if outcome.exit_code in _FAILED_STARTS and not begun:
        return _failure(FailureClass.INFRASTRUCTURE, _FAILED_STARTS[outcome.exit_code], outcome)
    return _failure(FailureClass.TRIAL_ERROR, ended, outcome)


def _ending(outcome: Outcome) -> str:
    if outcome.signal is None:
        return f"ended with exit code {outcome.exit_code} and no result"
    try:
        name = f" ({signal.Signals(outcome.signal).name})"
    except ValueError:  # a real-time signal
        name = ""
    return f"was killed by signal {outcome.signal}{name}"


def _failure(failure_class: FailureClass, message: str, outcome: Outcome) -> Failure:
    return Failure(failure_class=failure_class, message=message, detail=outcome.log_tail)
