"""A store as a whole: verified, backed up, restored, migrated, exported and merged."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from tests.halting import halting
from tests.reports.worlds import simple
from tests.store.making import (
    batch,
    fill_outbox,
    item_rows,
    predictions,
    rows,
    seal,
    trial_id_of,
    whole_attempt,
)
from tests.store.servers import asking_with, serving, token_in, with_roots
from wtsbench.contract.digests import grid_digest_of
from wtsbench.contract.schemas import RECORD_TABLES, SCHEMA_VERSION, TABLES
from wtsbench.data.dataset import digest_items, with_digest
from wtsbench.errors import StoreError
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.renderers import render
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.client import Store, open_store
from wtsbench.store.courier import deliver
from wtsbench.store.engine.database import create
from wtsbench.store.folder import DATABASE
from wtsbench.store.lock import TURN_NAME, locked
from wtsbench.store.remote import RemoteEngine
from wtsbench.store.upkeep import export as exporting
from wtsbench.store.upkeep import verbs as upkeep
from wtsbench.store.upkeep.backup import restore
from wtsbench.store.upkeep.manifest import digest_of, read_manifest, write_manifest

A, B, C = (trial_id_of(name) for name in "abc")
_OTHER_ROWS = "are others than the records that brought them"


def fill(folder: Path) -> Store:
    """A store in which nothing is wrong: a data set, a supervisor, and a student after one failure."""
    store = open_store(str(folder), create=True)
    items = rows("items", [{"item_id": item, "split": split} for item, split in (("a", "test"), ("b", "test"))])
    digest = digest_items(task="toy", labels=("no", "yes"), metric="accuracy", items=items)
    store.put_dataset(
        data_digest=digest,
        task="toy",
        labels=["no", "yes"],
        metric="accuracy",
        report={},
        items=with_digest(items, digest),
    )
    store.put_grid(name="toy", grid_digest=grid_digest_of("toy", "[]"), yaml="name: toy", cells=[])
    for trial_id, parents, status in ((A, [], "done"), (B, [A], "failed"), (B, [A], "done"), (C, [], "failed")):
        attempt = store.begin_attempt(trial_id, run="toy-1")
        last = {"status": status, "data_digest": digest, "parents": parents}
        store.append([*whole_attempt(trial_id, attempt)[:3], batch("trials", trial_id, attempt, 4, [last])])
    store.begin_attempt(C, run="toy-2")
    store.append(whole_attempt(C, 2)[:2])
    return store


def tables_of(store: Store) -> dict[str, list[dict[str, Any]]]:
    """All that can be seen in a store."""
    ids = [A, B, C]
    return {
        "datasets": store.datasets().to_pylist(),
        "grids": store.grids().to_pylist(),
        "attempts": store.attempts().to_pylist(),
        "trials": store.trials().to_pylist(),
        "predictions": store.predictions(ids).to_pylist(),
        "metrics": store.metrics(ids).to_pylist(),
        "logs": [row for trial_id in ids for row in store.logs(trial_id).to_pylist()],
        "items": [row for one in store.datasets().to_pylist() for row in store.items(one["data_digest"]).to_pylist()],
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a store, to be copied."""
    folder = tmp_path_factory.mktemp("filled") / "store"
    fill(folder)
    return folder


