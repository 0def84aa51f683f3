"""The reaper on a real engine: what it takes, what it leaves alone, and how it comes and goes itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from tests.sandbox.conftest import BASE
from tests.sandbox.test_lease import hold
from tests.trial.processes import environment
from wtsbench.images.docker_engine import address, connect, node
from wtsbench.sandbox import reaper
from wtsbench.sandbox.container import LEASE_LABEL, LEASE_SECONDS_LABEL, NODE_LABEL, OWNER_LABEL
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import remove

pytestmark = pytest.mark.docker
LEASE = "3"
"""Seconds; on a busy machine a renewal may come more than one late."""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The engine's client, with a cache and so a reaper of this test's own, which is gone afterwards."""
    _end_reaper()  # of the tests before this one: it would look at the same containers
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WTSBENCH_LEASE_SECONDS", LEASE)
    with connect() as found:
        yield found
        for container in found.containers.list(all=True, filters={"label": f"test={tmp_path}"}):
            remove(container)
    _end_reaper()


def _end_reaper() -> None:
    pid = reaper.running()
    if pid is not None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: reaper.running() is None)


def sleeping(client: Any, folder: Path, name: str, **labels: str) -> Any:
    """A running container with the lease `folder/name/lease`."""
    lease = folder / name / "lease"
    lease.parent.mkdir(exist_ok=True)
    ours = {
        NODE_LABEL: node(),
        OWNER_LABEL: str(os.getuid()),
        LEASE_LABEL: str(lease),
        LEASE_SECONDS_LABEL: LEASE,
        "test": str(folder),
    }
    named = f"wtsbench-test-{uuid.uuid4().hex[:8]}"
    container = client.containers.create(
        BASE, ["sleep", "600"], name=named, labels=ours | labels, network_mode="none", stop_signal="SIGKILL"
    )
    container.start()
    return container


def there(container: Any) -> bool:
    """Whether the engine still has a container."""
    try:
        container.reload()
    except docker.errors.NotFound:
        return False
    return True


def wait_until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Return once something has become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def test_it_takes_what_nobody_waits_for_and_nothing_else(client: Any, tmp_path: Path) -> None:
    """Containers of dead and of stalled supervisors go, running or not; those of the living and of others stay."""
    lease = {name: tmp_path / name / "lease" for name in ("killed", "stopped", "living", "other")}
    for path in lease.values():
        path.parent.mkdir()
    with hold(lease["killed"]) as killed, hold(lease["stopped"], WTSBENCH_LEASE_SECONDS=LEASE) as stopped:
        with Renewal(lease["living"]):
            found = {name: sleeping(client, tmp_path, name) for name in ("killed", "stopped", "living")}
            found["created"] = client.containers.get(sleeping(client, tmp_path, "killed").id)
            found["created"].kill()
            found["nowhere"] = sleeping(client, tmp_path, "gone")
            other = str(os.getuid() + 1)
            found["other user's"] = sleeping(client, tmp_path, "other", **{OWNER_LABEL: other})
            found["other node's"] = sleeping(client, tmp_path, "other", **{NODE_LABEL: "elsewhere"})
            reaper.ensure()
            killed.kill()
            stopped.send_signal(signal.SIGSTOP)

            wait_until(lambda: not any(there(found[name]) for name in ("killed", "stopped", "created", "nowhere")))
            time.sleep(float(LEASE))  # they were there for as long before, since `stopped` was waited for
            assert [name for name, one in found.items() if there(one)] == ["living", "other user's", "other node's"]
        stopped.kill()
    wait_until(lambda: not there(found["living"]))
    said = reaper.log_file().read_text()
    assert f"removed container {found['killed'].name} (running): its supervisor is dead" in said
    assert f"removed container {found['stopped'].name} (running): its lease was not renewed in time" in said
    assert f"removed container {found['nowhere'].name} (running): its trial folder is gone" in said


STARTER = "from wtsbench.sandbox import reaper; reaper.ensure(); import time; time.sleep(600)"


def test_there_is_one_and_it_outlives_who_started_it(client: Any, tmp_path: Path) -> None:
    """Several that start one at the same time start one; it is in a session of its own and not their child."""
    with Renewal(tmp_path / "lease"):
        sleeping(client, tmp_path, "..", **{LEASE_LABEL: str(tmp_path / "lease")})
        starters = [
            subprocess.Popen([sys.executable, "-c", STARTER], env=environment(), start_new_session=True)
            for _ in range(4)
        ]
        try:
            wait_until(lambda: reaper.running() is not None)
            pid = reaper.running()
            assert pid is not None
            wait_until(lambda: reapers(tmp_path) == [pid])  # the others have waited for their turn and gone
        finally:
            for starter in starters:
                os.killpg(starter.pid, signal.SIGKILL)
                starter.wait()
        time.sleep(0.5)
        assert reaper.running() == pid
        assert os.getsid(pid) not in {os.getsid(0), *(starter.pid for starter in starters)}


def reapers(folder: Path) -> list[int]:
    """Process ids of the reapers whose cache is below a folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            ours = f"WTSBENCH_CACHE={folder}".encode() in (process / "environ").read_bytes()
            if ours and reaper.MODULE.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except (OSError, ValueError):
            continue
    return found


def test_it_waits_for_an_engine_that_is_away(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on when the engine is back, and takes what was left meanwhile."""
    socket, real = tmp_path / "docker.sock", address().removeprefix("unix://")
    socket.symlink_to(real)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    with Renewal(tmp_path / "lease"):
        container = sleeping(client, tmp_path, "..", **{LEASE_LABEL: str(tmp_path / "lease")})
        reaper.ensure()
        wait_until(lambda: "watches" in reaper.log_file().read_text())
        socket.unlink()
        wait_until(lambda: "waiting for the engine" in reaper.log_file().read_text())
    time.sleep(1)  # two looks find it abandoned, where the engine answers
    assert there(container)
    socket.symlink_to(real)
    wait_until(lambda: not there(container))
    assert "the engine answers again" in reaper.log_file().read_text()


def test_it_ends_when_there_is_nothing_to_watch(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without containers it is gone after a while, and the next container has a new one."""
    monkeypatch.setenv("WTSBENCH_LEASE_SECONDS", "0.2")
    reaper.ensure()
    wait_until(lambda: reaper.running() is not None)
    first = reaper.running()
    wait_until(lambda: reapers(tmp_path) == [])
    assert reaper.running() is None
    with Renewal(tmp_path / "lease"):
        sleeping(client, tmp_path, "..", **{LEASE_LABEL: str(tmp_path / "lease")})
        reaper.ensure()
        wait_until(lambda: reaper.running() is not None)
        assert reaper.running() != first


def test_a_reaper_that_cannot_be_started_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that cannot be written costs a line of log, and no trial."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "file" / "cache"))
    reaper.ensure()
    reaper.note("nothing")
    assert "no reaper watches" in caplog.text
