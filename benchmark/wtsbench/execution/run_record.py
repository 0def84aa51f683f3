"""A run as others see it: reported to the store while it lives, and told what they ask of it.

A thread of its own talks to the store, so that a store that is slow or away holds nobody up: the run goes on, and what
it finished is delivered later.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from wtsbench.contract.operations import BEAT_SECONDS, Orders, RunReport
from wtsbench.errors import StoreError
from wtsbench.execution.known import done_trials
from wtsbench.execution.scheduler import Counts, Summary
from wtsbench.store.client import Store, open_store

_LOOK_SECONDS = 2.0
"""Between two looks at trials that another run attempts."""
_END_SECONDS = 10.0
"""How long the end of a run waits for its last report."""


@dataclass(frozen=True, kw_only=True)
class RunName:
    """Which run this is."""

    name: str
    job: str | None = None
    """Id of the Ray job that it is; None for a run that a command waits for."""
    resumed: int = 0
    """How often it was started again."""

    @classmethod
    def of_grid(cls, grid: str) -> RunName:
        """A new run, which a command waits for."""
        return cls(name=f"{grid}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}")

    @classmethod
    def of_job(cls, name: str, resumed: int) -> RunName:
        """A run that is a Ray job. A job runs once: started again, it is another job."""
        return cls(name=name, job=name if not resumed else f"{name}-r{resumed}", resumed=resumed)


@dataclass
class RunRecord:
    """Implements `scheduler.Record`; see `recorded`."""

    _store: Store
    _report: RunReport
    _orders: Orders = field(default_factory=Orders)
    _held: frozenset[str] = frozenset()
    _done: set[str] = field(default_factory=set)
    _free: set[str] = field(default_factory=set)
    _shares: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _wake: threading.Event = field(default_factory=threading.Event)

    def report(self, counts: Counts, held: Collection[str]) -> None:
        """Have the counts stored with the next beat, and look for these trials elsewhere."""
        with self._lock:
            self._report = replace(
                self._report, done=counts.done, failed=counts.failed, waiting=counts.waiting, running=counts.running
            )
            if not self._held.issuperset(held):
                self._wake.set()
            self._held = frozenset(held)

    def runs_on(self, cluster: str | None) -> None:
        """Say which cluster it is, by the address that the cluster has for itself: others may know it by another."""
        with self._lock:
            self._report = replace(self._report, cluster=cluster)

    @property
    def orders(self) -> Orders:
        """What was asked of this run, as last heard."""
        return self._orders

    def hear(self) -> None:
        """Report at once, for the orders in the answer."""
        self._wake.set()

    def elsewhere(self) -> tuple[Collection[str], Collection[str]]:
        """Held trials that are done since, and those that nobody attempts any more."""
        with self._lock:
            done, free, self._done, self._free = self._done, self._free, set(), set()
        return done, free

    def share(self, trial_id: str) -> float | None:
        """How much of a running trial is done, as its supervisor last said."""
        return self._shares.get(trial_id)

    def beat(self) -> None:
        """One report, and one look at what runs."""
        with self._lock:
            report, held = self._report, self._held
        self._orders = self._store.report_run(report)
        running = self._store.running().select(["trial_id", "run", "share"]).to_pylist()
        self._shares = {row["trial_id"]: row["share"] for row in running if row["share"] is not None}
        if held:
            attempted = {row["trial_id"] for row in running}
            done = done_trials(self._store, sorted(held))
            with self._lock:
                self._done |= done
                self._free |= held - done - attempted

    def beats(self) -> None:
        """Report until the run ends."""
        while not self._ended.is_set():
            self._wake.clear()
            with suppress(StoreError):  # others see that it is silent; the run itself goes on
                self.beat()
            self._wake.wait(_LOOK_SECONDS if self._held else BEAT_SECONDS)

    def end(self, summary: Summary | None, detail: str | None = None) -> None:
        """Report how the run ended.

        Args:
            summary: None if an error ended it.
            detail: what error that was.
        """
        self._ended.set()
        self._wake.set()
        last = replace(self._report, state="failed", detail=detail, running=0)
        if summary is not None:
            last = replace(
                last,
                state="cancelled" if summary.cancelled else "failed" if summary.exit_code else "done",
                done=summary.done,
                failed=summary.failed,
                waiting=summary.cancelled + summary.blocked,
            )
        with suppress(StoreError):
            self._store.report_run(last)


@contextmanager
def recorded(store: str, report: RunReport) -> Iterator[RunRecord]:
    """Report a run to the store while the block runs, and how it ended unless `end` was called in it.

    Args:
        store: address of the store.
        report: the run as it begins.
    """
    record = RunRecord(open_store(store), report)
    thread = threading.Thread(target=record.beats, name="wtsbench-run-record", daemon=True)
    record.beat()
    thread.start()
    try:
        yield record
    except BaseException as error:
        record.end(None, f"{type(error).__name__}: {error}")
        raise
    finally:
        thread.join(_END_SECONDS)
