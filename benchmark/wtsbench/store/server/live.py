"""The one owner of a served store's database: a writer that commits what waits together, and readers beside it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from wtsbench.errors import StoreError
from wtsbench.store.arrival import Arrival
from wtsbench.store.engine import EXTENSIONS, Engine
from wtsbench.store.explain import explained
from wtsbench.store.lock import StoreBusy
from wtsbench.store.outbox import Ack, Batch, sync_folder
from wtsbench.store.queries import Query
from wtsbench.store.server.guard import Refused, require_harmless

GROUP_JOBS = 256
"""Requests of one transaction."""
GROUP_ROWS = 500_000
"""Rows after which a transaction takes no further request."""
QUEUE_BYTES = 512 * 2**20
"""What may wait in memory to be committed; beyond it, senders wait, and then are asked to come again."""
LINGER = 0.004
"""Seconds to wait for those whom the last commit answered to send again: one commit costs more than waiting."""
REMEMBERED = 20_000
"""Attempts of which the writer knows by heart what is stored."""
QUEUE_SECONDS = 20.0
"""How long a sender waits for room in the queue."""
BEGUN = 10_000
"""Requests for attempt numbers that are known again when they are repeated."""
_BROKEN = (duckdb.FatalException, duckdb.IOException, duckdb.InternalException, duckdb.ConnectionException)
"""What the engine says when it is to be opened anew; the last of them where opening it anew failed before."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one reader may ask for."""

    seconds: float = 60.0
    """Of computing, for a question."""
    rows: int = 1_000_000
    """Of an answer to free SQL."""
    readers: int = 8
    """Questions that are worked on at once."""


