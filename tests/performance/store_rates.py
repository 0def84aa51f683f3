"""How fast stores take records: fake trials, real parts, every way of keeping them side by side.

The server and the writers are processes of their own, so that the processor time of each is known: on a machine that
does other work, or whose writers share its cores with the server, it says more than the clock.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.performance.part import Asked, Figure, Missing, described
from tests.performance.store_writers import RECORDS, ROWS, Share
from wtsbench.errors import StoreError
from wtsbench.store.client import open_store

KINDS = ("server", "folder", "parquet", "mlflow-file", "mlflow-sqlite")
"""What can be measured."""
_PROCESSES = 4
"""Writers are threads of so many processes at most, so that they wait for the store and not for each other."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What a number of writers at once achieved."""

    sink: str
    writers: int
    seconds: float
    batches: int
    """Acknowledged within the seconds."""
    batches_per_second: float
    p50_ms: float
    p99_ms: float
    """Over all batches begun within the seconds; those without an answer in the end count with how long they waited."""
    unfinished: int
    refused: int
    """Batches that the sink answered with an error in place of waiting."""
    first_error: str | None
    server_cpu_s: float | None
    """Of the server, for 1,000 batches; None where the writers do the work themselves."""
    writers_cpu_s: float
    """Of all writers, for 1,000 batches: making records, sending them, or writing them where there is no server."""
    bytes_per_prediction: float = 0.0
    """On the disk."""


def measure_store(asked: Asked) -> Iterator[Figure | Missing]:
    """The `store` part: acknowledged records a second, and their waits, over those of flushed Parquet files."""
    kinds = ["server", *asked.pick(quick=[], usual=[], large=["folder"])]
    kinds += [kind for kind in KINDS if kind.startswith("mlflow")] if asked.mlflow else []
    for writers in asked.pick(quick=[16], usual=[1, 16, 64], large=[1, 16, 64, 256]):
        seconds = asked.pick(quick=2.0, usual=5.0, large=5.0)
        plain, *rates = measure(["parquet", *kinds], [writers], seconds, mlflow=asked.mlflow or sys.executable)
        for rate in rates:
            name = f"{rate.sink}, {writers} writers"
            if rate.refused:
                yield Missing(name=name, why=f"{rate.refused} batches were refused: {rate.first_error}")
                continue
            yield Figure(
                name=f"{name}: rate",
                what="durable acknowledged batches a second over those of flushed Parquet files",
                value=rate.batches_per_second / plain.batches_per_second,
                better="higher",
                details=described(
                    {
                        "batches_per_s": rate.batches_per_second,
                        "parquet_batches_per_s": plain.batches_per_second,
                        "server_cpu_s": rate.server_cpu_s or 0.0,
                        "writers_cpu_s": rate.writers_cpu_s,
                        "parquet_cpu_s": plain.writers_cpu_s,
                        "bytes_per_prediction": rate.bytes_per_prediction,
                    }
                ),
            )
            yield Figure(
                name=f"{name}: p99",
                what="99th percentile of the waits over that of flushed Parquet files",
                value=rate.p99_ms / plain.p99_ms,
                better="lower",
                details=described(
                    {
                        "p50_ms": rate.p50_ms,
                        "p99_ms": rate.p99_ms,
                        "parquet_p50_ms": plain.p50_ms,
                        "parquet_p99_ms": plain.p99_ms,
                        "unanswered": rate.unfinished,
                    }
                ),
            )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a sink's records go, and how its writers are opened."""

    sink: str
    """A key of `writers.SINKS`."""
    place: str
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    server_cpu: Callable[[], float] | None = None