def test_a_good_store_is_found_good(tmp_path: Path) -> None:
    """Everything is looked at, unsealed attempts too."""
    fill(tmp_path / "store")
    found = upkeep.verify(str(tmp_path / "store"))
    assert found["ok"], found["wrong"]
    assert (found["attempts"], found["records"], found["datasets"]) == (5, 18, 1)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE predictions_rows SET probabilities = [0.5, 0.5] WHERE rowid = 0", "a record is not what was sent"),
        ("DELETE FROM logs_rows WHERE rowid = 0", "a record is not what was sent"),
        ("INSERT INTO predictions_rows SELECT * FROM predictions_rows WHERE key = 1", "an item is predicted twice"),
        ("DELETE FROM done", "a trial is done and does not count as such"),
        ("DELETE FROM trials_rows WHERE key = 1", "a trial counts as done and has no such attempt"),
        ("UPDATE trials_rows SET parents = ['x'] WHERE key = 3", "a student that is done has a parent that is not"),
        (
            """UPDATE trials_rows SET measurements = '{"weights_sha256": "' || key || '"}'""",
            "trials of one model's revision began with different weights",
        ),
        ("DELETE FROM datasets", "items of a data set that is not here"),
        ("UPDATE items SET text = 'other'", "a data set's items do not have its digest"),
        ("UPDATE items SET item_id = 'z' WHERE item_id = 'a'", "a prediction is of an item that is not here"),
        ("UPDATE predictions_rows SET split = 'transfer'", "a prediction is of an item that is not here"),
        ("INSERT INTO metrics_rows SELECT * FROM metrics_rows", "has a step twice"),
        ("UPDATE metrics_rows SET name = 'accuracy'", "is no training curve"),
        ("DELETE FROM attempt_keys WHERE key = 2", "a record of an attempt that is unknown"),
        ("DELETE FROM attempt_keys WHERE key = 2", "rows of logs are others than the records that brought them"),
        ("INSERT INTO trials_rows BY NAME SELECT 99 AS key, * EXCLUDE key FROM trials_rows LIMIT 1", _OTHER_ROWS),
        ("INSERT INTO logs_rows BY NAME SELECT 99 AS key, * EXCLUDE key FROM logs_rows LIMIT 1", _OTHER_ROWS),
        ("DELETE FROM ledger WHERE key = 3 AND table_name = 'logs'", _OTHER_ROWS),
        ("DELETE FROM ledger WHERE key = 3", _OTHER_ROWS),
        ("INSERT INTO superseded VALUES (5)", "a superseded attempt of a trial that is not done"),
        ("INSERT INTO superseded VALUES (99)", "a superseded attempt of a trial that is not done"),
        ("UPDATE done SET key = 3 WHERE key = 1", "a trial counts as done by an attempt of another"),
        (
            "DELETE FROM metrics_rows WHERE key = 1; DELETE FROM ledger WHERE key = 1 AND table_name = 'metrics'",
            "an attempt has not the records that it ended with",
        ),
        ("UPDATE ledger SET sequence = 9 WHERE key = 1 AND sequence = 3", "has not the records that it ended with"),
        ("INSERT INTO trials_waiting FROM trials_rows WHERE key = 1", "an attempt is sealed and waits for records"),
        (
            "INSERT INTO trials_waiting FROM trials_rows WHERE key = 4; DELETE FROM trials_rows WHERE key = 4",
            "an attempt has all its records and is not visible",
        ),
    ],
)
def test_damage_is_found_and_named(filled: Path, tmp_path: Path, damage: str, found: str) -> None:
    """Whatever was changed behind the store's back, `verify` says what and where."""
    shutil.copytree(filled, tmp_path / "store")
    with duckdb.connect(str(tmp_path / "store" / DATABASE)) as database:
        database.execute(damage)
    verdict = upkeep.verify(str(tmp_path / "store"))
    assert not verdict["ok"]
    assert any(found in one["what"] for one in verdict["wrong"])


def test_a_score_that_a_trial_gave_itself_is_found(tmp_path: Path) -> None:
    """Beside the supervisor's, under the same name or another: older versions stored what a trial wrote."""
    for name in ("accuracy", "mine"):
        store = open_store(str(tmp_path / name), create=True)
        final: dict[str, Any] = {"split": "test", "step": None}
        one = batch("metrics", A, 1, 1, [{**final, "name": name, "value": 0.999}])
        two = batch("metrics", A, 1, 2, [{**final, "name": "accuracy", "value": 0.45}])
        store.append([one, two, seal(A, 1, 3)])
        wrong = {found["what"] for found in upkeep.verify(store.uri)["wrong"]}
        assert any("the trial may have written some itself" in what for what in wrong)
        assert ("a final metric is there twice" in wrong) == (name == "accuracy")


