"""The trial's end of the lease."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.trial.processes import SECONDS, environment
from wtsbench.contract.folder import ExitCode
from wtsbench.worker.lease import watch

_HOLDER = (
    "import sys, time, pathlib\n"
    "from wtsbench.worker.lease import watch\n"
    "watch(pathlib.Path(sys.argv[1]))\n"
    "print('watching', flush=True)\n"
    "time.sleep(float(sys.argv[2]))\n"
)


def start(lease: Path, *, work: float, limit: float) -> subprocess.Popen[str]:
    """A process that watches a lease and would work for so long."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(lease), str(work)],
        env=environment(WTSBENCH_LEASE_SECONDS=str(limit)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "watching\n"
    return process


def test_an_abandoned_trial_ends_itself(tmp_path: Path) -> None:
    """A process whose lease nobody renews exits with the code that stands for it."""
    (tmp_path / "lease").touch()
    with start(tmp_path / "lease", work=SECONDS, limit=0.3) as process:
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == ExitCode.NO_RESULT
    assert "lease was not renewed" in said


def test_a_lease_that_is_taken_away_has_expired(tmp_path: Path) -> None:
    """Removing the trial folder ends the trial too."""
    (tmp_path / "lease").touch()
    with start(tmp_path / "lease", work=SECONDS, limit=2.0) as process:
        (tmp_path / "lease").unlink()
        process.communicate(timeout=SECONDS)
    assert process.returncode == ExitCode.NO_RESULT


def test_a_renewed_lease_keeps_the_trial_alive(tmp_path: Path) -> None:
    """While somebody renews the lease the trial works on, past the limit."""
    lease = tmp_path / "lease"
    lease.touch()
    with start(lease, work=9.0, limit=6.0) as process:  # on a busy machine a renewal may come seconds late
        while process.poll() is None:
            lease.touch()
            time.sleep(0.05)
        process.communicate()
    assert process.returncode == 0


def test_a_trial_started_by_hand_needs_no_lease(tmp_path: Path) -> None:
    """Where no lease is there at the start, nothing is watched."""
    watch(tmp_path / "lease")
    assert "lease" not in {thread.name for thread in threading.enumerate()}