@dataclass(kw_only=True)
class _Job:
    size: int
    rows: int
    batches: Sequence[Batch] | None
    call: Callable[[Engine], Any] | None
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
        self._path = path
        self._limits = limits
        self._observe = observe
        with Engine.open(path, read_only=False):  # checks its version, migrates it
            pass
        self._db = _connect(path)
        self._mutex = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._bytes = 0
        self._closing = False
        self._remembered: dict[tuple[str, int], Arrival] = {}
        self._begun: dict[str, int] = {}
        self._begun_now: dict[str, int] = {}
        self._pause = threading.Lock()
        self._readers = threading.BoundedSemaphore(limits.readers)
        self._writer = threading.Thread(target=self._write, name="wtsbench-store-writer")
        self._writer.start()

    # -- writing

    def append(self, batches: Sequence[Batch], size: int) -> list[Ack]:
        """Make the records of one request durable, in one transaction with whatever else waits.

        Args:
            batches: the records.
            size: their bytes.

        Raises:
            StoreConflict, StoreError: as `Engine.append`.
            StoreBusy: the queue stayed full, or the server is stopping.
        """
        rows = sum(batch.data.num_rows for batch in batches)
        acks: list[Ack] = self._queued(_Job(size=size, rows=rows, batches=batches, call=None))
        return acks

    def call(self, change: Callable[[Engine], Any], size: int = 1024) -> Any:
        """Make any other change durable, in one transaction with whatever else waits."""
        return self._queued(_Job(size=size, rows=1, batches=None, call=change))

    def begin_attempt(self, trial_id: str, run: str, request: str) -> int:
        """Take the next attempt number of a trial.

        Args:
            trial_id: the trial.
            run: name of the submission.
            request: the client's name for this request; asking again under it gives the same number.
        """

        def begin(engine: Engine) -> int:  # the writer's thread only
            known = self._begun.get(request) or self._begun_now.get(request)
            if known is None:  # remembered for good only when the transaction is durable
                known = self._begun_now[request] = engine.begin_attempt(trial_id, run)
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
            self._mutex.notify_all()
        return job.answer.result()

    def _write(self) -> None:
        expected = 1
        while True:
            with self._mutex:
                while not self._waiting and not self._closing:
                    self._mutex.wait()
                if not self._waiting:
                    return
                deadline = time.monotonic() + LINGER
                while len(self._waiting) < expected and not self._closing:
                    if not self._mutex.wait(deadline - time.monotonic()):
                        break
                group = self._group()
            with self._pause:
                self._commit(group)
            with self._mutex:
                self._bytes -= sum(job.size for job in group)
                expected = min(GROUP_JOBS, len(group) + len(self._waiting))
                self._mutex.notify_all()

    def _group(self) -> list[_Job]:
        group = [self._waiting.popleft()]
        rows = group[0].rows
        while self._waiting and len(group) < GROUP_JOBS and rows + self._waiting[0].rows <= GROUP_ROWS:
            group.append(self._waiting.popleft())
            rows += group[-1].rows
        return group

    def _commit(self, group: list[_Job]) -> None:
        begun = time.monotonic()
        try:
            answers = self._transaction(group)
        except Exception as error:  # noqa: BLE001  # whatever it is, each sender must hear of it
            if len(group) == 1:
                group[0].answer.set_exception(self._told(error))
            else:
                for job in group:  # one of them is at fault: the others must not suffer
                    self._commit([job])
            return
        self._observe(len(group), sum(job.rows for job in group), time.monotonic() - begun)
        for job, answer in zip(group, answers, strict=True):
            if isinstance(answer, StoreError):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)

    def _transaction(self, group: list[_Job]) -> list[Any]:
        self._begun_now.clear()
        log_is_new = not _log(self._path).exists()
        try:
            self._db.begin()
            engine = Engine(self._db, self._remembered)
            appends = [job for job in group if job.batches is not None]
            by_job = dict(zip(map(id, appends), engine.append_all([job.batches or () for job in appends]), strict=True))
            answers = [by_job[id(job)] if job.call is None else job.call(engine) for job in group]
            self._db.commit()
            if log_is_new:  # the engine flushes its log, but not the folder in which it has just made it
                sync_folder(self._path.parent)
        except BaseException:
            self._remembered.clear()
            with suppress(duckdb.Error):
                self._db.rollback()
            raise
        if len(self._remembered) > REMEMBERED:
            self._remembered.clear()
        self._begun |= self._begun_now
        while len(self._begun) > BEGUN:
            del self._begun[next(iter(self._begun))]
        return answers

    def _told(self, error: Exception) -> Exception:
        if isinstance(error, _BROKEN):
            self._reopen()  # after a full disk, say, the engine refuses everything until it is opened anew
        return explained(str(error), self._path) if isinstance(error, duckdb.Error) else error

    def _reopen(self) -> None:
        with suppress(duckdb.Error):
            self._db.close()
        with suppress(duckdb.Error):
            self._db = _connect(self._path)

    # -- reading

    @contextmanager
    def snapshot(self) -> Iterator[Engine]:
        """One transaction for reading, beside the writer: it sees all that was committed before, and no more."""
        with self._turn(), self._cursor() as cursor:
            yield Engine(cursor)

    @contextmanager
    def glance(self) -> Iterator[Engine]:
        """The same for what a write depends on, and takes a moment: readers that are slow to read do not delay it."""
        with self._cursor() as cursor:
            yield Engine(cursor)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._readers.acquire(timeout=self._limits.seconds):
            raise StoreBusy("too many questions are being answered", remedy="try again.")
        try:
            yield
        finally:
            self._readers.release()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            cursor = self._db.cursor()
            try:
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                yield cursor
            finally:
                cursor.close()
        except duckdb.Error as error:
            raise _reader_fault(error, self._path, self._limits) from error

    def stream(
        self,
        sql: str,
        parameters: Sequence[Any],
        *,
        limited: bool,
        schema: pa.Schema | None = None,
        own: bool = False,
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The answer to a question, batch by batch. The iterator must be exhausted or closed.

        Args:
            sql: one SELECT over the published tables.
            parameters: for its `?`.
            limited: free SQL, whose answer may have only so many rows.
            schema: what the answer is cast to.
            own: the SQL is wtsbench's own, and may read what lies behind the published tables.

        Raises:
            Refused: the SQL is not what a reader may send, takes too long, or gives too many rows.
        """
        batches = self._stream(sql, parameters, limited, schema, own)
        first = next(batches)
        assert isinstance(first, pa.Schema)
        return first, batches

    def _stream(
        self, sql: str, parameters: Sequence[Any], limited: bool, schema: pa.Schema | None, own: bool
    ) -> Iterator[Any]:
        with self._turn(), self._cursor() as cursor:
            if not own:
                require_harmless(cursor, sql)
            late = threading.Timer(self._limits.seconds, cursor.interrupt)
            late.daemon = True
            late.start()
            try:
                reader: pa.RecordBatchReader = cursor.sql(sql, params=list(parameters)).to_arrow_reader(65_536)
                target = schema or reader.schema
                yield target
                rows = 0
                for batch in reader:
                    rows += batch.num_rows
                    if limited and rows > self._limits.rows:
                        raise Refused(
                            f"the answer has more than {self._limits.rows:,} rows",
                            remedy="narrow it with WHERE or LIMIT, or export the store.",
                        )
                    yield batch if schema is None else _cast(batch, target)
            finally:
                late.cancel()

    def read(self, query: Query) -> pa.Table:
        """The answer to a named question, whole."""
        with self.snapshot() as engine:
            return engine.read(query)

    # -- upkeep

    def compact(self) -> dict[str, int]:
        """Write the log into the database file; bytes on the disk before and after."""

        def checkpoint() -> dict[str, int]:
            before = self.size
            with self._pause:
                self._db.cursor().execute("CHECKPOINT")
            return {"bytes_before": before, "bytes_after": self.size}

        try:
            return checkpoint()
        except duckdb.Error as error:
            raise explained(str(error), self._path) from error

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in (self._path, _log(self._path)) if path.exists())

    @contextmanager
    def still(self) -> Iterator[list[Path]]:
        """Keep writers waiting; yields the files that are the whole store meanwhile."""
        with self._pause:
            with suppress(duckdb.Error):  # a reader may stand in its way: then the log is part of the store
                self._db.cursor().execute("CHECKPOINT")
            yield [path for path in (self._path, _log(self._path)) if path.exists()]

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
        with suppress(duckdb.Error):
            self._db.execute("CHECKPOINT")
        with suppress(duckdb.Error):
            self._db.close()
        with suppress(OSError):
            sync_folder(self._path.parent)


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


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [batch.column(name).cast(schema.field(name).type) for name in schema.names], schema=schema
    )


def _reader_fault(error: duckdb.Error, path: Path, limits: Limits) -> StoreError:
    if isinstance(error, duckdb.InterruptException):
        return Refused(
            f"the question took longer than {limits.seconds:g} s", remedy="narrow it, or ask a copy of the store."
        )
    if isinstance(error, _BROKEN):
        return explained(str(error), path)
    return Refused((str(error).strip().splitlines() or ["the SQL failed"])[0])