def test_a_file_that_the_disk_damaged_is_told_as_such(tmp_path: Path) -> None:
    """Wherever a byte of the rows' blocks is another, `verify` says that the store is damaged, and what to do."""
    fill(tmp_path / "store")
    path = tmp_path / "store" / DATABASE
    whole = path.read_bytes()
    blocks = [start for start in range(3 * 4096, len(whole) - 262_144, 262_144) if any(whole[start : start + 262_144])]
    found: list[StoreError] = []
    for start in blocks:
        path.write_bytes(whole[: start + 100] + bytes([whole[start + 100] ^ 1]) + whole[start + 101 :])
        try:
            assert upkeep.verify(str(tmp_path / "store"))["ok"]  # a block that is free: nothing is in it
        except StoreError as error:
            found.append(error)
    assert {"damaged" in error.message and "restore" in (error.remedy or "") for error in found} == {True}
    assert len(found) > 3


def test_the_command_tells_what_is_wrong_by_its_exit_code(tmp_path: Path) -> None:
    """`store verify` exits with 1 and names the place."""
    fill(tmp_path / "store")
    with duckdb.connect(str(tmp_path / "store" / DATABASE)) as database:
        database.execute("DELETE FROM done")
    program = [sys.executable, "-m", "wtsbench_cli", "store", "verify", "--store", str(tmp_path / "store")]
    done = subprocess.run(program, capture_output=True, text=True, env=with_roots())
    assert done.returncode == 1
    assert "a trial is done and does not count as such: 2" in done.stdout
    assert A in done.stdout


def test_backup_and_restore(tmp_path: Path) -> None:
    """A backup, of a folder or online of a server, becomes a store that shows the same; a damaged one does not."""
    store = fill(tmp_path / "store")
    upkeep.backup(store.uri, str(tmp_path / "one.duckdb"))
    with serving(tmp_path / "store") as running, asking_with(token_in(tmp_path / "store", "admin")):
        upkeep.backup(running.listen, "two")
        with pytest.raises(StoreError, match="already"):
            upkeep.backup(running.listen, "two")
        open_store(running.listen).append([seal(C, 2, 4, "failed", records=3)])
    two = tmp_path / "store" / "backups" / "two.duckdb"
    for number, path in enumerate((tmp_path / "one.duckdb", two)):
        assert not restore(path, tmp_path / f"restored-{number}").wrong
        again = tables_of(open_store(str(tmp_path / f"restored-{number}")))
        assert len(again["trials"]) == 4
    assert len(store.trials()) == 5
    with duckdb.connect(str(two)) as database:
        database.execute("DELETE FROM done")
    assert restore(two, tmp_path / "bad").wrong
    assert not (tmp_path / "bad" / DATABASE).exists()
    with pytest.raises(StoreError, match="already"):
        restore(tmp_path / "one.duckdb", tmp_path / "restored-0")
    (tmp_path / "torn.duckdb").write_bytes((tmp_path / "one.duckdb").read_bytes()[:5000])
    with pytest.raises(StoreError, match=r"nothing was restored: .*torn\.duckdb"):
        restore(tmp_path / "torn.duckdb", tmp_path / "torn")
    assert [path.name for path in (tmp_path / "torn").glob("*.new")] == []
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / f"{DATABASE}.wal").write_bytes(b"of another store")
    with pytest.raises(StoreError, match="left over"):
        restore(tmp_path / "one.duckdb", tmp_path / "wal")


def test_two_backups_of_one_name_are_one_backup(tmp_path: Path) -> None:
    """Whoever comes second is refused, and the first one's file is whole."""
    store = fill(tmp_path / "store")
    for number in range(5):
        out = tmp_path / f"{number}.duckdb"
        with ThreadPoolExecutor(4) as pool:
            made = [pool.submit(upkeep.backup, store.uri, str(out)) for _ in range(4)]
        faults = [one.exception() for one in made]
        assert sum(fault is None for fault in faults) == 1
        assert {str(fault) for fault in faults if fault is not None} == {
            f"{out} is there already\n  choose another name."
        }
        assert not restore(out, tmp_path / f"restored-{number}").wrong
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".duckdb"}


