"""SQL queries, each computed by a process of its own on a copy of the data that it reads: see `sql_process`.

The engine that owns the store never runs a client's SQL. However long a function in it takes, nothing else is blocked:
the process can be killed, and has limits of its own on memory and processor time.
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
    """Answers SQL queries."""

    def __init__(self, live: LiveStore, limits: Limits) -> None:
        self._live = live
        self._limits = limits
        self._mutex = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._spare: subprocess.Popen[bytes] | None = None
        """An idle process for the next query, kept after the first one: starting takes longer than most answers."""
        self._stopped = False

    def stream(self, sql: str, parameters: Sequence[Any], *, stop: Stop) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The answer to a query, batch by batch. The iterator must be exhausted or closed; `stop` ends the query.

        Raises:
            StoreRefused: the query is not allowed, or exceeds the limits of time, memory or size of the answer.
        """
        answer = self._stream(sql, parameters, stop)
        schema = next(answer)
        assert isinstance(schema, pa.Schema)
        return schema, answer

    def stop(self) -> None:
        """End all queries, and refuse further ones."""
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
        """Send the tables, all of one snapshot."""
        assert process.stdin is not None
        with self._live.moment(list(needed)) as cursors:
            for table, columns in needed.items():
                selected = [name for name in TABLES[table].names if name in columns]
                reader = cursors[table].sql(f"SELECT {', '.join(selected)} FROM {table}").to_arrow_reader(65_536)
                frames.write(process.stdin, frames.SCHEMA, reader.schema.serialize())
                for batch in reader:
                    frames.write(process.stdin, frames.BATCH, memoryview(batch.serialize()))
                frames.write(process.stdin, frames.END)

    def _ended(self, late: bool) -> Exception:
        """The error for a process that ended before it had answered."""
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
        # Else each thread reserves address space of its own, which counts against the limit.
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):  # unsent bytes cannot be flushed
            pipe.close()
    process.wait()


def _stopping() -> StoreBusy:
    return StoreBusy("the store is stopping", remedy="try again when it is back; nothing was lost.")


def _expected(process: subprocess.Popen[bytes], kind: bytes, most: int | None = None) -> bytes:
    """The content of the next frame, which must be of this kind; empty for the end.

    Raises:
        StoreRefused: the process refused the query.
    """
    assert process.stdout is not None
    received_kind, content = frames.read(process.stdout, most)
    if received_kind == frames.REFUSED:
        refusal = json.loads(content)
        raise StoreRefused(refusal["message"], remedy=refusal["remedy"])
    if received_kind not in (kind, frames.END):
        raise EOFError
    return content
