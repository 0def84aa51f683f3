"""A supervisor that was stopped for longer than its lease wakes when another attempt is done: it changes nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Bench
from tests.end_to_end.engines import built, trial_image  # noqa: F401  # fixtures
from wtsbench.store.client import open_store
from wtsbench.store.lock import LOCK_NAME, TURN_NAME

pytestmark = pytest.mark.slow
LEASE = "1.5"
"""Seconds."""
GRID = """\
apiVersion: wtsbench/v1
name: {name}
tasks: [safety-mini]
pairs:
  - {{weak: nano-1, strong: nano-2}}
strategies: [naive]
seeds: [0]
data: {{weak_train: 80, transfer: 80, validation: 20, test: 60}}
training: {{epochs: {epochs}}}
"""
LONG = 40
"""Epochs that take a few seconds."""
SANDBOXES = ["process", pytest.param("docker", marks=pytest.mark.docker)]


class Late:
    """Two submissions of the same three trials into one store, the first of which is held up."""

    def __init__(self, bench: Bench, sandbox: str) -> None:
        self.bench = bench
        self._options = ("--sandbox", sandbox, "--executor", "in-process")
        self.first: subprocess.Popen[str] | None = None

    def start(self, *, epochs: int) -> subprocess.Popen[str]:
        """The first submission, on its way."""
        self.first = self.bench.start("submit", self._grid("first", epochs), *self._options)
        return self.first

    def stop(self) -> None:
        """Stop the first submission; when this returns, all of its threads stand still."""
        assert self.first is not None
        self.first.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.first.pid, os.WSTOPPED)

    def overtake(self, patch: pytest.MonkeyPatch, *, epochs: int) -> None:
        """The second one from beginning to end, with a spool of its own, as on another node."""
        with patch.context() as here:
            here.setenv("WTSBENCH_SPOOL", str(self.bench.folder / "other spool"))
            second = self.bench.run("submit", self._grid("second", epochs), *self._options)
        assert second.returncode == 0, second.stdout + second.stderr

    def _grid(self, name: str, epochs: int) -> Path:
        path = self.bench.folder / f"{name}.yaml"
        path.write_text(GRID.format(name=name, epochs=epochs))
        return path

    def wake(self) -> str:
        """Let the first submission go on to its end; what it printed."""
        assert self.first is not None
        self.first.send_signal(signal.SIGCONT)
        output, _ = self.first.communicate(timeout=120)
        assert self.first.returncode == 0, output
        return output

    def late_ends(self) -> dict[int, str]:
        """How the first submission's attempts ended, by number; superseded ones have no row."""
        store = open_store(str(self.bench.store))
        first = {(a["trial_id"], a["attempt"]) for a in store.attempts().to_pylist() if a["run"].startswith("first-")}
        rows = store.trials(columns=["trial_id", "attempt", "status"]).to_pylist()
        return {row["attempt"]: row["status"] for row in rows if (row["trial_id"], row["attempt"]) in first}

    def assert_exactly_once(self) -> None:
        """Every trial is done, once; every attempt has ended; nothing waits in the spool."""
        done = self.bench.attempts()
        assert len(done) == 3
        assert all(statuses.count("done") == 1 for statuses in done.values()), done
        store = open_store(str(self.bench.store))
        assert all(store.sealed(row["trial_id"], row["attempt"]) for row in store.attempts().to_pylist())
        spool = self.bench.store / "spool"
        left = [path for path in (*spool.glob("*"), *spool.glob(".sandbox/*")) if path.is_dir()]
        assert [path for path in left if path.name != ".sandbox"] == []


@pytest.fixture
def late(bench: Bench, sandbox: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Late]:
    """The two submissions under a short lease, and where trials run in containers with a pinned image."""
    monkeypatch.setenv("WTSBENCH_LEASE_SECONDS", LEASE)
    if sandbox == "docker":
        request.getfixturevalue("trial_image")
    made = Late(bench, sandbox)
    yield made
    if made.first is not None and made.first.poll() is None:
        made.first.kill()
        made.first.communicate()


def _wait_for(condition: Callable[[], object], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


@contextmanager
def _kept_from_others(store: Path) -> Iterator[None]:
    """Hold a store's lock and the turn before it: who is stopped meanwhile has neither, and is in nobody's way."""
    with (store / TURN_NAME).open("rb+") as turn, (store / LOCK_NAME).open("rb+") as lock:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_stopped_while_it_trains(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trial has ended itself by then; waking, it finds out, and its attempt is a failed one beside the result."""
    late.start(epochs=LONG)
    _wait_for(lambda: list(late.bench.store.glob("spool/*/trial/scratch/progress.json")))
    with _kept_from_others(late.bench.store):
        late.stop()
    late.overtake(monkeypatch, epochs=LONG)
    assert not late.bench.trial_processes()
    late.wake()
    late.assert_exactly_once()
    assert "failed" in late.late_ends().values()


@pytest.mark.parametrize("sandbox", ["process"])
def test_stopped_while_it_delivers(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trial had finished, but the store had not heard of it: its result comes second, is dropped and told of."""
    monkeypatch.setenv("WTSBENCH_STORE_LOCK_SECONDS", "600")  # it waits for the store while it is stopped, too
    late.start(epochs=1)
    _wait_for(lambda: list(late.bench.store.glob("spool/*/trial/lease")))  # so the attempt has its number
    with _kept_from_others(late.bench.store):
        _wait_for(lambda: list(late.bench.store.glob("spool/*/trial/outbox/result.json")))
        late.stop()
    late.overtake(monkeypatch, epochs=1)
    assert "stored meanwhile" in late.wake()
    late.assert_exactly_once()
    twice = [row["trial_id"] for row in open_store(str(late.bench.store)).attempts().to_pylist() if row["attempt"] == 2]
    said = [late.bench.ask("logs", trial_id, "--attempt", "1").stdout for trial_id in twice]
    assert any("superseded" in one for one in said), said
