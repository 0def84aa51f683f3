"""The open database of a server: one writing transaction at a time, and concurrent readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from wtsbench.files import sync_folder
from wtsbench.store.arrival import Memory
from wtsbench.store.engine.database import EXTENSIONS
from wtsbench.store.engine.explain import explained
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.numbers import Numbers

REMEMBERED = 20_000
"""Attempts in the writer's cache."""
LOG = "64MB"
"""Size of the engine's log at which it is checkpointed: writers wait meanwhile, so not at the default of 16 MB."""
BROKEN = (duckdb.FatalException, duckdb.IOException, duckdb.InternalException, duckdb.ConnectionException)
"""Errors of the engine after which it must be reopened; the last is raised if reopening failed before."""


class Durable:
    """A database that stays open; the caller holds the folder's lock.

    One thread at a time may use it, except for `cursor` and `size`.
    """

    def __init__(self, path: Path) -> None:
        """Open a database, and migrate it if needed.

        Raises:
            StoreError: it cannot be opened.
        """
        self.path = path
        with Engine.open(path, read_only=False):  # checks its version and migrates it
            pass
        self._db = _connect(path)
        self._memory = _fresh()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for a reader."""
        return self._db.cursor()

    @contextmanager
    def transaction(self) -> Iterator[Engine]:
        """One transaction: after an exit without an error all of it is on the disk, else none of it."""
        if max(len(self._memory.arrivals), len(self._memory.numbers or ())) > REMEMBERED:
            self._memory = _fresh()
        log_is_new = not self._log.exists()
        try:
            self._db.begin()
            yield Engine(self._db, self._memory)
            self._db.commit()
            if log_is_new and self._log.exists():  # the engine flushes its log, but not the folder of the new file
                sync_folder(self.path.parent)
        except BaseException:
            self._memory = _fresh()
            with suppress(duckdb.Error):
                self._db.rollback()
            raise

    def mended(self, error: Exception) -> Exception:
        """After a failed transaction: make the next one possible; the error as the client gets it."""
        if isinstance(error, BROKEN):  # after a full disk, say, the engine refuses everything until it is reopened
            with suppress(duckdb.Error):
                self._db.close()
            with suppress(duckdb.Error):
                self._db = _connect(self.path)
        return explained(str(error), self.path) if isinstance(error, duckdb.Error | OSError) else error

    def checkpoint(self) -> None:
        """Write the engine's log into the database file."""
        self._db.cursor().execute("CHECKPOINT")

    @property
    def files(self) -> list[Path]:
        """The files that make up the store between two transactions."""
        return [path for path in (self.path, self._log) if path.exists()]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        size = 0
        for path in self.files:
            with suppress(FileNotFoundError):  # a checkpoint removes the engine's log at any time
                size += path.stat().st_size
        return size

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}.wal")

    def close(self) -> None:
        """Write the log into the database and close it."""
        with suppress(duckdb.Error):
            self._db.execute("CHECKPOINT")
        with suppress(duckdb.Error):
            self._db.close()


def _fresh() -> Memory:
    return Memory(numbers=Numbers())


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        str(path),
        config={
            **EXTENSIONS,
            "threads": min(4, os.cpu_count() or 1),
            "enable_external_access": False,
            "python_enable_replacements": False,
            "lock_configuration": True,
            "checkpoint_threshold": LOG,
        },
    )
