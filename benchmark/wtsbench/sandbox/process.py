"""The process sandbox: a trial is a process of its own on this node, forked from a preloaded parent."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from wtsbench.sandbox import log
from wtsbench.sandbox.base import Outcome
from wtsbench.sandbox.environment import process_environment
from wtsbench.sandbox.lane import lane_for
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.memory import kernel_kills
from wtsbench.sandbox.watch import Child, LaneChild, Limits, stop, watch


class ProcessSandbox:
    """Runs trials as processes: separate memory, limits on time, memory and disk, a clean environment; no more."""

    name: Literal["process"] = "process"
    computes_as: Literal["process"] = "process"
    image_digest = None

    def __init__(self, *, lane: bool = True, notice: str | None = None) -> None:
        """With `lane`, trials are forked from a parent that has the libraries loaded; the numbers are the same."""
        self._lane = lane
        how = "forked from a preloaded parent" if lane else "started afresh"
        self.isolation = f"process, {how}; network and files of the node within reach"
        self.notice = notice

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
        """Run the trial of a folder to its end; see `Sandbox.run`."""
        folder = folder.absolute()
        killed_before = kernel_kills()
        places = [folder / "outbox", folder / "scratch"]
        limits = Limits(seconds=seconds, memory=memory, disk=disk, places=places, log=folder / "log.txt")
        with Renewal(folder / "lease"):
            child = _lane_child(folder, threads, gpus, disk) if self._lane else _PlainChild(folder, threads, gpus, disk)
            try:
                outcome = watch(child, limits, cancelled)
            except BaseException:  # Ctrl-C, mostly: nothing may write to the folder once this has returned
                stop(child)
                raise
        if outcome.signal == signal.SIGKILL and not outcome.cancelled and kernel_kills() > killed_before:
            outcome = dataclasses.replace(outcome, oom_killed=True)
        return dataclasses.replace(outcome, log_tail=log.tail(folder / "log.txt"))

    def close(self) -> None:
        """Nothing to do: the lane is this process's, whoever uses it, and ends with it."""


def _lane_child(folder: Path, threads: int, gpus: Sequence[str], disk: int) -> Child:
    scratch = str(folder / "scratch")
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "HOME": scratch, "TMPDIR": scratch}
    logged = str(folder / "log.txt")
    return LaneChild(lane_for(threads), folder, log=logged, environment=environment, file_bytes=disk)


class _PlainChild:
    def __init__(self, folder: Path, threads: int, gpus: Sequence[str], disk: int) -> None:
        scratch = str(folder / "scratch")
        with (folder / "log.txt").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "wtsbench.trial", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=process_environment(threads, gpus) | {"HOME": scratch, "TMPDIR": scratch},
                cwd="/",
                start_new_session=True,  # a process group of its own, and no terminal whose Ctrl-C reaches it
            )
        self.pid: int | None = self._process.pid
        self.started: float | None = time.monotonic()
        with contextlib.suppress(OSError, ValueError):  # it has ended, or its limit is lower already
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (disk, disk))

    def ended(self, timeout: float) -> Outcome | None:
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self.kill(signal.SIGKILL)  # what the trial itself may have started
        return Outcome(signal=-code) if code < 0 else Outcome(exit_code=code)

    def kill(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # nothing of the group is left
            os.killpg(self._process.pid, number)

    def abandon(self) -> None:
        self._process.kill()
