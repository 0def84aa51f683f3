"""Decides which trial runs when: parents first, longest chains first. Failures are retried here and nowhere else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from wtsbench.errors import ExitCode
from wtsbench.execution.events import Blocked, Cancelled, Done, Failed, Listener, Progressed, Started
from wtsbench.execution.job import Job, Receipt
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.grid import Retry

POLL_SECONDS = 0.2


class Executor(Protocol):
    """Runs jobs somewhere. Knows nothing of order or retries."""

    @property
    def slots(self) -> int:
        """How many jobs of this grid can run side by side."""

    def start(self, job: Job) -> None:
        """Start a job; returns at once."""

    def wait(self, timeout: float) -> list[Receipt]:
        """Receipts of the jobs that ended since the last call; waits up to `timeout` seconds for the first.

        Raises UserError if the results of a job could not be stored.
        """

    def share(self, job: Job) -> float | None:
        """How much of a running job is done, in [0, 1]; None if unknown."""

    def cancel(self) -> None:
        """Stop all running jobs; their receipts still come through `wait`."""

    def close(self) -> None:
        """Release everything the executor started."""


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
    """Not run, or stopped, because the user interrupted."""
    failures: tuple[tuple[str, Failure], ...] = ()
    seconds: float = 0.0

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
) -> Summary:
    """Run jobs whose parents are either among them or in the store already.

    Args:
        jobs: by trial id.
        executor: where they run.
        retry: further attempts by failure class.
        listener: called with every event, on the calling thread.
        stop: once set, nothing is started and what runs is cancelled.
        summary: of the submission before any job has run; the counts of this run are added to it.
    """
    return _Run(jobs, executor, retry, listener, stop).loop(summary)


class _Run:
    def __init__(
        self, jobs: Mapping[str, Job], executor: Executor, retry: Retry, listener: Listener, stop: threading.Event
    ) -> None:
        self._jobs = jobs
        self._executor = executor
        self._retry = retry
        self._tell = listener
        self._stop = stop
        self._missing = {key: {parent for parent in job.spec.parents if parent in jobs} for key, job in jobs.items()}
        self._children: dict[str, list[str]] = {key: [] for key in jobs}
        for key, parents in self._missing.items():
            for parent in parents:
                self._children[parent].append(key)
        self._height = self._heights()
        self._waiting = dict.fromkeys(jobs)
        self._running: dict[str, float] = {}
        self._attempts: Counter[tuple[str, FailureClass]] = Counter()
        self._done = 0
        self._failures: dict[str, Failure] = {}
        self._blocked: set[str] = set()
        self._cancelled: set[str] = set()

    def _heights(self) -> dict[str, int]:
        """Length of the longest chain of jobs that waits for each job."""
        height: dict[str, int] = {}
        for key in reversed(list(self._jobs)):  # parents come before children in a plan
            height[key] = 1 + max((height[child] for child in self._children[key]), default=0)
        return height

    def loop(self, summary: Summary) -> Summary:
        begun = time.monotonic()
        stopping = False
        while self._waiting or self._running:
            if self._stop.is_set() and not stopping:
                stopping = True
                self._cancelled.update(self._waiting)
                self._waiting.clear()
                self._executor.cancel()
            self._start_ready()
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
        )

    def _start_ready(self) -> None:
        free = self._executor.slots - len(self._running)
        if free <= 0:
            return
        ready = [key for key in self._waiting if not self._missing[key]]
        for key in sorted(ready, key=lambda key: -self._height[key])[:free]:
            del self._waiting[key]
            self._running[key] = time.monotonic()
            self._executor.start(self._jobs[key])
            self._tell(Started(trial=self._jobs[key].spec))

    def _show_progress(self) -> None:
        for key in self._running:
            share = self._executor.share(self._jobs[key])
            if share is not None:
                self._tell(Progressed(trial=self._jobs[key].spec, share=share))

    def _ended(self, receipt: Receipt) -> None:
        key = receipt.trial_id
        del self._running[key]
        trial, failure = self._jobs[key].spec, receipt.failure
        if failure is None:
            self._done += 1
            for child in self._children[key]:
                self._missing[child].discard(key)
            how: Literal["run", "elsewhere"] = "elsewhere" if receipt.reused else "run"
            self._tell(Done(trial=trial, how=how, attempt=receipt.attempt, seconds=receipt.seconds))
            return
        if failure.failure_class is FailureClass.CANCELLED or self._stop.is_set():
            self._cancelled.add(key)
            self._tell(Cancelled(trial=trial, attempt=receipt.attempt))
            return
        self._attempts[key, failure.failure_class] += 1
        again = self._attempts[key, failure.failure_class] <= self._retry.allowed(failure.failure_class)
        self._tell(Failed(trial=trial, attempt=receipt.attempt, failure=failure, seconds=receipt.seconds, again=again))
        if again:
            self._waiting[key] = None
        else:
            self._failures[key] = failure
            self._block_children(key)

    def _block_children(self, key: str) -> None:
        for child in self._children[key]:
            if child in self._waiting:
                del self._waiting[child]
                self._blocked.add(child)
                self._tell(Blocked(trial=self._jobs[child].spec))
                self._block_children(child)
