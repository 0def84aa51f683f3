"""Arrow IPC that somebody else wrote, read into memory of the order of its own size.

Arrow believes what it reads: a compressed body of some kilobytes may unpack to gigabytes, and a column of nulls, a
dictionary or a run may stand for more rows than there are bytes. Records have none of these, so they are refused.
"""

from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.ipc

FILE_MAGIC = b"ARROW1\0\0"
"""With which an IPC file begins; a stream follows it, then the file's footer."""
_HEADER, _COMPRESSION = 2, 3
"""Fields of the tables Message and RecordBatch in Arrow's format/Message.fbs, by position."""


def read_rows(content: pa.Buffer | bytes | memoryview, known: pa.Schema) -> pa.Table:
    """The rows of an Arrow IPC stream; what stands behind its end is not looked at.

    Args:
        content: the stream.
        known: the columns that it may have. Those that may be null may be missing, and nothing is cast.

    Raises:
        pa.ArrowException: it is torn, has other columns or other types, or is compressed.
        OSError: it is torn, too.
    """
    messages = iter(pa.ipc.MessageReader.open_stream(content))
    first = next(messages, None)
    if first is None or first.type != "schema":
        raise pa.ArrowInvalid("it does not begin with a schema")
    schema = pa.ipc.read_schema(first)
    require_columns(schema, known)
    batches = []
    for message in messages:
        batches.append(plain_batch(message, schema))
    return pa.Table.from_batches(batches, schema)


def plain_batch(message: pa.ipc.Message, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of one message of a stream.

    Args:
        message: behind the schema.
        schema: of the stream.

    Raises:
        pa.ArrowException: it is no batch of such rows, or is compressed.
    """
    if message.type != "record batch":
        raise pa.ArrowInvalid(f"it has a {message.type}, which no record has")
    if _compressed(message.metadata.to_pybytes()):
        raise pa.ArrowInvalid("it is compressed, which no record is")
    rows = pa.ipc.read_record_batch(message, schema)
    rows.validate(full=True)
    return rows


def require_columns(schema: pa.Schema, known: pa.Schema) -> None:
    """Refuse columns that a table has not; those that may be null may be missing.

    Raises:
        pa.ArrowInvalid: a column is of another name or type, or is missing.
    """
    for column in schema:
        place = known.get_field_index(column.name)
        if place < 0 or known.field(place).type != column.type:
            raise pa.ArrowInvalid(f"it has a column {column.name!r} of type {column.type}, which its table has not")
    absent = [column.name for column in known if not column.nullable and column.name not in schema.names]
    if absent:
        raise pa.ArrowInvalid(f"it has no column {absent[0]!r}")


def _compressed(metadata: bytes) -> bool:
    """Whether the header of a record batch names a compression; the reader has verified its flatbuffer."""
    (message,) = struct.unpack_from("<I", metadata)
    header = _place(metadata, message, _HEADER)
    assert header is not None, "every message has a header"
    (batch,) = struct.unpack_from("<I", metadata, header)
    return _place(metadata, header + batch, _COMPRESSION) is not None


def _place(flatbuffer: bytes, table: int, position: int) -> int | None:
    """Where a field of a table is; None where it has its default."""
    (back,) = struct.unpack_from("<i", flatbuffer, table)
    fields = table - back
    (size,) = struct.unpack_from("<H", flatbuffer, fields)
    entry = 4 + 2 * position
    offset = struct.unpack_from("<H", flatbuffer, fields + entry)[0] if entry < size else 0
    return table + offset if offset else None