def test_a_store_that_is_made_meanwhile_is_not_restored_over(tmp_path: Path) -> None:
    """What was acknowledged while a restore waited for the folder is still there."""
    upkeep.backup(fill(tmp_path / "store").uri, str(tmp_path / "one.duckdb"))
    (tmp_path / "new").mkdir()
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / "new", shared=False):
            restoring = pool.submit(restore, tmp_path / "one.duckdb", tmp_path / "new")
            while not (tmp_path / "new" / TURN_NAME).exists():
                time.sleep(0.01)
            time.sleep(0.2)  # it looks before it waits, too
            create(tmp_path / "new" / DATABASE)
        with pytest.raises(StoreError, match="there is a store"):
            restoring.result()
    assert len(open_store(str(tmp_path / "new")).trials()) == 0


def test_who_began_an_attempt_is_merged_with_it(tmp_path: Path) -> None:
    """The scope of a token stays with what was begun under it; a folder that no server owns has none."""
    folder = tmp_path / "store"
    store = fill(folder)
    begun = store.attempts().num_rows
    with serving(folder) as running, asking_with(token_in(folder, "append")):
        open_store(running.listen).begin_attempt(C, run="toy-3")
    upkeep.export(store.uri, tmp_path / "export", "parquet")
    for source in (folder, tmp_path / "export"):
        upkeep.merge(source, tmp_path / source.name / "merged")
        merged = open_store(str(tmp_path / source.name / "merged"))
        assert merged.attempts().equals(store.attempts())
        assert sorted(map(str, merged.attempts()["scope"].to_pylist())) == ["None"] * begun + ["append"]


@pytest.mark.parametrize(("version", "remedy"), [(2, "a new store"), (SCHEMA_VERSION + 1, "newer")])
def test_a_store_of_another_version_is_refused(tmp_path: Path, version: int, remedy: str) -> None:
    """One that was never released, and one that is yet to come, are named and left as they are."""
    folder = tmp_path / "store"
    open_store(str(folder), create=True)
    with duckdb.connect(str(folder / DATABASE)) as database:
        database.execute("UPDATE store SET schema_version = ?", [version])
    with pytest.raises(StoreError, match=f"schema version {version}") as refused, serving(folder):
        pass
    assert remedy in (refused.value.remedy or "")


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_an_export_is_the_store(tmp_path: Path, form: upkeep.Form) -> None:
    """Files in the published schemas; taken in elsewhere they are the same store, records, digests and all."""
    store = fill(tmp_path / "store")
    out = tmp_path / "out"
    first = upkeep.export(store.uri, out, form)
    assert first["written"] == len(first["files"])
    for table in (*RECORD_TABLES, "items", "datasets", "grids"):
        files = list((out / table).rglob(f"*.{form}"))
        if files:
            read = pads.dataset(files, format=form).to_table()
            assert read.schema.equals(TABLES[table])
            assert read.num_rows == len(read)
    assert upkeep.merge(out, tmp_path / "other")["attempts"] == 5
    other = open_store(str(tmp_path / "other"))
    assert tables_of(other) == tables_of(store)
    assert upkeep.verify(other.uri)["ok"]
    again = [ack.outcome for ack in other.append(whole_attempt(A, 1)[:3])]
    assert again == ["duplicate"] * 3
    assert upkeep.merge(out, tmp_path / "other") == {
        "attempts": 0,
        "known": 5,
        "renumbered": 0,
        "datasets": 0,
        "grids": 0,
    }
    assert tables_of(other) == tables_of(store)


