"""Opening and making a store in a folder: what is there, what is not, and what is in the way."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.store.conftest import ROOTS, Disk
from tests.store.making import seal, trial_id_of, whole_attempt
from wtsbench.contract import schemas
from wtsbench.errors import ExitCode, StoreError
from wtsbench.store.client import Store, open_store
from wtsbench.store.engine import database

A = trial_id_of("a")


def _refused(uri: Path | str, *words: str, create: bool = False) -> None:
    with pytest.raises(StoreError) as error:
        open_store(str(uri), create=create)
    assert error.value.exit_code is ExitCode.UNREACHABLE
    assert error.value.remedy
    for word in (str(uri), *words):
        assert word in error.value.message


def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    """Without `create` a missing store is an error that names the folder, and nothing appears."""
    _refused(tmp_path / "none", "there is no store")
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_made_once_and_opened_again(tmp_path: Path) -> None:
    """Making it twice keeps what is in it; parents are made; a relative address and `~` work."""
    folder = tmp_path / "deep" / "store"
    open_store(str(folder), create=True).append([seal(A, 1, 1)])
    store = open_store(str(folder), create=True)
    assert store.trials().num_rows == 1
    assert store.uri == str(folder)
    assert open_store(os.path.relpath(folder)).trials().num_rows == 1


@pytest.mark.parametrize("uri", ["grpc+tls://host:1", "grpc://host", "s3://bucket/x"])
def test_other_kinds_of_address_are_refused(uri: str) -> None:
    """A central server is for a later version; the error says to use a folder."""
    _refused(uri, create=True)


@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_store_is_left_alone(tmp_path: Path, create: bool) -> None:
    """A file, a folder with other things, a database of others and garbage are refused and not changed."""
    (file := tmp_path / "file").write_text("mine")
    (others := tmp_path / "others").mkdir()
    (others / "thesis.tex").write_text("mine")
    (foreign := tmp_path / "database").mkdir()
    with duckdb.connect(str(foreign / "store.duckdb")) as connection:
        connection.execute("CREATE TABLE store (owner VARCHAR)")
    (garbage := tmp_path / "garbage").mkdir()
    (garbage / "store.duckdb").write_bytes(b"hello" * 10_000)
    (empty := tmp_path / "empty").mkdir()
    (empty / "store.duckdb").touch()
    _refused(file, "is a file", create=create)
    _refused(file / "below", create=create)
    _refused(others, "not a wtsbench store", "thesis.tex", create=create)
    for folder in (foreign, garbage):
        _refused(folder, "not a wtsbench store", create=create)
    _refused(empty, create=create)
    assert [path.name for path in others.iterdir()] == ["thesis.tex"]
    assert (garbage / "store.duckdb").read_bytes() == b"hello" * 10_000


def test_a_spool_may_be_there_before_the_store(tmp_path: Path) -> None:
    """Our own things, hidden files and a disk's `lost+found` do not make a folder somebody else's."""
    for name in ("spool", ".hidden", "lost+found"):
        (tmp_path / name).mkdir()
    assert open_store(str(tmp_path), create=True).trials().num_rows == 0


def test_a_store_that_vanishes_is_not_made_anew(store: Store) -> None:
    """Deleting the database under a running process is an error, not an empty store."""
    (Path(store.uri) / "store.duckdb").unlink()
    with pytest.raises(StoreError, match="is gone"):
        store.begin_attempt(A, run="r")
    assert not (Path(store.uri) / "store.duckdb").exists()


def test_a_read_only_disk_can_be_read_and_says_so_when_written(disk: Disk) -> None:
    """Reading works as before, even where no lock file can be made; writing is a clear error."""
    folder = disk.folder / "store"
    open_store(str(folder), create=True).append(whole_attempt(A, 1))
    for name in ("store.lock", "store.turn"):
        disk.mount("remount,ro")
        store = open_store(str(folder))
        assert store.predictions([A]).num_rows == 2
        with pytest.raises(StoreError, match="cannot be written: Read-only file system") as error:
            store.append(whole_attempt(A, 2))
        assert error.value.remedy
        disk.mount("remount,rw")
        (folder / name).unlink()
    disk.mount("remount,ro")
    assert open_store(str(folder)).predictions([A]).num_rows == 2
    _refused(disk.folder / "new", "Read-only file system", create=True)
    disk.mount("remount,rw")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_a_clear_error(tmp_path: Path) -> None:
    """Permissions are named, for making a store and for writing one."""
    store = open_store(str(tmp_path / "store"), create=True)
    for path in (*Path(store.uri).iterdir(), Path(store.uri), tmp_path):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    assert store.trials().num_rows == 0
    with pytest.raises(StoreError, match="Permission denied"):
        store.begin_attempt(A, run="r")
    _refused(tmp_path / "new", "Permission denied", create=True)
    tmp_path.chmod(0o700)


def test_a_newer_store_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of a schema version from the future is neither read nor written; both versions are named."""
    with duckdb.connect(str(Path(store.uri) / "store.duckdb")) as connection:
        connection.execute("UPDATE store SET schema_version = 99")
    _refused(store.uri, "schema version 99", create=True)
    with pytest.raises(StoreError, match="schema version 99"):
        store.begin_attempt(A, run="r")


