"""What dead runs left is found and cleared away; finished work and what belongs to the living is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.execution.test_sweep import begun, predict, spec, store  # noqa: F401  # fixtures
from wtsbench.errors import SpecError
from wtsbench.execution.gc import Cleared, Leftover, clear, find
from wtsbench.execution.space import OnDisk
from wtsbench.execution.spool import AttemptFolder, attempt_folders, sandbox_folder
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import left_folders
from wtsbench.sandbox.staging import ContainerFolder, locked
from wtsbench.settings import spool_folder
from wtsbench.spec.trial import TrialSpec
from wtsbench.store.client import Store

LONG_AGO = time.time() - 7 * 24 * 3600


@pytest.fixture(autouse=True)
def _places_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine, and a cache, a folder of manifests and one for temporary files that are this test's."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    monkeypatch.delenv("WTSBENCH_SPOOL", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


def found(store_uri: str, **budgets: int) -> dict[str, Leftover]:
    """What is found, by the last part of its name."""
    return {Path(one.name).name: one for one in find(store_uri, **budgets).leftovers}


def cleared(store_uri: str, **budgets: int) -> list[Cleared]:
    """What becomes of everything that is found."""
    told: list[Cleared] = []
    results = clear(find(store_uri, **budgets), told.append)
    assert told == results
    return results


def old(path: Path, size: int = 10, *, when: float = LONG_AGO) -> Path:
    """A file that nobody has touched for a week."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (when, when))
    os.utime(path.parent, (when, when))
    return path


def test_finished_work_is_delivered_and_unfinished_work_told(spec: TrialSpec, store: Store) -> None:  # noqa: F811
    """Looking changes nothing; clearing ends attempts of dead supervisors into their store, and not those of living."""
    spool = spool_folder(store.uri)
    finished, _, outbox = begun(spec, store, spool)
    predict(outbox, store, spec)
    finished.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {}}))
    unfinished, _, _ = begun(spec, store, spool)
    living, _, _ = begun(spec, store, spool)
    AttemptFolder.of(spool, "f" * 64, 1).path.mkdir()
    with living.owned():
        before = sorted(spool.rglob("*"))
        listed = found(store.uri)
        assert sorted(spool.rglob("*")) == before
        assert {name: one.action for name, one in listed.items()} == {
            finished.path.name: "deliver",
            unfinished.path.name: "deliver",
            f"{'f' * 16}-1": "remove",
        }
        assert listed[finished.path.name].why.startswith("finished")
        assert listed[finished.path.name].bytes > 0
        assert [one.problem for one in cleared(store.uri)] == [None] * 3
        assert store.trials()["status"].to_pylist() == ["done", "failed"]
        assert [folder.path for folder in attempt_folders(spool)] == [living.path]
        assert [path for path in sandbox_folder(spool).iterdir() if path.is_dir()] == []


def test_a_containers_folder_goes_with_its_supervisor(tmp_path: Path) -> None:
    """That of a living supervisor stays, and so does one that still has an attempt's outbox."""
    uri = str(tmp_path / "store")
    place = sandbox_folder(spool_folder(uri))
    dead, living, holding = (ContainerFolder.create(place) for _ in range(3))
    home = tmp_path / "trial"
    home.mkdir()
    (home / "outbox").symlink_to(holding.outside / "0" / "outbox")
    (holding.path / "home-0").symlink_to(home)
    with Renewal(living.lease):
        assert set(found(uri)) == {dead.path.name, holding.path.name}
        problems = {Path(one.leftover.name).name: one.problem for one in cleared(uri)}
        assert problems[dead.path.name] is None
        assert "deliver the attempts in" in str(problems[holding.path.name])
        assert [one.path.exists() for one in (dead, living, holding)] == [False, True, True]


def test_work_that_cannot_be_delivered_stays(spec: TrialSpec, store: Store) -> None:  # noqa: F811
    """Where the store is not there, or the supervisor ran on another node, the folder is left and says why."""
    spool = spool_folder(store.uri)
    folder, note, _ = begun(spec, store, spool)
    other, elsewhere, _ = begun(spec, store, spool)
    note = note.model_copy(update={"host": os.uname().nodename})
    (folder.path / "attempt.json").write_text(note.model_dump_json())
    (other.path / "attempt.json").write_text(elsewhere.model_copy(update={"host": "elsewhere"}).model_dump_json())
    Path(store.uri, "store.duckdb").rename(Path(store.uri, ".away"))
    [one] = cleared(store.uri)
    assert one.problem is not None
    assert "no store" in one.problem
    assert found(store.uri)[other.path.name].action == "keep"
    assert folder.path.exists()
    assert other.path.exists()


