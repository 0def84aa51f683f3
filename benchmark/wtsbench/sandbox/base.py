"""The interface of all sandboxes, what they report, how that becomes a failure class, and which sandbox is taken."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from wtsbench.errors import SandboxError
from wtsbench.spec.failure import Failure, FailureClass

LEASE_EXPIRED = 70
"""Exit code of a trial whose lease ran out, or that could not even write its failure."""
DEFAULT_IMAGE = "trial"

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGSYS, signal.SIGTRAP}
"""Signals that a program brings upon itself: the same trial will do it again. (SIGBUS and SIGILL tell of the node.)"""
_STARTS_IN_VAIN = {
    0: "ended as if all were well, but left no result",
    1: "ended before it could begin: Python or wtsbench could not be loaded",
    2: "ended before it could begin: its folder was not a trial folder",
}
_MEMORY_WORDS = ("out of memory", "std::bad_alloc", "can't allocate memory", "cannot allocate memory", "memoryerror")
_NODE_WORDS = ("nvml", "no space left on device", "nvidia-container-cli", "cuda driver version is insufficient")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a sandbox saw a trial end."""

    exit_code: int | None = None
    signal: int | None = None
    """The signal that ended it, where one did."""
    oom_killed: bool = False
    """Killed for memory: at its own limit, or by the kernel because the node ran out."""
    over_disk: bool = False
    """Stopped for what it wrote to disk."""
    timed_out: bool = False
    cancelled: bool = False
    error: str | None = None
    """A fault of the sandbox itself: the engine, the lane, the image. One line."""
    log_tail: str = ""
    seconds: float = 0.0
    """From the start of the trial to its end."""


class Sandbox(Protocol):
    """Runs trial folders. Safe to use from several threads."""

    @property
    def name(self) -> Literal["process", "docker", "docker-lane"]:
        """What records and settings call it."""

    @property
    def computes_as(self) -> Literal["process", "docker"]:
        """What of it decides numbers; sandboxes that are alike in this give the same for the same image."""

    @property
    def isolation(self) -> str:
        """What separates the trial from the node, in words for the record."""

    @property
    def image_digest(self) -> str | None:
        """Id of the container image (`sha256:…`); None for processes."""

    @property
    def notice(self) -> str | None:
        """What the user should know once about this choice of sandbox; one sentence and its remedy."""

    def run(
        self,
        folder: Path,
        *,
        threads: int,
        gpus: Sequence[str],
        memory: int | None,
        disk: int,
        seconds: float,
        cancelled: threading.Event,
        labels: Mapping[str, str],
    ) -> Outcome:
        """Run the trial of a folder to its end, renewing its lease meanwhile; nothing of it runs when this returns.

        Args:
            folder: the trial folder.
            threads: that the trial computes with.
            gpus: UUIDs (or indices) of the GPUs it may use.
            memory: limit in bytes, or None.
            disk: bytes that it may have in outbox and scratch.
            seconds: time limit, counted from the start of the trial.
            cancelled: once set, the trial is stopped.
            labels: `run`, `trial` and `attempt`, for people and for sweeps.

        Raises:
            OSError: the trial folder cannot be written.
        """

    def close(self) -> None:
        """Give up what waits for a next trial. It ends with this process in any case."""


def reclaim(folder: Path) -> bool:
    """Bring back what a sandbox has of a trial folder, and see that its outbox is a folder; see `staging.reclaim`.

    Returns:
        Whether the trial had put something in the place of its outbox.

    Raises:
        OSError: something cannot be moved.
    """
    from wtsbench.sandbox import staging

    return staging.reclaim(folder)


def tidy(place: Path) -> None:
    """Delete what sandboxes of dead processes left in the folder that they keep their own things in."""
    from wtsbench.sandbox import leftovers

    leftovers.sweep_folders(place)


