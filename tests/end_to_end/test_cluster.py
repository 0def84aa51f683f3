"""A detached run on a real cluster of several nodes, with tokens and a served store, whatever dies meanwhile."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Bench, open_files
from tests.execution.clusters import Cluster
from tests.store.servers import Process, token_in
from wtsbench.store.client import Store, open_store

pytestmark = pytest.mark.slow


class ServiceBench(Bench):
    """A laptop, a served store, and a cluster; they share no folder but that of the cache."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store.mkdir()
        token = token_in(self.store, "append")
        self.server = Process(self.store)
        variables = {"WTSBENCH_TOKEN_FILE": str(token)}
        self.cluster = Cluster(folder / "cluster", **variables)
        self._variables = {
            **variables,
            "WTSBENCH_STORE": self.server.listen,
            "WTSBENCH_SPOOL": str(folder / "laptop-spool"),
            "RAY_ADDRESS": f"http://127.0.0.1:{self.cluster.dashboard}",
        }

    @property
    def environment(self) -> dict[str, str]:
        """Of the laptop."""
        return {**super().environment, **self.cluster.client, **self._variables}

    @property
    def opened(self) -> Store:
        """The store, past the server's address."""
        return open_store(str(self.store))

    def done(self) -> int:
        """Trials that are done."""
        statuses: list[str] = self.opened.trials()["status"].to_pylist()
        return statuses.count("done")

    def trial_processes(self) -> list[int]:
        """Living processes that work on a trial folder of any node."""
        place = str(self.folder / "cluster")
        links = {int(entry.name): open_files(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        return [pid for pid, files in links.items() if any(link.startswith(place) for link in files)]

    def until(self, what: Callable[[], Any], *, seconds: float = 240) -> Any:
        """Wait until something is so, and say what."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, self.run("runs").stdout + self.run("logs").stdout
            time.sleep(0.5)
        return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceBench]:
    """A store that is served, and a cluster of a head without trials and two nodes."""
    bench = ServiceBench(tmp_path)
    try:
        bench.cluster.start()
        bench.cluster.add("one")
        bench.cluster.add("two")
        yield bench
    finally:
        bench.cluster.stop()
        bench.server.stop(signal.SIGTERM)


def test_a_run_outlives_laptop_node_and_head(service: ServiceBench, undisturbed: Any) -> None:
    """Submitted and left alone; a node is killed, then the head; what comes out is what an undisturbed run gives."""
    grid = service.grid()
    detached = service.run("submit", grid, "--detach", "--sandbox", "process")
    assert detached.returncode == 0, detached.stdout + detached.stderr
    run = re.search(r"small-[0-9a-f]{8}-1", detached.stdout)
    assert run, detached.stdout
    assert "is being run already" in service.run("submit", grid, "--detach", "--sandbox", "process").stdout

    service.until(lambda: service.done() >= 1)
    busy = service.until(lambda: service.opened.running().to_pylist())
    service.cluster.kill("one")
    service.until(lambda: service.done() >= 2)
    assert any(service.run("logs", row["trial_id"][:16]).returncode == 0 for row in busy)

    service.cluster.kill("head")
    service.cluster.stop()
    service.cluster.start()
    service.cluster.add("three", cpus=2)
    again = service.run("submit", grid, "--detach", "--sandbox", "process")
    assert "was started again" in again.stdout, again.stdout + again.stderr
    followed = service.run("attach", run[0])
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert f"{run[0]}: done, 8/8 stored" in followed.stdout

    assert service.leaderboard() == undisturbed[1]
    assert service.opened.running().num_rows == 0
    assert service.trial_processes() == []
    state = service.run("runs")
    assert re.search(rf"{run[0]} +done +8/8", state.stdout), state.stdout