def test_an_older_store_is_brought_up_to_date_when_opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations run in order, in one transaction, once, and keep what is stored."""
    store.append(whole_attempt(A, 1))
    now = schemas.SCHEMA_VERSION
    monkeypatch.setattr(database, "SCHEMA_VERSION", now + 2)
    steps = {now: ["ALTER TABLE store ADD COLUMN a INTEGER"], now + 1: ["UPDATE store SET a = 5", "SELECT broken"]}
    monkeypatch.setattr(database, "MIGRATIONS", steps)
    _refused(store.uri)
    steps[now + 1].pop()
    assert open_store(store.uri).predictions([A]).num_rows == 2
    assert open_store(store.uri).sealed(A, 1)
    with duckdb.connect(str(Path(store.uri) / "store.duckdb")) as connection:
        assert connection.execute("SELECT * FROM store").fetchall() == [(now + 2, 5)]


@pytest.mark.parametrize("calls", [1, 5, 20, 1_000])
def test_killed_while_it_is_made_a_store_is_whole_or_absent(
    tmp_path: Path, child: Callable[..., subprocess.Popen[str]], calls: int
) -> None:
    """Whatever was left over, making the store again succeeds."""
    folder = tmp_path / "store"
    output, _ = child("die_in_creation", folder, calls).communicate()
    assert "dies before" in output or calls == 1_000
    assert open_store(str(folder), create=True).trials().num_rows == 0
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_store_can_be_handed_to_another_process(store: Store) -> None:
    """It pickles, and holds nothing open."""
    store.append(whole_attempt(A, 1))
    assert pickle.loads(pickle.dumps(store)).trials().num_rows == 1  # noqa: S301
    handles = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [path for path in handles if path.is_relative_to(store.uri)]


def test_looking_at_the_client_imports_no_engine() -> None:
    """The engine is imported with the first operation, and by its own module alone."""
    code = "import sys, wtsbench.store.client, wtsbench.store.courier; assert 'duckdb' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, ROOTS))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_store_that_can_only_be_read_is_called_so(tmp_path: Path) -> None:
    """Who may not write a store is told before anything is begun, and may read it."""
    open_store(str(tmp_path / "store"), create=True)
    (tmp_path / "store").chmod(0o555)
    program = (
        "import sys; from wtsbench.store.client import open_store, require_writable\n"
        "open_store(sys.argv[1]).trials()\n"
        "require_writable(sys.argv[1])"
    )
    as_others = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_others, sys.executable, "-c", program, str(tmp_path / "store")], capture_output=True, text=True
    )
    (tmp_path / "store").chmod(0o755)
    assert "can only be read\n  make the folder writable" in done.stderr
