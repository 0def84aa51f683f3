"""What supervisors of runs tell a store, and the store's clock, for the tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.store.making import trial_id_of
from wtsbench.contract.operations import Orders, RunReport
from wtsbench.store.client import Store
from wtsbench.store.engine.queries import Look

A = trial_id_of("a")
RUN = "toy-20260102T030405Z-7"


class Clock:
    """The store's clock."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def pass_by(self, seconds: float) -> None:
        """Let time pass, or set the clock back."""
        self.ahead += timedelta(seconds=seconds)


def lines_of(store: Store, trial_id: str = A, attempt: int = 1) -> list[tuple[int, str]]:
    """What an attempt printed, with the number of each line."""
    table = store.printed(trial_id, attempt)
    return list(zip(table["line"].to_pylist(), table["text"].to_pylist(), strict=True))


def renewed(store: Store, trial_id: str = A, attempt: int = 1, *lines: str, first: int = 1) -> Orders:
    """The orders with which a renewal is answered."""
    return store.renew(trial_id, attempt, share=None, lines=lines, first=first)


def report(run: str = RUN, **fields: Any) -> RunReport:
    """A report of a run on a cluster."""
    return RunReport(**{"run": run, "grid": run.partition("-")[0], "cluster": "ray://head:10001", **fields})


def yaml_of(store: Store, run: str) -> list[str]:
    """The text of a run's grid file; nothing if there is no such run."""
    texts: list[str] = store._read(Look("yaml", (run,)))["yaml"].to_pylist()
    return texts


def run_of(store: Store, run: str = RUN) -> dict[str, Any]:
    """A run as the store shows it."""
    (row,) = (row for row in store.runs().to_pylist() if row["run"] == run)
    return dict(row)
