"""A grid submitted to a central store, with server and driver killed on the way."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Bench
from tests.store.servers import Process, token_in
from wtsbench.store.client import open_store
from wtsbench.store.upkeep.verbs import verify

pytestmark = pytest.mark.slow
TRIALS = 8


class CentralBench(Bench):
    """A bench whose store is behind a server."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store.mkdir()
        self.token = token_in(self.store, "append:small")
        self.server = Process(self.store)

    @property
    def environment(self) -> dict[str, str]:
        """The address in place of the folder; nothing of the folder itself."""
        return {
            **super().environment,
            "WTSBENCH_STORE": self.server.listen,
            "WTSBENCH_TOKEN_FILE": str(self.token),
            "WTSBENCH_SPOOL": str(self.folder / "spool"),
        }

    def done(self) -> int:
        """Trials that are done, asked past the server's address."""
        statuses: list[str] = open_store(str(self.store)).trials()["status"].to_pylist()
        return statuses.count("done")


@pytest.fixture
def central(tmp_path: Path) -> Iterator[CentralBench]:
    """A central store of its own."""
    bench = CentralBench(tmp_path)
    yield bench
    bench.server.stop(signal.SIGTERM)


def _without_ids(board: str) -> Any:
    """Rows of a leaderboard but for the ids of their trials, which are others within a grid."""
    return [{name: value for name, value in row.items() if name != "trials"} for row in json.loads(board)]


def test_server_and_driver_are_killed(central: CentralBench, undisturbed: Any) -> None:
    """The server dies and comes back while trials run; then the driver dies; the end is that of an undisturbed run."""
    grid = central.grid()
    process = central.start("submit", grid)
    deadline = time.monotonic() + 240
    while central.done() < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.2)
    central.server.stop(signal.SIGKILL)
    time.sleep(2)
    central.server.start()
    while central.done() < 4:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    again = central.run("submit", grid, "--executor", "in-process")
    assert again.returncode == 0, again.stdout + again.stderr
    assert _without_ids(central.leaderboard()) == _without_ids(undisturbed[1])
    assert central.done() == TRIALS
    found = verify(str(central.store))
    assert found["ok"], found["wrong"]
    assert "all 8 trials were stored already" in central.ask("submit", grid).stdout
    narrow = central.token
    for trust, stored in (([], 0), (["--trust", "small"], TRIALS)):  # what a token of one grid finished, seen by others
        central.token = token_in(central.store, "append")
        assert json.loads(central.ask("plan", grid, "--json", *trust).stdout)["stored"] == stored
    secret = narrow.read_text().encode()
    assert not [
        path for path in (central.folder / "spool").rglob("*") if path.is_file() and secret in path.read_bytes()
    ]