def test_exporting_again_writes_what_has_changed(tmp_path: Path) -> None:
    """Nothing where nothing has; a trial's shard where a trial came; a torn file anew. Over a server it is the same."""
    store = fill(tmp_path / "store")
    out = tmp_path / "out"
    upkeep.export(store.uri, out, "parquet")
    assert upkeep.export(store.uri, out, "parquet")["written"] == 0
    store.append([seal(C, 2, 4, "failed", records=3)])
    changed = upkeep.export(store.uri, out, "parquet")
    assert 0 < changed["written"] < len(changed["files"])
    torn = next((out / "predictions").rglob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:50])
    with pytest.raises(StoreError, match="not the file"):
        exporting.ExportSource(out)
    with serving(tmp_path / "store") as running, asking_with(token_in(tmp_path / "store", "read")):
        assert upkeep.export(running.listen, out, "parquet")["written"] == 1
        elsewhere = upkeep.export(running.listen, tmp_path / "out2", "parquet")
    assert {k: v["rows"] for k, v in elsewhere["files"].items()} == {
        k: v["rows"] for k, v in json.loads((out / "manifest.json").read_text())["files"].items()
    }
    with pytest.raises(StoreError, match="as parquet"):
        upkeep.export(store.uri, out, "arrow")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="other files"):
        upkeep.export(store.uri, tmp_path / "mine", "parquet")


def test_a_killed_export_is_no_export_and_goes_on(tmp_path: Path) -> None:
    """Without its manifest nothing is read of it; run again, it keeps what is whole."""
    store = fill(tmp_path / "store")
    store.append([one for number in range(200) for one in whole_attempt(trial_id_of(f"t{number}"), 1)])
    parts = tmp_path / "out" / "*" / "*" / "part.parquet"
    program = halting(parts, 20, "export", tmp_path / "out", "--store", store.uri)
    process = subprocess.Popen(program, env=with_roots(), stdout=subprocess.DEVNULL)
    while len(list(tmp_path.glob("out/*/*/part.parquet"))) < 10:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(StoreError, match="no whole export"):
        exporting.ExportSource(tmp_path / "out")
    (tmp_path / "out" / ".manifest.json.new").write_text("{")  # as where the kill came while it was written
    resumed = upkeep.export(store.uri, tmp_path / "out", "parquet")
    assert resumed["written"] < len(resumed["files"])
    upkeep.merge(tmp_path / "out", tmp_path / "other")
    assert open_store(str(tmp_path / "other")).trials().equals(store.trials())


def test_merging_is_idempotent_and_goes_both_ways(tmp_path: Path) -> None:
    """Two stores, merged into each other again and again, hold the same trials and show the same leaderboard."""
    one, two = simple({"naive": 0.7}, seeds=[0, 1]), simple({"naive": 0.7}, seeds=[0, 1, 2], items=200)
    left, right = (world.with_true_digests().folder(tmp_path / side) for world, side in ((one, "left"), (two, "right")))
    whole = render(leaderboard(right), "json")
    for _ in range(2):
        upkeep.merge(Path(right.uri), Path(left.uri))
        upkeep.merge(Path(left.uri), Path(right.uri))
        assert left.trials().equals(right.trials())
        assert render(leaderboard(left), "json") == render(leaderboard(right), "json")
    assert left.trials().num_rows == 9
    assert whole


def test_a_server_exports_beside_its_store(tmp_path: Path) -> None:
    """Whoever is an admin may ask for it, by a name and from anywhere; again, it writes what has changed."""
    store = fill(tmp_path / "store")
    place = tmp_path / "store" / "exports" / "monday"
    with pytest.raises(StoreError, match="no server owns"):
        upkeep.export_at_server(store.uri, "monday", "parquet")
    with serving(tmp_path / "store") as running:
        with asking_with(token_in(tmp_path / "store", "append")), pytest.raises(StoreError, match="needs admin"):
            upkeep.export_at_server(running.listen, "monday", "parquet")
        with asking_with(token_in(tmp_path / "store", "admin")), RemoteEngine.open(running.listen) as engine:
            first = upkeep.export_at_server(running.listen, "monday", "parquet")
            assert first["written"] == len(first["files"])
            assert upkeep.export_at_server(store.uri, "monday", "parquet")["written"] == 0  # by the folder, too
            for asked in ({"name": "../x", "form": "arrow"}, {"name": "x", "form": "csv"}, {"name": "x"}):
                with pytest.raises(StoreError):
                    engine.action("export", asked)
    assert upkeep.merge(place, tmp_path / "other")["attempts"] == 5
    assert tables_of(open_store(str(tmp_path / "other"))) == tables_of(open_store(store.uri))


