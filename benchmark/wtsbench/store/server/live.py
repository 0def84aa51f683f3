"""The one owner of a served store's database: a writer that commits what waits together, and readers beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from wtsbench.contract.outbox import Ack, Batch
from wtsbench.errors import StoreError
from wtsbench.store.engine.explain import explained
from wtsbench.store.engine.queries import Query
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.lock import StoreBusy
from wtsbench.store.server import durable
from wtsbench.store.server.bounds import Stop
from wtsbench.store.server.writer import Job, Writer
from wtsbench.store.wire import StoreRefused

BEGUN = 10_000
"""Requests for attempt numbers that are known again when they are repeated."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one reader may ask for."""

    seconds: float = 60.0
    """Of computing, for a question."""
    rows: int = 1_000_000
    """Of an answer to free SQL."""
    bytes: int = 256 * 2**20
    """Of it, too."""
    readers: int = 8
    """Questions that are worked on at once."""
    requests: int = 1024
    """Requests of all kinds at once."""
    of_one: int = 512
    """Of those, with one token."""
    questions: int = 4
    """Questions in free SQL that are computed at once, each by a process of its own."""
    memory: int = 2 * 2**30
    """Bytes that such a process may take, beyond the 0.4 GiB of addresses that it begins with."""
    disk: int = 8 * 2**30
    """Bytes that it may set aside in the folder for temporary files."""


