"""The process that computes one SQL query: `python -m wtsbench.store.server.sql_process`.

It requests the columns and tables that it needs, receives them, and answers. It has its own database in memory, no
access to files, and limits of memory and processor time that the kernel enforces; the server may kill it at any time.
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
from wtsbench.visible import first_line

_NICE = 5
"""Priority below the store's writer."""


def main() -> None:
    """Answer the query that is sent to standard input."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    try:
        frames.write(out, frames.READY)
        _, content = frames.read(source)
        query = json.loads(content)
        os.nice(_NICE)
        with _database(query) as database:
            _limit(query)
            _answer(database, query, source, out)
    except StoreError as error:
        _refuse(out, error.message, error.remedy)
    except (duckdb.OutOfMemoryException, MemoryError):
        _refuse(out, f"the question needs more than {query['memory'] / 2**20:g} MiB of memory", None)
    except duckdb.Error as error:
        _refuse(out, first_line(error), None)
    except (EOFError, BrokenPipeError):
        pass  # the server has ended, or has dropped the query
    os._exit(0)  # there is nothing to save, and a broken pipe must not be flushed


def _refuse(out: IO[bytes], message: str, remedy: str | None) -> None:
    frames.write(out, frames.REFUSED, json.dumps({"message": message, "remedy": remedy}).encode())


def _database(query: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(
        config={
            **EXTENSIONS,
            "threads": query["threads"],
            "memory_limit": f"{query['memory'] // 2}B",
            "temp_directory": query["temporary"],
            "max_temp_directory_size": f"{query['disk']}B",
            "python_enable_replacements": False,
        },
    )
    for setting in ("enable_external_access = false", "lock_configuration = true"):  # after the folder is set
        database.execute(f"SET {setting}")
    for table, schema in TABLES.items():
        naive = [f.with_type(pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f for f in schema]
        _create(database, table, pa.RecordBatchReader.from_batches(pa.schema(naive), []))
    return database


def _limit(query: dict[str, Any]) -> None:
    """Have the kernel limit what the engine does not count, such as a value inside of a function."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + query["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    cpu = int(query["seconds"] * query["threads"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(database: duckdb.DuckDBPyConnection, query: dict[str, Any], source: IO[bytes], out: IO[bytes]) -> None:
    needed = require_harmless(database, query["sql"])
    frames.write(out, frames.NEEDED, json.dumps(needed).encode())
    for table in needed:
        _, content = frames.read(source)
        schema = pa.ipc.read_schema(pa.py_buffer(content))
        _create(database, table, pa.RecordBatchReader.from_batches(schema, _batches(source, schema)))
    reader = database.sql(query["sql"], params=query["parameters"]).to_arrow_reader(65_536)
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
