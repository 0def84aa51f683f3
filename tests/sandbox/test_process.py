"""The process sandbox with real trials: results, limits, stops and sudden deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.sandbox.trials import endless_trial, in_thread, run, short_trial, wait_for_progress
from tests.trial.folders import last_word_of, predictions_of
from tests.trial.processes import environment, is_running
from wtsbench.sandbox.classify import classify
from wtsbench.sandbox.fork_server import fork_server_for
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.spec.failure import FailureClass


def children_of(pid: int) -> set[int]:
    """Process ids of the living children of a process."""
    return {child.pid for child in psutil.Process(pid).children() if is_running(child.pid)}


def command_of(process: psutil.Process) -> str:
    """A process's command line; nothing where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is none either
        return ""


def test_trials_of_one_parent_give_the_same_numbers(tmp_path: Path, tiny_model: Path) -> None:
    """The first trial that a preloaded parent forks and a later one agree to the last bit."""
    predictions = []
    for name in ("first", "second"):
        job = short_trial(tmp_path / name, tiny_model)
        outcome = run(ProcessSandbox(), tmp_path / name)
        assert classify(outcome, last_word_of(tmp_path / name)) is None, outcome
        predictions.append(predictions_of(tmp_path / name, job))

    assert predictions[0]
    assert predictions[0] == predictions[1]


def test_a_failed_trial_tells_its_class(tmp_path: Path, tiny_model: Path) -> None:
    """What the trial raises becomes its failure, and its output is in the log."""
    short_trial(tmp_path / "trial", tiny_model)
    (tmp_path / "trial" / "inputs" / "items.arrow").write_bytes(b"no arrow")

    outcome = run(ProcessSandbox(), tmp_path / "trial")
    failure = classify(outcome, last_word_of(tmp_path / "trial"))

    assert outcome.exit_code == 1
    assert failure is not None
    assert failure.failure_class is FailureClass.TRIAL_ERROR
    assert "Traceback" in outcome.log_tail


def test_a_trial_past_its_time_is_stopped(tmp_path: Path, tiny_model: Path) -> None:
    """The time limit ends the trial, and nothing of it is left."""
    endless_trial(tmp_path / "trial", tiny_model)

    outcome = run(ProcessSandbox(), tmp_path / "trial", time=0.5)

    assert outcome.timed_out
    assert outcome.signal == signal.SIGTERM
    assert str(tmp_path) not in " ".join(command_of(process) for process in psutil.Process().children())
    assert children_of(fork_server_for(1).channel.pid) == set()


def test_a_trial_past_its_memory_is_killed(tmp_path: Path, tiny_model: Path) -> None:
    """Resident memory over the limit is an out-of-memory failure."""
    endless_trial(tmp_path / "trial", tiny_model)

    outcome = run(ProcessSandbox(), tmp_path / "trial", memory=20 << 20)
    failure = classify(outcome, None)

    assert outcome.oom_killed
    assert failure is not None
    assert failure.failure_class is FailureClass.OUT_OF_MEMORY


def test_a_stop_ends_a_running_trial(tmp_path: Path, tiny_model: Path) -> None:
    """Once the event is set the trial ends, and is told apart from one that failed."""
    endless_trial(tmp_path / "trial", tiny_model)
    cancelled = threading.Event()

    def stop() -> None:
        wait_for_progress(tmp_path / "trial")
        cancelled.set()

    stopper = in_thread(stop)
    outcome = run(ProcessSandbox(), tmp_path / "trial", cancelled=cancelled)
    stopper.join()

    assert outcome.cancelled
    assert outcome.signal == signal.SIGTERM
    assert not (tmp_path / "trial" / "outbox" / "result.json").exists()


