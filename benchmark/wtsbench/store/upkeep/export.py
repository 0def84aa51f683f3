"""Exporting a store to Parquet or Arrow files, for other tools, and reading them back.

    OUT/manifest.json                       list of the files; written last, so an export without it is incomplete
    OUT/datasets/part.parquet, OUT/grids/part.parquet
    OUT/items/DIGEST/part.parquet           of one data set; not `data_digest=DIGEST`: the rows have that column
    OUT/TABLE/shard=X/part.parquet          of trials whose id begins with X; TABLE is one of `archive.SCOPED`

Columns are those of `schemas`; only sealed attempts have rows. `ledger` says which rows belong to one record, so that
the original records can be rebuilt from an export. With `arrow` in place of `parquet` the files are Arrow IPC files.
Each file is written under a hidden name, flushed and renamed. The manifest has the SHA-256 of each file and its own, so
that any changed bit is detected before an export is used; other tools detect damaged pages of Parquet files by the
checksums in them. The manifest also has a digest of what each file was made from: a repeated export writes only what
has changed, and an interrupted one continues.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from wtsbench.contract.outbox import Batch, check_batch, normal, widened
from wtsbench.contract.plain import FILE_MAGIC, read_rows, require_columns
from wtsbench.contract.schemas import RECORD_TABLES, SCHEMA_VERSION, TABLES
from wtsbench.errors import StoreError
from wtsbench.files import naming, require_plain, sync_folder
from wtsbench.json_text import parsed
from wtsbench.store.engine.transaction import Begun
from wtsbench.store.upkeep.archive import LEDGER, SCOPED
from wtsbench.store.upkeep.manifest import (
    MANIFEST,
    File,
    Form,
    digest_of,
    left_over,
    read_manifest,
    unfinished,
    write_manifest,
)

_SHARDS = "0123456789abcdef"
_TRIES = 20


class Reader(Protocol):
    """The store to export: an open folder, or a server."""

    def scoped(self, table: str, shard: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Rows of a table of `archive.SCOPED` for trials whose id begins with `shard`, in the order of records."""

    def whole(self, table: str) -> pa.Table:
        """`datasets` or `grids`."""

    def items(self, data_digest: str) -> pa.Table:
        """A data set's items, in order of arrival."""


