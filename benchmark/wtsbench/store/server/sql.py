"""Questions in SQL, each computed by a process of its own on a copy of what it reads: see `sql_process`.

The engine that owns the store never sees a stranger's SQL. No function, however long it takes for one value, keeps
anything else from going on, for the process can be killed, and what it takes of memory and processor is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from wtsbench.contract.schemas import TABLES
from wtsbench.store.lock import StoreBusy
from wtsbench.store.server import frames
from wtsbench.store.server.bounds import Stop
from wtsbench.store.server.live import Limits, LiveStore
from wtsbench.store.wire import StoreRefused

_NARROW = "narrow it with WHERE or LIMIT, or export the store."


class SqlProcesses:
    """Answers questions in SQL."""

    def __init__(self, live: LiveStore, limits: Limits) -> None:
        self._live = live
        self._limits = limits
        self._mutex = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._spare: subprocess.Popen[bytes] | None = None
        """One that waits for the next question, after the first: to start takes longer than most answers."""
        self._stopped = False

    def stream(self, sql: str, parameters: Sequence[Any], *, stop: Stop) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The answer to a question, batch by batch. The iterator must be exhausted or closed; `stop` ends it.

        Raises:
            StoreRefused: it is not what a reader may send, or takes more time or memory, or gives more, than it may.
        """
        answer = self._stream(sql, parameters, stop)
        schema = next(answer)
        assert isinstance(schema, pa.Schema)
        return schema, answer

    def stop(self) -> None:
        """End what is being computed, and begin nothing more."""
        with self._mutex:
            self._stopped = True
            for process in self._running:
                process.kill()
            if self._spare is not None:
                _end(self._spare)

    def _stream(self, sql: str, parameters: Sequence[Any], stop: Stop) -> Iterator[Any]:
        limits = self._limits
        late = threading.Event()
        with ExitStack() as stack:
            temporary = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="wtsbench-sql-", ignore_cleanup_errors=True)
            )
            process = stack.enter_context(self._process())
            stop.add(process.kill)
            assert process.stdin is not None

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(limits.seconds, end)
            timer.daemon = True
            stack.callback(timer.cancel)
            asked = {
                "sql": sql,
                "parameters": list(parameters),
                "seconds": limits.seconds,
                "memory": limits.memory,
                "disk": limits.disk,
                "threads": min(2, os.cpu_count() or 1),
                "temporary": temporary,
            }
            try:
                _expected(process, frames.READY)
                timer.start()
                frames.write(process.stdin, frames.QUESTION, json.dumps(asked).encode())
                self._send(process, json.loads(_expected(process, frames.NEEDED)))
                schema = pa.ipc.read_schema(pa.py_buffer(_expected(process, frames.SCHEMA)))
                yield schema
                rows = size = 0
                while content := _expected(process, frames.BATCH, limits.bytes):
                    batch = pa.ipc.read_record_batch(pa.py_buffer(content), schema)
                    rows, size = rows + batch.num_rows, size + batch.nbytes
                    if rows > limits.rows:
                        raise StoreRefused(f"the answer has more than {limits.rows:,} rows", remedy=_NARROW)
                    if size > limits.bytes:
                        raise frames.TooLarge
                    yield batch
            except frames.TooLarge:
                raise StoreRefused(f"the answer is larger than {limits.bytes / 2**20:g} MiB", remedy=_NARROW) from None
            except (EOFError, BrokenPipeError):
                raise self._ended(late.is_set()) from None

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        """A process, until the end of the block."""
        with self._mutex:
            if self._stopped:
                raise _stopping()
            process, self._spare = self._spare or _start(), None
            self._running.add(process)
        try:
            yield process
        finally:
            _end(process)
            with self._mutex:
                self._running.discard(process)
                if not (self._stopped or self._spare is not None):  # type: ignore[redundant-expr]  # stopped meanwhile
                    self._spare = _start()

    def _send(self, process: subprocess.Popen[bytes], needed: dict[str, list[str]]) -> None:
        """Send the tables, all of one moment."""
        assert process.stdin is not None
        with self._live.moment(list(needed)) as cursors:
            for table, columns in needed.items():
                known = [name for name in TABLES[table].names if name in columns]
                reader = cursors[table].sql(f"SELECT {', '.join(known)} FROM {table}").to_arrow_reader(65_536)
                frames.write(process.stdin, frames.SCHEMA, reader.schema.serialize())
                for batch in reader:
                    frames.write(process.stdin, frames.BATCH, memoryview(batch.serialize()))
                frames.write(process.stdin, frames.END)

    def _ended(self, late: bool) -> Exception:
        """Why a process ended before it had answered."""
        if self._stopped:
            return _stopping()
        if late:
            return StoreRefused(
                f"the question took longer than {self._limits.seconds:g} s",
                remedy="narrow it, or ask a copy of the store.",
            )
        return StoreRefused(
            f"the question needs more than {self._limits.memory / 2**20:g} MiB of memory, or too much processor time",
            remedy="narrow it, or ask a copy of the store.",
        )


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "wtsbench.store.server.sql_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Each thread would reserve addresses of its own, which count against the limit.
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):  # what was not sent yet cannot be
            pipe.close()
    process.wait()


def _stopping() -> StoreBusy:
    return StoreBusy("the store is stopping", remedy="try again when it is back; nothing was lost.")


def _expected(process: subprocess.Popen[bytes], kind: bytes, most: int | None = None) -> bytes:
    """The content of the next frame, which must be of this kind, or the end (then nothing).

    Raises:
        StoreRefused: the process says why there is none.
    """
    assert process.stdout is not None
    found, content = frames.read(process.stdout, most)
    if found == frames.REFUSED:
        told = json.loads(content)
        raise StoreRefused(told["message"], remedy=told["remedy"])
    if found not in (kind, frames.END):
        raise EOFError
    return content
