"""Seconds and memory of the leaderboard of a large fake store: computed, and again from the tables kept.

Each task has 500 trials; 20 of them are 10,000 trials.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.performance.fake_store import fake_store
from tests.performance.part import Asked, Figure, Missing, apart, described
from wtsbench.errors import StoreError
from wtsbench.store.client import open_store

_AT_ONCE = 50
"""Trials whose predictions are read in one question, about as a leaderboard does."""
_USED = """
import json, resource, subprocess, sys, time
begun = time.monotonic()
with open(sys.argv[1], "wb") as out:
    subprocess.run(sys.argv[2:], stdout=out, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = used.ru_utime + used.ru_stime
print(json.dumps({"seconds": time.monotonic() - begun, "cpu_seconds": cpu, "peak": used.ru_maxrss * 1024}))
"""
"""Runs a command from a small process: the peak of memory that it is said to have begins with its parent's."""


def measure_leaderboard(asked: Asked) -> Iterator[Figure | Missing]:
    """The `leaderboard` part: the command cold over reading all predictions once, warm over a command's start."""
    folder = asked.scratch / "store"
    tasks, items = asked.pick(quick=(1, 200), usual=(20, 250), large=(20, 5000))
    trials, predictions = fake_store(folder, tasks=tasks, items=items)
    read = apart(_read_all, folder)
    board = ["leaderboard", "--store", str(folder), "--json"]
    start, cold, warm = (_command(one, asked.scratch) for one in (["--version"], board, board))
    if cold.output != warm.output:
        raise StoreError("the warm leaderboard differs from the cold one", remedy="it is a fault of wtsbench.")
    counts = {"trials": trials, "predictions": predictions}
    yield Figure(
        name="cold",
        what="CPU seconds of `wtsbench leaderboard` over those of reading all predictions",
        value=cold.cpu_seconds / read,
        better="lower",
        details=described(counts | cold.details() | {"read_cpu_s": read}),
    )
    yield Figure(
        name="warm",
        what="CPU seconds of `wtsbench leaderboard` again over those of `wtsbench --version`",
        value=warm.cpu_seconds / start.cpu_seconds,
        better="lower",
        details=described(warm.details() | {"start_cpu_s": start.cpu_seconds}),
    )


def _read_all(folder: Path) -> float:
    store = open_store(str(folder))
    begun = time.process_time()
    ids = store.trials()["trial_id"].to_pylist()
    for first in range(0, len(ids), _AT_ONCE):
        store.predictions(ids[first : first + _AT_ONCE], splits=["test"])
    return time.process_time() - begun


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a command took and wrote."""

    seconds: float
    cpu_seconds: float
    peak: int
    """Bytes of memory."""
    output: bytes

    def details(self) -> dict[str, float]:
        """The same as numbers."""
        return {"clock_s": self.seconds, "cpu_s": self.cpu_seconds, "peak_mib": self.peak / 2**20}


def _command(arguments: list[str], scratch: Path) -> _Run:
    """A command in a process of its own, start included; its cache lies in the scratch folder."""
    out = scratch / "output"
    command = [sys.executable, "-m", "wtsbench_cli", *arguments]
    used = subprocess.run(
        [sys.executable, "-c", _USED, str(out), *command],
        env={**os.environ, "WTSBENCH_CACHE": str(scratch / "cache")},
        stdout=subprocess.PIPE,
        check=True,
    )
    return _Run(**json.loads(used.stdout), output=out.read_bytes())
