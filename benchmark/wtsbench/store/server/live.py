"""The one owner of a served store's database: a writer that commits what waits together, and readers beside it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from wtsbench.contract.outbox import Ack, Batch
from wtsbench.errors import StoreError
from wtsbench.store import wire
from wtsbench.store.engine import Engine
from wtsbench.store.explain import explained
from wtsbench.store.lock import StoreBusy
from wtsbench.store.queries import Query
from wtsbench.store.server import durable
from wtsbench.store.server.bounds import Stop
from wtsbench.store.server.guard import Refused

GROUP_JOBS = 256
"""Requests of one transaction."""
GROUP_BYTES = 64 * 2**20
"""After which a transaction takes no further request."""
QUEUE_BYTES = 512 * 2**20
"""What may wait in memory to be committed; beyond it, senders wait, and then are asked to come again."""
LINGER = 0.002
"""Seconds to wait for those whom the last commit answered to send again: one commit costs more than waiting."""
QUEUE_SECONDS = 20.0
"""How long a sender waits for room in the queue."""
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


@dataclass(kw_only=True)
class _Job:
    size: int
    records: Sequence[Batch] | bytes = ()
    """What is to be appended; bytes are read by the writer, since many threads at once would be slower."""
    call: Callable[[Engine], Any] | None = None
    answer: Future[Any] = field(default_factory=Future)


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
        self._observe = observe
        self._mutex = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._bytes = 0
        self._wanted = 1
        """Requests that the writer waits for: to wake it for each would cost more than the waiting."""
        self._closing = False
        self._scopes: dict[tuple[str, int], str] = {}
        self._begun: dict[str, int] = {}
        self._begun_now: dict[str, int] = {}
        self._pause = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="wtsbench-store-writer")
        self._writer.start()

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
        acks: list[Ack] = self._queued(_Job(size=size, records=records))
        return acks

    def call(self, change: Callable[[Engine], Any], size: int = 1024) -> Any:
        """Make any other change durable, in one transaction with whatever else waits."""
        return self._queued(_Job(size=size, call=change))

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

        def begin(engine: Engine) -> int:  # the writer's thread only
            known = self._begun.get(request) or self._begun_now.get(request)
            if known is None:  # remembered for good only when the transaction is durable
                known = self._begun_now[request] = engine.begin_attempt(trial_id, run, token=token, scope=scope)
            return known

        return int(self.call(begin))

    @property
    def waiting(self) -> tuple[int, int]:
        """Requests in the queue, and their bytes."""
        with self._mutex:
            return len(self._waiting), self._bytes

    def _queued(self, job: _Job) -> Any:
        deadline = time.monotonic() + QUEUE_SECONDS
        with self._mutex:
            while not self._closing and self._bytes and self._bytes + job.size > QUEUE_BYTES:
                if not self._mutex.wait(deadline - time.monotonic()) or time.monotonic() > deadline:
                    raise StoreBusy("the store's queue is full", remedy="try again; nothing was lost.")
            if self._closing:
                raise StoreBusy("the store is stopping", remedy="try again when it is back; nothing was lost.")
            self._waiting.append(job)
            self._bytes += job.size
            if len(self._waiting) >= self._wanted:
                self._mutex.notify_all()
        return job.answer.result()

    def settle(self) -> None:
        """See that everything acknowledged is in the tables, before they are read."""
        if not self._durable.settled:
            self.call(lambda engine: None, size=0)

    def _write(self) -> None:
        expected = 1
        over = False
        while not over:
            with self._mutex:
                pause = None if self._durable.settled else durable.SETTLE_SECONDS
                self._mutex.wait_for(lambda: self._waiting or self._closing, pause)
                if self._waiting:
                    self._wanted = expected
                    self._mutex.wait_for(lambda: len(self._waiting) >= self._wanted or self._closing, LINGER)
                    self._wanted = 1
                over = self._closing and not self._waiting
                group = self._group()
            with self._pause:
                self._commit(group)
            with self._mutex:
                self._bytes -= sum(job.size for job in group)
                expected = min(GROUP_JOBS, len(group) + len(self._waiting))
                self._mutex.notify_all()

    def _group(self) -> list[_Job]:
        group: list[_Job] = []
        size = 0
        while self._waiting and len(group) < GROUP_JOBS and (not group or size + self._waiting[0].size <= GROUP_BYTES):
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    def _commit(self, group: list[_Job]) -> None:
        begun = time.monotonic()
        try:
            answers, rows = self._made(group)
        except Exception as error:  # noqa: BLE001  # whatever it is, each sender must hear of it
            told = self._durable.mended(error)
            if len(group) == 1:
                group[0].answer.set_exception(told)
            else:
                for job in group:  # one of them is at fault: the others must not suffer
                    self._commit([job])
            return
        if group:
            self._observe(len(group), rows, time.monotonic() - begun)
        for job, answer in zip(group, answers, strict=True):
            if isinstance(answer, StoreError):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)

    def _made(self, group: list[_Job]) -> tuple[list[Any], int]:
        """Make what a group asks for durable; without a group, see that all is in the tables. Answers, and new rows."""
        if not group:
            self._durable.settle()
        self._begun_now.clear()
        appends = [job for job in group if job.call is None]
        changes = [job for job in group if job.call is not None]
        acks, made, rows = self._durable.make(
            [_read(job.records) for job in appends], [job.call for job in changes if job.call is not None]
        )
        self._begun |= self._begun_now
        while len(self._begun) > BEGUN:
            del self._begun[next(iter(self._begun))]
        answers = dict(zip(map(id, [*appends, *changes]), [*acks, *made], strict=True))
        return [answers[id(job)] for job in group], rows

    # -- reading

    @contextmanager
    def snapshot(self) -> Iterator[Engine]:
        """One transaction for reading, beside the writer: it sees all that was committed before, and no more."""
        self.settle()
        with self._cursor() as cursor:
            yield Engine(cursor)

    @contextmanager
    def moment(self, tables: Sequence[str]) -> Iterator[dict[str, duckdb.DuckDBPyConnection]]:
        """A connection for each of some tables, which all see the store as it was at one moment."""
        with ExitStack() as stack:
            with self._paused():
                cursors = {table: stack.enter_context(self._cursor()) for table in tables}
                for cursor in cursors.values():  # a transaction begins where it first looks
                    cursor.execute("SELECT schema_version FROM store").fetchall()
            yield cursors

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""
        self.settle()
        with self._cursor() as cursor:
            return Engine(cursor).sealed(trial_id, attempt)

    def scopes(self, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str | None]:
        """Scopes of the tokens that attempts were begun under, as `Engine.scopes`; needs no turn either.

        An attempt is for ever of the token that began it, so those seen once are remembered. Attempts of other stores
        may be in the journal only, and have none here.
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
            Refused: it takes too long, or a parameter is of a wrong kind.
        """
        batches = self._stream(sql, parameters, schema, stop)
        next(batches)
        return schema, batches

    def _stream(self, sql: str, parameters: Sequence[Any], schema: pa.Schema, stop: Stop) -> Iterator[Any]:
        self.settle()
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
        with self._paused():
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
        with self._paused():
            with suppress(duckdb.Error):  # a reader may stand in its way: then the log is part of the store
                self._durable.checkpoint()
            yield self._durable.files

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Keep writers waiting, with everything in the tables."""
        with self._pause:
            try:
                self._durable.settle()
            except (duckdb.Error, OSError) as error:
                raise self._durable.mended(error) from error
            yield

    def stop_writing(self, deadline: float) -> bool:
        """Take no more writes, and commit those that wait; whether that was done by the deadline (monotonic)."""
        with self._mutex:
            self._closing = True
            self._mutex.notify_all()
        self._writer.join(max(0.0, deadline - time.monotonic()))
        return not self._writer.is_alive()

    def close(self) -> None:
        """Close the database, its log written into it; a commit that takes too long is left to the process's end."""
        if self._writer.is_alive():
            return
        self._durable.close()


def _read(records: Sequence[Batch] | bytes) -> Sequence[Batch] | StoreError:
    """Records, or why they are none."""
    if not isinstance(records, bytes):
        return records
    try:
        return wire.decode(records)
    except StoreError as error:
        return error


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [batch.column(name).cast(schema.field(name).type) for name in schema.names], schema=schema
    )


def _reader_fault(error: duckdb.Error, path: Path, limits: Limits) -> StoreError:
    if isinstance(error, duckdb.InterruptException):
        return Refused(
            f"the question took longer than {limits.seconds:g} s", remedy="narrow it, or ask a copy of the store."
        )
    if isinstance(error, durable.BROKEN):
        return explained(str(error), path)
    return Refused((str(error).strip().splitlines() or ["the SQL failed"])[0])
