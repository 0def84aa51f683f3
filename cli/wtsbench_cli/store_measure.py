"""`wtsbench store measure`: how fast a store is on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from wtsbench_cli.options import JsonOption
from wtsbench_cli.terminal import print_json, say

_AT_ONCE = 50
"""Trials whose predictions are read in one question, about as a leaderboard does."""


def measure(
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="SINKS",
            help="What to measure: of server, folder, parquet, mlflow-file, mlflow-sqlite. Default: the first three.",
            show_default=False,
        ),
    ] = None,
    writers: Annotated[
        str | None,
        typer.Option("--writers", metavar="N,N…", help="Writers at once. Default: 1,16,64,256.", show_default=False),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="How long each. Default: 5.", min=0.5, show_default=False),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow",
            metavar="PYTHON",
            help="Interpreter of an environment that has MLflow. Default: this one.",
            show_default=False,
        ),
    ] = None,
    leaderboard: Annotated[
        str | None,
        typer.Option(
            "--leaderboard",
            metavar="TASKSxITEMS",
            help="Measure instead the leaderboard of so many tasks, of 500 trials each, and test items.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure how fast records become durable here, with fake trials in scratch folders, side by side.

    MLflow is measured where it is installed; wtsbench does not need it.
    """
    if leaderboard is not None:
        found = [_leaderboard(leaderboard)]
        if json:
            print_json(found)
        return
    from wtsbench.store.measure import KINDS
    from wtsbench.store.measure import measure as measured

    sinks = (against or "server,folder,parquet").split(",")
    if unknown := sorted(set(sinks) - set(KINDS)):
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(KINDS)}", param_hint="--against")
    numbers = (writers or "1,16,64,256").split(",")
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise typer.BadParameter("give numbers, with commas between them", param_hint="--writers")
    counts = [int(number) for number in numbers]
    found = measured(sinks, counts, seconds or 5.0, note=say, mlflow=mlflow or sys.executable)
    if json:
        print_json(found)


def _leaderboard(size: str) -> dict[str, Any]:
    """Seconds and memory of the leaderboard of a large fake store: computed, and again from the tables kept."""
    from wtsbench.store.client import open_store
    from wtsbench.store.fakes import fake_store

    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None:
        raise typer.BadParameter("give TASKSxITEMS, such as 20x5000", param_hint="--leaderboard")
    with tempfile.TemporaryDirectory(prefix="wtsbench-measure-") as scratch:
        folder = Path(scratch) / "store"
        begun = time.monotonic()
        trials, predictions = fake_store(folder, tasks=int(match[1]), items=int(match[2]))
        say(f"{trials:,} trials, {predictions:,} predictions, made in {time.monotonic() - begun:.0f} s")
        size_on_disk = sum(path.stat().st_size for path in folder.iterdir())
        store = open_store(str(folder))
        begun = time.monotonic()
        ids = store.trials()["trial_id"].to_pylist()
        for first in range(0, len(ids), _AT_ONCE):
            store.predictions(ids[first : first + _AT_ONCE], splits=["test"])
        read = time.monotonic() - begun
        say(
            f"{size_on_disk / predictions:.1f} bytes a prediction; all of them read, {_AT_ONCE} trials at once, in"
            f" {read:.1f} s, {_peak() / 2**30:.2f} GiB at most"
        )
        cold, warm = (_command(folder, Path(scratch)) for _ in range(2))
        same = cold.output == warm.output
    for name, one in (("cold", cold), ("warm", warm)):
        say(
            f"leaderboard, {name}: {one.seconds:.1f} s, {one.cpu_seconds:.1f} s of CPU, {one.peak / 2**30:.2f} GiB"
            " at most"
        )
    if not same:
        say("the warm leaderboard differs from the cold one")
        raise typer.Exit(1)
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
        raise typer.Exit(process.returncode)
    return _Run(
        seconds=seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak=used.ru_maxrss * 1024,
        output=out.read_bytes(),
    )


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