def test_merging_into_a_served_folder_is_done_by_its_server(tmp_path: Path) -> None:
    """A folder, a backup or an export; writers go on beside it, a conflict changes nothing, and nobody else may."""
    left = _with(tmp_path / "left", (A, "failed", "x"), (A, "done", "a"))
    right = _with(tmp_path / "right", (A, "failed", "y"), (B, "done", "b"))
    bad = _with(tmp_path / "bad", (C, "done", "c"), (A, "done", "other"))
    upkeep.backup(right.uri, str(tmp_path / "right.duckdb"))
    upkeep.export(right.uri, tmp_path / "export", "parquet")
    with serving(tmp_path / "left") as running:
        assert left.begin_attempt(C, run="r") == 1
        left.append(whole_attempt(C, 1)[:2])
        with pytest.raises(StoreConflict, match="different results"):
            upkeep.merge(Path(bad.uri), Path(left.uri))
        assert left.trials()["trial_id"].to_pylist() == [A, A]
        assert upkeep.merge(Path(right.uri), Path(left.uri))["attempts"] == 2
        assert upkeep.merge(tmp_path / "right.duckdb", Path(left.uri))["attempts"] == 0
        assert upkeep.merge(tmp_path / "export", Path(left.uri))["attempts"] == 0
        assert left.append(whole_attempt(C, 1)[2:])[0].outcome == "stored"
        assert left.append(whole_attempt(B, 2))[0].outcome == "superseded"
        assert left.begin_attempt(B, run="r") == 3
        with pytest.raises(StoreError, match="the same store"):
            upkeep.merge(Path(left.uri), Path(left.uri))
        with (
            asking_with(token_in(tmp_path / "left", "admin")),
            RemoteEngine.open(running.listen) as engine,
            pytest.raises(StoreError, match="only the owner"),
        ):
            engine.action("merge", {"source": right.uri})
    assert sorted(left.trials()["status"].to_pylist()) == ["done"] * 3 + ["failed"] * 2
    wrong = {one["what"] for one in upkeep.verify(left.uri)["wrong"]}
    assert not {what for what in wrong if "record" in what or "twice" in what or "superseded" in what}


def test_a_server_knows_what_a_merge_brought(tmp_path: Path) -> None:
    """What its writer knew by heart before is looked up anew: half an attempt here was completed, a trial is done."""
    left = open_store(str(tmp_path / "left"), create=True)
    right = open_store(str(tmp_path / "right"), create=True)
    right.append([*whole_attempt(A, 1), *whole_attempt(B, 2)])
    with serving(tmp_path / "left"):
        left.append([*whole_attempt(A, 1)[:2], *whole_attempt(B, 1)[:3]])
        upkeep.merge(Path(right.uri), Path(left.uri))
        with pytest.raises(StoreConflict, match="other content"):
            left.append([batch("logs", A, 1, 3, [{"line": 1, "text": "another"}])])
        assert [ack.outcome for ack in left.append(whole_attempt(A, 1))] == ["duplicate"] * 4
        assert [ack.outcome for ack in left.append(whole_attempt(B, 1)[3:])] == ["superseded"]
    assert left.trials().select(["trial_id", "attempt"]).to_pylist() == [
        {"trial_id": trial_id, "attempt": attempt} for trial_id, attempt in sorted([(A, 1), (B, 2)])
    ]
    wrong = {one["what"] for one in upkeep.verify(left.uri)["wrong"]}
    assert not {what for what in wrong if "record" in what or "twice" in what or "superseded" in what}


