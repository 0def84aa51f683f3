"""The open database of a server: one transaction at a time that writes, and readers beside it."""

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

REMEMBERED = 20_000
"""Attempts of which the writer knows by heart what is stored."""
LOG = "64MB"
"""Size of the engine's log at which it goes into the database file: writers wait meanwhile, so not at every 16 MB."""
BROKEN = (duckdb.FatalException, duckdb.IOException, duckdb.InternalException, duckdb.ConnectionException)
"""What the engine says when it is to be opened anew; the last of them where opening it anew failed before."""


class Durable:
    """A database that stays open; the caller holds the folder's lock.

    One thread at a time may use it, but for `cursor` and `size`.
    """

    def __init__(self, path: Path) -> None:
        """Open a database, bringing it up to date.

        Raises:
            StoreError: it cannot be opened.
        """
        self.path = path
        with Engine.open(path, read_only=False):  # checks its version, and migrates it
            pass
        self._db = _connect(path)
        self._memory = Memory()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for a reader."""
        return self._db.cursor()

    @contextmanager
    def transaction(self) -> Iterator[Engine]:
        """One transaction: when this ends without an error, all of it is on the disk, else none of it is anywhere."""
        if len(self._memory.arrivals) > REMEMBERED:
            self._memory = Memory()
        log_is_new = not self._log.exists()
        try:
            self._db.begin()
            yield Engine(self._db, self._memory)
            self._db.commit()
            if log_is_new and self._log.exists():  # the engine flushes its log, but not the folder that it made it in
                sync_folder(self.path.parent)
        except BaseException:
            self._memory = Memory()
            with suppress(duckdb.Error):
                self._db.rollback()
            raise

    def mended(self, error: Exception) -> Exception:
        """After a transaction failed: see that the next one may succeed; the error in words for whoever asked."""
        if isinstance(error, BROKEN):  # after a full disk, say, the engine refuses everything until it is opened anew
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
        """The files that are the whole store, between two transactions."""
        return [path for path in (self.path, self._log) if path.exists()]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        size = 0
        for path in self.files:
            with suppress(FileNotFoundError):  # a checkpoint removes the engine's log, and nobody asks who looks
                size += path.stat().st_size
        return size

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}.wal")

    def close(self) -> None:
        """Close the database, its log written into it."""
        with suppress(duckdb.Error):
            self._db.execute("CHECKPOINT")
        with suppress(duckdb.Error):
            self._db.close()


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