def test_interrupted_writes_go_once_nobody_uses_them(tmp_path: Path) -> None:
    """Dot names in the cache that are old; not new ones, not locks, and not those that a process has open."""
    cache = tmp_path / "cache"
    gone = [
        old(cache / "data" / "prepared" / ".prepared-x"),
        old(cache / "wheels" / ".0123.abc" / "wheels" / "torch.whl", 1000).parents[1],
        old(cache / "models" / "embedded" / ".nano.unfinished" / "config.json").parent,
        old(tmp_path / "manifests" / ".images.yaml.x"),
        old(tmp_path / "temporary" / "wtsbench-image-x" / "Dockerfile").parent,
    ]
    for path in gone:
        os.utime(path, (LONG_AGO, LONG_AGO))
    os.utime(cache / "wheels" / ".0123.abc" / "wheels", (LONG_AGO, LONG_AGO))
    stays = [
        old(cache / "models" / "embedded" / ".nano.lock"),
        old(cache / "data" / "prepared" / "whole.arrow"),
        old(tmp_path / "temporary" / "somebody's"),
        old(cache / "reports" / ".table-new", when=time.time()),
    ]
    used = old(cache / "data" / ".reading-x" / "cache.arrow")
    os.utime(used.parent, (LONG_AGO, LONG_AGO))
    with used.open():
        assert sorted(one.leftover.name for one in cleared(str(tmp_path / "store"))) == sorted(map(str, gone))
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (*stays, used))
    assert list(found(str(tmp_path / "store"))) == [".reading-x"]


def test_a_cache_over_its_budget_loses_the_least_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only parts that are made again, only down to the budget, and nothing used within the hour."""
    cache = tmp_path / "cache"
    oldest = old(cache / "data" / "prepared" / "a.arrow", 600, when=LONG_AGO)
    wheels = old(cache / "wheels" / "0123" / "torch.whl", 600, when=LONG_AGO + 10)
    table = old(cache / "reports" / "c.json", 600, when=LONG_AGO + 20)
    fresh = old(cache / "data" / "files" / "d.csv", 600, when=time.time())
    paid = old(cache / "models" / "endpoint" / "00" / "answer.json", 6000)
    uri = str(tmp_path / "store")
    assert found(uri) == {}
    monkeypatch.setenv("WTSBENCH_CACHE_BYTES", "1800")
    size = sum(path.stat().st_size for path in wheels.parent.rglob("*")) + wheels.parent.stat().st_size
    assert list(found(uri, cache=1799 + size)) == ["a.arrow"]
    assert list(found(uri)) == ["a.arrow", "0123"]
    assert all(one.problem is None for one in cleared(uri, cache=0))
    assert [path.exists() for path in (oldest, wheels, table, fresh, paid)] == [False, False, False, True, True]
    monkeypatch.setenv("WTSBENCH_CACHE_BYTES", "much")
    with pytest.raises(SpecError, match="not a number"):
        find(uri)


def test_a_folder_swept_before_it_could_be_locked_is_made_anew(tmp_path: Path) -> None:
    """Somebody who removes an empty attempt folder and its lock file does not leave its owner without a lock."""
    folder = AttemptFolder(tmp_path / "a-1")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    thief = subprocess.Popen(
        [sys.executable, "-c", SWEEPER, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with thief:
        assert thief.stdin is not None
        assert thief.stdout is not None
        assert thief.stdout.readline() == "held\n"
        with folder.owned() as owned:
            assert not owned
        thief.stdin.write("go on\n")
        thief.stdin.flush()
        with folder.owned(wait=30) as owned:
            assert owned
            with AttemptFolder(folder.path).owned() as second:
                assert not second
    assert folder.path.exists()


SWEEPER = """
import sys, time
from pathlib import Path
from wtsbench.execution.spool import AttemptFolder
folder = AttemptFolder(Path(sys.argv[1]))
with folder.owned() as owned:
    print("held", flush=True)
    sys.stdin.readline()
    time.sleep(0.2)  # so that the other one waits already, as a rule
    folder.remove()
