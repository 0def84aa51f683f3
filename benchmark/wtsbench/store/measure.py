"""How fast a store takes records, and answers: fake trials, real parts, every way of keeping them side by side.

A writer sends records of predictions one by one, each when the one before it was acknowledged as durable, and seals
a trial after some of them. The same records go to every *sink*: a served store, a folder, plain Parquet files, MLflow.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wtsbench.errors import StoreError
from wtsbench.store.client import open_store
from wtsbench.store.digests import content_digest
from wtsbench.store.outbox import Batch, normal, sync_folder
from wtsbench.store.schemas import PREDICTIONS, SCHEMA_VERSION, TRIALS

ROWS = 256
"""Predictions in a record."""
RECORDS = 8
"""Records of a trial before its seal."""
_PROCESSES = 4
"""Writers are threads of so many processes, so that they wait for the store and not for each other."""


class Sink(Protocol):
    """Somewhere to put records, as one writer sees it."""

    def write(self, batch: Batch) -> None:
        """Put one record there; when this returns, it is durable if it ever is."""


class Overwhelmed(StoreError):
    """A sink gave a writer an error in place of waiting."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What a number of writers at once achieved."""

    sink: str
    writers: int
    batches: int
    seconds: float
    batches_per_second: float
    p50_ms: float
    p99_ms: float


def fake_records(name: str) -> Iterator[Batch]:
    """Records of fake trials without end: RECORDS of predictions, then the seal, again and again."""
    items = pa.array([f"item-{number:05d}" for number in range(ROWS)])
    probabilities = pa.array([[0.25, 0.75]] * ROWS, PREDICTIONS.field("probabilities").type)
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
        yield _record("trials", trial_id, RECORDS + 1, seal_row(trial_id, records=RECORDS + 1))
        number += 1


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


