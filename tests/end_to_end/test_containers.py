"""A grid gives the same numbers in every sandbox, and leaves nothing of its containers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Bench
from tests.end_to_end.engines import built, trial_image  # noqa: F401  # fixtures
from tests.trial.processes import wait_for
from wtsbench.images.docker_engine import connect
from wtsbench.sandbox.leftovers import trial_containers
from wtsbench.store.client import open_store

pytestmark = [pytest.mark.slow, pytest.mark.docker]
GRID = """\
apiVersion: wtsbench/v1
name: golden
tasks: [safety-mini]
pairs:
  - {weak: nano-1, strong: nano-2}
strategies: [naive]
seeds: [0]
data: {weak_train: 80, transfer: 80, validation: 20, test: 60}
"""
HOW = {"process": "in-process", "docker": "ray"}


def made(bench: Bench) -> list[dict[str, Any]]:
    """What the trials of a store predicted, to the last bit, without the ids that name the sandbox."""
    store = open_store(str(bench.store))
    roles = {row["trial_id"]: row["role"] for row in store.trials().to_pylist()}
    rows = store.predictions(list(roles)).to_pylist()
    keys = ("split", "item_id", "probabilities")
    return sorted(
        ({"role": roles[row["trial_id"]], **{key: row[key] for key in keys}} for row in rows),
        key=lambda row: (row["role"], row["split"], row["item_id"]),
    )


@pytest.mark.usefixtures("trial_image")
def test_every_sandbox_computes_the_same(tmp_path: Path, trial_image: str) -> None:  # noqa: F811  # a fixture
    """Predictions and scores are equal to the last bit; records say sandbox, isolation and image."""
    found = {}
    for sandbox, executor in HOW.items():
        bench = Bench(tmp_path / sandbox)
        bench.folder.mkdir()
        (bench.folder / "golden.yaml").write_text(GRID)
        result = bench.run("submit", bench.folder / "golden.yaml", "--sandbox", sandbox, "--executor", executor)
        assert result.returncode == 0, result.stderr
        trials = open_store(str(bench.store)).trials().to_pylist()
        assert [(row["status"], row["sandbox"]) for row in trials] == [("done", sandbox)] * 3
        assert {row["image_digest"] for row in trials} == {None if sandbox == "process" else trial_image}
        assert all(row["isolation"].startswith("process" if sandbox == "process" else "container") for row in trials)
        scores = [{key: row[key] for key in row if "score" in key} for row in json.loads(bench.leaderboard())]
        found[sandbox] = made(bench), scores
        wait_for(partial(_no_containers, bench.folder))

    assert found["process"][0]
    assert found["docker"] == found["process"]


def _no_containers(folder: Path) -> bool:
    with connect() as client:
        there = [one.labels["wtsbench.lease"] for one in trial_containers(client)]
    return not any(lease.startswith(f"{folder}/") for lease in there)