def test_a_trial_killed_from_outside_is_an_infrastructure_failure(tmp_path: Path, tiny_model: Path) -> None:
    """`kill -9` of a trial is nobody's fault that the trial could mend; the fork server goes on."""
    endless_trial(tmp_path / "trial", tiny_model)
    server = fork_server_for(1)

    def kill() -> None:
        wait_for_progress(tmp_path / "trial")
        for child in children_of(server.channel.pid):
            os.kill(child, signal.SIGKILL)

    killer = in_thread(kill)
    outcome = run(ProcessSandbox(), tmp_path / "trial")
    killer.join()
    failure = classify(outcome, None)

    assert outcome.signal == signal.SIGKILL
    assert failure is not None
    assert failure.failure_class is FailureClass.INFRASTRUCTURE
    assert server.alive


def test_a_fork_server_that_dies_hangs_nobody_and_is_replaced(tmp_path: Path, tiny_model: Path) -> None:
    """Its trial becomes an infrastructure failure, and the next trial has a new fork server."""
    endless_trial(tmp_path / "lost", tiny_model)
    short_trial(tmp_path / "next", tiny_model)
    server = fork_server_for(1)

    def kill() -> None:
        wait_for_progress(tmp_path / "lost")
        os.kill(server.channel.pid, signal.SIGKILL)

    killer = in_thread(kill)
    lost = run(ProcessSandbox(), tmp_path / "lost")
    killer.join()
    after = run(ProcessSandbox(), tmp_path / "next")
    failure = classify(lost, None)

    assert failure is not None
    assert failure.failure_class is FailureClass.INFRASTRUCTURE
    assert "died" in failure.message
    assert classify(after, last_word_of(tmp_path / "next")) is None


def test_trials_side_by_side_share_a_fork_server(tmp_path: Path, tiny_model: Path) -> None:
    """Threads of one supervisor run their trials at once, and stopping one leaves the other alone."""
    endless_trial(tmp_path / "stopped", tiny_model)
    short_trial(tmp_path / "finished", tiny_model)
    cancelled = threading.Event()
    outcomes = {}

    def stopped() -> None:
        outcomes["stopped"] = run(ProcessSandbox(), tmp_path / "stopped", cancelled=cancelled)

    thread = in_thread(stopped)
    wait_for_progress(tmp_path / "stopped")
    finished = run(ProcessSandbox(), tmp_path / "finished")
    cancelled.set()
    thread.join()

    assert classify(finished, last_word_of(tmp_path / "finished")) is None
    assert outcomes["stopped"].cancelled


def test_a_trial_that_is_stopped_before_its_start_leaves_the_others_their_fork_server(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork server that loads for longer than a trial may take to die is no lost one."""
    monkeypatch.setattr("wtsbench.sandbox.watch._GRACE_SECONDS", 0.1)
    monkeypatch.setattr("wtsbench.sandbox.watch._LOST_SECONDS", 0.1)
    short_trial(tmp_path / "stopped", tiny_model)
    short_trial(tmp_path / "waiting", tiny_model)
    cancelled = threading.Event()
    cancelled.set()
    outcomes = {}

    def stopped() -> None:
        outcomes["stopped"] = run(ProcessSandbox(), tmp_path / "stopped", cancelled=cancelled, cpus=3)

    thread = in_thread(stopped)
    waiting = run(ProcessSandbox(), tmp_path / "waiting", cpus=3)
    thread.join()

    assert outcomes["stopped"].cancelled
    assert not (tmp_path / "stopped" / "outbox" / "result.json").exists()
    assert classify(waiting, last_word_of(tmp_path / "waiting")) is None


SUPERVISOR = """
import sys
from pathlib import Path
from tests.sandbox.trials import run
from wtsbench.sandbox.process import ProcessSandbox
run(ProcessSandbox(), Path(sys.argv[1]))
"""


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path, tiny_model: Path) -> None:
    """After SIGKILL of the supervisor the preloaded parent and its trial end."""
    endless_trial(tmp_path / "trial", tiny_model)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "trial")],
        env=environment(WTSBENCH_LEASE_SECONDS="3"),
    )
    with supervisor:
        wait_for_progress(tmp_path / "trial")
        family = psutil.Process(supervisor.pid).children(recursive=True)
        supervisor.kill()

    _, alive = psutil.wait_procs(family, timeout=30)

    assert family
    assert alive == []
