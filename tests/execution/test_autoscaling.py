"""A cluster that grows where trials wait and shrinks when they are done, by Ray's own autoscaler."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import GRID
from tests.end_to_end.conftest import Bench
from tests.execution.clusters import Cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Cluster]:
    """A head without cores, to which the autoscaler adds up to two nodes of one core."""
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start(grows_to=2)
        yield cluster
    finally:
        cluster.stop()


def test_nodes_come_for_waiting_trials_and_go_again(growing: Cluster, tmp_path: Path) -> None:
    """Without `--autoscale` a trial that fits on no node is refused; with it nodes of its label come, and go."""
    bench = Bench(tmp_path)
    (tmp_path / "small.yaml").write_text(GRID + "resources: {labels: {hardware: small}}\n")
    words = bench.command("submit", "small.yaml", "--ray", growing.address, "--sandbox", "process")
    environment = {**bench.environment, **growing.client, "WTSBENCH_STORE": str(bench.store)}

    def submit(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, *more], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    refused = submit()
    assert refused.returncode == 5
    assert "on nodes with the labels hardware=small" in refused.stderr
    assert growing.count() == 1
    done = submit("--autoscale")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(map(tuple, bench.attempts().values())) == {("done",)}
    growing.wait(1, seconds=90)
