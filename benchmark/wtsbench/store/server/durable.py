"""What a server makes durable: a journal that is quick to write, and tables that it goes into, much of it at once.

What is appended is acknowledged when it is in the journal, and goes into the tables a little later: when enough has
come, when somebody reads or changes anything else, or after a moment. Nobody sees the difference.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from wtsbench.contract.outbox import Ack, Batch
from wtsbench.errors import StoreError
from wtsbench.files import sync_folder
from wtsbench.store.arrival import Memory
from wtsbench.store.database import EXTENSIONS
from wtsbench.store.engine import Engine
from wtsbench.store.explain import explained
from wtsbench.store.journal import Journal

SETTLE_BYTES = 8 * 2**20
"""In the journal, or about to be, after which records go into the tables: larger groups are hardly cheaper."""
RECORD_BYTES = 2**13
"""A record costs as much as so many bytes more."""
SETTLE_SECONDS = 1.0
"""How long acknowledged records stay in the journal alone."""
REMEMBERED = 20_000
"""Attempts of which the writer knows by heart what is stored."""
BROKEN = (duckdb.FatalException, duckdb.IOException, duckdb.InternalException, duckdb.ConnectionException)
"""What the engine says when it is to be opened anew; the last of them where opening it anew failed before."""
Change = Callable[[Engine], Any]


class Durable:
    """Journal, tables, and what is known of both; the caller holds the folder's lock.

    One thread at a time may use it, but for `cursor`, `size` and `settled`.
    """

    def __init__(self, path: Path) -> None:
        """Open a database, bringing it up to date.

        Raises:
            StoreError: it cannot be opened, or its journal cannot be made.
        """
        self.path = path
        with Engine.open(path, read_only=False):  # checks its version, migrates it, empties a journal that was left
            pass
        self._db = _connect(path)
        try:
            self._journal = Journal(path)
        except OSError as error:
            self._db.close()
            raise explained(str(error), path) from error
        self._memory = Memory()
        self._unsettled = 0
        """Bytes, and RECORD_BYTES a record, that are in the journal or about to be, and not in the tables."""
        self._since = 0.0
        self._behind = False
        """Something failed: what the journal holds must be put into the tables from there."""

    @property
    def settled(self) -> bool:
        """Whether all that was acknowledged is in the tables."""
        return not (self._unsettled or self._behind)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for a reader."""
        return self._db.cursor()

    def make(
        self, requests: Sequence[Sequence[Batch] | StoreError], changes: Sequence[Change]
    ) -> tuple[list[list[Ack] | StoreError], list[Any], int]:
        """Make what is asked for durable, all of it or, where this raises, none.

        Args:
            requests: records to append, as `Engine.decide` takes them.
            changes: any others.

        Returns:
            Answers to requests, answers to changes, and how many rows are new.
        """
        self._catch_up()
        if len(self._memory.arrivals) > REMEMBERED and not self._memory.waiting:
            self._memory = Memory()
        try:
            answers, new = Engine(self._db).decide(requests, self._memory)
            if new and not self._unsettled:
                self._since = time.monotonic()
            self._unsettled += sum(batch.data.nbytes + RECORD_BYTES for batch in new)
            late = time.monotonic() - self._since > SETTLE_SECONDS
            if changes or (self._unsettled and (late or self._unsettled > SETTLE_BYTES)):
                return answers, self._into_tables(changes), sum(batch.data.num_rows for batch in new)
            if new:
                self._journal.write(new)
        except BaseException:
            self._forget()
            raise
        return answers, [], sum(batch.data.num_rows for batch in new)

    def settle(self) -> None:
        """Put all that was acknowledged into the tables."""
        self._catch_up()
        if self._unsettled:
            self._into_tables(())

    def _into_tables(self, changes: Sequence[Change]) -> list[Any]:
        with self._transaction() as engine:
            engine.store(self._memory)
            made = [change(engine) for change in changes]
        if engine.appended:  # a merge, say: what is known by heart may not be so any more
            self._memory = Memory()
        return made

    def _catch_up(self) -> None:
        """After something failed: put what is acknowledged into the tables before anything else."""
        if self._behind:
            self._journal.give_room()
            with self._transaction() as engine:
                engine.catch_up(self._journal.path)
            self._behind = False

    def _forget(self) -> None:
        self._memory = Memory()
        self._behind = True

    @contextmanager
    def _transaction(self) -> Iterator[Engine]:
        """One transaction, after which the journal is not needed any more."""
        log_is_new = not self._log.exists()
        try:
            self._db.begin()
            yield Engine(self._db)
            self._db.commit()
            if log_is_new:  # the engine flushes its log, but not the folder in which it has just made it
                sync_folder(self.path.parent)
        except BaseException:
            self._forget()
            with suppress(duckdb.Error):
                self._db.rollback()
            raise
        self._journal.clear()
        self._unsettled = 0

    def mended(self, error: Exception) -> Exception:
        """After `make` or `settle` failed: see that the next one may succeed; the error in words for whoever asked."""
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
        """The files that are the whole store, once all is settled."""
        return [path for path in (self.path, self._log) if path.exists()]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        found = 0
        for path in self.files:
            with suppress(FileNotFoundError):  # a checkpoint removes the engine's log, and nobody asks who looks
                found += path.stat().st_size
        return found

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}.wal")

    def close(self) -> None:
        """Close the database, its log written into it."""
        with suppress(duckdb.Error):
            self._db.execute("CHECKPOINT")
        with suppress(duckdb.Error):
            self._db.close()
        with suppress(OSError):
            self._journal.close(empty=self.settled)
            sync_folder(self.path.parent)


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        str(path),
        config={
            **EXTENSIONS,
            "threads": min(4, os.cpu_count() or 1),
            "enable_external_access": False,
            "python_enable_replacements": False,
            "lock_configuration": True,
        },
    )
