"""The process that computes one question in SQL: `python -m wtsbench.store.server.sql_process`.

It says which columns of which tables it needs, is sent those, and answers. It has a database of its own in memory, no
access to files, and limits of memory and processor time that the kernel keeps; a server ends it whenever it likes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.ipc

from wtsbench.contract.schemas import TABLES
from wtsbench.errors import StoreError
from wtsbench.store.engine.database import EXTENSIONS
from wtsbench.store.engine.guard import require_harmless
from wtsbench.store.server import frames

_NICE = 5
"""Behind whatever writes."""


def main() -> None:
    """Answer the question that standard input asks."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    try:
        frames.write(out, frames.READY)
        _, content = frames.read(source)
        asked = json.loads(content)
        os.nice(_NICE)
        with _database(asked) as database:
            _limit(asked)
            _answer(database, asked, source, out)
    except StoreError as error:
        _refuse(out, error.message, error.remedy)
    except (duckdb.OutOfMemoryException, MemoryError):
        _refuse(out, f"the question needs more than {asked['memory'] / 2**20:g} MiB of memory", None)
    except duckdb.Error as error:
        _refuse(out, (str(error).strip().splitlines() or ["the SQL failed"])[0], None)
    except (EOFError, BrokenPipeError):
        pass  # the server has ended, or does not want to know any more
    os._exit(0)  # nothing is to be saved, and what is left of a broken pipe must not be flushed


def _refuse(out: IO[bytes], message: str, remedy: str | None) -> None:
    frames.write(out, frames.REFUSED, json.dumps({"message": message, "remedy": remedy}).encode())


def _database(asked: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(
        config={
            **EXTENSIONS,
            "threads": asked["threads"],
            "memory_limit": f"{asked['memory'] // 2}B",
            "temp_directory": asked["temporary"],
            "max_temp_directory_size": f"{asked['disk']}B",
            "python_enable_replacements": False,
        },
    )
    for setting in ("enable_external_access = false", "lock_configuration = true"):  # once the folder is set
        database.execute(f"SET {setting}")
    for table, schema in TABLES.items():
        naive = [f.with_type(pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f for f in schema]
        _create(database, table, pa.RecordBatchReader.from_batches(pa.schema(naive), []))
    return database


def _limit(asked: dict[str, Any]) -> None:
    """What the engine does not count, a value inside of a function say, the kernel does."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + asked["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    cpu = int(asked["seconds"] * asked["threads"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(database: duckdb.DuckDBPyConnection, asked: dict[str, Any], source: IO[bytes], out: IO[bytes]) -> None:
    needed = require_harmless(database, asked["sql"])
    frames.write(out, frames.NEEDED, json.dumps(needed).encode())
    for table in needed:
        _, content = frames.read(source)
        schema = pa.ipc.read_schema(pa.py_buffer(content))
        _create(database, table, pa.RecordBatchReader.from_batches(schema, _batches(source, schema)))
    reader = database.sql(asked["sql"], params=asked["parameters"]).to_arrow_reader(65_536)
    frames.write(out, frames.SCHEMA, reader.schema.serialize())
    for batch in reader:
        frames.write(out, frames.BATCH, memoryview(batch.serialize()))
    frames.write(out, frames.END)


def _create(database: duckdb.DuckDBPyConnection, table: str, rows: pa.RecordBatchReader) -> None:
    database.register("incoming", rows)
    database.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM incoming")
    database.unregister("incoming")


def _batches(source: IO[bytes], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while (frame := frames.read(source))[0] == frames.BATCH:
        yield pa.ipc.read_record_batch(pa.py_buffer(frame[1]), schema)


if __name__ == "__main__":
    main()
