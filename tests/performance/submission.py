"""A real grid, as users submit it: how long it takes beside its own computing, when results come, and in what memory.

`wtsbench submit` runs a grid of embedded models on a Ray of this machine, once for the three parts here. It is held
against a *bare* Ray, which runs one task that does nothing, and a bare process that loads one of the models.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from tests.performance.bare import bare_run
from tests.performance.part import Asked, Figure, Missing, described, embedded, peak_of
from wtsbench.contract.measurements import Measurements
from wtsbench.errors import StoreError
from wtsbench.store.client import open_store

WEAK, STRONG = "nano-1", "nano-3"
_FIRST_START = re.compile(r"\[ *0/\d+\] start ")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as the store has it."""

    sealed: float
    """When it ended, in seconds since 1970."""
    began: float
    seconds: float
    """From the start of its sandbox to its end, as its supervisor saw it."""
    compute: float
    """Of these, what it says that it trained and predicted; loading is not counted."""
    load: float
    peak: int
    """Bytes of memory."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was seen of a command; seconds are counted from its start."""

    slots: int
    wall: float
    """Until it had printed its leaderboard."""
    first_line: float
    first_start: float
    """Until it said that a trial runs."""
    first_sealed: float
    """Until somebody else saw a sealed trial in the store."""
    trials: tuple[Trial, ...]
    peaks: Mapping[str, int]
    """Bytes of memory of the largest process of a kind."""

    @property
    def compute(self) -> float:
        """Seconds of all trials' computing."""
        return sum(trial.compute for trial in self.trials)


def measure_grid(asked: Asked) -> Iterator[Figure | Missing]:
    """The `grid` part: wall time over the trials' pure compute on the slots."""
    seen = submitted(asked)
    ideal = seen.compute / seen.slots
    trials = {
        "trials": len(seen.trials),
        "slots": seen.slots,
        "durations_s": sum(trial.seconds for trial in seen.trials),
        "compute_s": seen.compute,
        "load_s": sum(trial.load for trial in seen.trials),
    }
    running = max(trial.sealed for trial in seen.trials) - min(trial.began for trial in seen.trials)
    for name, what, wall in (
        ("whole command", "wall time of `wtsbench submit`", seen.wall),
        ("trials alone", "time from the first trial's start to the last one's end", running),
    ):
        yield Figure(
            name=name,
            what=f"{what} over the trials' compute on the slots",
            value=wall / ideal,
            better="lower",
            details=described({"wall_s": wall, **trials}),
        )


def measure_first_result(asked: Asked) -> Iterator[Figure | Missing]:
    """The `first` part: when a command that was just started says something, runs a trial, and has a result."""
    seen, bare = submitted(asked), bare_run(embedded(STRONG))
    compute = min(seen.trials, key=lambda trial: trial.sealed).compute
    for name, what, took, against in (
        ("first line", "until it says something, over `wtsbench --version`", seen.first_line, bare.start),
        ("first trial", "until a trial runs, over a bare Ray's first task", seen.first_start, bare.first_task),
        (
            "first result",
            "until a sealed trial is in the store, over a bare Ray's first task and the trial's compute",
            seen.first_sealed,
            bare.first_task + compute,
        ),
    ):
        yield Figure(
            name=name,
            what=f"time of `wtsbench submit` {what}",
            value=took / against,
            better="lower",
            details=described({"wall_s": took, "against_s": against}),
        )


def measure_memory(asked: Asked) -> Iterator[Figure | Missing]:
    """The `memory` part: peaks of a run's processes over those of bare ones."""
    seen, bare = submitted(asked), bare_run(embedded(STRONG))
    for name, peak, what, against in (
        ("driver", seen.peaks["driver"], "a process that started a bare Ray", bare.driver),
        ("worker", seen.peaks["worker"], "a worker of a bare Ray", bare.worker),
        ("fork server", seen.peaks["fork_server"], "a process that loaded the model", bare.model),
        ("trial", max(trial.peak for trial in seen.trials), "a process that loaded the model", bare.model),
    ):
        yield Figure(
            name=name,
            what=f"peak memory over that of {what}",
            value=peak / against,
            better="lower",
            details=described({"peak_mib": peak / 2**20, "against_mib": against / 2**20}),
        )


