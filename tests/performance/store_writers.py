"""Writers of fake trials, to measure stores with; `python -m tests.performance.store_writers` is a process of them.

A writer sends records of predictions one by one, each when the one before it was acknowledged, and seals a trial after
some of them. The same records go to every *sink*: a store, plain Parquet files, MLflow. The process runs under any
interpreter that has NumPy and Arrow, so that MLflow can be measured in an environment of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from wtsbench.contract.digests import content_digest
from wtsbench.contract.outbox import Batch, normal
from wtsbench.contract.schemas import PREDICTIONS, SCHEMA_VERSION, TRIALS
from wtsbench.files import sync_folder
from wtsbench.store.client import open_store

ROWS = 256
"""Predictions in a record."""
RECORDS = 8
"""Records of a trial before its seal."""
_FAULTS = 3
"""A writer that its sink refused so often gives up."""


class Sink(Protocol):
    """Somewhere to put records, as one writer sees it."""

    def write(self, batch: Batch) -> None:
        """Put one record there; when this returns, it is durable if it ever is."""


@dataclass(kw_only=True)
class Share:
    """What the writers of one process achieved."""

    acknowledged: int = 0
    """Records within the time that was given."""
    waits: list[float] = field(default_factory=list)
    """Seconds of each record that was begun in that time."""
    unfinished: int = 0
    """Of those, how many had no answer when nobody waited for one any more: their waits are lower bounds."""
    faults: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0


def fake_records(name: str) -> Iterator[Batch]:
    """Records of fake trials without end: RECORDS of predictions, then the seal, again and again."""
    items, probabilities, seal = _same_in_all()
    number = 0
    while True:
        trial_id = hashlib.sha256(f"{name}-{number}".encode()).hexdigest()
        for sequence in range(1, RECORDS + 1):
            columns = [
                pa.repeat(trial_id, ROWS),
                pa.repeat(pa.scalar(1, pa.int32()), ROWS),
                pa.repeat(f"split-{sequence}", ROWS),
                items,
                probabilities,
            ]
            yield _record("predictions", trial_id, sequence, pa.RecordBatch.from_arrays(columns, schema=PREDICTIONS))
        own = seal.set_column(seal.schema.get_field_index("trial_id"), TRIALS.field("trial_id"), pa.array([trial_id]))
        yield _record("trials", trial_id, RECORDS + 1, own)
        number += 1


@cache
def _same_in_all() -> tuple[pa.Array, pa.Array, pa.RecordBatch]:
    """Item ids, probabilities and a seal, made once: writers share the cores with what is measured."""
    items = pa.array([f"item-{number:05d}" for number in range(ROWS)])
    probabilities = pa.array([[0.25, 0.75]] * ROWS, PREDICTIONS.field("probabilities").type)
    return items, probabilities, seal_row("x", records=RECORDS + 1)


def seal_row(trial_id: str, **values: Any) -> pa.RecordBatch:
    """A `trials` row of a fake trial that is done."""
    fillers = {pa.string(): "fake", pa.int32(): 0, pa.float64(): 0.0, pa.list_(pa.string()): []}
    now = datetime.now(UTC)
    row = {field.name: fillers.get(field.type, now) for field in TRIALS if not field.nullable}
    row |= {"trial_id": trial_id, "attempt": 1, "status": "done", "baselines": "{}", "measurements": "{}", **values}
    return normal(pa.Table.from_pylist([row], schema=TRIALS))


def _record(table: str, trial_id: str, sequence: int, data: pa.RecordBatch) -> Batch:
    return Batch(
        table=table,
        trial_id=trial_id,
        attempt=1,
        sequence=sequence,
        schema_version=SCHEMA_VERSION,
        data=data,
        digest=content_digest(table, data),
    )


class StoreSink:
    """A store, by folder or address."""

    def __init__(self, place: str) -> None:
        self._store = open_store(place, wait=60)

    def write(self, batch: Batch) -> None:
        """One request."""
        self._store.append([batch])


class ParquetSink:
    """One Parquet file a record, made durable: without a key, so twice is twice."""

    def __init__(self, place: str) -> None:
        self._folder = Path(place)

    def write(self, batch: Batch) -> None:
        """Write, flush, rename, flush the folder."""
        folder = self._folder / batch.table
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{batch.trial_id}-{batch.sequence}.parquet"
        hidden = path.with_name(f".{path.name}")
        with hidden.open("wb") as file:
            pq.write_table(pa.Table.from_batches([batch.data]), file)
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(path)
        sync_folder(folder)


class MlflowSink:
    """A run of MLflow a trial; a record's predictions as metrics of one name, the item as the step."""

    def __init__(self, place: str) -> None:
        os.environ |= {
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "ERROR",
        }
        mlflow = import_module("mlflow")  # no dependency of wtsbench: measured where it happens to be installed

        self._metric = mlflow.entities.Metric
        self._client = mlflow.MlflowClient(tracking_uri=place)
        experiment = self._client.get_experiment_by_name("measure")
        self._experiment = experiment.experiment_id if experiment else None
        self._run: str | None = None

    def prepare(self) -> None:
        """Make the experiment of all runs, before there are any."""
        self._client.create_experiment("measure")

    def write(self, batch: Batch) -> None:
        """One `log_batch` a record; the seal ends the run. MLflow does not flush files to the disk."""
        if self._run is None:
            self._run = self._client.create_run(self._experiment).info.run_id
        if batch.table == "trials":
            self._client.set_terminated(self._run)
            self._run = None
            return
        values = batch.data.column("probabilities").to_pylist()
        metrics = [self._metric(f"p-{batch.sequence}", row[1], 0, step) for step, row in enumerate(values)]
        self._client.log_batch(self._run, metrics=metrics)


