"""The outbox: records on disk until the store has acknowledged them.

One Arrow IPC file per batch, `{sequence:06d}-{table}.arrow`, written under a hidden name, flushed to the disk and then
renamed, so that a file with such a name is always complete. Its schema's metadata name its trial and attempt.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.ipc

from wtsbench.contract.digests import content_digest, holds
from wtsbench.contract.plain import FILE_MAGIC, read_rows
from wtsbench.contract.schemas import RECORD_TABLES, SCHEMA_VERSION
from wtsbench.errors import StoreError
from wtsbench.files import open_plain, replacing
from wtsbench.visible import first_line

_NAME = re.compile(r"(\d{6})-([a-z]+)\.arrow")
_KEYS = ("schema_version", "table", "trial_id", "attempt", "sequence", "digest")
RECORD_BYTES = 2**30
"""Limit of a record's file, which is read into memory at once."""
_REMEDY = "remove the attempt's folder, and the trial will run again."
Outcome = Literal["stored", "duplicate", "superseded"]
"""Stored now; stored before; or not needed, since another attempt of the trial was done first."""


@dataclass(frozen=True, kw_only=True)
class OutboxFile:
    """A record that waits for delivery."""

    path: Path
    table: str
    sequence: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A record: rows of one table by one attempt, with its key and the digest of its content."""

    table: str
    trial_id: str
    attempt: int
    sequence: int
    schema_version: int
    data: pa.RecordBatch
    digest: str
    """See `digests`."""

    @property
    def status(self) -> str | None:
        """How the attempt ended, if this is the record that seals it."""
        return str(self.data.column("status")[0]) if self.table == "trials" else None

    @property
    def records(self) -> int | None:
        """How many records its attempt has, where this is the one that ends it."""
        return None if self.status is None else int(self.data.column("records")[0].as_py())


@dataclass(frozen=True)
class Ack:
    """The store's confirmation that a record is on its disk or not needed: only then may it leave the outbox."""

    trial_id: str
    attempt: int
    sequence: int
    outcome: Outcome


class Outbox:
    """The outbox of one attempt, for writing by one process."""

    def __init__(self, folder: Path, *, trial_id: str, attempt: int) -> None:
        self.folder = folder
        self.trial_id = trial_id
        self.attempt = attempt
        folder.mkdir(parents=True, exist_ok=True)
        self._highest = 0

    def append(self, table: str, rows: pa.RecordBatch | pa.Table, *, sequence: int | None = None) -> int:
        """Make a record durable and return its sequence number.

        Args:
            table: one of the attempt-scoped tables.
            rows: its rows; cast to the table's schema.
            sequence: None takes the next one. A record that exists already is left alone if its content is equal.

        Raises:
            StoreError: a record with this number exists and has other content.
            OSError: the disk is full or not writable; then no record was written.
        """
        schema = RECORD_TABLES[table]
        whole = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
        batch = normal(whole.select(schema.names).cast(schema))
        if sequence is None:
            sequence = self.last_sequence + 1
        for waiting in self.pending():
            if waiting.sequence == sequence:
                if holds(read_batch(waiting.path).digest, table, batch):
                    return sequence
                raise StoreError(f"{waiting.path} holds another record than the one to be written as {sequence}")
        self._write(table, batch, sequence)
        self._highest = max(self._highest, sequence)
        return sequence

    def _write(self, table: str, batch: pa.RecordBatch, sequence: int) -> None:
        name = f"{sequence:06d}-{table}.arrow"
        values = (SCHEMA_VERSION, table, self.trial_id, self.attempt, sequence, content_digest(table, batch))
        metadata = {f"wtsbench.{key}": str(value) for key, value in zip(_KEYS, values, strict=True)}
        schema = batch.schema.with_metadata(metadata)
        with (
            replacing(self.folder / name) as file,
            pa.ipc.new_file(file, schema) as writer,
        ):
            writer.write_batch(batch.replace_schema_metadata(metadata))

    def pending(self) -> list[OutboxFile]:
        """The records that wait, by sequence number."""
        return pending(self.folder)

    @property
    def last_sequence(self) -> int:
        """The highest sequence number that waits, or that this object has written; 0 if there is none."""
        return max((self._highest, *(file.sequence for file in self.pending())))


def pending(folder: Path) -> list[OutboxFile]:
    """The records of a folder by sequence number, from file names alone.

    Raises:
        StoreError: an `.arrow` file in it is no record.
    """
    files = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match is not None and match[2] in RECORD_TABLES:
            files.append(OutboxFile(path=path, table=match[2], sequence=int(match[1])))
        elif path.suffix == ".arrow" and not path.name.startswith("."):
            raise StoreError(f"{path} is no record of an outbox", remedy=_REMEDY)
    return sorted(files, key=lambda file: file.sequence)


