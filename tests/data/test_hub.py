"""Hub datasets, loaded by the real clients from a hub on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import balanced_rows
from tests.data.hub_server import COMMIT, DATASET, hub

README = b"""---
configs:
- config_name: qa
  data_files:
  - {split: train, path: data/qa/train.tsv}
  - {split: test, path: data/qa/test.tsv}
---
"""
PROGRAM = """
import json, sys
from wtsbench.data import prepare
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest
told = []
for changes in json.loads(sys.argv[1]):
    source = {"kind": "hub", "id": "owner/policies", "config": "qa", "splits": ["train", "test"], **changes}
    manifest = TaskManifest(
        name="t", summary="s", labels=("no", "yes"), template="{text}", label={"column": "label"}, source=source
    )
    try:
        dataset = prepare(manifest, DataSettings())
        told.append({"digest": dataset.data_digest, "report": dataset.report})
    except DataError as error:
        told.append({"error": str(error)})
print(json.dumps(told))
"""


def tsv(seed: int, count: int) -> bytes:
    """Rows as the hub's TSV."""
    lines = [f"{place}\t{row['text']}\t{row['label']}" for place, row in enumerate(balanced_rows(count, seed))]
    return "\n".join(["index\ttext\tlabel", *lines, ""]).encode()


@pytest.fixture
def served() -> Iterator[tuple[str, list[str]]]:
    """The endpoint and its requests."""
    with hub({"README.md": README, "data/qa/train.tsv": tsv(1, 40), "data/qa/test.tsv": tsv(2, 120)}) as endpoint:
        yield endpoint


def load(endpoint: str, home: Path, cache: Path, *changes: dict[str, Any], **more: str) -> list[dict[str, Any]]:
    """Prepare from the hub in a process of its own, as the clients read their settings when they are imported."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "WTSBENCH_CACHE": str(cache), **more}
    for name in {"HF_TOKEN", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_HUB_CACHE"} - more.keys():
        environment.pop(name, None)
    command = [sys.executable, "-c", PROGRAM, json.dumps(changes)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    told: list[dict[str, Any]] = json.loads(run.stdout)
    return told


def test_a_branch_is_resolved_to_its_commit(tmp_path: Path, served: tuple[str, list[str]]) -> None:
    """Rows of all splits come in, the report names the commit, and a manifest that pins it gets the same items."""
    branch, pinned = load(served[0], tmp_path / "hf", tmp_path / "cache", {}, {"revision": COMMIT})
    assert branch["report"]["rows"] == 160
    assert branch["report"]["source"]["revision"] == "main"
    assert branch["report"]["source"]["commit"] == COMMIT
    assert pinned["digest"] == branch["digest"]


def test_wrong_names_are_told_apart(tmp_path: Path, served: tuple[str, list[str]]) -> None:
    """Dataset, revision, configuration, split and column that do not exist: each its own message."""
    told = load(
        served[0],
        tmp_path / "hf",
        tmp_path / "cache",
        {"id": "owner/none"},
        {"revision": "nope"},
        {"config": "qb"},
        {"splits": ["dev"]},
        {"revision": "1" * 40},
    )
    said = [entry["error"] for entry in told]
    assert "hub dataset owner/none, qa, at main: no such dataset" in said[0]
    assert "no revision nope" in said[1]
    assert "'qb' not found. Available: ['qa']" in said[2]
    assert "Should be one of ['train', 'test']" in said[3]
    assert "1" * 40 in said[4]


def test_another_commit_in_the_cache_is_not_taken(tmp_path: Path, served: tuple[str, list[str]]) -> None:
    """A commit that the hub does not have is a fault, though the client's cache holds the dataset at another one."""
    first, second = load(served[0], tmp_path / "hf", tmp_path / "cache", {"revision": COMMIT}, {"revision": "1" * 40})
    assert "digest" in first
    assert f"another, {COMMIT}, in the cache" in second["error"]


def test_prepared_items_need_no_hub(tmp_path: Path) -> None:
    """A pinned dataset that was prepared once is prepared again without one request."""
    files = {"README.md": README, "data/qa/train.tsv": tsv(1, 40), "data/qa/test.tsv": tsv(2, 120)}
    pinned = {"revision": COMMIT}
    with hub(files) as (endpoint, requests):
        (first,) = load(endpoint, tmp_path / "hf", tmp_path / "cache", pinned)
        requests.clear()
        (second,) = load(endpoint, tmp_path / "hf", tmp_path / "cache", pinned)
        assert requests == []
    assert first == second


def test_without_a_network_the_hub_cache_serves(tmp_path: Path) -> None:
    """HF_HOME serves a pinned dataset, and a branch whose commit it knows; else the message names the ways out."""
    files = {"README.md": README, "data/qa/train.tsv": tsv(1, 40), "data/qa/test.tsv": tsv(2, 120)}
    pinned = {"revision": COMMIT}
    with hub(files) as (endpoint, _):
        (online,) = load(endpoint, tmp_path / "hf", tmp_path / "cache", pinned)
    (offline,) = load(endpoint, tmp_path / "hf", tmp_path / "other", pinned)
    assert offline == online
    refs = tmp_path / "hf" / "hub" / f"datasets--{DATASET.replace('/', '--')}" / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    (refs / "main").write_text(COMMIT)
    (remembered,) = load(endpoint, tmp_path / "hf", tmp_path / "third", {})
    assert remembered["digest"] == online["digest"]
    assert remembered["report"]["source"]["commit"] == COMMIT
    nothing, branch = load(endpoint, tmp_path / "empty", tmp_path / "another", pinned, {})
    for fault in (nothing, branch):
        assert f"hub dataset {DATASET}, qa, at " in fault["error"]
        assert "the hub cannot be reached" in fault["error"]
        assert "WTSBENCH_DATA_MIRROR" in fault["error"]
        assert "HF_HOME" in fault["error"]