def _with(folder: Path, *attempts: tuple[str, str, str]) -> Store:
    """A store with attempts: trial, status, and the item that was predicted."""
    store = open_store(str(folder), create=True)
    for trial_id, status, item in attempts:
        attempt = store.begin_attempt(trial_id, run=folder.name)
        log = batch("logs", trial_id, attempt, 2, [{"line": 1, "text": folder.name}])
        store.append([predictions(trial_id, attempt, 1, item), log, seal(trial_id, attempt, 3, status)])
    return store


def test_the_same_trial_twice_is_one_trial(tmp_path: Path) -> None:
    """Run on two machines with equal results, it is known; failures of both are kept, under numbers of their own."""
    left = _with(tmp_path / "left", (A, "failed", "x"), (A, "done", "a"))
    right = _with(tmp_path / "right", (A, "failed", "y"), (A, "failed", "z"), (A, "done", "a"))
    first = upkeep.merge(Path(right.uri), Path(left.uri))
    assert (first["attempts"], first["renumbered"], first["known"]) == (2, 2, 1)
    trials = left.trials([A])
    assert trials["status"].to_pylist() == ["failed", "done", "failed", "failed"]
    assert upkeep.merge(Path(right.uri), Path(left.uri))["attempts"] == 0
    assert left.trials([A]).equals(trials)


def test_other_results_for_the_same_trial_are_a_conflict(tmp_path: Path) -> None:
    """Nothing at all is brought then, neither of the trial nor of others; the same for a data set's items."""
    left = _with(tmp_path / "left", (A, "done", "a"))
    right = _with(tmp_path / "right", (B, "done", "b"), (A, "done", "other"))
    with pytest.raises(StoreConflict, match="different results"):
        upkeep.merge(Path(right.uri), Path(left.uri))
    assert left.trials()["trial_id"].to_pylist() == [A]
    named: dict[str, Any] = {"task": "t", "labels": [], "metric": "m"}
    items = item_rows("", ["a"])
    digest = digest_items(**{**named, "labels": ()}, items=items)
    for store, some in ((left, item_rows(digest, ["b"])), (right, with_digest(items, digest))):
        store.put_dataset(data_digest=digest, **named, report={}, items=some)
    with pytest.raises(StoreConflict, match="other items"):
        upkeep.merge(Path(right.uri), Path(left.uri))
    with pytest.raises(StoreError, match="same store"):
        upkeep.merge(Path(left.uri), Path(left.uri))


def test_a_delivery_that_went_on_elsewhere_is_completed(tmp_path: Path) -> None:
    """Half of an attempt here and all of it there is all of it here."""
    left = open_store(str(tmp_path / "left"), create=True)
    attempt = left.begin_attempt(A, run="r")
    left.append(whole_attempt(A, attempt)[:2])
    right = open_store(str(tmp_path / "right"), create=True)
    outbox = fill_outbox(tmp_path / "outbox", whole_attempt(A, attempt))
    deliver(outbox.folder, right)
    upkeep.merge(Path(right.uri), Path(left.uri))
    assert left.trials().equals(right.trials())
    assert left.predictions([A]).num_rows == 2


def _altered_stores() -> list[str]:
    """SQL that changes what a store says in one place, as no wtsbench does."""
    return [
        "UPDATE predictions_rows SET probabilities = [0.9, 0.1] WHERE rowid = 0",
        "UPDATE metrics_rows SET value = 0.999 WHERE rowid = 0",
        "UPDATE trials_rows SET status = 'done' WHERE key = 2",
        "UPDATE trials_rows SET strategy = 'other' WHERE key = 3",
        "UPDATE trials_rows SET records_digest = 'x' WHERE key = 1",
        "UPDATE ledger SET digest = 'c1:' || repeat('0', 64) WHERE key = 1 AND sequence = 1",
        "UPDATE items SET label = 1 WHERE item_id = 'a'",
        "UPDATE datasets SET labels = ['yes', 'no']",
        """UPDATE grids SET cells = '[{"strategy": "other"}]'""",
        "UPDATE attempt_keys SET attempt = -7 WHERE key = 1",
        "CREATE TABLE p AS FROM predictions_rows; DELETE FROM predictions_rows;"
        " INSERT INTO predictions_rows FROM p ORDER BY key, item_id DESC",
    ]