class _Process:
    """A process of writers."""

    def __init__(self, place: _Place, **asked: Any) -> None:
        checkout = Path(__file__).parents[2]
        roots = os.pathsep.join([str(checkout), str(checkout / "benchmark"), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [place.python, "-m", "tests.performance.store_writers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **place.environment, "PYTHONPATH": roots},
        )
        self.say(json.dumps({**asked, "place": place.place}))

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise StoreError("a process of writers ended before its time", remedy="its last words stand above.")
        return line

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def append_rate(kind: str, place: _Place, writers: int, seconds: float) -> Rate:
    """Let writers send records for some seconds.

    Args:
        kind: of KINDS; what the result is called.
        place: where to.
        writers: how many at once.
        seconds: how long.
    """
    count = min(_PROCESSES, os.cpu_count() or 1, writers)
    shares = [writers // count + (index < writers % count) for index in range(count)]
    asked = {"sink": place.sink, "seconds": seconds, "patience": max(5.0, 2 * seconds)}
    processes: list[_Process] = []
    try:
        for index, share in enumerate(shares):
            processes.append(_Process(place, **asked, name=f"{kind}-{writers}-{index}", count=share))
        for process in processes:
            process.hear()
        cpu = place.server_cpu() if place.server_cpu else 0.0
        for process in processes:
            process.say("go")
        found = [Share(**json.loads(process.hear())) for process in processes]
        used = place.server_cpu() - cpu if place.server_cpu else None
    finally:
        for process in processes:
            process.close()
    batches = sum(one.acknowledged for one in found)
    waits = np.concatenate([np.asarray(one.waits) for one in found]) * 1000
    faults = [fault for one in found for fault in one.faults]
    thousands = max(1, len(waits)) / 1000
    return Rate(
        sink=kind,
        writers=writers,
        seconds=seconds,
        batches=batches,
        batches_per_second=batches / seconds,
        p50_ms=float(np.percentile(waits, 50)) if len(waits) else float("nan"),
        p99_ms=float(np.percentile(waits, 99)) if len(waits) else float("nan"),
        unfinished=sum(one.unfinished for one in found),
        refused=len(faults),
        first_error=faults[0] if faults else None,
        server_cpu_s=None if used is None else used / thousands,
        writers_cpu_s=sum(one.cpu_seconds for one in found) / thousands,
    )


def _serve(folder: Path, pipe: Any) -> None:
    """Serve a store in this process; every message asks for its CPU seconds, until the pipe is closed."""
    from wtsbench.store.server.options import ServeOptions
    from wtsbench.store.server.serving import Running, serve

    stop = threading.Event()

    def talk(running: Running) -> None:
        pipe.send((running.listen, str(running.ca)))
        try:
            while True:
                pipe.recv()
                pipe.send(time.process_time())
        except EOFError:
            stop.set()

    def ready(running: Running) -> None:
        threading.Thread(target=talk, args=(running,), daemon=True).start()

    serve(folder, ServeOptions(listen="grpc+tls://127.0.0.1:0"), ready=ready, stop=stop)


@contextmanager
def _served(folder: Path) -> Iterator[_Place]:
    from wtsbench.store.folder import SERVER
    from wtsbench.store.server.tokens import Tokens

    folder.mkdir()
    _, token = Tokens(folder / SERVER).create(name="measure", scope="append", valid=None)
    (folder / SERVER / "token").write_text(token)
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    pipe, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(folder, theirs))
    process.start()
    theirs.close()

    def cpu() -> float:
        pipe.send(None)
        return float(pipe.recv())

    try:
        listen, ca = pipe.recv()
        secrets = {"WTSBENCH_TOKEN_FILE": str(folder / SERVER / "token"), "WTSBENCH_STORE_CA": ca}
        yield _Place(sink="store", place=listen, environment=secrets, server_cpu=cpu)
    finally:
        pipe.close()
        process.join()


@contextmanager
def _place(kind: str, scratch: Path, mlflow: str) -> Iterator[_Place]:
    folder = scratch / kind
    if kind == "server":
        with _served(folder) as place:
            yield place
    elif kind == "folder":
        open_store(str(folder), create=True)
        yield _Place(sink="store", place=str(folder))
    elif kind == "parquet":
        folder.mkdir()
        yield _Place(sink="parquet", place=str(folder))
    else:
        folder.mkdir()
        uri = f"sqlite:///{folder}/mlflow.db" if kind == "mlflow-sqlite" else folder.as_uri()
        place = _Place(sink="mlflow", place=uri, python=mlflow)
        preparing = _Process(place, prepare=True)
        preparing.hear()
        preparing.close()
        yield place


def measure(
    kinds: Sequence[str], writers: Sequence[int], seconds: float, *, mlflow: str = sys.executable
) -> list[Rate]:
    """Rates of every kind at every number of writers, in turn.

    Args:
        kinds: of KINDS; those of MLflow need it installed.
        writers: numbers of writers at once.
        seconds: for each.
        mlflow: the interpreter of an environment that has MLflow.
    """
    found: list[Rate] = []
    for count in writers:
        for kind in kinds:
            scratch = Path(tempfile.mkdtemp(prefix="wtsbench-measure-"))
            try:
                with _place(kind, scratch, mlflow) as place:
                    rate = append_rate(kind, place, count, seconds)
                size = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            predictions = max(1, rate.batches) * ROWS * RECORDS / (RECORDS + 1)
            found.append(replace(rate, bytes_per_prediction=size / predictions))
    return found
