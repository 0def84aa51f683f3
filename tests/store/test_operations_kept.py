"""Stores in which trials are being run, as a whole, and stores of the version that knew nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.store.making import trial_id_of
from tests.store.servers import asking_with, serving
from tests.store.supervising import RUN, renewed, report
from tests.store.test_whole import fill, tables_of
from tests.store.version_4 import STATEMENTS
from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.store.client import Store, open_store
from wtsbench.store.folder import DATABASE
from wtsbench.store.upkeep import verbs as upkeep
from wtsbench.store.upkeep.backup import restore
from wtsbench.store.wire import Held

B, C, D, E = (trial_id_of(name) for name in "bcde")
_NO_ATTEMPT = "a lease of an attempt that is unknown or has ended"


def _busy(folder: Path) -> Store:
    """A good store in which two attempts are being run."""
    opened = fill(folder)
    opened.report_run(report(yaml="name: toy"))
    for trial_id in (D, E):
        renewed(opened, trial_id, opened.begin_attempt(trial_id, run=RUN, lease=True), "one", "two")
    opened.cancel(RUN, [D])
    return opened


def test_what_happens_now_is_no_part_of_exports_and_merges(tmp_path: Path) -> None:
    """A store in which trials are being run is verified, exported, merged, backed up and restored."""
    busy = _busy(tmp_path / "store")
    assert upkeep.verify(busy.uri)["ok"]
    upkeep.export(busy.uri, tmp_path / "export", "parquet")
    assert not list((tmp_path / "export").rglob("*runs*"))
    upkeep.backup(busy.uri, str(tmp_path / "one.duckdb"))
    for number, source in enumerate((tmp_path / "store", tmp_path / "one.duckdb", tmp_path / "export")):
        upkeep.merge(source, tmp_path / f"merged-{number}")
        merged = open_store(str(tmp_path / f"merged-{number}"))
        assert tables_of(merged) == tables_of(busy)
        assert merged.runs().num_rows == merged.running().num_rows == 0
    assert not restore(tmp_path / "one.duckdb", tmp_path / "restored").wrong
    restored = open_store(str(tmp_path / "restored"))
    assert restored.runs().drop_columns("silent_s").equals(busy.runs().drop_columns("silent_s"))
    assert restored.running().drop_columns("age_s").equals(busy.running().drop_columns("age_s"))
    with pytest.raises(Held):
        restored.begin_attempt(D, run="other", lease=True)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE operations.leases SET key = 1 WHERE rowid = 0", _NO_ATTEMPT),
        ("UPDATE operations.leases SET attempt = 9 WHERE rowid = 0", _NO_ATTEMPT),
        ("INSERT INTO operations.leases FROM operations.leases", "an attempt has two leases"),
        ("DELETE FROM operations.leases", "printed lines of an attempt that has no lease"),
    ],
)
def test_verification_finds_what_is_wrong_with_leases(tmp_path: Path, damage: str, found: str) -> None:
    """They belong to attempts that have not ended, and printed lines to leases."""
    busy = _busy(tmp_path / "store")
    with duckdb.connect(str(tmp_path / "store" / DATABASE)) as database:
        database.execute(damage)
    assert found in [one["what"] for one in upkeep.verify(busy.uri)["wrong"]]


# -- stores of the version before


def _version_4(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Make a store of schema version 4; what is in it."""
    content = tables_of(fill(folder))
    database = folder / DATABASE
    database.rename(folder / "new.duckdb")
    with duckdb.connect(str(database)) as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.execute(f"ATTACH '{folder / 'new.duckdb'}' AS new (READ_ONLY)")
        names = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name <> 'new'").fetchall()
        for (name,) in names:
            connection.execute(f"INSERT INTO {name} SELECT * FROM new.main.{name} ORDER BY rowid")
        connection.execute("UPDATE store SET schema_version = 4")
    (folder / "new.duckdb").unlink()
    return content


def _version(folder: Path) -> int:
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        ((version,),) = connection.execute("SELECT schema_version FROM store").fetchall()
    return int(version)


def test_a_store_of_version_4_is_migrated_with_its_content(tmp_path: Path) -> None:
    """By whoever opens its folder, a server too; then it takes leases, and is good."""
    for name in ("opened", "served"):
        folder = tmp_path / name
        content = _version_4(folder)
        assert _version(folder) == 4
        if name == "served":
            with serving(folder), asking_with(None):
                assert open_store(str(folder)).begin_attempt(trial_id_of("new"), run="r", lease=True) == 1
        opened = open_store(str(folder))
        assert _version(folder) == SCHEMA_VERSION
        found = tables_of(opened)
        assert {**found, "attempts": [row for row in found["attempts"] if row["run"] != "r"]} == content
        assert opened.begin_attempt(C, run="toy-3", lease=True) == 3
        assert upkeep.verify(str(folder))["ok"]


def test_stores_and_backups_of_version_4_are_merged_and_restored(tmp_path: Path) -> None:
    """A source stays as it is, in its own version."""
    content = _version_4(tmp_path / "old")
    for number, source in enumerate((tmp_path / "old", tmp_path / "old" / DATABASE)):
        upkeep.merge(source, tmp_path / f"merged-{number}")
        assert tables_of(open_store(str(tmp_path / f"merged-{number}"))) == content
    assert _version(tmp_path / "old") == 4
    assert not restore(tmp_path / "old" / DATABASE, tmp_path / "restored").wrong
    assert tables_of(open_store(str(tmp_path / "restored"))) == content
    assert _version(tmp_path / "restored") == SCHEMA_VERSION
