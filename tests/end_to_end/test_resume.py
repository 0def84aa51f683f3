"""What is killed is taken up again: nothing lost, nothing twice, the same leaderboard."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import chaos
from tests.end_to_end.conftest import Bench

pytestmark = pytest.mark.slow
TRIALS = 8  # 2 seeds x (weak, ceiling, 2 students)


def _wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the submission did not come so far"
        assert process.poll() is None, f"the submission ended early:\n{process.stdout.read() if process.stdout else ''}"
        time.sleep(0.05)


def _done(bench: Bench) -> int:
    if not (bench.store / "store.duckdb").exists():
        return 0
    return sum("done" in statuses for statuses in bench.attempts().values())


def _kill_one_that_is_not_done(bench: Bench) -> bool:
    """Kill a trial process that has not written its result yet; it is halted to be looked at."""
    for pid in bench.trial_processes():
        try:
            os.kill(pid, signal.SIGSTOP)
            log = Path(f"/proc/{pid}/fd/1").readlink()
        except OSError:  # it has ended
            continue
        if log.name == "log.txt" and not (log.parent / "outbox" / "result.json").exists():
            os.kill(pid, signal.SIGKILL)
            return True
        os.kill(pid, signal.SIGCONT)
    return False


def test_second_submission_runs_nothing(undisturbed: Any) -> None:
    """Submitting the same file again runs no trial and starts no Ray."""
    bench, leaderboard = undisturbed
    before = bench.attempts()
    again = bench.ask("submit", bench.folder / "small.yaml")
    assert again.returncode == 0, again.stderr
    assert "starting Ray" not in again.stdout + again.stderr
    assert bench.attempts() == before
    assert bench.leaderboard() == leaderboard


def test_killed_interrupted_and_killed_again(bench: Bench, undisturbed: Any) -> None:
    """The driver is killed; the next submission is interrupted, the third loses a trial process, and finishes.

    Each goes on where the one before it ended, each trial is done exactly once, and the leaderboard shows none of it.
    """
    grid = bench.grid()
    kept = _killed(bench, grid)
    _interrupted(bench, grid, kept)
    process = bench.start("submit", grid)
    _wait_for(lambda: _kill_one_that_is_not_done(bench), process)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    attempts = bench.attempts()
    assert len(attempts) == TRIALS
    assert all(statuses.count("done") == 1 for statuses in attempts.values()), attempts
    assert any("failed" in statuses for statuses in attempts.values()), attempts
    assert bench.leaderboard() == undisturbed[1]


def _killed(bench: Bench, grid: Path) -> int:
    """SIGKILL of the driver in the middle, after which its trials end by themselves; how many were done."""
    process = bench.start("submit", grid)
    _wait_for(lambda: _done(bench) >= 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # ends when everything that the driver started has closed its output
    deadline = time.monotonic() + 45  # the lease
    while bench.trial_processes():
        assert time.monotonic() < deadline, "a trial outlived its driver"
        time.sleep(0.2)
    kept = _done(bench)
    assert 2 <= kept < TRIALS
    return kept


def _interrupted(bench: Bench, grid: Path, kept: int) -> None:
    """Ctrl-C in the middle: exit code 130, and no process left."""
    process = bench.start("submit", grid)
    _wait_for(lambda: _done(bench) > kept and bench.trial_processes(), process)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not bench.trial_processes()


@pytest.mark.parametrize("executor", ["ray", "in-process"])
def test_the_terminal_closes(executor: str, bench: Bench) -> None:
    """A terminal that closes stops a submission as Ctrl-C does: exit code 130, no process and no attempt folder left.

    The kernel sends SIGHUP to everything that runs in it, and what is written to it from then on is an error.
    """
    pid, terminal = pty.fork()
    if pid == 0:  # the child's standard streams are the terminal
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may do so under nohup
        command = bench.command("submit", bench.grid(), "--executor", executor, "--sandbox", "process")
        environment = {name: value for name, value in bench.environment.items() if name != "CI"}
        os.execve(command[0], command, {**environment, "TERM": "xterm-256color"})
    deadline = time.monotonic() + 120
    with open(terminal, "rb", buffering=0) as output:  # noqa: PTH123 -- a descriptor
        os.set_blocking(terminal, False)
        while not (_done(bench) >= 1 and bench.trial_processes()):
            assert time.monotonic() < deadline, "the submission did not come so far"
            output.read(65536)
            time.sleep(0.05)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert not bench.trial_processes()
    assert chaos.folders(bench) == []
    assert any("cancelled" in statuses or "failed" in statuses for statuses in bench.attempts().values())
