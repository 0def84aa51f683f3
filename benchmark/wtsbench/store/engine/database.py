"""The database file: creating, opening, migrating and inserting."""

from __future__ import annotations

import os
import time
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


def connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Connect; wait while another tool, which does not know wtsbench's lock, has the database open."""
    deadline = time.monotonic() + lock_seconds()
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=_READING if read_only else _WRITING)
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
