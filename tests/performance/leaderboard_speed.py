"""Seconds and memory of the leaderboard of a large fake store: computed, and again from the tables kept.

    python -m tests.performance.leaderboard_speed [TASKSxITEMS] [--json]

Each task has 500 trials and so many test items; the default, 20x5000, is 10,000 trials and 50 million predictions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.performance.fake_store import fake_store
from wtsbench.store.client import open_store

_AT_ONCE = 50
"""Trials whose predictions are read in one question, about as a leaderboard does."""


def measure(size: str) -> dict[str, Any]:
    """Make the store, read it, and compute its leaderboard twice."""
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None:
        sys.exit(f"{size!r}: give TASKSxITEMS, such as 20x5000")
    with tempfile.TemporaryDirectory(prefix="wtsbench-measure-") as scratch:
        folder = Path(scratch) / "store"
        begun = time.monotonic()
        trials, predictions = fake_store(folder, tasks=int(match[1]), items=int(match[2]))
        print(f"{trials:,} trials, {predictions:,} predictions, made in {time.monotonic() - begun:.0f} s")
        size_on_disk = sum(path.stat().st_size for path in folder.iterdir())
        store = open_store(str(folder))
        begun = time.monotonic()
        ids = store.trials()["trial_id"].to_pylist()
        for first in range(0, len(ids), _AT_ONCE):
            store.predictions(ids[first : first + _AT_ONCE], splits=["test"])
        read = time.monotonic() - begun
        print(
            f"{size_on_disk / predictions:.1f} bytes a prediction; all of them read, {_AT_ONCE} trials at once, in"
            f" {read:.1f} s, {_peak() / 2**30:.2f} GiB at most"
        )
        cold, warm = (_command(folder, Path(scratch)) for _ in range(2))
        same = cold.output == warm.output
    for name, one in (("cold", cold), ("warm", warm)):
        print(
            f"leaderboard, {name}: {one.seconds:.1f} s, {one.cpu_seconds:.1f} s of CPU, {one.peak / 2**30:.2f} GiB"
            " at most"
        )
    if not same:
        print("the warm leaderboard differs from the cold one")
        sys.exit(1)
    return {
        "trials": trials,
        "predictions": predictions,
        "bytes": size_on_disk,
        "read_all_s": read,
        "cold_s": cold.seconds,
        "cold_cpu_s": cold.cpu_seconds,
        "cold_peak_bytes": cold.peak,
        "warm_s": warm.seconds,
        "warm_cpu_s": warm.cpu_seconds,
        "warm_peak_bytes": warm.peak,
    }


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a command took and wrote."""

    seconds: float
    cpu_seconds: float
    peak: int
    """Bytes of memory."""
    output: bytes


def _command(store: Path, scratch: Path) -> _Run:
    """`wtsbench leaderboard --json` in a process of its own, start included; its cache lies in the scratch folder."""
    command = [sys.executable, "-m", "wtsbench_cli", "leaderboard", "--store", str(store), "--json"]
    out = scratch / "leaderboard.json"
    begun = time.monotonic()
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, env={**os.environ, "WTSBENCH_CACHE": str(scratch / "cache")})
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    return _Run(
        seconds=seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak=used.ru_maxrss * 1024,
        output=out.read_bytes(),
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("size", nargs="?", default="20x5000", metavar="TASKSxITEMS")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    measured = measure(asked.size)
    if asked.json:
        print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    _main()
