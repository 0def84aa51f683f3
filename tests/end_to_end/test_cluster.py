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
from wtsbench.store.folder import SERVER

pytestmark = pytest.mark.slow


class ServiceBench(Bench):
    """A laptop, a served store, and a cluster; they share no folder but that of the cache."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store.mkdir()
        token = token_in(self.store, "append")
        self.server = Process(self.store, listen="grpc+tls://127.0.0.1:0")
        variables = {"WTSBENCH_TOKEN_FILE": str(token), "WTSBENCH_STORE_CA": str(self.store / SERVER / "ca.pem")}
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

    def failed(self) -> list[dict[str, Any]]:
        """Attempts that have failed."""
        rows = self.opened.trials(columns=["trial_id", "attempt", "status"]).to_pylist()
        return [row for row in rows if row["status"] == "failed"]

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


def test_runs_outlive_laptop_node_and_head(service: ServiceBench, undisturbed: Any) -> None:
    """Submitted and left alone; a node is killed, then the head; what comes out is what an undisturbed run gives.

    A second run, of half of the grid and with a higher priority, is under way at the same time: no trial is done twice.
    """
    grids = [service.grid(), service.grid("half", strategies="[naive]")]
    words = ("--detach", "--sandbox", "process")
    runs = []
    for grid, more in zip(grids, ([], ["--priority", "1"]), strict=True):
        detached = service.run("submit", grid, *words, *more)
        assert (detached.returncode, detached.stderr) == (0, ""), detached.stdout + detached.stderr
        runs.append(detached.stdout.partition(":")[0])
        assert re.fullmatch(rf"{grid.stem}-[0-9a-f]{{8}}-1", runs[-1])
    assert "is being run already" in service.run("submit", grids[0], *words).stdout

    service.until(lambda: service.done() >= 1)
    service.until(lambda: service.opened.running().num_rows == 2)
    service.cluster.kill("one")
    service.cluster.add("three")
    (lost,) = service.until(lambda: service.failed())[:1]
    told = service.run("logs", lost["trial_id"], "--attempt", str(lost["attempt"]))
    assert "infrastructure: lost its worker" in told.stdout, told.stdout + told.stderr
    service.until(lambda: service.done() >= 3)

    service.cluster.kill("head")
    service.cluster.stop()
    service.cluster.start()
    service.cluster.add("four", cpus=2)
    for grid, run in zip(grids, runs, strict=True):
        again = service.run("submit", grid, *words)
        assert f"{run}: its job had died, and was started again" in again.stdout, again.stdout + again.stderr
    for run, counts in zip(runs, ("8/8", "6/6"), strict=True):
        followed = service.run("attach", run)
        assert followed.returncode == 0, followed.stdout + followed.stderr
        assert f"{run}: done, {counts} stored" in followed.stdout

    board = service.run("leaderboard", "--grid", "small", "--json").stdout
    assert re.sub(r'"submission": \d', '"submission": 1', board) == undisturbed[1]
    assert [statuses.count("done") for statuses in service.attempts().values()] == [1] * 8
    assert service.opened.running().num_rows == 0
    assert service.trial_processes() == []