class LiveStore:
    """A store's database, open for as long as the server runs. The caller holds the folder's lock."""

    def __init__(self, path: Path, *, limits: Limits, observe: Callable[[int, int, float], None]) -> None:
        """Open it, bringing it up to date.

        Args:
            path: the database.
            limits: for readers.
            observe: told of every transaction: its requests, its rows, its seconds.
        """
        self._durable = durable.Durable(path)
        self._limits = limits
        self._writer = Writer(self._durable, observe)
        self._scopes: dict[tuple[str, int], str] = {}
        self._begun: dict[str, Future[int]] = {}
        self._begin = threading.Lock()

    # -- writing

    def append(self, records: Sequence[Batch] | bytes, size: int) -> list[Ack]:
        """Make the records of one request durable, together with whatever else waits.

        Args:
            records: as records, or encoded (`wire.encode`).
            size: their bytes.

        Raises:
            StoreConflict, StoreError: as `Engine.append`, and `wire.decode`.
            StoreBusy: the queue stayed full, or the server is stopping.
        """
        job = Job(size=size, records=records)
        self._writer.put(job)
        acks: list[Ack] = job.answer.result()
        return acks

    def call(self, change: Callable[[Engine], Any], size: int = 1024) -> Any:
        """Make any other change durable, in one transaction with whatever else waits."""
        job = Job(size=size, change=change)
        self._writer.put(job)
        return job.answer.result()

    def begin_attempt(
        self, trial_id: str, run: str, request: str, *, token: str | None = None, scope: str | None = None
    ) -> int:
        """Take the next attempt number of a trial.

        Args:
            trial_id: the trial.
            run: name of the submission.
            request: the client's name for this request; asking again under it gives the same number.
            token: name of the token of whoever asks.
            scope: that token's.
        """
        job = Job(size=1024, change=lambda engine: engine.begin_attempt(trial_id, run, token=token, scope=scope))
        with self._begin:
            answer = self._begun.setdefault(request, job.answer)
            while len(self._begun) > BEGUN:
                del self._begun[next(iter(self._begun))]
        try:
            if answer is job.answer:
                self._put_first(job)
            return answer.result()
        except Exception:
            with self._begin:
                if self._begun.get(request) is answer:
                    del self._begun[request]
            raise

    def _put_first(self, job: Job) -> None:
        """Queue a request; whoever waits for the same one hears of it, too, if there is no room."""
        try:
            self._writer.put(job)
        except StoreBusy as error:
            job.answer.set_exception(error)

    @property
    def waiting(self) -> tuple[int, int]:
        """Requests that wait to be committed, and their bytes."""
        return self._writer.waiting

    # -- reading

    @contextmanager
    def snapshot(self) -> Iterator[Engine]:
        """One transaction for reading, beside the writer: it sees all that was committed before, and no more."""
        with self._cursor() as cursor:
            yield Engine(cursor)

    @contextmanager
    def moment(self, tables: Sequence[str]) -> Iterator[dict[str, duckdb.DuckDBPyConnection]]:
        """A connection for each of some tables, which all see the store as it was at one moment."""
        with ExitStack() as stack:
            with self._writer.pause:
                cursors = {table: stack.enter_context(self._cursor()) for table in tables}
                for cursor in cursors.values():  # a transaction begins where it first looks
                    cursor.execute("SELECT schema_version FROM store").fetchall()
            yield cursors

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""
        with self._cursor() as cursor:
            return Engine(cursor).sealed(trial_id, attempt)

    def scopes(self, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str | None]:
        """Scopes of the tokens that attempts were begun under, as `Engine.scopes`.

        An attempt is for ever of the token that began it, so those seen once are remembered.
        """
        remembered = self._scopes
        known = {one: remembered[one] for one in attempts if one in remembered}
        unknown = [one for one in attempts if one not in known]
        if unknown:
            with self._cursor() as cursor:
                found = Engine(cursor).scopes(unknown)
            known |= {one: scope for one, scope in found.items() if scope is not None}
            if len(self._scopes) > durable.REMEMBERED:
                self._scopes = {}  # other threads do so as well: each answers out of what it found itself
            self._scopes.update(known)
        return {one: known.get(one) for one in attempts}

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            cursor = self._durable.cursor()
            try:
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                yield cursor
            finally:
                cursor.close()
        except duckdb.Error as error:
            raise _reader_fault(error, self._durable.path, self._limits) from error

    def stream(
        self, sql: str, parameters: Sequence[Any], *, schema: pa.Schema, stop: Stop
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The answer to a question of wtsbench's own, batch by batch. The iterator must be exhausted or closed.

        Args:
            sql: one SELECT.
            parameters: for its `?`.
            schema: what the answer is cast to.
            stop: ends it.

        Raises:
            StoreRefused: it takes too long, or a parameter is of a wrong kind.
        """
        batches = self._stream(sql, parameters, schema, stop)
        next(batches)
        return schema, batches

    def _stream(self, sql: str, parameters: Sequence[Any], schema: pa.Schema, stop: Stop) -> Iterator[Any]:
        with self._cursor() as cursor:

            def end() -> None:
                with suppress(duckdb.ConnectionException):  # it has ended already
                    cursor.interrupt()

            late = threading.Timer(self._limits.seconds, end)
            late.daemon = True
            late.start()
            stop.add(end)
            try:
                reader: pa.RecordBatchReader = cursor.sql(sql, params=list(parameters)).to_arrow_reader(65_536)
                yield schema
                for batch in reader:
                    yield _cast(batch, schema)
            finally:
                late.cancel()

    def read(self, query: Query) -> pa.Table:
        """The answer to a named question, whole."""
        with self.snapshot() as engine:
            return engine.read(query)

    # -- upkeep

    def compact(self) -> dict[str, int]:
        """Write the log into the database file; bytes on the disk before and after."""
        with self._writer.pause:
            before = self.size
            try:
                self._durable.checkpoint()
            except duckdb.Error as error:
                raise explained(str(error), self._durable.path) from error
            return {"bytes_before": before, "bytes_after": self.size}

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._durable.size

    @contextmanager
    def still(self) -> Iterator[list[Path]]:
        """Keep writers waiting; yields the files that are the whole store meanwhile."""
        with self._writer.pause:
            with suppress(duckdb.Error):  # a reader may stand in its way: then the log is part of the store
                self._durable.checkpoint()
            yield self._durable.files

    def stop_writing(self, deadline: float) -> bool:
        """Take no more writes, and commit those that wait; whether that was done by the deadline (monotonic)."""
        self._writer.stop(deadline)
        return self._writer.stopped

    def close(self) -> None:
        """Close the database, its log written into it; a commit that takes too long is left to the process's end."""
        if self._writer.stopped:
            self._durable.close()


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [batch.column(name).cast(schema.field(name).type) for name in schema.names], schema=schema
    )


def _reader_fault(error: duckdb.Error, path: Path, limits: Limits) -> StoreError:
    if isinstance(error, duckdb.InterruptException):
        return StoreRefused(
            f"the question took longer than {limits.seconds:g} s", remedy="narrow it, or ask a copy of the store."
        )
    if isinstance(error, durable.BROKEN):
        return explained(str(error), path)
    return StoreRefused((str(error).strip().splitlines() or ["the SQL failed"])[0])
