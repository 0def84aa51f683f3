"""Decides which trial runs when: parents first, longest chains first. Failures are retried here and nowhere else."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from wtsbench.contract.operations import Orders
from wtsbench.errors import ClusterError, ExitCode
from wtsbench.execution.events import (
    Blocked,
    Cancelled,
    Done,
    Failed,
    Held,
    LeftOut,
    Listener,
    Progressed,
    SetAside,
    Started,
    Yielding,
)
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.progress import share_of
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.grid import Retry

POLL_SECONDS = 0.2
PROGRESS_SECONDS = 1.0
"""Between two looks at how far the running trials are: there may be thousands."""
BAD_NODE = 3
"""Failures of class `infrastructure` on one node, with no success between them, after which it is set aside."""


class Executor(Protocol):
    """Runs jobs somewhere. Knows nothing of order or retries."""

    @property
    def cluster(self) -> str | None:
        """The cluster's own address, by which runs on one cluster know each other; None if nobody else runs there."""

    @property
    def slots(self) -> int:
        """How many jobs of this grid can run side by side."""

    def start(self, job: Job) -> None:
        """Start a job; returns at once."""

    def wait(self, timeout: float) -> list[Receipt]:
        """Receipts of the jobs that ended since the last call; waits up to `timeout` seconds for the first.

        Raises UserError if the results of a job could not be stored.
        """

    def avoid(self, node: str) -> bool:
        """Start nothing on a node any more; False where it is the last one, or there is only one."""

    def cancel(self) -> None:
        """Stop all running jobs; their receipts still come through `wait`."""

    def close(self) -> None:
        """Release everything the executor started."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Where the trials of a run are at a moment; those stored before it began are not counted."""

    done: int
    failed: int
    waiting: int
    """With those that another run attempts, and those that are not run because a parent failed."""
    running: int


class Record(Protocol):
    """The run as others see it through the store: `execution.run_record`. No method waits for the store."""

    def report(self, counts: Counts, held: Collection[str]) -> None:
        """Have the counts stored, and trials looked for that other runs attempt."""

    @property
    def orders(self) -> Orders:
        """What was asked of this run, as last heard."""

    def hear(self) -> None:
        """Have the orders looked up at once: somebody gave new ones."""

    def elsewhere(self) -> tuple[Collection[str], Collection[str]]:
        """Of the held trials: those done since, and those that nobody attempts any more, each told once."""

    def share(self, trial_id: str) -> float | None:
        """How much of a running trial is done, wherever it runs; None if unknown."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a submission ended, in trials."""

    total: int
    stored: int
    """In the store before it began."""
    done: int = 0
    failed: int = 0
    blocked: int = 0
    """Not run because a parent failed."""
    cancelled: int = 0
    """Not run, or stopped, because somebody asked for that; with those that wait for them."""
    failures: tuple[tuple[str, Failure], ...] = ()
    seconds: float = 0.0
    """From the first trial's start to the last one's end."""
    trial_seconds: float = 0.0
    """What all attempts took together, those that failed too."""
    failed_seconds: float = 0.0
    """Of these, what attempts took that failed."""
    expected_seconds: float | None = None
    """What the trials were expected to take together; None where that is not known of each."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        if self.cancelled:
            return ExitCode.INTERRUPTED
        return ExitCode.TRIALS_FAILED if self.failed or self.blocked else ExitCode.DONE


def run_jobs(
    jobs: Mapping[str, Job],
    executor: Executor,
    retry: Retry,
    *,
    listener: Listener,
    stop: threading.Event,
    summary: Summary,
    record: Record,
    seconds: Mapping[str, float] | None = None,
) -> Summary:
    """Run jobs whose parents are either among them or in the store already.

    Args:
        jobs: by trial id.
        executor: where they run.
        retry: further attempts by failure class.
        listener: called with every event, on the calling thread.
        stop: once set, nothing is started and what runs is cancelled.
        summary: of the submission before any job has run; the counts of this run are added to it.
        record: the run as others see it.
        seconds: about how long each trial takes; by default all the same.
    """
    order = _urgency(jobs, seconds or {})
    return _Run(jobs, executor, retry, listener, stop, record, order).loop(summary)


def _urgency(jobs: Mapping[str, Job], seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the start of each trial to the end of the longest chain of trials that wait for it.

    A ceiling is as urgent as the students that are compared with it: no table has a row of them before it is done.
    """
    children: dict[str, list[str]] = {key: [] for key in jobs}
    waits = dict.fromkeys(jobs, 0)
    for key, job in jobs.items():
        for parent in {parent for parent in job.spec.parents if parent in jobs}:
            children[parent].append(key)
            waits[key] += 1
    order = [key for key, count in waits.items() if not count]
    for key in order:  # grows while it is walked: parents come before children
        for child in children[key]:
            waits[child] -= 1
            if not waits[child]:
                order.append(child)
    urgency: dict[str, float] = {}
    for key in reversed(order):
        urgency[key] = seconds.get(key, 1.0) + max((urgency[child] for child in children[key]), default=0.0)
    for key, job in jobs.items():
        for baseline in job.baselines.values():
            if baseline in urgency:
                urgency[baseline] = max(urgency[baseline], urgency[key])
    return urgency


