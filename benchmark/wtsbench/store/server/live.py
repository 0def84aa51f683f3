"""The database of a served store, with its single owner: a writer with group commit, and concurrent readers."""

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
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.lock import StoreBusy
from wtsbench.store.server import durable
from wtsbench.store.server.bounds import Stop
from wtsbench.store.server.writer import Job, Writer
from wtsbench.store.wire import Cancelled, Held, StoreDenied, StoreRefused
from wtsbench.visible import first_line

BEGUN = 10_000
"""Requests for attempt numbers that are remembered, so that repeating one gives the same number."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on requests."""

    seconds: float = 60.0
    """Computing time of a query."""
    rows: int = 1_000_000
    """Rows of the answer to an SQL query."""
    bytes: int = 256 * 2**20
    """Bytes of the answer to an SQL query."""
    readers: int = 8
    """Queries that are worked on at once."""
    requests: int = 1024
    """Requests of all kinds at once."""
    of_one: int = 512
    """Requests at once with one token."""
    questions: int = 4
    """SQL queries that are computed at once, each by a process of its own."""
    memory: int = 2 * 2**30
    """Bytes of memory for such a process, beyond the 0.4 GiB of address space that it starts with."""
    disk: int = 8 * 2**30
    """Bytes for such a process's temporary files."""


class LiveStore:
    """A store's database, open for as long as the server runs. The caller holds the folder's lock."""

    def __init__(self, path: Path, *, limits: Limits, observe: Callable[[int, int, float], None]) -> None:
        """Open it, and migrate it if needed.

        Args:
            path: the database.
            limits: for readers.
            observe: called for every transaction with its requests, rows and seconds.
        """
        self._durable = durable.Durable(path)
        self._limits = limits
        self._writer = Writer(self._durable, observe)
        self._scopes: dict[tuple[str, int], str] = {}
        self._begun: dict[str, Future[int]] = {}
        self._begin = threading.Lock()

    # -- writing

    def append(self, records: Sequence[Batch] | bytes, size: int) -> list[Ack]:
        """Make the records of one request durable, in one transaction with all waiting requests.

        Args:
            records: decoded, or as bytes (`wire.encode`).
            size: their size in bytes.

        Raises:
            StoreConflict, StoreError: as `Engine.append`, and `wire.decode`.
            StoreBusy: the queue stayed full, or the server is stopping.
        """
        job = Job(size=size, records=records)
        self._writer.put(job)
        acks: list[Ack] = job.answer.result()
        return acks

    def call(self, change: Callable[[Engine], Any], size: int = 1024) -> Any:
        """Make any other change durable, in one transaction with all waiting requests."""
        job = Job(size=size, change=change)
        self._writer.put(job)
        return job.answer.result()

    def decide(self, change: Callable[[Engine], Any], size: int = 1024) -> Any:
        """As `call`, for a change that may be refused before it changes anything.

        Such a refusal is an answer: other requests of the same transaction are not carried out anew because of it.
        """

        def decided(engine: Engine) -> Any:
            try:
                return change(engine)
            except (Cancelled, Held, StoreDenied, StoreRefused) as refusal:
                return refusal

        return self.call(decided, size)

    def begin_attempt(
        self,
        trial_id: str,
        run: str,
        request: str,
        *,
        host: str = "",
        lease: bool = False,
        token: str | None = None,
        scope: str | None = None,
    ) -> int:
        """Take the next attempt number of a trial.

        Args:
            trial_id: the trial.
            run: name of the submission.
            request: the client's id for this request; repeating it gives the same number.
            host: where the attempt is to be run.
            lease: take a lease on the trial with it. Its request is stored, so a server that was started anew knows it,
                and who repeats it after the lease was taken by another is told so.
            token: name of the client's token.
            scope: scope of that token.

        Raises:
            Cancelled, Held: with `lease`, as `operations.claimed`.
        """

        def begin(engine: Engine) -> int:
            return engine.begin_attempt(
                trial_id, run, host=host, lease=lease, request=request, token=token, scope=scope
            )

        if lease:
            number: int = self.decide(begin)
            return number
        job = Job(size=1024, change=begin)
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
        """Queue a request; if the queue is full, repeated requests that wait for its answer get the error, too."""
        try:
            self._writer.put(job)
        except StoreBusy as error:
            job.answer.set_exception(error)

    @property
    def waiting(self) -> tuple[int, int]:
        """Number and bytes of the requests that wait to be committed."""
        return self._writer.waiting

    # -- reading

    @contextmanager
    def snapshot(self) -> Iterator[Engine]:
        """A reading transaction, concurrent with the writer: it sees what was committed before, and no more."""
        with self._cursor() as cursor:
            yield Engine(cursor)

    @contextmanager
    def moment(self, tables: Sequence[str]) -> Iterator[dict[str, duckdb.DuckDBPyConnection]]:
        """A connection for each of some tables, all with the same snapshot of the store."""
        with ExitStack() as stack:
            with self._writer.pause:
                cursors = {table: stack.enter_context(self._cursor()) for table in tables}
                for cursor in cursors.values():  # a transaction's snapshot is taken at its first read
                    cursor.execute("SELECT schema_version FROM store").fetchall()
            yield cursors

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""
        with self._cursor() as cursor:
            return Engine(cursor).sealed(trial_id, attempt)

    def scopes(self, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str | None]:
        """Scopes of the tokens with which attempts were begun, as `Engine.scopes`.

        The token of an attempt never changes, so scopes are cached.
        """
        remembered = self._scopes
        scopes = {attempt: remembered[attempt] for attempt in attempts if attempt in remembered}
        unknown = [attempt for attempt in attempts if attempt not in scopes]
        if unknown:
            with self._cursor() as cursor:
                stored = Engine(cursor).scopes(unknown)
            scopes |= {attempt: scope for attempt, scope in stored.items() if scope is not None}
            if len(self._scopes) > durable.REMEMBERED:
                self._scopes = {}  # other threads may do so too: each answers from its own results
            self._scopes.update(scopes)
        return {attempt: scopes.get(attempt) for attempt in attempts}

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
        """Rows of a query made by wtsbench itself, batch by batch. The iterator must be exhausted or closed.

        Args:
            sql: one SELECT.
            parameters: for its `?`.
            schema: the rows are cast to it.
            stop: ends the query.

        Raises:
            StoreRefused: it takes too long, or a parameter is of a wrong kind.
        """
        batches = self._stream(sql, parameters, schema, stop)
        next(batches)
        return schema, batches

    def _stream(self, sql: str, parameters: Sequence[Any], schema: pa.Schema, stop: Stop) -> Iterator[Any]:
        with self._cursor() as cursor:

            def end() -> None:
                with suppress(duckdb.ConnectionException):  # the query has ended already
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

    # -- upkeep

    def compact(self) -> dict[str, int]:
        """Write the log into the database file; its bytes on the disk before and after."""
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
        """Pause writers; yields the files that make up the store meanwhile."""
        with self._writer.pause:
            with suppress(duckdb.Error):  # a reader may block the checkpoint: then the log is part of the store
                self._durable.checkpoint()
            yield self._durable.files

    def stop_writing(self, deadline: float) -> bool:
        """Refuse further writes and commit waiting ones; whether that was done by the deadline (monotonic)."""
        self._writer.stop(deadline)
        return self._writer.stopped

    def close(self) -> None:
        """Write the log into the database and close it, unless a commit takes too long: that ends with the process."""
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
    return StoreRefused(first_line(error))