def read_batch(path: Path) -> Batch:
    """A record with its key, checked to be complete and consistent.

    Raises:
        StoreError: the file is incomplete, its metadata do not match its name or rows, or its rows not the table.
        FileNotFoundError: it does not exist any more.
    """
    if _NAME.fullmatch(path.name) is None:
        raise StoreError(f"{path} is no record of an outbox", remedy=_REMEDY)
    try:
        content = _content(path)
        with pa.ipc.open_file(content) as reader:  # the footer is written last: a file that has one is not cut off
            schema = reader.schema
    except pa.ArrowException as error:
        raise StoreError(f"{path} is incomplete: {first_line(error)}", remedy=_REMEDY) from error
    except FileNotFoundError:
        raise
    except OSError as error:  # Arrow's own complaints about a file's content are of this kind too
        raise StoreError(f"{path} cannot be read: {error.strerror or first_line(error)}", remedy=_REMEDY) from error
    try:
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        version, table, trial_id, attempt, sequence, digest = (metadata[f"wtsbench.{key}"] for key in _KEYS)
        columns = known_schema(table, int(version))
        whole = read_rows(content.slice(len(FILE_MAGIC)), columns).replace_schema_metadata(None)
        batch = Batch(
            table=table,
            trial_id=trial_id,
            attempt=int(attempt),
            sequence=int(sequence),
            schema_version=int(version),
            data=normal(widened(whole, columns)),
            digest=digest,
        )
        check_batch(batch)
    except KeyError as error:
        raise StoreError(f"{path} has no {error} in its metadata: it is no record", remedy=_REMEDY) from None
    except (ValueError, OSError, pa.ArrowException, StoreError) as error:
        raise StoreError(f"{path}: {first_line(error)}", remedy=_REMEDY) from None
    if path.name != f"{batch.sequence:06d}-{table}.arrow":
        raise StoreError(f"{path} says that it is record {batch.sequence} of table {table}", remedy=_REMEDY)
    if not holds(digest, table, batch.data):
        raise StoreError(f"{path} does not hold what was written: its digest differs", remedy=_REMEDY)
    return batch


def _content(path: Path) -> pa.Buffer:
    with open_plain(path, links=False) as file:  # a trial's code may put anything in its outbox
        size = os.fstat(file.fileno()).st_size
        if size > RECORD_BYTES:
            raise StoreError(f"{path} has {size:,} bytes; a record has {RECORD_BYTES:,} at most", remedy=_REMEDY)
        return pa.py_buffer(file.read(size))


def known_schema(table: str, version: int) -> pa.Schema:
    """The columns of a record's table.

    Raises:
        StoreError: unknown table or version.
    """
    if version > SCHEMA_VERSION:
        raise StoreError(f"the record has schema version {version}; this wtsbench knows {SCHEMA_VERSION}")
    schema = RECORD_TABLES.get(table)
    if schema is None:
        raise StoreError(f"there is no record table {table!r}")
    return schema


def check_batch(batch: Batch) -> None:
    """Refuse a batch that is no valid record.

    Raises:
        StoreError: unknown table or version, other columns, rows of another attempt, or an invalid seal.
    """
    schema = known_schema(batch.table, batch.schema_version)
    for name, number, limit in (("attempt number", batch.attempt, 2**31), ("sequence number", batch.sequence, 2**63)):
        if (
            type(number) is not int or not 0 <= number < limit
        ):  # a number that no table can hold must never be acknowledged
            raise StoreError(f"{number!r} is not a valid {name}")
    if not batch.data.schema.equals(schema):
        raise StoreError(f"the columns are not those of table {batch.table}")
    columns = batch.data.columns
    for name, own in (("trial_id", batch.trial_id), ("attempt", batch.attempt)):
        column = columns[schema.get_field_index(name)]
        if not column.equals(pa.repeat(pa.scalar(own, column.type), len(column))):
            raise StoreError(f"some rows have another {name} than the record, {own}")
    nulls = [field.name for field, c in zip(schema, columns, strict=True) if c.null_count and not field.nullable]
    if nulls:
        raise StoreError(f"column {nulls[0]} has nulls")
    if batch.table == "trials":
        statuses = batch.data.column("status").to_pylist()
        if statuses not in (["done"], ["failed"]):
            raise StoreError(f"a trials record is one row, done or failed, not {statuses}")
        if batch.data.column("records").null_count:
            raise StoreError("a trials record does not say how many records its attempt has")


def widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of an older version, with null in the columns that it did not know; other rows are returned as they are."""
    missing = [column for column in schema if column.nullable and column.name not in table.schema.names]
    for column in missing:
        table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    return table.select(schema.names) if missing and {*schema.names} <= {*table.schema.names} else table


def normal(table: pa.Table) -> pa.RecordBatch:
    """The rows as the one batch of a record.

    Raises:
        ValueError: they are too many for one batch.
    """
    batches = table.combine_chunks().to_batches()
    if len(batches) > 1:
        raise ValueError(f"{table.num_rows} rows are too many for one record")
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
