"""What users name to be compared: stores, exports, grids, submissions, commits, baselines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reports.worlds import World, simple
from wtsbench.errors import SpecError
from wtsbench.reports.baseline import measured, write
from wtsbench.reports.sides import side
from wtsbench.store.client import open_store
from wtsbench.store.upkeep import verbs as upkeep

NEW, OLD = "b" * 40, "a" * 40


def two_submissions() -> World:
    """The same grid twice: `naive` alone, which one commit ran, then with `logconf`, which another did."""
    world = simple({"naive": 0.6, "logconf": 0.8}, items=30)
    digest = world.datasets[0]["data_digest"]
    (newest,) = world.grids
    world.grids.clear()
    world.grid("first", {"colours": digest}, ["naive"], [0, 1, 2], submission=1)
    world.grids.append({**newest, "submission": 2})
    for row in world.trials:
        row["git_commit"] = NEW if row["strategy"] == "logconf" else OLD
    return world.with_true_digests()


def names(source: str) -> set[str]:
    """Strategies of a side."""
    return {entry.name for entry in side(source).entries if entry.kind == "strategy"}


def test_a_side_is_a_store_an_export_a_run_a_commit_or_a_baseline(tmp_path: Path) -> None:
    """Each names the entries that it has; an export gives the very numbers of its store."""
    two_submissions().folder(tmp_path)
    store = str(tmp_path / "store")
    assert names(store) == names(f"{store}#first") == names(f"{store}@2") == {"naive", "logconf"}
    assert names(f"{store}@1") == names(f"{store}#first@1") == {"naive"}
    assert names(f"{store}@{NEW[:8]}") == {"naive", "logconf"}
    assert names(f"{store}@{OLD}") == {"naive", "logconf"}  # the newest of which it ran a student
    upkeep.export(store, tmp_path / "export", "parquet")
    exported, stored = side(str(tmp_path / "export")), side(store)
    assert [(one.key, one.runs.keys()) for one in exported.entries] == [(o.key, o.runs.keys()) for o in stored.entries]
    path = tmp_path / "main.baseline.json"
    write(measured(open_store(store), "first", 1), path)
    assert names(str(path)) == {"naive"}


@pytest.mark.parametrize("which", ["@3", "@ccccccc", "#second"])
def test_what_is_not_there_is_named(which: str, tmp_path: Path) -> None:
    """No such submission, commit or grid: an error that lists what there is."""
    two_submissions().folder(tmp_path)
    with pytest.raises(SpecError) as raised:
        side(f"{tmp_path / 'store'}{which}")
    assert "first" in str(raised.value)
