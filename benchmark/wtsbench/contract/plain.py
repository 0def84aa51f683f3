"""Reads Arrow IPC from untrusted sources without taking much more memory than its size.

Arrow trusts what it reads: a compressed body of some kilobytes may unpack to gigabytes, and columns of nulls,
dictionaries or runs may stand for more rows than there are bytes. Records have none of these, so they are refused.
"""

from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.ipc

FILE_MAGIC = b"ARROW1\0\0"
"""The first bytes of an IPC file, before a stream and the file's footer."""
_HEADER, _COMPRESSION = 2, 3
"""Fields of the tables Message and RecordBatch in Arrow's format/Message.fbs, by position."""


def read_rows(content: pa.Buffer | bytes | memoryview, expected: pa.Schema) -> pa.Table:
    """The rows of an Arrow IPC stream; bytes after its end are ignored.

    Args:
        content: the stream.
        expected: the columns that it may have; nullable ones may be missing. Nothing is cast.

    Raises:
        pa.ArrowException: it is incomplete, has other columns or types, or is compressed.
        OSError: it is incomplete.
    """
    messages = iter(pa.ipc.MessageReader.open_stream(content))
    first = next(messages, None)
    if first is None or first.type != "schema":
        raise pa.ArrowInvalid("it does not begin with a schema")
    schema = pa.ipc.read_schema(first)
    require_columns(schema, expected)
    return pa.Table.from_batches([plain_batch(message, schema) for message in messages], schema)


def plain_batch(message: pa.ipc.Message, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of one message of a stream.

    Args:
        message: one after the schema.
        schema: the stream's.

    Raises:
        pa.ArrowException: it is no batch of this schema, or is compressed.
    """
    if message.type != "record batch":
        raise pa.ArrowInvalid(f"it has a {message.type}, which no record has")
    if _compressed(message.metadata.to_pybytes()):
        raise pa.ArrowInvalid("it is compressed, which no record is")
    rows = pa.ipc.read_record_batch(message, schema)
    rows.validate(full=True)
    return rows


def require_columns(schema: pa.Schema, expected: pa.Schema) -> None:
    """Refuse columns that a table does not have; nullable ones may be missing.

    Raises:
        pa.ArrowInvalid: a column is of another name or type, or is missing.
    """
    for column in schema:
        position = expected.get_field_index(column.name)
        if position < 0 or expected.field(position).type != column.type:
            raise pa.ArrowInvalid(
                f"it has a column {column.name!r} of type {column.type}, which its table does not have"
            )
    absent = [column.name for column in expected if not column.nullable and column.name not in schema.names]
    if absent:
        raise pa.ArrowInvalid(f"it has no column {absent[0]!r}")


def _compressed(metadata: bytes) -> bool:
    """Whether the header of a record batch names a compression. Arrow's reader has verified the flatbuffer before."""
    (message,) = struct.unpack_from("<I", metadata)
    header = _offset_of(metadata, message, _HEADER)
    assert header is not None, "every message has a header"
    (batch,) = struct.unpack_from("<I", metadata, header)
    return _offset_of(metadata, header + batch, _COMPRESSION) is not None


def _offset_of(flatbuffer: bytes, table: int, position: int) -> int | None:
    """Offset of a field of a flatbuffer table; None if the field has its default."""
    (back,) = struct.unpack_from("<i", flatbuffer, table)
    fields = table - back
    (size,) = struct.unpack_from("<H", flatbuffer, fields)
    entry = 4 + 2 * position
    offset = struct.unpack_from("<H", flatbuffer, fields + entry)[0] if entry < size else 0
    return table + offset if offset else None
