"""Order, retries and stopping are the scheduler's; here with an executor that ends jobs as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.planning.grids import plan_of
from wtsbench.errors import ExitCode
from wtsbench.execution.events import Event, Failed
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.scheduler import Summary, run_jobs
from wtsbench.planning.plan import Plan
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.grid import Resources, Retry


class Script:
    """An executor that runs nothing: `verdict` decides how each attempt ends."""

    def __init__(self, verdict: Callable[[Job, int], FailureClass | None], slots: int = 2) -> None:
        self.slots = slots
        self.started: list[str] = []
        self._verdict = verdict
        self._open: list[Job] = []

    def start(self, job: Job) -> None:
        assert len(self._open) < self.slots
        self.started.append(job.trial_id)
        self._open.append(job)

    def wait(self, timeout: float) -> list[Receipt]:
        if not self._open:
            return []
        job = self._open.pop(0)
        attempt = self.started.count(job.trial_id)
        verdict = self._verdict(job, attempt)
        failure = None if verdict is None else Failure(failure_class=verdict, message="as the test says")
        return [Receipt(trial_id=job.trial_id, attempt=attempt, failure=failure, seconds=1.0)]

    def share(self, job: Job) -> float | None:
        return None

    def cancel(self) -> None:
        self._verdict = lambda job, attempt: FailureClass.CANCELLED

    def close(self) -> None:
        pass


def run(plan: Plan, script: Script, retry: Retry, stop: threading.Event | None = None) -> tuple[Summary, list[Event]]:
    """Run a plan's trials through the script."""
    jobs = {
        key: Job(
            spec=spec,
            labels=("a", "b"),
            store="",
            spool="",
            sandbox="process",
            image=None,
            resources=Resources(),
            run="r",
        )
        for key, spec in plan.trials.items()
    }
    events: list[Event] = []
    summary = run_jobs(
        jobs,
        script,
        retry,
        listener=events.append,
        stop=stop or threading.Event(),
        summary=Summary(total=len(jobs), stored=0),
    )
    return summary, events


def test_children_wait_for_parents() -> None:
    """No trial starts before its parents are done, and each starts once."""
    plan = plan_of(strategies=["bootstrap", "naive"])
    done: set[str] = set()

    def verdict(job: Job, attempt: int) -> None:
        assert done.issuperset(job.spec.parents)
        done.add(job.trial_id)

    script = Script(verdict, slots=5)
    summary, _ = run(plan, script, Retry())
    assert sorted(script.started) == sorted(plan.trials)
    assert (summary.done, summary.exit_code) == (len(plan.trials), ExitCode.DONE)


def test_retries_by_class() -> None:
    """A class's attempts are 1 + its retries, in one layer; what succeeds on retry is done."""
    plan = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"])
    weak = plan.cells[0].weak_trial

    def verdict(job: Job, attempt: int) -> FailureClass | None:
        return FailureClass.INFRASTRUCTURE if job.trial_id == weak and attempt <= 2 else None

    script = Script(verdict)
    summary, events = run(plan, script, Retry(infrastructure=2))
    assert script.started.count(weak) == 3
    assert (summary.done, summary.failed) == (3, 0)
    assert [event.again for event in events if isinstance(event, Failed)] == [True, True]
    script = Script(verdict)
    summary, _ = run(plan, script, Retry(infrastructure=1))
    assert script.started.count(weak) == 2
    assert (summary.done, summary.failed, summary.blocked) == (1, 1, 1)
    assert summary.exit_code == ExitCode.TRIALS_FAILED


def test_stop_cancels_what_waits_and_what_runs() -> None:
    """After a stop nothing new starts, and the exit code says interrupted."""
    plan = plan_of()
    stop = threading.Event()

    def verdict(job: Job, attempt: int) -> None:
        stop.set()

    script = Script(verdict)
    summary, _ = run(plan, script, Retry(), stop)
    assert len(script.started) <= 3
    assert summary.done + summary.cancelled == len(plan.trials)
    assert summary.exit_code == ExitCode.INTERRUPTED
