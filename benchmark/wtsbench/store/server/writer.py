"""Group commit: waiting requests are made durable together in one transaction, by the only thread that writes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from wtsbench.contract.outbox import Batch
from wtsbench.errors import StoreError
from wtsbench.store import wire
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.lock import StoreBusy
from wtsbench.store.server.durable import Durable

GROUP_JOBS = 256
"""Requests of one transaction."""
GROUP_BYTES = 64 * 2**20
"""Bytes after which a transaction takes no further request."""
QUEUE_BYTES = 512 * 2**20
"""Limit of requests waiting in memory; beyond it senders wait, and then are told to try again."""
LINGER = 0.01
"""Seconds to wait for the clients of the last commit to send again: another commit costs more than waiting."""
QUEUE_SECONDS = 20.0
"""How long a sender waits for room in the queue."""


@dataclass(kw_only=True)
class Job:
    """One request that changes the store: records, or anything else."""

    size: int
    records: Sequence[Batch] | bytes = ()
    """Records to append; bytes are decoded by the writer, because many threads at once would be slower."""
    change: Callable[[Engine], Any] | None = None
    answer: Future[Any] = field(default_factory=Future)
    """Set when the change is durable."""


class Writer:
    """The queue of requests, and the thread that commits them."""

    def __init__(self, durable: Durable, observe: Callable[[int, int, float], None]) -> None:
        """Start the thread.

        Args:
            durable: the database.
            observe: called for every transaction with its requests, rows and seconds.
        """
        self._durable = durable
        self._observe = observe
        self._mutex = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._bytes = 0
        self._wanted = 1
        """Number of requests that the writer waits for: waking it for each one would cost more."""
        self._closing = False
        self.pause = threading.Lock()
        """While it is held, no transaction begins."""
        self._thread = threading.Thread(target=self._write, name="wtsbench-store-writer")
        self._thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """Requests in the queue, and their bytes."""
        with self._mutex:
            return len(self._waiting), self._bytes

    def put(self, job: Job) -> None:
        """Queue a request.

        Raises:
            StoreBusy: the queue stayed full, or the server is stopping.
        """
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

    def stop(self, deadline: float) -> None:
        """Refuse further requests, and commit waiting ones until the deadline (monotonic)."""
        with self._mutex:
            self._closing = True
            self._mutex.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def stopped(self) -> bool:
        """Whether the writer has ended: all waiting requests are committed."""
        return not self._thread.is_alive()

    def _write(self) -> None:
        expected = 1
        while True:
            with self._mutex:
                self._mutex.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                self._wanted = expected
                self._mutex.wait_for(lambda: len(self._waiting) >= self._wanted or self._closing, LINGER)
                self._wanted = 1
                group = self._group()
            with self.pause:
                self._commit(group)
            with self._mutex:
                self._bytes -= sum(job.size for job in group)
                expected = min(GROUP_JOBS, len(group) + len(self._waiting))
                self._mutex.notify_all()

    def _group(self) -> list[Job]:
        group: list[Job] = []
        size = 0
        while self._waiting and len(group) < GROUP_JOBS and (not group or size + self._waiting[0].size <= GROUP_BYTES):
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    def _commit(self, group: Sequence[Job]) -> None:
        begun = time.monotonic()
        try:
            with self._durable.transaction() as engine:
                appended, rows = engine.append_all([_read(job.records) for job in group if job.change is None])
                appends = iter(appended)
                answers = [next(appends) if job.change is None else job.change(engine) for job in group]
        except Exception as error:  # noqa: BLE001  # each sender must get the error, whatever it is
            reported = self._durable.mended(error)
            if len(group) == 1:
                group[0].answer.set_exception(reported)
            else:
                for job in group:  # commit each alone, so that one bad request does not fail the others
                    self._commit([job])
            return
        self._observe(len(group), rows, time.monotonic() - begun)
        for job, answer in zip(group, answers, strict=True):
            if isinstance(answer, StoreError):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)


def _read(records: Sequence[Batch] | bytes) -> Sequence[Batch] | StoreError:
    """Decoded records, or the error if they are invalid."""
    if not isinstance(records, bytes):
        return records
    try:
        return wire.decode(records)
    except StoreError as error:
        return error
