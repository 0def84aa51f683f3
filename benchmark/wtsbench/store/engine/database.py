"""The database file: creating, opening, migrating and inserting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.errors import StoreError
from wtsbench.files import sync_folder
from wtsbench.settings import lock_seconds
from wtsbench.store.engine.explain import explained, foreign_holder, not_ours
from wtsbench.store.engine.tables import MIGRATIONS, creation
from wtsbench.store.lock import StoreBusy

_Config = dict[str, str | bool | int | float | list[str]]
EXTENSIONS: _Config = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
_WRITING: _Config = {**EXTENSIONS, "threads": 1}
"""A write is small: starting more threads takes longer than they save."""
_READING: _Config = {**EXTENSIONS, "threads": min(4, os.cpu_count() or 1)}
_PAUSE = 0.05
_NAME = "wtsbench"
"""Of the database in the engine that it is attached to."""
_kept: dict[tuple[int, bool], tuple[Path, duckdb.DuckDBPyConnection]] = {}
"""By process, and whether it is for reading: an engine with nothing attached, and the database that it was made for."""
UP_TO_DATE = (
    "`wtsbench store status --store DIR` brings a store's folder up to date, and `wtsbench store restore` makes one of"
    " a backup."
)


class Behind(StoreError):
    """The store has an older schema version; opening it for writing migrates it."""


def create(path: Path) -> None:
    """Make an empty store's database. The file gets its name only when it is complete.

    Raises:
        StoreError: the file cannot be written.
    """
    unnamed = path.with_name(f".{path.name}.new")
    try:
        for left_over in (unnamed, unnamed.with_name(f"{unnamed.name}.wal")):
            left_over.unlink(missing_ok=True)
        connection = duckdb.connect(str(unnamed), config=_WRITING)
        try:
            connection.begin()
            for statement in creation():
                connection.execute(statement)
            connection.execute("INSERT INTO store VALUES (?)", [SCHEMA_VERSION])
            connection.commit()
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        unnamed.rename(path)
        sync_folder(path.parent)
    except duckdb.Error as error:
        raise explained(str(error), path) from error
    except OSError as error:
        raise StoreError(f"the store {path.parent} cannot be made: {error.strerror}") from error


@contextmanager
def opened(path: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a database for the block; wait while another tool, which does not know wtsbench's lock, has it.

    The database is attached to an engine of this process, which is kept for the next block: to make one takes 15 ms of
    CPU, to attach a file 2. At the end the database is closed and its log written into it; where that cannot be, as on
    a full disk, the log stays beside it, with all that was committed. An engine that failed is not used again.
    """
    key = (os.getpid(), read_only)  # a forked process has no threads of its parent's engine
    kept_for, engine = _kept.pop(key, (path, None))
    if engine is not None and kept_for != path:
        engine.close()
        engine = None
    if engine is None:
        engine = connect(path, read_only=read_only)
    try:
        _attach(engine, path, read_only=read_only)
        yield engine
    except BaseException:
        engine.close()
        raise
    try:
        engine.execute("USE memory")
        engine.execute(f"DETACH {_NAME}")
    except duckdb.Error:
        engine.close()
        return
    if _kept.setdefault(key, (path, engine))[1] is not engine:  # another thread's is kept
        engine.close()


def connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """An engine for a database, without the database."""
    config = _READING if read_only else _WRITING
    return duckdb.connect(":memory:", config={**config, "temp_directory": f"{path}.tmp"})


def _attach(engine: duckdb.DuckDBPyConnection, path: Path, *, read_only: bool) -> None:
    deadline = time.monotonic() + lock_seconds()
    quoted = str(path).replace("'", "''")
    while True:
        try:
            engine.execute(f"ATTACH '{quoted}' AS {_NAME} (TYPE duckdb{', READ_ONLY' if read_only else ''})")
            engine.execute(f"USE {_NAME}")
            return
        except duckdb.IOException as error:
            holder = foreign_holder(str(error))
            if holder is None:
                raise
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"{path} was open in {holder} for {lock_seconds():g} s", remedy="close it there and try again."
                ) from error
        time.sleep(_PAUSE)


def check_version(
    connection: duckdb.DuckDBPyConnection, path: Path, *, may_write: bool, oldest: int | None = None
) -> None:
    """Check, in an open transaction, that a database is a store of this schema version; migrate an older one.

    Args:
        connection: with the transaction.
        path: the database.
        may_write: whether it may be migrated.
        oldest: the oldest version that is taken as it is where nothing may be written; None for this one.

    Raises:
        StoreError: it is no store of wtsbench, or of a newer schema version.
        Behind: it has an older one, and may not be written.
    """
    try:
        ((version,),) = connection.execute("SELECT max(schema_version) FROM store").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        version = None
    if version is None:
        raise not_ours(path, "its tables are others")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the store {path.parent} has schema version {version}, and this wtsbench knows up to {SCHEMA_VERSION}",
            remedy="use the version of wtsbench that wrote it, or a newer one.",
        )
    if version == SCHEMA_VERSION or (oldest is not None and oldest <= version and not may_write):
        return
    if not {*range(version, SCHEMA_VERSION)} <= MIGRATIONS.keys():
        raise StoreError(
            f"the store {path.parent} has schema version {version}, of a wtsbench that was never released",
            remedy="submit its grids to a new store.",
        )
    if not may_write:
        raise Behind(f"{path} has schema version {version}, not {SCHEMA_VERSION}", remedy=UP_TO_DATE)
    for step in range(version, SCHEMA_VERSION):
        for statement in MIGRATIONS[step]:
            connection.execute(statement)
    connection.execute("UPDATE store SET schema_version = ?", [SCHEMA_VERSION])


def sync_left_over(path: Path) -> None:
    """Flush the folder if the engine left its log beside the database, as on a full disk: the log must survive."""
    if path.with_name(f"{path.name}.wal").exists():
        sync_folder(path.parent)


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Insert rows into one of the engine's tables; columns are matched by name."""
    # The engine's times have no zone: it would need an extension for that.
    naive = [f.with_type(pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f for f in rows.schema]
    connection.register("incoming", rows.cast(pa.schema(naive)))
    try:
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    finally:
        connection.unregister("incoming")


def next_number(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> int:
    """One more than the highest number in a column; 1 if the table is empty."""
    ((number,),) = connection.execute(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}").fetchall()
    return int(number)
