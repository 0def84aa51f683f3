"""Fake nodes of a cluster, to measure a run with: processes, each of which serves many slots with timers.

A fake trial computes nothing and lasts as long as it is told. What its supervisor does at the store is real: it takes
the trial with a lease, renews that, writes records into an outbox, and has the courier deliver them, the seal last.
"""

from __future__ import annotations

import heapq
import itertools
import platform
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract.measurements import Measurements
from wtsbench.contract.operations import BEAT_SECONDS
from wtsbench.contract.outbox import Outbox
from wtsbench.contract.schemas import PREDICTIONS
from wtsbench.execution.ending import METRICS_SEQUENCE, SEAL_SEQUENCE
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.known import done_trials
from wtsbench.execution.sealing import seal_row
from wtsbench.execution.spool import AttemptNote
from wtsbench.metrics.score import score
from wtsbench.spec.provenance import environment_lock
from wtsbench.spec.trial import Role, TrialJob
from wtsbench.store.client import Store, open_store
from wtsbench.store.courier import deliver
from wtsbench.store.wire import Held

_THREADS = 16
"""Requests that a node has at the store at once."""
_TICK_SECONDS = 0.02
_CONNECT_SECONDS = 60.0
_ACCURACY = {Role.WEAK: 0.7, Role.STUDENT: 0.75, Role.CEILING: 0.85}
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How fake trials are."""

    seconds: float
    """How long a trial computes, about."""
    spool: str
    """Parent of the outboxes."""
    reads: bool = False
    """Whether items and parents' predictions are read for each trial, as its supervisor does."""


