"""`wtsbench attach`: follows a run until it ends, from any machine."""

from __future__ import annotations

import time

import typer

from wtsbench.errors import ExitCode
from wtsbench_cli.options import StoreOption, store_of
from wtsbench_cli.runs import RunArgument, progress
from wtsbench_cli.terminal import duration, say

_LOOK_SECONDS = 2.0
_CODES = {"done": ExitCode.DONE, "failed": ExitCode.TRIALS_FAILED, "cancelled": ExitCode.INTERRUPTED}


def attach(run: RunArgument, store: StoreOption = None) -> None:
    """Follow a run until it ends.

    The exit code is the one that `submit` would have had; 5 if the run is lost. Ctrl-C leaves the run as it is.
    """
    follow(run, store_of(store))


def follow(run: str, place: str) -> None:
    """Print a line whenever the run's counts change, until it has ended."""
    from wtsbench.execution.runs import run_of
    from wtsbench.store.client import open_store

    opened, before = open_store(place), ""
    while True:
        state = run_of(opened, run)
        failed = f", {state.failed:,} failed" if state.failed else ""
        line = f"{state.run}: {state.state}, {progress(state)} stored{failed}, {state.running:,} running"
        if line != before:
            print(line, flush=True)
            before = line
        if state.ended:
            break
        if state.state == "lost":
            say(f"{state.run} is lost: nothing was heard of it since {state.seen_at:%Y-%m-%d %H:%M:%S} UTC")
            say("submit its grid again: that goes on from what is stored")
            raise typer.Exit(ExitCode.UNREACHABLE)
        time.sleep(_LOOK_SECONDS)
    assert state.ended_at is not None
    took = duration((state.ended_at - state.started_at).total_seconds())
    print(f"{state.state} after {took}" + (f": {state.detail}" if state.detail else ""))
    if code := _CODES[state.state]:
        raise typer.Exit(code)
