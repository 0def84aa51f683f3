"""`wtsbench status`: the progress of each grid of a store."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from wtsbench_cli.options import JsonOption, StoredGridOption, StoreOption, store_of
from wtsbench_cli.terminal import clock, count, duration, print_json, print_table

if TYPE_CHECKING:
    from wtsbench.reports.status import Counts, RunningTrial, Status, TrialFailure

LISTED = 10
"""Number of failures that are listed, of which `wtsbench logs` lists all, and of running trials."""
_NUMBERS = ("cells", "trials", "done", "failed", "running", "abandoned", "waiting")


def status(grid: StoredGridOption = None, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show how far each grid of a store is.

    A trial is abandoned if whoever ran it has been silent for a minute: the next submission runs it again. One is slow
    that takes three times what trials of its task, role and model took.
    """
    from wtsbench.reports.status import status as status_of
    from wtsbench.store.client import open_store

    place = store_of(store)
    state = status_of(open_store(place), grid)
    if json:
        print_json(asdict(state))
    else:
        _show(state, place)


def _show(state: Status, place: str) -> None:
    from wtsbench.reports.wording import other_submissions

    print(f"store {place}\n")
    rows = [(grid.grid, f"{grid.cells_done:,}/{grid.cells_total:,}", *_counts(grid.trials)) for grid in state.grids]
    if state.others.total:
        rows.append(("(other trials)", "", *_counts(state.others)))
    if not rows:
        print("no grid was submitted to it yet")
        return
    print_table(("grid", *_NUMBERS), rows, right=_NUMBERS)
    compute = state.compute
    if compute.attempts:
        failed = (
            f", {duration(compute.failed_seconds)} of it in {count(compute.failed_attempts, 'attempt')} that failed"
        )
        print(
            f"\n{duration(compute.seconds)} of trials in {count(compute.attempts, 'attempt')}"
            f"{failed if compute.failed_attempts else ''}"
        )
    for grid in state.grids:
        for line in other_submissions([grid.shown], grid.grid):
            print(f"\n{grid.grid}: {line}")
    if state.running:
        print()
        headings = ("running now", "what", "host", "for", "done")
        print_table(headings, [_running(one) for one in state.running[:LISTED]], right=("for", "done"))
        if len(state.running) > LISTED:
            print(f"and {len(state.running) - LISTED:,} more")
    failures = [*(failure for grid in state.grids for failure in grid.failures), *state.other_failures]
    distinct = list({failure.trial_id: failure for failure in failures}.values())
    if distinct:
        print(f"\n{count(len(distinct), 'trial')} failed; `wtsbench logs TRIAL` tells more")
        print_table(("trial", "what", "failed with"), [_failure(failure) for failure in distinct[:LISTED]])
        if len(distinct) > LISTED:
            print(f"and {len(distinct) - LISTED:,} more, which `wtsbench logs` lists")


def _counts(counts: Counts) -> tuple[str, ...]:
    return tuple(
        f"{number:,}"
        for number in (counts.total, counts.done, counts.failed, counts.running, counts.abandoned, counts.waiting)
    )


def _running(one: RunningTrial) -> tuple[str, ...]:
    share = "" if one.share is None else f"{one.share:.0%}"
    return one.trial_id[:12], one.name + (" (slow)" if one.slow else ""), one.host, clock(one.seconds), share


def _failure(failure: TrialFailure) -> tuple[str, str, str]:
    from wtsbench.planning.report import name_of

    what = name_of(failure.role, failure.task, failure.model, failure.strategy, failure.seed, failure.data_seed)
    return failure.trial_id[:12], what, f"{failure.failure_class}: {failure.message}"