SINKS: dict[str, Callable[[str], Sink]] = {"store": StoreSink, "parquet": ParquetSink, "mlflow": MlflowSink}


def work(
    sink: str, place: str, name: str, count: int, seconds: float, patience: float, *, begin: Callable[[], Any]
) -> Share:
    """Let writers, a thread each, send records for some seconds.

    Args:
        sink: a key of SINKS.
        place: folder or address.
        name: so that the trials of every process are others.
        count: how many writers.
        seconds: how long they begin records.
        patience: seconds that answers may still take after that.
        begin: called when all is ready; returns when time begins.
    """
    opened = [SINKS[sink](place) for _ in range(count)]
    for batch in islice(fake_records(f"{name}-before"), RECORDS + 1):  # whatever is loaded or compiled at first use
        opened[0].write(batch)
    sources = [fake_records(f"{name}-{index}") for index in range(count)]
    share = Share()
    mutex = threading.Lock()
    waiting: dict[int, float] = {}
    begin()
    end = time.monotonic() + seconds
    cpu = time.process_time()

    def write(index: int) -> None:
        refused = 0
        for batch in sources[index]:
            started = time.monotonic()
            if started > end:
                return
            waiting[index] = started
            try:
                opened[index].write(batch)
            except Exception as error:  # noqa: BLE001  # it is counted, and shown
                refused += 1
                with mutex:
                    share.faults.append((f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:200])
                if refused == _FAULTS:
                    return
                continue
            finally:
                del waiting[index]
            now = time.monotonic()
            with mutex:
                share.waits.append(now - started)
                share.acknowledged += now <= end

    threads = [threading.Thread(target=write, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end + patience - time.monotonic()))
    with mutex:
        now = time.monotonic()
        late = [now - started for started in list(waiting.values())]
        cpu_seconds = time.process_time() - cpu
        return Share(
            acknowledged=share.acknowledged,
            waits=share.waits + late,
            unfinished=len(late),
            faults=share.faults,
            cpu_seconds=cpu_seconds,
        )


def _main() -> None:
    """One line with the arguments comes in, `ready` goes out, a line comes in, and what was achieved goes out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints something must not disturb the answer
    asked = json.loads(sys.stdin.readline())

    def begin() -> None:
        print("ready", file=answers, flush=True)
        sys.stdin.readline()

    if asked.pop("prepare", False):
        MlflowSink(asked["place"]).prepare()
        answer: dict[str, Any] = {}
    else:
        answer = asdict(work(**asked, begin=begin))
    print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # some writers may still wait for an answer


if __name__ == "__main__":
    _main()
