"""What a look at a lease tells: the kernel knows who lives, the steady clock who is stalled, no wall clock anything."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.trial.processes import environment
from wtsbench.sandbox.container import LEASE_LABEL, LEASE_SECONDS_LABEL
from wtsbench.sandbox.lease import Renewal, look_at
from wtsbench.sandbox.leftovers import Patience

HOLDER = """
import sys, time
from pathlib import Path
from wtsbench.sandbox.lease import Renewal
with Renewal(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(lease: Path, **settings: str) -> subprocess.Popen[str]:
    """A process that holds and renews a lease."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lease)], stdout=subprocess.PIPE, text=True, env=environment(**settings)
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def container(lease: Path, *, seconds: float = 10) -> Any:
    """What `Patience` sees of a container."""
    return SimpleNamespace(id=str(lease), labels={LEASE_LABEL: str(lease), LEASE_SECONDS_LABEL: str(seconds)})


def test_a_lease_is_held_until_its_holder_dies(tmp_path: Path) -> None:
    """SIGKILL lets go of a lease at once, a stop does not, and a folder that is gone is told apart."""
    lease = tmp_path / "trial" / "lease"
    lease.parent.mkdir()
    with hold(lease) as holder:
        assert look_at(lease).held
        holder.send_signal(signal.SIGSTOP)
        assert look_at(lease).held
        holder.kill()
    assert look_at(lease).held is False
    assert look_at(lease).abandoned
    shutil.rmtree(lease.parent)
    assert look_at(lease).gone


def test_a_renewal_that_ends_lets_go(tmp_path: Path) -> None:
    """Whoever only looks keeps nobody from holding a lease, and the end of the context is the end of the hold."""
    lease = tmp_path / "lease"
    with Renewal(lease, every=0.01):
        before = look_at(lease)
        assert before.held
        while look_at(lease).renewed == before.renewed:
            pass
    assert look_at(lease).held is False


def test_what_is_not_renewed_for_the_leases_time_is_stale(tmp_path: Path) -> None:
    """Only time between looks counts: not what a wall clock says, not while the one who looks was stalled himself."""
    lease = tmp_path / "lease"
    patience = Patience(longest=4)
    with Renewal(lease, every=600):
        os.utime(lease, (0, 0))  # a wall clock that was set back by decades
        ours = [container(lease)]
        assert [patience.stale(ours, step) for step in (0, 4, 1000)] == [[], [], []]
        os.utime(lease, (1, 1))
        assert [patience.stale(ours, step) for step in (4, 4, 4)] == [[], [], []]
        [(stale, state)] = patience.stale(ours, 4)
    assert stale is ours[0]
    assert state.held


def test_a_lease_out_of_sight_for_a_moment_is_no_reason(tmp_path: Path) -> None:
    """One look that finds a lease gone or let go decides nothing; the second does."""
    lease = tmp_path / "lease"
    patience = Patience(longest=4)
    ours = [container(lease)]
    assert patience.stale(ours, 1) == []
    with Renewal(lease):
        assert patience.stale(ours, 1) == []
    assert patience.stale(ours, 1) == []
    assert [found for found, _ in patience.stale(ours, 1)] == ours


def test_who_looks_keeps_nobody_from_holding(tmp_path: Path) -> None:
    """A look that comes between the making of a lease and the taking of it does not make its container left over."""
    lease = tmp_path / "lease"
    lease.touch()
    looking = os.open(lease, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    ends = threading.Timer(0.2, os.close, [looking])
    ends.start()
    with Renewal(lease):
        ends.join()
        assert not look_at(lease).abandoned