def classify(outcome: Outcome, result: Mapping[str, Any] | None, *, begun: bool = False) -> Failure | None:
    """Why an attempt failed, or None where it succeeded.

    What the sandbox did to the trial counts first, then what the trial says of itself, then how its process ended.

    Args:
        outcome: of the sandbox.
        result: the trial's own `result.json`, or None where it left none.
        begun: whether it had got as far as its own work, so that Python and wtsbench cannot be what failed.
    """
    lost = outcome.exit_code is None and outcome.signal is None and outcome.error is not None
    if (outcome.exit_code == 0 or lost) and result is not None and result.get("status") == "done":
        return None  # it was finished before a limit, a stop, or the loss of its engine could matter
    if outcome.cancelled:
        return _failure(FailureClass.CANCELLED, "stopped by the user", outcome)
    if outcome.timed_out:
        return _failure(
            FailureClass.TIMEOUT, f"ran past its time limit, {outcome.seconds:.0f} s after its start", outcome
        )
    if outcome.oom_killed:
        return _failure(
            FailureClass.OUT_OF_MEMORY, "killed for memory: at its limit, or the node had none left", outcome
        )
    if outcome.over_disk:
        return _failure(FailureClass.TRIAL_ERROR, "wrote more to its folder than resources.disk allows", outcome)
    if outcome.error is not None:
        return _failure(FailureClass.INFRASTRUCTURE, outcome.error, outcome)
    if outcome.exit_code == 1 and result is not None and result.get("failure"):
        said = Failure.model_validate(result["failure"])
        return said if said.detail else said.model_copy(update={"detail": outcome.log_tail})
    return _of_its_end(outcome, begun=begun and result is None)


def _of_its_end(outcome: Outcome, *, begun: bool) -> Failure:
    """The failure of a trial that left no result to be trusted."""
    ended = _ended(outcome)
    tail = outcome.log_tail.lower()
    if any(word in tail for word in _MEMORY_WORDS):
        return _failure(FailureClass.OUT_OF_MEMORY, f"ran out of memory and {ended}", outcome)
    if any(word in tail for word in _NODE_WORDS):
        return _failure(FailureClass.INFRASTRUCTURE, f"the node failed it, and it {ended}", outcome)
    if outcome.signal is not None:
        crashed = outcome.signal in _CRASHES
        return _failure(FailureClass.TRIAL_ERROR if crashed else FailureClass.INFRASTRUCTURE, ended, outcome)
    if outcome.exit_code == LEASE_EXPIRED:
        message = "ended itself: its supervisor was gone or stalled, or its result could not be written"
        return _failure(FailureClass.INFRASTRUCTURE, message, outcome)
    if outcome.exit_code in _STARTS_IN_VAIN and not begun:
        return _failure(FailureClass.INFRASTRUCTURE, _STARTS_IN_VAIN[outcome.exit_code], outcome)
    return _failure(FailureClass.TRIAL_ERROR, ended, outcome)


def _ended(outcome: Outcome) -> str:
    if outcome.signal is None:
        return f"ended with exit code {outcome.exit_code} and no result"
    try:
        name = f" ({signal.Signals(outcome.signal).name})"
    except ValueError:  # a real-time signal
        name = ""
    return f"was killed by signal {outcome.signal}{name}"


def _failure(failure_class: FailureClass, message: str, outcome: Outcome) -> Failure:
    return Failure(failure_class=failure_class, message=message, detail=outcome.log_tail)


def make_sandbox(name: str, *, image: str | None = None, place: Path | None = None) -> Sandbox:
    """The sandbox of a name, checked but not started. Takes well under a second where there is no engine.

    Args:
        name: `process`, `docker`, `docker-lane`, or `auto`: docker where an engine answers and has the pinned image,
            else process, with a notice that says so.
        image: name in `images.yaml`, `repo@sha256:…` or `sha256:…`; None is the trial image.
        place: folder that a sandbox may keep its own things in, on the file system of the trial folders; None is
            beside each of them.

    Raises:
        SandboxError: docker was asked for and cannot be had here.
        SpecError: the image is named by a tag, or no sandbox has this name.
    """
    from wtsbench.errors import SpecError
    from wtsbench.sandbox.process import ProcessSandbox

    if name == "process":
        return ProcessSandbox()
    if name not in ("auto", "docker", "docker-lane"):
        raise SpecError(f"there is no sandbox {name!r}", remedy="choose auto, process, docker or docker-lane.")
    from wtsbench.sandbox.docker import DockerSandbox

    try:
        return DockerSandbox.here(image or DEFAULT_IMAGE, lane=name == "docker-lane", place=place)
    except SandboxError as error:
        if name != "auto":
            raise
        remedy = f"; {error.remedy.rstrip('.')}" if error.remedy else ""
        consequence = "so trials run as processes that reach this machine's network and files"
        return ProcessSandbox(notice=f"{error.message}, {consequence}{remedy}.")
