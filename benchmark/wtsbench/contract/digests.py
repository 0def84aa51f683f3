"""Digests of records: of the content of their rows, not of how Arrow lays it out.

A digest names its version: `c1:` and the SHA-256, in hexadecimal digits, of the rows in the form of `_content`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from wtsbench.spec.cell import grid_digest

_CONTENT = "c1:"
STORES_OWN = {"trials": ("records_digest",)}
"""Columns that the store fills in, and that are no part of a record."""
_NAMES = {
    pa.string(): "string",
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.float64(): "float64",
    pa.bool_(): "bool",
    pa.timestamp("us", tz="UTC"): "microseconds",
    pa.list_(pa.string()): "list string",
    pa.list_(pa.float64()): "list float64",
}
"""Fixed names of Arrow's types, as Arrow may change how it prints them."""
_WIDTHS = {pa.int32().id: 4, pa.int64().id: 8, pa.float64().id: 8, pa.timestamp("us").id: 8}
"""Bytes of a value by Arrow's type id: looking up types themselves is slow, and done for every record."""
_BOOL, _STRING = pa.bool_().id, pa.string().id
_FILLERS: dict[pa.DataType, Any] = {
    pa.string(): "",
    pa.bool_(): False,
    pa.int32(): 0,
    pa.int64(): 0,
    pa.float64(): 0.0,
    pa.timestamp("us", tz="UTC"): datetime.fromtimestamp(0, UTC),
}


def content_digest(table: str, rows: pa.RecordBatch) -> str:
    """The digest of a record: equal for equal rows of the same table, however they were made.

    Columns that are null in every row are left out, so that a later schema may add some.
    """
    hasher = hashlib.sha256()
    for part in _content(table, rows):
        hasher.update(part)
    return _CONTENT + hasher.hexdigest()


def holds(digest: str, table: str, rows: pa.RecordBatch) -> bool:
    """Whether rows are those that a digest was made of."""
    return content_digest(table, rows) == digest


def records_digest(digests: Mapping[int, str]) -> str:
    """The digest over an attempt's records, given theirs by sequence number; the engine computes it too (`tables`)."""
    lines = (f"{sequence} {digest}" for sequence, digest in sorted(digests.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def grid_digest_of(name: str, cells: str) -> str:
    """The digest of a submission as its plan computes it: of its name, and its cells in JSON."""
    return grid_digest(name, json.loads(cells))


def _content(table: str, rows: pa.RecordBatch) -> Iterator[bytes | memoryview]:
    """The bytes that are hashed: a header line of JSON, then column after column.

    A column begins with a byte: 0, or 1 if it has nulls, followed by one byte a row that is 1 for null. Then come its
    values: numbers little-endian; booleans as bytes; texts as the length of each in bytes (int32), then all bytes;
    lists as the length of each, then all values as a column. A null is written as an empty text or list, or as 0.
    """
    filled_in = STORES_OWN.get(table, ())
    header = [table, rows.num_rows]
    columns = []
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if column.null_count < len(column) and name not in filled_in:
            header += [name, _NAMES[column.type]]
            columns.append(column)
    yield json.dumps(header).encode() + b"\n"
    for column in columns:
        yield from _column(column)


def _column(column: pa.Array) -> Iterator[bytes | memoryview]:
    if column.null_count:
        yield b"\1" + _bytes(column.is_null())
        column = column.fill_null(_FILLERS[column.type]) if column.type in _FILLERS else _emptied(column)
    else:
        yield b"\0"
    kind = column.type.id
    width = _WIDTHS.get(kind)
    start, count = column.offset, len(column)
    if not count:
        return
    if width is not None:
        yield memoryview(column.buffers()[1])[start * width : (start + count) * width]
    elif kind == _BOOL:
        yield _bytes(column)
    else:
        ends = np.frombuffer(column.buffers()[1], np.int32, count + 1, 4 * start)
        yield (ends[1:] - ends[:-1]).data
        first, last = int(ends[0]), int(ends[-1])
        if kind != _STRING:
            yield from _column(column.values.slice(first, last - first))
        elif last > first:
            yield memoryview(column.buffers()[2])[first:last]


def _emptied(column: pa.Array) -> pa.Array:
    """Lists, with an empty list in place of null."""
    lengths = column.value_lengths().fill_null(0).to_numpy()
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(ends, column.flatten())


def _bytes(truths: pa.Array) -> bytes:
    """A byte for each."""
    return bytes(truths.cast(pa.uint8()).to_numpy())