@dataclass(kw_only=True)
class Tally:
    """What a node did."""

    waits: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each request, by kind."""
    cpu_seconds: float = 0.0


def seconds_of(trial_id: str, seconds: float) -> float:
    """How long a trial computes: up to a tenth less or more, by its id."""
    return seconds * (0.9 + 0.2 * int(trial_id[:8], 16) / 2**32)


def serve(pipe: Connection, setting: Setting) -> None:
    """Be a node: jobs come in, receipts or the text of an error go out; None comes in at the end, the tally goes out.

    Meant to be a process of its own.
    """
    _Node(pipe, setting).serve()


class _Node:
    def __init__(self, pipe: Connection, setting: Setting) -> None:
        self._pipe = pipe
        self._setting = setting
        self._pool = ThreadPoolExecutor(_THREADS)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._begun = time.process_time()

    def serve(self) -> None:
        with suppress(EOFError):  # the driver is gone
            while True:
                while self._pipe.poll(_TICK_SECONDS):
                    job = self._pipe.recv()
                    if job is None:
                        self._end()
                        return
                    self._do(lambda job=job: self._begin(job))  # type: ignore[misc]
                for act in self._ripe():
                    self._do(act)

    def _end(self) -> None:
        self._pool.shutdown()
        self._tally.cpu_seconds = time.process_time() - self._begun
        self._pipe.send(self._tally)

    def _ripe(self) -> list[Callable[[], None]]:
        ripe = []
        with self._lock:
            while self._due and self._due[0][0] <= time.monotonic():
                ripe.append(heapq.heappop(self._due)[2])
        return ripe

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._due, (moment, next(self._count), act))

    def _do(self, act: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001  # the driver raises it
                self._say(f"{type(error).__name__}: {error}")

        self._pool.submit(guarded)

    def _say(self, message: Receipt | str) -> None:
        with self._lock:
            self._pipe.send(message)

    def _timed(self, kind: str, ask: Callable[[], _T]) -> _T:
        begun = time.monotonic()
        answer = ask()
        with self._lock:
            self._tally.waits.setdefault(kind, []).append(time.monotonic() - begun)
        return answer

    # -- one attempt, step by step

    def _begin(self, job: Job) -> None:
        store, began = _store(job.store), time.time()
        try:
            attempt = self._timed(
                "begin",
                lambda: store.begin_attempt(
                    job.trial_id, run=job.run, shared_id=job.spec.shared_id, host=platform.node(), lease=True
                ),
            )
        except Held as held:
            done = bool(self._timed("done", lambda: done_trials(store, [job.trial_id])))
            by = None if done else held.by
            self._say(Receipt(trial_id=job.trial_id, attempt=None, failure=None, seconds=0.0, reused=done, held_by=by))
            return
        if self._setting.reads:
            self._read(job, store)
        now = time.monotonic()
        ends = now + seconds_of(job.trial_id, self._setting.seconds)
        self._at(ends, lambda: self._finish(job, attempt, began))
        self._at(now + BEAT_SECONDS, lambda: self._beat(job, attempt, ends))

    def _read(self, job: Job, store: Store) -> None:
        self._timed("read", lambda: store.items(job.spec.data_digest))
        if job.spec.parents:
            self._timed("read", lambda: store.predictions(job.spec.parents))

    def _beat(self, job: Job, attempt: int, ends: float) -> None:
        now = time.monotonic()
        if now < ends:
            share = 1 - (ends - now) / self._setting.seconds
            lines = [f"computed for {now:.0f} s"]
            self._timed(
                "renew", lambda: _store(job.store).renew(job.trial_id, attempt, share=share, lines=lines, first=1)
            )
            self._at(now + BEAT_SECONDS, lambda: self._beat(job, attempt, ends))

    def _finish(self, job: Job, attempt: int, began: float) -> None:
        store = _store(job.store)
        folder = Path(self._setting.spool) / f"{job.trial_id}-{attempt}"
        _write_records(folder, job, attempt, began)
        self._timed("append", lambda: deliver(folder, store))
        shutil.rmtree(folder)
        seconds = time.time() - began
        self._say(Receipt(trial_id=job.trial_id, attempt=attempt, failure=None, seconds=seconds))


@cache
def _store(address: str) -> Store:
    return open_store(address, wait=_CONNECT_SECONDS)


@cache
def _items(address: str, data_digest: str) -> pa.Table:
    return _store(address).items(data_digest).select(["split", "item_id", "label"])


def _write_records(folder: Path, job: Job, attempt: int, began: float) -> None:
    """Predictions of every split that the trial owes, its metrics, and the seal."""
    spec, items = job.spec, _items(job.store, job.spec.data_digest)
    outbox = Outbox(folder, trial_id=job.trial_id, attempt=attempt)
    random = np.random.default_rng(int(job.trial_id[:12], 16))
    made = []
    for split in spec.predicted_splits:
        some = items.filter(pc.field("split") == split.value)
        if some.num_rows:
            made.append(_predictions(job.trial_id, attempt, some, random, _ACCURACY[spec.role]))
            outbox.append("predictions", made[-1])
    metrics = score(
        job.trial_id, attempt, pa.concat_tables(made), items, list(job.labels), splits=spec.predicted_splits
    )
    outbox.append("metrics", metrics, sequence=METRICS_SEQUENCE)
    seal = seal_row(_note(job, attempt, began), None, Measurements(device="cpu"), len(made) + 2)
    outbox.append("trials", seal, sequence=SEAL_SEQUENCE)


def _predictions(
    trial_id: str, attempt: int, items: pa.Table, random: np.random.Generator, accuracy: float
) -> pa.Table:
    """Two classes, of which the right one is named that often."""
    count = items.num_rows
    truth = items["label"].to_numpy()
    named = np.where(random.random(count) < accuracy, truth, 1 - truth)
    sure = random.uniform(0.5, 1.0, count)
    first = np.where(named == 0, sure, 1 - sure)
    flat = np.stack([first, 1 - first], axis=1).ravel()
    columns: dict[str, Any] = {
        "trial_id": pa.repeat(trial_id, count),
        "attempt": pa.repeat(pa.scalar(attempt, pa.int32()), count),
        "split": items["split"],
        "item_id": items["item_id"],
        "probabilities": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * 2, flat),
    }
    return pa.table(columns).select(PREDICTIONS.names).cast(PREDICTIONS)


def _note(job: Job, attempt: int, began: float) -> AttemptNote:
    return AttemptNote(
        job=TrialJob(
            trial_id=job.trial_id,
            attempt=attempt,
            spec=job.spec,
            labels=job.labels,
            threads=job.resources.cpus,
            gpus=job.resources.gpus,
        ),
        run=job.run,
        baselines=job.baselines,
        sandbox="process",
        isolation="none",
        image_digest=None,
        environment_lock=environment_lock(),
        host=platform.node(),
        started_at=began,
    )