@cache
def submitted(asked: Asked) -> Submission:
    """Submit the grid, watch, and read what the store has of it; once for all parts of a run."""
    for name in (WEAK, STRONG):
        embedded(name)  # built once a machine, which takes half a minute
    file, store = asked.scratch / "grid.yaml", asked.scratch / "grid-store"
    file.write_text(json.dumps(_grid(asked)))
    command = ["submit", str(file), "--store", str(store), "--sandbox", "process", "--executor", "ray"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "wtsbench_cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "WTSBENCH_SPOOL": str(asked.scratch / "spool")},
    )
    watch = _Watch(process.pid, store)
    assert process.stdout is not None
    try:
        lines = [(time.monotonic(), line) for line in process.stdout]
        wall = time.monotonic() - begun
    finally:
        watch.end()
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, "".join(line for _, line in lines))
    assert watch.first_sealed is not None
    return Submission(
        slots=len(os.sched_getaffinity(0)),
        wall=wall,
        first_line=lines[0][0] - begun,
        first_start=next(at for at, line in lines if _FIRST_START.search(line)) - begun,
        first_sealed=watch.first_sealed - begun,
        trials=tuple(_trial(row) for row in open_store(str(store)).trials().to_pylist()),
        peaks=watch.peaks,
    )


def _grid(asked: Asked) -> dict[str, Any]:
    small = {"weak_train": 200, "transfer": 300, "validation": 60, "test": 300}
    return {
        "apiVersion": "wtsbench/v1",
        "name": "speed",
        "tasks": ["safety-mini"],
        "pairs": [{"weak": WEAK, "strong": STRONG}],
        "strategies": ["naive", "logconf"],
        "seeds": list(range(asked.pick(quick=2, usual=5, large=25))),
        "resources": {"cpus": 1, "time": "10m"},
        **asked.pick(quick={"data": small}, usual={}, large={}),
    }


def _trial(row: dict[str, Any]) -> Trial:
    said = Measurements.of_stored(row["measurements"])
    assert said is not None
    assert said.seconds is not None
    return Trial(
        sealed=row["finished_at"].timestamp(),
        began=row["started_at"].timestamp(),
        seconds=row["duration_s"],
        compute=sum(seconds for phase, seconds in said.seconds.items() if phase != "load"),
        load=said.seconds["load"],
        peak=said.peak_memory_bytes or 0,
    )


class _Watch:
    """Looks at a command twice a second: at its store until a trial is there, and at its processes."""

    def __init__(self, pid: int, store: Path) -> None:
        self.first_sealed: float | None = None
        self.peaks: dict[str, int] = {}
        self._pid, self._store = pid, store
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.25):
            with suppress(StoreError):  # it is not there yet, or busy
                if self.first_sealed is None and open_store(str(self._store)).trials().num_rows:
                    self.first_sealed = time.monotonic()
            with suppress(psutil.NoSuchProcess, OSError):
                self._note("driver", peak_of(self._pid))
                self._note_children(psutil.Process(self._pid).children(recursive=True))

    def _note_children(self, processes: list[psutil.Process]) -> None:
        forked: set[int] = set()
        for process in processes:  # parents come before their children; a trial looks like its fork server
            with suppress(psutil.NoSuchProcess, OSError):
                line = " ".join(process.cmdline())
                if "ray::" in line:
                    self._note("worker", peak_of(process.pid))
                elif "wtsbench.worker.fork_server" in line:
                    forked.add(process.pid)
                    if process.ppid() not in forked:
                        self._note("fork_server", peak_of(process.pid))

    def _note(self, kind: str, peak: int) -> None:
        self.peaks[kind] = max(peak, self.peaks.get(kind, 0))
