"""`wtsbench store measure`: how fast a store is on this machine."""

from __future__ import annotations

import re
import tempfile
import time
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
    found = measured(sinks, counts, seconds or 5.0, note=say)
    if json:
        print_json(found)


def _leaderboard(size: str) -> dict[str, Any]:
    """Seconds and memory of the leaderboard of a large fake store."""
    from wtsbench.reports.leaderboard import leaderboard
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
        begun = time.monotonic()
        rows = len(leaderboard(store).rows)
        seconds = time.monotonic() - begun
    say(f"leaderboard of {rows:,} rows in {seconds:.1f} s, {_peak() / 2**30:.2f} GiB at most")
    return {
        "trials": trials,
        "predictions": predictions,
        "bytes": size_on_disk,
        "read_all_s": read,
        "leaderboard_s": seconds,
        "peak_bytes": _peak(),
    }


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