def append_rate(name: str, sink: str, place: str, writers: int, seconds: float) -> Rate:
    """Let writers send records for some seconds.

    Args:
        name: what the result is called.
        sink: a key of SINKS.
        place: folder or address.
        writers: how many at once.
        seconds: how long.
    """
    processes = min(_PROCESSES, writers)
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    begin = context.Barrier(processes + 1)
    answers = context.SimpleQueue()
    shares = [writers // processes + (index < writers % processes) for index in range(processes)]
    children = [
        context.Process(
            target=_writers, args=(sink, place, f"{name}-{writers}-{index}", share, seconds, begin, answers)
        )
        for index, share in enumerate(shares)
    ]
    for child in children:
        child.start()
    begin.wait(600)
    found = [answers.get() for _ in children]
    for child in children:
        child.join()
    failures = [text for _, _, text in found if text]
    if failures:
        raise Overwhelmed(failures[0].splitlines()[0][:120])
    waits = np.concatenate([np.asarray(times) for times, _, _ in found]) * 1000
    longest = max(took for _, took, _ in found)
    return Rate(
        sink=name,
        writers=writers,
        batches=len(waits),
        seconds=longest,
        batches_per_second=len(waits) / longest,
        p50_ms=float(np.percentile(waits, 50)),
        p99_ms=float(np.percentile(waits, 99)),
    )


def _writers(sink: str, place: str, name: str, count: int, seconds: float, begin: Any, answers: Any) -> None:
    """Some writers of one process; their waiting times go back."""
    waits: list[float] = []
    faults: list[str] = []
    opened = [SINKS[sink](place, f"{name}-{index}") for index in range(count)]
    try:
        for index, one in enumerate(opened):  # whatever is loaded or compiled at the first use
            for batch in islice(fake_records(f"{name}-{index}-before"), RECORDS + 1):
                one.write(batch)
    except Exception as error:  # noqa: BLE001  # the measuring process must hear of it
        faults.append(f"{type(error).__name__}: {error}")
    begin.wait(600)
    begun = time.monotonic()

    def write(index: int) -> None:
        own = []
        try:
            for batch in fake_records(f"{name}-{index}"):
                started = time.monotonic()
                opened[index].write(batch)
                own.append(time.monotonic() - started)
                if time.monotonic() - begun > seconds:
                    break
        except Exception as error:  # noqa: BLE001  # the measuring process must hear of it
            faults.append(f"{type(error).__name__}: {error}")
        waits.extend(own)

    threads = [threading.Thread(target=write, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((waits, time.monotonic() - begun, faults[0] if faults else ""))


class StoreSink:
    """A store, by folder or address."""

    def __init__(self, place: str, name: str) -> None:
        self._store = open_store(place, wait=60)

    def write(self, batch: Batch) -> None:
        """One transaction."""
        self._store.append([batch])


class ParquetSink:
    """One Parquet file a record, made durable: without a key, so twice is twice."""

    def __init__(self, place: str, name: str) -> None:
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
    """A run of MLflow a writer; a record's predictions as metrics of one name, the item as the step."""

    def __init__(self, place: str, name: str) -> None:
        mlflow = import_module("mlflow")  # no dependency of wtsbench: measured where it happens to be installed

        self._metric = mlflow.entities.Metric
        self._client = mlflow.MlflowClient(tracking_uri=place)
        experiment = self._client.get_experiment_by_name("measure")
        self._experiment = experiment.experiment_id if experiment else "0"
        self._run: str | None = None

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


SINKS: dict[str, Callable[[str, str], Sink]] = {"store": StoreSink, "parquet": ParquetSink, "mlflow": MlflowSink}


KINDS = ("server", "folder", "parquet", "mlflow-file", "mlflow-sqlite")
"""What can be measured."""


@contextmanager
def _place(sink: str, scratch: Path) -> Iterator[tuple[str, str]]:
    """Where a sink's records go, and how its writers are opened."""
    folder = scratch / sink
    if sink == "server":
        import queue

        from wtsbench.store.folder import SERVER
        from wtsbench.store.server.serving import Running, ServeOptions, serve
        from wtsbench.store.server.tokens import Tokens

        folder.mkdir()
        ready: queue.SimpleQueue[Running] = queue.SimpleQueue()
        stop = threading.Event()
        _, token = Tokens(folder / SERVER).create(name="measure", scope="append", valid=None)
        (folder / SERVER / "token").write_text(token)
        options = ServeOptions(listen="grpc+tls://127.0.0.1:0")
        thread = threading.Thread(target=serve, args=(folder, options), kwargs={"ready": ready.put, "stop": stop})
        thread.start()
        running = ready.get()
        os.environ["WTSBENCH_TOKEN_FILE"] = str(folder / SERVER / "token")
        os.environ["WTSBENCH_STORE_CA"] = str(running.ca)
        try:
            yield "store", running.listen
        finally:
            stop.set()
            thread.join()
    elif sink == "folder":
        open_store(str(folder), create=True)
        yield "store", str(folder)
    elif sink == "parquet":
        folder.mkdir()
        yield "parquet", str(folder)
    else:
        mlflow = import_module("mlflow")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        folder.mkdir()
        uri = f"sqlite:///{folder}/mlflow.db" if sink == "mlflow-sqlite" else folder.as_uri()
        mlflow.MlflowClient(tracking_uri=uri).create_experiment("measure")
        yield "mlflow", uri


def measure(
    sinks: Sequence[str], writers: Sequence[int], seconds: float, *, note: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Rates of every sink at every number of writers, in turn, and the bytes that a prediction takes on the disk.

    Args:
        sinks: of `server`, `folder`, `parquet`, `mlflow-file`, `mlflow-sqlite`; those of MLflow need it installed.
        writers: numbers of writers at once.
        seconds: for each.
        note: told of each result.
    """
    found: list[dict[str, Any]] = []
    for count in writers:
        for sink in sinks:
            scratch = Path(tempfile.mkdtemp(prefix="wtsbench-measure-"))
            try:
                with _place(sink, scratch) as (kind, place):
                    rate = append_rate(sink, kind, place, count, seconds)
                size = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
            except Overwhelmed as error:
                found.append({"sink": sink, "writers": count, "failed": str(error)})
                note(f"{count:4} writers  {sink:14} failed: {error}")
                continue
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            records = rate.batches + count * (RECORDS + 1)
            bytes_each = size / (records * ROWS * RECORDS / (RECORDS + 1))
            found.append({**asdict(rate), "bytes_per_prediction": bytes_each})
            note(
                f"{count:4} writers  {sink:14} {rate.batches_per_second:8.1f} batches/s  p50 {rate.p50_ms:8.1f} ms"
                f"  p99 {rate.p99_ms:8.1f} ms  {bytes_each:6.1f} bytes a prediction"
            )
    return found