def export(reader: Reader, out: Path, form: Form) -> dict[str, Any]:
    """Export a store to files.

    Args:
        reader: the store.
        out: folder, made if missing; an export in it is updated.
        form: `parquet`, or `arrow` for Arrow IPC files.

    Returns:
        The manifest, with the number of files written by this call.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
    """
    before = read_manifest(out / MANIFEST)
    if before is not None and before.form != form:
        raise StoreError(f"{out} holds an export as {before.form}", remedy="choose another folder, or that form.")
    hidden = out / f".{MANIFEST}"
    own_names = {*TABLES, "ledger", hidden.name, unfinished(hidden).name}
    if before is None and out.is_dir() and {path.name for path in out.iterdir()} - own_names:
        raise StoreError(f"{out} holds other files", remedy="choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    if before is not None:
        (out / MANIFEST).rename(hidden)
    previous = left_over(hidden)
    files: dict[str, File] = {}
    written = 0

    def put(name: str, fingerprint: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
        nonlocal written
        path = out / f"{name}.{form}"
        entry = previous.get(f"{name}.{form}")
        if entry is None or entry.fingerprint != fingerprint or entry.sha256 != digest_of(path):
            rows = _write(path, form, schema, batches)
            entry = File(rows=rows, fingerprint=fingerprint, sha256=digest_of(path) or "")
            written += 1
            write_manifest(hidden, form, {**previous, **files, f"{name}.{form}": entry})
        files[f"{name}.{form}"] = entry
        return entry.rows

    for table in ("datasets", "grids"):
        rows_of_table = reader.whole(table)
        put(f"{table}/part", _digest(rows_of_table.to_pylist()), TABLES[table], iter(rows_of_table.to_batches()))
    for digest in reader.whole("datasets")["data_digest"].to_pylist():
        items = reader.items(digest)
        put(f"items/{digest}/part", digest, TABLES["items"], iter(items.to_batches()))
    for shard in _SHARDS:
        for _ in range(_TRIES):
            if _put_shard(reader, shard, put):
                break
        else:
            raise StoreError("the store grew faster than it could be exported", remedy="export a backup of it.")
    _remove_others(out, files)
    with naming(out):
        manifest = write_manifest(hidden, form, files)
    with hidden.open("rb") as file:
        os.fsync(file.fileno())
    hidden.rename(out / MANIFEST)
    sync_folder(out)
    return {**manifest.model_dump(), "written": written, "rows": sum(file.rows for file in files.values())}


def _put_shard(reader: Reader, shard: str, put: Callable[..., int]) -> bool:
    """Write the files of one shard; False if trials were sealed meanwhile, so that the files are inconsistent."""
    _, parts = reader.scoped("ledger", shard)
    ledger = pa.Table.from_batches(parts, schema=LEDGER)
    _, parts = reader.scoped("attempts", shard)
    attempts = pa.Table.from_batches(parts, schema=SCOPED["attempts"])
    if not attempts.num_rows:
        return True
    put(f"attempts/shard={shard}/part", _digest(attempts.to_pylist()), attempts.schema, iter(attempts.to_batches()))
    put(f"ledger/shard={shard}/part", _digest(ledger.to_pylist()), LEDGER, iter(ledger.to_batches()))
    consistent = True
    for table in RECORD_TABLES:
        own = ledger.filter(pc.field("table_name") == table)
        if own.num_rows:
            rows = put(f"{table}/shard={shard}/part", _digest(own.to_pylist()), *reader.scoped(table, shard))
            if rows != pc.sum(own["row_count"]).as_py():
                consistent = False
    return consistent


def _write(path: Path, form: Form, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    rows = 0
    try:
        with hidden.open("wb") as file:
            with (
                pq.ParquetWriter(file, schema, write_page_checksum=True)
                if form == "parquet"
                else pa.ipc.new_file(file, schema)
            ) as writer:
                for batch in batches:
                    rows += batch.num_rows
                    writer.write_table(pa.Table.from_batches([batch]).cast(schema))
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}", remedy="export again: it goes on here."
        ) from error
    finally:
        hidden.unlink(missing_ok=True)
    sync_folder(path.parent)
    return rows


def _remove_others(out: Path, files: dict[str, File]) -> None:
    for path in [*out.glob("*/part.*"), *out.glob("*/*/part.*")]:
        if str(path.relative_to(out)) not in files:
            path.unlink()


def _digest(rows: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(list(rows), sort_keys=True, default=str).encode()).hexdigest()


class ExportSource:
    """An export, to be merged into a store."""

    def __init__(self, out: Path) -> None:
        """Read the manifest and check the files.

        Raises:
            StoreError: there is no manifest, it has a newer version, or a file is missing or changed.
        """
        manifest = read_manifest(out / MANIFEST)
        if manifest is None:
            raise StoreError(f"{out} is no whole export", remedy="run the export again: it goes on where it was.")
        self._out = out
        self._form: Form = manifest.form
        self._files = frozenset(manifest.files)
        for name, file in manifest.files.items():
            if digest_of(out / name) != file.sha256:
                raise StoreError(f"{out / name} is not the file that was exported", remedy="export again.")
        self._ledger: dict[tuple[str, int], list[Batch]] = {}
        self._shard = ""

    def attempts(self) -> Sequence[Begun]:
        """Every attempt."""
        attempts = []
        for shard in _SHARDS:
            table = self._scoped("attempts", shard)
            attempts += [Begun(*row) for row in zip(*(table[name].to_pylist() for name in Begun._fields), strict=True)]
        return attempts

    def records(self, trial_id: str, attempt: int) -> list[Batch]:
        """An attempt's records."""
        if trial_id[0] != self._shard:
            self._shard, self._ledger = trial_id[0], self._records_of(trial_id[0])
        return sorted(self._ledger.get((trial_id, attempt), []), key=lambda batch: batch.sequence)

    def datasets(self) -> Iterator[tuple[dict[str, Any], pa.Table]]:
        """Every data set."""
        for row in self._read("datasets/part", TABLES["datasets"]).to_pylist():
            yield row, self._read(f"items/{row['data_digest']}/part", TABLES["items"])

    def grids(self) -> list[dict[str, Any]]:
        """Submissions."""
        rows: list[dict[str, Any]] = self._read("grids/part", TABLES["grids"]).to_pylist()
        for row in rows:
            try:
                cells = parsed(row["cells"])
            except ValueError:
                cells = None
            if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
                raise self._not_whole(f"the cells of grid {row['name']} are no list of cells")
        return rows

    def _records_of(self, shard: str) -> dict[tuple[str, int], list[Batch]]:
        """All records of a shard, whose ledger and rows are in the same order."""
        tables = {table: self._scoped(table, shard) for table in RECORD_TABLES}
        starts = dict.fromkeys(RECORD_TABLES, 0)
        records: dict[tuple[str, int], list[Batch]] = {}
        for entry in self._scoped("ledger", shard).to_pylist():
            table = entry["table_name"]
            start = starts.get(table)
            if start is None or not 0 <= entry["row_count"] <= tables[table].num_rows - start:
                raise self._not_whole(f"its ledger says {entry['row_count']} rows of {table!r} where there are fewer")
            starts[table] += entry["row_count"]
            batch = Batch(
                table=table,
                trial_id=entry["trial_id"],
                attempt=entry["attempt"],
                sequence=entry["sequence"],
                schema_version=SCHEMA_VERSION,
                data=normal(tables[table].slice(start, entry["row_count"])),
                digest=entry["digest"],
            )
            check_batch(batch)
            records.setdefault((batch.trial_id, batch.attempt), []).append(batch)
        return records

    def _scoped(self, table: str, shard: str) -> pa.Table:
        rows = self._read(f"{table}/shard={shard}/part", SCOPED[table])
        if not pc.all(pc.starts_with(rows["trial_id"], shard), min_count=0).as_py():
            raise self._not_whole(f"{table} of shard {shard} has trials of others")
        if not pc.all(pc.greater_equal(rows["attempt"], 0), min_count=0).as_py():
            raise self._not_whole(f"{table} of shard {shard} has an attempt of a number below 0")
        return rows

    def _not_whole(self, why: str) -> StoreError:
        return StoreError(f"{self._out} is no whole export: {why}", remedy="export again.")

    def _read(self, name: str, schema: pa.Schema) -> pa.Table:
        path = self._out / f"{name}.{self._form}"
        if f"{name}.{self._form}" not in self._files:
            return schema.empty_table()
        try:
            require_plain(path)
            if self._form == "parquet":
                with pq.ParquetFile(path) as file:
                    require_columns(file.schema_arrow, schema)
                    table = file.read()
            else:
                with pa.memory_map(str(path)) as source:
                    table = read_rows(source.read_buffer().slice(len(FILE_MAGIC)), schema)
            table.validate(full=True)
            table = widened(table, schema).select(schema.names).cast(schema)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._not_whole(f"{path} cannot be read: {next(iter(str(error).splitlines()), '')}") from error
        for column in schema:
            if not column.nullable and table[column.name].null_count:
                raise self._not_whole(f"{path} has nulls in {column.name!r}")
        return table
