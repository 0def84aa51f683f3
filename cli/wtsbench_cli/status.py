"""`wtsbench status`: how far each grid of a store is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wtsbench_cli.options import JsonOption, StoredGridOption, StoreOption, store_of
from wtsbench_cli.terminal import count, print_json, print_table

if TYPE_CHECKING:
    from wtsbench.reports.status import Counts, Status, TrialFailure

LISTED = 10
"""Failures that are listed; `wtsbench logs` lists all."""
_NUMBERS = ("cells", "trials", "done", "failed", "running", "waiting")


def status(grid: StoredGridOption = None, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show how far each grid of a store is.

    A trial whose submission was killed counts as running until the grid is submitted again.
    """
    from wtsbench.reports.status import status as status_of
    from wtsbench.store.client import open_store

    place = store_of(store)
    found = status_of(open_store(place), grid)
    if json:
        print_json(found.record())
    else:
        _show(found, place)


def _show(found: Status, place: str) -> None:
    from wtsbench.reports.wording import other_submissions

    print(f"store {place}\n")
    rows = [(one.grid, f"{one.cells_done:,}/{one.cells_total:,}", *_counts(one.trials)) for one in found.grids]
    if found.others.total:
        rows.append(("(other trials)", "", *_counts(found.others)))
    if not rows:
        print("no grid was submitted to it yet")
        return
    print_table(("grid", *_NUMBERS), rows, right=_NUMBERS)
    for one in found.grids:
        for line in other_submissions([one.shown], one.grid):
            print(f"\n{one.grid}: {line}")
    failures = [*(failure for one in found.grids for failure in one.failures), *found.other_failures]
    distinct = list({failure.trial_id: failure for failure in failures}.values())
    if distinct:
        print(f"\n{count(len(distinct), 'trial')} failed; `wtsbench logs TRIAL` tells more")
        print_table(("trial", "what", "failed with"), [_failure(failure) for failure in distinct[:LISTED]])
        if len(distinct) > LISTED:
            print(f"and {len(distinct) - LISTED:,} more, which `wtsbench logs` lists")


def _counts(counts: Counts) -> tuple[str, ...]:
    return tuple(f"{number:,}" for number in (counts.total, counts.done, counts.failed, counts.running, counts.waiting))


def _failure(failure: TrialFailure) -> tuple[str, str, str]:
    from wtsbench.planning.report import name_of

    what = name_of(failure.role, failure.task, failure.model, failure.strategy, failure.seed)
    return failure.trial_id[:12], what, f"{failure.failure_class}: {failure.message}"
