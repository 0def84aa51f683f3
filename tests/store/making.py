"""Rows, records and whole attempts for the tests of the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from wtsbench.contract import schemas
from wtsbench.contract.digests import content_digest
from wtsbench.contract.outbox import Batch, Outbox, normal

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
_FILLERS: dict[pa.DataType, Any] = {
    pa.string(): "x",
    pa.int32(): 1,
    pa.int64(): 1,
    pa.float64(): 1.5,
    pa.bool_(): True,
    pa.timestamp("us", tz="UTC"): WHEN,
    pa.list_(pa.string()): [],
    pa.list_(pa.float64()): [0.25, 0.75],
}


def trial_id_of(name: str) -> str:
    """A trial id, as one looks."""
    return hashlib.sha256(name.encode()).hexdigest()


def rows(table: str, given: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows of a table, what is not given filled with something; columns that may be null with null."""
    schema = schemas.TABLES[table]
    filled = [
        {field.name: row.get(field.name, None if field.nullable else _FILLERS[field.type]) for field in schema}
        for row in given
    ]
    return pa.Table.from_pylist(filled, schema=schema)


def record_rows(table: str, trial_id: str, attempt: int, given: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows of an attempt."""
    return rows(table, [{"trial_id": trial_id, "attempt": attempt, **row} for row in given])


def batch(table: str, trial_id: str, attempt: int, sequence: int, given: Sequence[dict[str, Any]]) -> Batch:
    """A record as the courier hands it on; of a seal, its attempt has as many records as its number says."""
    if table == "trials":
        given = [{"records": sequence, **row} for row in given]
    table_rows = record_rows(table, trial_id, attempt, given)
    data = normal(table_rows)
    return Batch(
        table=table,
        trial_id=trial_id,
        attempt=attempt,
        sequence=sequence,
        schema_version=schemas.SCHEMA_VERSION,
        data=data,
        digest=content_digest(table, data),
    )


def predictions(trial_id: str, attempt: int, sequence: int, *item_ids: str, split: str = "test") -> Batch:
    """A record of predictions on some items."""
    return batch("predictions", trial_id, attempt, sequence, [{"split": split, "item_id": item} for item in item_ids])


def seal(trial_id: str, attempt: int, sequence: int, status: str = "done", *, records: int | None = None) -> Batch:
    """The record that ends an attempt, of as many records as its number says where none are given."""
    return batch("trials", trial_id, attempt, sequence, [{"status": status, "records": records or sequence}])


def whole_attempt(trial_id: str, attempt: int, *, status: str = "done") -> list[Batch]:
    """All records of an attempt."""
    return [
        predictions(trial_id, attempt, 1, "a", "b"),
        batch("metrics", trial_id, attempt, 2, [{"name": "loss", "split": "transfer", "step": 1, "value": 0.5}]),
        batch("logs", trial_id, attempt, 3, [{"line": 1, "stream": "output", "text": "hello"}]),
        seal(trial_id, attempt, 4, status),
    ]


def fill_outbox(folder: Path, batches: Sequence[Batch]) -> Outbox:
    """An outbox in which records of one attempt wait."""
    outbox = Outbox(folder, trial_id=batches[0].trial_id, attempt=batches[0].attempt)
    for one in batches:
        outbox.append(one.table, one.data, sequence=one.sequence)
    return outbox


def item_rows(data_digest: str, item_ids: Sequence[str]) -> pa.Table:
    """Items of a data set."""
    return rows("items", [{"data_digest": data_digest, "item_id": item, "split": "test"} for item in item_ids])
