"""`wtsbench runs`: the runs of a store, and how they stand."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from wtsbench_cli.options import JsonOption, StoredGridOption, StoreOption, store_of
from wtsbench_cli.terminal import clock, print_json, print_table

if TYPE_CHECKING:
    from wtsbench.execution.runs import StoredRun

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name or a part of it; a grid's name is its newest run.")
]
_HEADINGS = ("run", "state", "stored", "failed", "running", "waiting", "took", "host", "priority")
_LISTED = 20


def runs(
    grid: StoredGridOption = None,
    every: Annotated[bool, typer.Option("--all", help=f"List all, not only the newest {_LISTED}.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the runs of a store, and how they stand.

    Each submission that has something to run is a run. A run is lost if it has been silent for a minute without an end:
    submitting its grid again goes on from what is stored.
    """
    from wtsbench.execution.runs import stored_runs
    from wtsbench.store.client import open_store

    place = store_of(store)
    found = [run for run in stored_runs(open_store(place)) if grid in (None, run.grid)]
    if json:
        print_json([record(run) for run in found])
        return
    if not found:
        print(f"no run in {place}")
        return
    shown = found if every else found[-_LISTED:]
    print_table(_HEADINGS, [_row(run) for run in reversed(shown)], right=("failed", "running", "waiting", "took"))
    if len(shown) < len(found):
        print(f"and {len(found) - len(shown):,} older; --all lists them")


def record(run: StoredRun) -> dict[str, object]:
    """A run as JSON values."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(run).items()}


def progress(run: StoredRun) -> str:
    """How many of its trials are stored."""
    return f"{run.stored + run.done:,}/{run.total:,}" if run.total else "-"


def _row(run: StoredRun) -> tuple[str, ...]:
    state = "cancelling" if run.cancelled and run.state == "running" else run.state
    until = run.ended_at or (run.seen_at if run.state == "lost" else datetime.now(UTC))
    took = clock(max(0.0, (until - run.started_at).total_seconds()))
    numbers = (f"{run.failed:,}", f"{run.running:,}", f"{run.waiting:,}")
    return run.run, state, progress(run), *numbers, took, run.host, str(run.priority)
