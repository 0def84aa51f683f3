"""Order, retries and stopping are the scheduler's; here with an executor that ends jobs as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

import pytest

from tests.planning.grids import plan_of
from wtsbench.contract.operations import Orders
from wtsbench.errors import ClusterError, ExitCode
from wtsbench.execution.events import Blocked, Cancelled, Done, Event, Failed, Held, LeftOut, SetAside, Yielding
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.scheduler import BAD_NODE, PROGRESS_SECONDS, Counts, Summary, run_jobs
from wtsbench.planning.plan import Plan
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.grid import Resources, Retry


class Script:
    """An executor that runs nothing: `verdict` decides how each attempt ends."""

    cluster = None

    def __init__(self, verdict: Callable[[Job, int], FailureClass | None], slots: int = 2) -> None:
        self.slots = slots
        self.started: list[str] = []
        self.held: set[str] = set()
        """Trials that another run attempts when they are first started here."""
        self.node: str | None = None
        self.refuses: set[str] = set()
        """Nodes that refuse trials."""
        self.last = False
        """Whether there is no other node."""
        self.avoided: list[str] = []
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
        if job.trial_id in self.held:
            self.held.remove(job.trial_id)
            return [Receipt(trial_id=job.trial_id, attempt=None, failure=None, seconds=0.0, held_by="other")]
        if self.node in self.refuses:
            trial_id, why = job.trial_id, "other libraries"
            return [Receipt(trial_id=trial_id, attempt=None, failure=None, seconds=0.0, refused=why, node=self.node)]
        verdict = self._verdict(job, attempt)
        failure = None if verdict is None else Failure(failure_class=verdict, message="as the test says")
        return [Receipt(trial_id=job.trial_id, attempt=attempt, failure=failure, seconds=1.0, node=self.node)]

    def avoid(self, node: str) -> bool:
        self.avoided.append(node)
        self.node = "good"
        return not self.last

    def cancel(self) -> None:
        self._verdict = lambda job, attempt: FailureClass.CANCELLED

    def close(self) -> None:
        pass


class Told:
    """The run as a test wants others to see it: what they asked of it, and what they attempt."""

    def __init__(self) -> None:
        self.orders = Orders()
        self.done: set[str] = set()
        self.free: set[str] = set()
        self.counts: list[Counts] = []
        self.looked = 0
        """How often it was asked for progress."""
        self.asked = 0
        """How often the orders were to be looked up at once."""
        self.on_report: Callable[[Counts], None] = self.counts.append

    def report(self, counts: Counts, held: Collection[str]) -> None:
        self.on_report(counts)

    def hear(self) -> None:
        self.asked += 1

    def elsewhere(self) -> tuple[Collection[str], Collection[str]]:
        done, free, self.done, self.free = self.done, self.free, set(), set()
        return done, free

    def share(self, trial_id: str) -> float | None:
        self.looked += 1
        return None


def run(
    plan: Plan,
    script: Script,
    retry: Retry,
    stop: threading.Event | None = None,
    record: Told | None = None,
    seconds: dict[str, float] | None = None,
) -> tuple[Summary, list[Event]]:
    """Run a plan's trials through the script."""
    jobs = {
        key: Job(
            spec=spec,
            labels=("a", "b"),
            store="",
            sandbox="process",
            image=None,
            resources=Resources(),
            run="r",
            baselines=plan.baselines().get(key, {}),
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
        record=record or Told(),
        seconds=seconds,
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
    assert (summary.trial_seconds, summary.failed_seconds) == (5.0, 2.0)
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


def test_longest_chain_first() -> None:
    """Of what may start, the trial comes first whose own time and that of what waits for it is longest.

    A ceiling counts as long as the students that are compared with it.
    """
    plan = plan_of(strategies=["naive"])
    seconds = {key: float(number % 7 + 1) for number, key in enumerate(sorted(plan.trials))}
    children: dict[str, list[str]] = {key: [] for key in plan.trials}
    for key, spec in plan.trials.items():
        for parent in spec.parents:
            children[parent].append(key)

    def chain(key: str) -> float:
        return seconds[key] + max((chain(child) for child in children[key]), default=0.0)

    def urgency(key: str) -> float:
        return max(chain(key), *(chain(cell.student_trial) for cell in plan.cells if cell.ceiling_trial == key), 0.0)

    script = Script(lambda job, attempt: None, slots=1)
    run(plan, script, Retry(), seconds=seconds)
    done: set[str] = set()
    for key in script.started:
        ready = [each for each, spec in plan.trials.items() if each not in done and done.issuperset(spec.parents)]
        assert urgency(key) == max(map(urgency, ready))
        done.add(key)


def test_ceilings_run_with_the_students_that_are_compared_with_them() -> None:
    """A student takes longer than its ceiling, for it predicts more; still no student is left without a ceiling."""
    plan = plan_of(tasks=["t1"], seeds=[0, 1, 2], strategies=["naive"])
    seconds = {cell.student_trial: 2.0 for cell in plan.cells}
    script = Script(lambda job, attempt: None)
    run(plan, script, Retry(), seconds=seconds)
    place = {key: number for number, key in enumerate(script.started)}
    assert all(place[cell.ceiling_trial] < place[cell.student_trial] for cell in plan.cells)


def test_a_trial_that_another_run_attempts() -> None:
    """It takes no slot here, is done once the other run has it done, and is attempted here if that one gives up."""
    plan = plan_of(tasks=["t1"], seeds=[0, 1], strategies=["naive"])
    one, two = (cell.weak_trial for cell in plan.cells)
    record = Told()

    def answer(counts: Counts) -> None:
        if counts.running == 0 and counts.waiting:  # nothing else is left to do
            record.done, record.free = {one}, {two}

    record.on_report = answer
    script = Script(lambda job, attempt: None)
    script.held = {one, two}
    summary, events = run(plan, script, Retry(), record=record)
    assert [event.by for event in events if isinstance(event, Held)] == ["other", "other"]
    assert (summary.done, summary.total, summary.exit_code) == (len(plan.trials), len(plan.trials), ExitCode.DONE)
    assert {event.trial.trial_id: event.how for event in events if isinstance(event, Done)}[one] == "elsewhere"
    assert (script.started.count(one), script.started.count(two)) == (1, 2)


def test_cancelled_from_elsewhere() -> None:
    """A trial that somebody cancels is not started, nor what waits for it; the rest runs. A cancelled run ends."""
    plan = plan_of(tasks=["t1"], seeds=[0, 1], strategies=["naive"])
    record = Told()
    cell, other = plan.cells
    record.orders = Orders(cancelled_trials=(cell.weak_trial,))
    script = Script(lambda job, attempt: None)
    summary, events = run(plan, script, Retry(), record=record)
    assert [event.trial.trial_id for event in events if isinstance(event, Cancelled)] == [cell.weak_trial]
    assert [event.trial.trial_id for event in events if isinstance(event, Blocked)] == [cell.student_trial]
    assert not {cell.weak_trial, cell.student_trial} & set(script.started)
    assert set(other.trials.values()) <= set(script.started)
    assert summary.exit_code == ExitCode.INTERRUPTED

    record = Told()
    record.orders = Orders(cancelled=True)
    script = Script(lambda job, attempt: None)
    summary, _ = run(plan, script, Retry(), record=record)
    assert (script.started, summary.cancelled) == ([], len(plan.trials))


def test_a_cancellation_that_a_trial_hears_of_first() -> None:
    """It and what waits for it are not run, the rest is; the run asks at once whether all of it is cancelled."""
    plan = plan_of(tasks=["t1"], seeds=[0, 1], strategies=["naive"])
    cell, other = plan.cells
    record = Told()
    script = Script(lambda job, attempt: FailureClass.CANCELLED if job.trial_id == cell.weak_trial else None)
    summary, events = run(plan, script, Retry(), record=record)
    assert [event.trial.trial_id for event in events if isinstance(event, Cancelled)] == [cell.weak_trial]
    assert [event.trial.trial_id for event in events if isinstance(event, Blocked)] == [cell.student_trial]
    assert set(other.trials.values()) <= set(script.started)
    assert (record.asked, summary.cancelled, summary.blocked) == (1, 2, 0)  # with what waits for it
    assert summary.exit_code == ExitCode.INTERRUPTED

    record = Told()
    script = Script(lambda job, attempt: FailureClass.CANCELLED, slots=1)
    hear = Orders(cancelled=True)
    record.hear = lambda: setattr(record, "orders", hear)  # type: ignore[method-assign]
    summary, events = run(plan, script, Retry(), record=record)
    assert len(script.started) == 1
    assert (summary.cancelled, summary.blocked) == (len(plan.trials), 0)


def test_a_run_of_higher_priority_goes_first() -> None:
    """Nothing is started while one waits for the cluster; what runs goes on; then all is done."""
    plan = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"])
    record, script = Told(), Script(lambda job, attempt: None)
    record.orders = Orders(outranked_by="urgent")
    seen: list[int] = []

    def answer(counts: Counts) -> None:
        seen.append(len(script.started))
        if len(seen) == 3:
            record.orders = Orders()

    record.on_report = answer
    summary, events = run(plan, script, Retry(), record=record)
    assert seen[:3] == [0, 0, 0]
    assert [event.to for event in events if isinstance(event, Yielding)] == ["urgent", None]
    assert summary.done == len(plan.trials)


def test_a_node_that_fails_trials_is_set_aside() -> None:
    """Only failures that are the node's count, one after the other; then it gets no more."""
    plan = plan_of()
    failing = "bad"

    def verdict(job: Job, attempt: int) -> FailureClass | None:
        return FailureClass.INFRASTRUCTURE if script.node == failing else None

    script = Script(verdict, slots=1)
    script.node = failing
    summary, events = run(plan, script, Retry(infrastructure=BAD_NODE))
    assert script.avoided == [failing]
    assert [event.failures for event in events if isinstance(event, SetAside)] == [BAD_NODE]
    assert (summary.done, summary.failed) == (len(plan.trials), 0)

    script = Script(lambda job, attempt: FailureClass.TRIAL_ERROR, slots=1)
    script.node = failing
    run(plan, script, Retry())
    assert script.avoided == []


def test_a_node_that_joined_and_cannot_run_the_trials() -> None:
    """It is left out with its first trial, which costs no retry and runs elsewhere; if it is the last, the run ends."""
    plan = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"])
    script = Script(lambda job, attempt: None, slots=1)
    script.node, script.refuses = "new", {"new"}
    summary, events = run(plan, script, Retry())
    assert [event for event in events if isinstance(event, LeftOut)] == [LeftOut(node="new", why="other libraries")]
    assert (script.avoided, summary.done, summary.failed) == (["new"], len(plan.trials), 0)
    assert len(script.started) == len(plan.trials) + 1

    script = Script(lambda job, attempt: None)
    script.node, script.refuses, script.last = "new", {"new"}, True
    with pytest.raises(ClusterError, match="no node is left for these trials: new: other libraries"):
        run(plan, script, Retry())


def test_progress_is_not_looked_at_with_every_end() -> None:
    """However many trials end in a second, each of those that run is looked at once in it."""
    script, record = Script(lambda job, attempt: None, slots=40), Told()
    summary, _ = run(plan_of(seeds=list(range(50))), script, Retry(), record=record)
    assert summary.done == 400
    assert 0 < record.looked <= script.slots * (1 + summary.seconds / PROGRESS_SECONDS)