@dataclass
class _Node:
    """What is held against a node."""

    failures: int = 0
    aside: bool = False


@dataclass
class _Run:
    _jobs: Mapping[str, Job]
    _executor: Executor
    _retry: Retry
    _tell: Listener
    _stop: threading.Event
    _record: Record
    _urgency: Mapping[str, float]
    _running: dict[str, float] = field(default_factory=dict)
    _held: dict[str, str] = field(default_factory=dict)
    """Trials that other runs attempt, and the names of those runs."""
    _attempts: Counter[tuple[str, FailureClass]] = field(default_factory=Counter)
    _failures: dict[str, Failure] = field(default_factory=dict)
    _blocked: set[str] = field(default_factory=set)
    _cancelled: set[str] = field(default_factory=set)
    _nodes: dict[str, _Node] = field(default_factory=dict)
    _refusing: set[str] = field(default_factory=set)
    """Nodes that said themselves that they cannot run these trials."""
    _done: int = 0
    _seconds: float = 0.0
    _failed_seconds: float = 0.0
    _stopping: bool = False
    _yields_to: str | None = None
    _shown: float = -math.inf
    """When progress was last looked at."""

    def __post_init__(self) -> None:
        jobs = self._jobs
        self._missing = {key: {parent for parent in job.spec.parents if parent in jobs} for key, job in jobs.items()}
        self._children: dict[str, list[str]] = {key: [] for key in jobs}
        for key, parents in self._missing.items():
            for parent in parents:
                self._children[parent].append(key)
        self._waiting = set(jobs)
        self._ready: list[tuple[float, int, str]] = []
        """Heap of the waiting trials without a missing parent, the most urgent first, then in the plan's order."""
        self._place = {key: number for number, key in enumerate(jobs)}
        for key in jobs:
            self._push(key)

    def loop(self, summary: Summary) -> Summary:
        begun = time.monotonic()
        while self._waiting or self._running or self._held:
            self._record.report(self._counts(), self._held)
            self._obey()
            self._look_elsewhere()
            self._start_ready()
            if not self._running:
                self._stop.wait(POLL_SECONDS if self._held or self._yields_to else 0)
            for receipt in self._executor.wait(POLL_SECONDS):
                self._ended(receipt)
            self._show_progress()
        return replace(
            summary,
            done=self._done,
            failed=len(self._failures),
            blocked=len(self._blocked),
            cancelled=len(self._cancelled),
            failures=tuple(self._failures.items()),
            seconds=time.monotonic() - begun,
            trial_seconds=self._seconds,
            failed_seconds=self._failed_seconds,
        )

    def _counts(self) -> Counts:
        return Counts(
            done=self._done,
            failed=len(self._failures),
            waiting=len(self._waiting) + len(self._held) + len(self._blocked),
            running=len(self._running),
        )

    def _obey(self) -> None:
        orders = self._record.orders
        if (self._stop.is_set() or orders.cancelled) and not self._stopping:
            self._stopping = True
            self._cancelled.update(self._waiting, self._held)
            self._waiting.clear()
            self._held.clear()
            self._executor.cancel()
        for key in orders.cancelled_trials:  # those that run hear of it from the store themselves
            if key in self._waiting or key in self._held:
                self._waiting.discard(key)
                self._held.pop(key, None)
                self._cancel(key, attempt=None)
        if orders.outranked_by != self._yields_to:
            self._yields_to = orders.outranked_by
            self._tell(Yielding(to=self._yields_to))

    def _look_elsewhere(self) -> None:
        done, free = self._record.elsewhere()
        for key in done:
            if self._held.pop(key, None) is not None:
                self._finished(key, "elsewhere")
        for key in free:
            if self._held.pop(key, None) is not None:
                self._wait_again(key)

    def _start_ready(self) -> None:
        free = self._executor.slots - len(self._running)
        while free > 0 and self._ready and self._yields_to is None:
            key = heapq.heappop(self._ready)[2]
            if key not in self._waiting:  # cancelled or blocked meanwhile
                continue
            self._waiting.remove(key)
            self._running[key] = time.monotonic()
            self._executor.start(self._jobs[key])
            self._tell(Started(trial=self._jobs[key].spec))
            free -= 1

    def _push(self, key: str) -> None:
        if not self._missing[key] and key in self._waiting:
            heapq.heappush(self._ready, (-self._urgency[key], self._place[key], key))

    def _wait_again(self, key: str) -> None:
        self._waiting.add(key)
        self._push(key)

    def _show_progress(self) -> None:
        if time.monotonic() - self._shown < PROGRESS_SECONDS:
            return
        self._shown = time.monotonic()
        for key in self._running:
            share = share_of(self._jobs[key])
            share = self._record.share(key) if share is None else share
            if share is not None:
                self._tell(Progressed(trial=self._jobs[key].spec, share=share))

    def _ended(self, receipt: Receipt) -> None:
        key = receipt.trial_id
        del self._running[key]
        trial, failure = self._jobs[key].spec, receipt.failure
        self._seconds += receipt.seconds
        self._failed_seconds += receipt.seconds if failure is not None else 0.0
        self._judge_node(receipt)
        if receipt.refused is not None:
            self._refused(receipt, receipt.refused)
            return
        if receipt.held_by is not None:
            if self._stopping:
                self._cancelled.add(key)
            else:
                self._held[key] = receipt.held_by
                self._tell(Held(trial=trial, by=receipt.held_by))
            return
        if failure is None:
            self._finished(key, "elsewhere" if receipt.reused else "run", receipt)
            return
        if self._stopping or self._stop.is_set():
            self._cancelled.add(key)
            self._tell(Cancelled(trial=trial, attempt=receipt.attempt))
            return
        if failure.failure_class is FailureClass.CANCELLED:
            self._record.hear()  # it may be the whole run
            self._cancel(key, attempt=receipt.attempt)
            return
        self._attempts[key, failure.failure_class] += 1
        again = self._attempts[key, failure.failure_class] <= self._retry.allowed(failure.failure_class)
        self._tell(Failed(trial=trial, attempt=receipt.attempt, failure=failure, seconds=receipt.seconds, again=again))
        if again:
            self._wait_again(key)
        else:
            self._failures[key] = failure
            self._block_children(key, self._blocked)

    def _refused(self, receipt: Receipt, why: str) -> None:
        """Leave out a node that joined the cluster later, and run its trial elsewhere.

        Raises:
            ClusterError: there is no other node.
        """
        node = receipt.node or ""
        name = receipt.host or node
        if node not in self._refusing:
            self._refusing.add(node)
            self._tell(LeftOut(node=name, why=why))
            if not self._executor.avoid(node):
                fault = f"no node is left for these trials: {name}: {why}"
                raise ClusterError(fault, remedy="see what is wrong there: wtsbench doctor --ray ADDRESS.")
        if self._stopping:
            self._cancelled.add(receipt.trial_id)
        else:
            self._wait_again(receipt.trial_id)

    def _finished(self, key: str, how: Literal["run", "elsewhere"], receipt: Receipt | None = None) -> None:
        self._done += 1
        for child in self._children[key]:
            self._missing[child].discard(key)
            self._push(child)
        attempt, seconds = (None, None) if receipt is None else (receipt.attempt, receipt.seconds)
        self._tell(Done(trial=self._jobs[key].spec, how=how, attempt=attempt, seconds=seconds))

    def _cancel(self, key: str, *, attempt: int | None) -> None:
        """Somebody asked for the end of this trial alone."""
        self._cancelled.add(key)
        self._tell(Cancelled(trial=self._jobs[key].spec, attempt=attempt))
        self._block_children(key, self._cancelled)

    def _block_children(self, key: str, counted: set[str]) -> None:
        """Run nothing that waits for this trial, and count it among `counted`."""
        for child in self._children[key]:
            if child in self._waiting:
                self._waiting.remove(child)
                counted.add(child)
                self._tell(Blocked(trial=self._jobs[child].spec))
                self._block_children(child, counted)

    def _judge_node(self, receipt: Receipt) -> None:
        """Set a node aside that fails trials again and again: each would otherwise use up its retries there."""
        if receipt.node is None or receipt.refused is not None:
            return
        node = self._nodes.setdefault(receipt.node, _Node())
        if receipt.failure is None:
            node.failures = 0
        elif receipt.failure.failure_class is FailureClass.INFRASTRUCTURE:
            node.failures += 1
            if node.failures >= BAD_NODE and not node.aside and self._executor.avoid(receipt.node):
                node.aside = True
                self._tell(SetAside(node=receipt.host or receipt.node, failures=node.failures))
