"""Watches a running trial until it ends, and stops it at its limits. The same for processes and containers."""

from __future__ import annotations

import dataclasses
import queue
import signal
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from wtsbench.contract.messages import Start
from wtsbench.sandbox import log as logs
from wtsbench.sandbox.base import Outcome
from wtsbench.sandbox.fork_server import Channel, ForkServer
from wtsbench.sandbox.usage import disk_used, memory_used

_POLL_SECONDS = 0.1
"""How soon a request to stop is noticed; the end of the trial is noticed at once."""
_MEMORY_POLL_SECONDS = 0.25
_DISK_POLL_SECONDS = 0.5
_GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""
_LOST_SECONDS = 10.0
"""After SIGKILL: if the fork server has not reported the child's end by then, it no longer works."""
_LOADING_SECONDS = 300.0
"""How long a fork server may take to load its libraries and fork, on a slow disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that a trial is held to from outside."""

    seconds: float
    """From its start."""
    memory: int | None
    """Bytes that its process group may hold; None if there is no limit, or the kernel enforces it."""
    disk: int
    """Bytes that it may have in `places`."""
    places: Sequence[Path]
    """Where it can write to disk."""
    log: Path
    """File of its output, which is kept short."""


def watch(child: ForkedTrial, limits: Limits, cancelled: threading.Event) -> Outcome:
    """Wait until a child has ended, by itself or stopped at a limit or by the user, and return how."""
    requested = memory_measured = time.monotonic()
    next_disk_check = 0.0
    while True:
        outcome = child.ended(_POLL_SECONDS)
        now = time.monotonic()
        if outcome is not None:
            return dataclasses.replace(outcome, seconds=now - (child.started or requested))
        if cancelled.is_set():
            return dataclasses.replace(stop(child, gently=True), cancelled=True)
        if child.started is None or child.pid is None:
            if now - requested > _LOADING_SECONDS:
                error = f"the trial did not start within {_LOADING_SECONDS:.0f} s"
                return dataclasses.replace(stop(child), error=error)
            continue
        if now - child.started > limits.seconds:
            return dataclasses.replace(stop(child, gently=True), timed_out=True)
        if limits.memory is not None and now - memory_measured > _MEMORY_POLL_SECONDS:
            memory_measured = now
            if memory_used(child.pid) > limits.memory:
                return dataclasses.replace(stop(child), oom_killed=True)
        if now > next_disk_check:
            if disk_used(limits.places, limits.disk) > limits.disk:
                return dataclasses.replace(stop(child), over_disk=True)
            logs.bound(limits.log)
            next_disk_check = time.monotonic() + max(_DISK_POLL_SECONDS, 10 * (time.monotonic() - now))


def stop(child: ForkedTrial, *, gently: bool = False) -> Outcome:
    """End a child, and say how it ended."""
    began = time.monotonic() if child.started is None else child.started
    outcome = None
    if gently:
        child.kill(signal.SIGTERM)
        outcome = child.ended(_GRACE_SECONDS)
    if outcome is None:
        child.kill(signal.SIGKILL)
        loading = gently and child.started is None  # the fork server still loads; other trials may wait for it too
        outcome = child.ended(_LOADING_SECONDS if loading else _LOST_SECONDS)
    if outcome is None:
        child.abandon()
        outcome = child.ended(_LOST_SECONDS) or Outcome(error="the trial could not be killed")
    return dataclasses.replace(outcome, seconds=time.monotonic() - began)


class ForkedTrial:
    """A trial that a fork server forks, starting or running."""

    def __init__(
        self,
        server: ForkServer[Channel],
        folder: Path,
        *,
        log: Path,
        file_bytes: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Ask a fork server to run a trial folder; paths are as the server sees them. See `contract.messages.Start`."""
        self.pid: int | None = None
        """Process id and process group, once it runs."""
        self.started: float | None = None
        """When it began to run, on the monotonic clock."""
        self._id = uuid.uuid4().hex
        self._server = server
        self._answers = server.start(
            Start(
                id=self._id,
                folder=str(folder),
                log=str(log),
                environment=dict(environment or {}),
                file_bytes=file_bytes,
            )
        )

    def ended(self, timeout: float) -> Outcome | None:
        """How it ended, as the fork server reports it; None if it has not ended after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if answer["event"] == "ready":
                continue
            if answer["event"] == "started":
                self.pid, self.started = answer["pid"], time.monotonic()
                continue
            self._server.forget(self._id)
            if answer["event"] == "ended":
                code, number = answer["exit_code"], answer["signal"]
                killed = number == signal.SIGKILL and answer["memory_kills"] > 0
                return Outcome(exit_code=code, signal=number, oom_killed=killed)
            if answer["event"] == "refused":
                return Outcome(error=f"the trial could not be forked: {answer['reason']}")
            output = answer["said"].splitlines()
            last = f": {output[-1]}" if output else ""
            error = f"the preloaded parent process of the trial died, {answer['reason']}{last}"
            return Outcome(error=error, oom_killed=bool(answer.get("oom_killed")))

    def kill(self, number: signal.Signals) -> None:
        """Have the fork server send a signal to its process group."""
        self._server.signal(self._id, number)

    def abandon(self) -> None:
        """Kill the fork server, which does not report the trial's end after SIGKILL; its children end with it."""
        self._server.kill()