@pytest.mark.parametrize("served", [False, True])
def test_a_store_that_was_altered_is_not_merged(tmp_path: Path, served: bool) -> None:
    """Whatever was changed in it, the merge ends with an error and brings nothing, where a server does it too."""
    source, target = tmp_path / "source", tmp_path / "target"
    fill(tmp_path / "whole")
    open_store(str(target), create=True)
    with serving(target) if served else nullcontext():
        for damage in _altered_stores()[:: 5 if served else 1]:
            shutil.rmtree(source, ignore_errors=True)
            shutil.copytree(tmp_path / "whole", source)
            with duckdb.connect(str(source / DATABASE)) as database:
                database.execute(damage)
            with pytest.raises(StoreError):
                upkeep.merge(source, target)
            assert not any(open_store(str(target)).__getattribute__(name)().num_rows for name in ("trials", "grids"))
        assert upkeep.merge(tmp_path / "whole", target)["attempts"] == 5


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_every_flipped_bit_of_an_export_is_found(tmp_path: Path, form: upkeep.Form) -> None:
    """In any of its files, the manifest included, at the ends and at places between: nothing of it is merged then."""
    out, target = tmp_path / "out", tmp_path / "target"
    upkeep.export(fill(tmp_path / "store").uri, out, form)
    chance = random.Random(form)
    for path in [one for one in out.rglob("*") if one.is_file()]:
        whole = path.read_bytes()
        more = 100 if path.name == "manifest.json" else 4
        places = [0, len(whole) - 1, *chance.sample(range(len(whole)), more)]
        for place in places:
            flipped = bytearray(whole)
            flipped[place] ^= 1 << chance.randrange(8)
            path.write_bytes(flipped)
            with pytest.raises(StoreError):
                exporting.ExportSource(out)  # `merge` does so before it takes anything
        path.write_bytes(whole)
    assert upkeep.merge(out, target)["attempts"] == 5


def test_an_export_whose_manifest_was_made_to_fit_is_held_against_its_digests(tmp_path: Path) -> None:
    """A table that another tool wrote anew, and whose digest was put into the manifest, still has other records."""
    out = tmp_path / "out"
    upkeep.export(fill(tmp_path / "store").uri, out, "parquet")
    path = out / "predictions" / f"shard={A[0]}" / "part.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("item_id")
    pq.write_table(table.set_column(place, table.schema.field(place), [["b", *table["item_id"].to_pylist()[1:]]]), path)
    manifest = read_manifest(out / "manifest.json")
    assert manifest is not None
    manifest.files[str(path.relative_to(out))].sha256 = digest_of(path) or ""
    write_manifest(out / "manifest.json", "parquet", manifest.files)
    with pytest.raises(StoreError, match=r"record 1 of attempt 1 .* digest differs"):
        upkeep.merge(out, tmp_path / "other")


def test_pages_of_an_export_carry_checksums(tmp_path: Path) -> None:
    """Another tool that asks for them finds a damaged page by itself."""
    out = tmp_path / "out"
    upkeep.export(fill(tmp_path / "store").uri, out, "parquet")
    path = next((out / "predictions").rglob("*.parquet"))
    assert pq.read_table(path, page_checksum_verification=True).num_rows
    column = pq.ParquetFile(path).metadata.row_group(0).column(4)
    start, content = column.data_page_offset, bytearray(path.read_bytes())
    content[start + column.total_compressed_size - 1 - (start - (column.dictionary_page_offset or start))] ^= 1
    path.write_bytes(content)
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(path, page_checksum_verification=True)