"""


def test_a_folder_that_comes_and_goes_is_locked(tmp_path: Path) -> None:
    """A sweep that removes the folder between any two calls of its owner's does not fail the owner."""
    path = tmp_path / "a-1"
    over = threading.Event()

    def sweep() -> None:
        while not over.is_set():
            with suppress(OSError):
                path.rmdir()
            (path / "owner").unlink(missing_ok=True)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(1000):
            with AttemptFolder(path).owned() as owned:
                assert owned
    finally:
        over.set()
        sweeper.join()


def test_a_folder_that_has_a_new_owner_is_not_deleted(tmp_path: Path) -> None:
    """A sweep that ends with a folder takes it away in one step, and nothing of who waited for it."""
    path = tmp_path / "spool" / "a-1"
    over = threading.Event()

    def sweep() -> None:
        while not over.is_set():
            with AttemptFolder(path).owned() as owned:
                if owned:
                    AttemptFolder(path).remove()

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for one in sweepers:
        one.start()
    try:
        for _ in range(300):
            with AttemptFolder(path).owned(wait=30) as owned:
                assert owned
                (path / "trial").mkdir()
                (path / "trial" / "spec.json").touch()
                time.sleep(0.001)
                assert (path / "trial" / "spec.json").exists()
                AttemptFolder(path).remove()
    finally:
        over.set()
        for one in sweepers:
            one.join()
    assert list(sandbox_folder(path.parent).iterdir()) == []


def test_two_that_remove_the_same_at_once(tmp_path: Path) -> None:
    """One of them does, and neither fails."""
    for number in range(20):
        for name in range(50):
            old(tmp_path / str(number) / str(name))
        one = OnDisk(path=tmp_path / str(number), part="wheels", bytes=1, changed=0.0)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(one.remove), pool.submit(one.remove)]:
                done.result()
    assert list(tmp_path.glob("*[0-9]*")) == []


def test_a_container_folder_that_is_just_made_is_not_left_over(tmp_path: Path) -> None:
    """Its lease is held before anybody may look."""
    place = tmp_path / "place"
    with ThreadPoolExecutor(1) as pool:
        with locked(place, sweeping=False):
            folder = ContainerFolder.create(place)
            looking = pool.submit(left_folders, place)
            with suppress(TimeoutError):
                looking.result(timeout=0.2)
            lease = Renewal(folder.lease)
            lease.__enter__()
        assert looking.result(timeout=30) == []
        lease.__exit__(None, None, None)
        assert left_folders(place) == [folder.path]


def test_a_file_in_the_place_of_an_attempt_folder_is_said(tmp_path: Path) -> None:
    """What can never become a folder ends the wait for its lock."""
    path = tmp_path / "a-1"
    path.touch()
    with pytest.raises(NotADirectoryError), AttemptFolder(path).owned(wait=30):
        pass


def test_two_that_clear_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """What another sweep has removed between two looks is no error."""
    store_uri, over = str(tmp_path / "store"), threading.Event()
    spool = spool_folder(store_uri)

    def sweep() -> None:
        while not over.is_set():
            folder = ContainerFolder.create(sandbox_folder(spool))
            (spool / "a-1" / "trial").mkdir(parents=True)
            shutil.rmtree(spool / "a-1")
            shutil.rmtree(folder.path)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    seen: set[str] = set()
    try:
        for _ in range(1000):
            seen |= {one.kind for one in find(store_uri).leftovers}
    finally:
        over.set()
        sweeper.join()
    assert seen == {"attempt", "container's folder"}


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    """Without an engine, a store and a cache there is a note on the engine, and no error."""
    shutil.rmtree(tmp_path / "temporary")
    findings = find(str(tmp_path / "store"))
    assert findings.leftovers == []
    assert "no Docker engine" in findings.notes[0]


def test_a_spool_in_the_cache_is_no_interrupted_write(spec: TrialSpec, store: Store, tmp_path: Path) -> None:  # noqa: F811
    """Finished work that waits for another store, in a container's folder under a name with a dot, stays."""
    spool = tmp_path / "cache" / "spool" / "another"
    folder, _, outbox = begun(spec, store, spool)
    predict(outbox, store, spec)
    away = sandbox_folder(spool) / "0" / "out" / "1" / "outbox"
    away.parent.mkdir(parents=True)
    folder.trial.outbox.rename(away)
    for path in (*sandbox_folder(spool).rglob("*"), sandbox_folder(spool)):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert not [one for one in find(store.uri).leftovers if one.kind == "temporary file"]
    cleared(store.uri)
    assert away.is_dir()
