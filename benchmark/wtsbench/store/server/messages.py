"""Reading and writing the messages of Arrow Flight over gRPC (format/Flight.proto of Arrow).

A FlightData message is an Arrow IPC message in two parts, header and body; a stream of them begins with a schema, and
a client's first one also has its descriptor. Tickets, actions and the like are read by pyarrow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.ipc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from wtsbench.contract.plain import plain_batch
from wtsbench.store.wire import StoreRefused
from wtsbench.visible import first_line

PIECE = 4 * 2**20
"""Bytes of rows in one message, unless a single row is larger."""
_PREFIX = struct.Struct("<Ii")
_CONTINUES = 0xFFFFFFFF
_FIELDS = {
    "FlightData": {"descriptor": 1, "header": 2, "app_metadata": 3, "body": 1000},
    "PutResult": {"app_metadata": 1},
    "ActionType": {"type": 1, "description": 2},
}
"""All fields are bytes on the wire, nested messages and texts too."""


def _kinds() -> dict[str, Any]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="wtsbench/flight.proto", package="wtsbench", syntax="proto3")
    for kind, fields in _FIELDS.items():
        message = file.message_type.add(name=kind)
        for name, number in fields.items():
            message.field.add(name=name, number=number, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {kind: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"wtsbench.{kind}")) for kind in _FIELDS}


_KINDS = _kinds()


def encoded(kind: str, **fields: bytes) -> bytes:
    """A message of one of the kinds above, as bytes."""
    content: bytes = _KINDS[kind](**fields).SerializeToString()
    return content


class Incoming:
    """A stream that a client puts, message by message. Memory stays in proportion to the bytes sent: see `plain`."""

    def __init__(self, first: bytes) -> None:
        """Read the first message.

        Args:
            first: that message, with descriptor and schema.

        Raises:
            StoreRefused: it is no such message.
        """
        data = _flight_data(first)
        self.descriptor: bytes = data.descriptor
        """A FlightDescriptor, as it was sent."""
        with _understood():
            message = _ipc_message(data)
            if message is None or message.type != "schema":
                raise StoreRefused("the request is no stream that begins with a schema")
            self.schema: pa.Schema = pa.ipc.read_schema(message)

    def batch(self, content: bytes) -> pa.RecordBatch | None:
        """The rows of a further message; None if it has none.

        Raises:
            StoreRefused: it is torn or compressed, or has another schema.
        """
        with _understood():
            message = _ipc_message(_flight_data(content))
            return None if message is None else plain_batch(message, self.schema)


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise StoreRefused(f"what was put is no Arrow stream: {first_line(error)}") from None


def schema_message(schema: pa.Schema) -> bytes:
    """The first message of an answer."""
    return _outgoing(schema.serialize())


def batch_messages(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Rows as messages of about `PIECE` bytes."""
    rows = max(1, batch.num_rows * PIECE // max(batch.nbytes, 1))
    for start in range(0, batch.num_rows, rows):
        yield _outgoing(batch.slice(start, rows).serialize())


def _outgoing(buffer: pa.Buffer) -> bytes:
    message = pa.ipc.read_message(buffer)
    body = b"" if message.body is None else message.body.to_pybytes()
    return encoded("FlightData", header=message.metadata.to_pybytes(), body=body)


def _flight_data(content: bytes) -> Any:
    try:
        return _KINDS["FlightData"].FromString(content)
    except DecodeError:
        raise StoreRefused("the request is no stream of FlightData") from None


def _ipc_message(data: Any) -> pa.ipc.Message | None:
    header: bytes = data.header
    if not header:
        return None
    padded = header.ljust(-len(header) // 8 * -8, b"\0")
    return pa.ipc.read_message(b"".join((_PREFIX.pack(_CONTINUES, len(padded)), padded, data.body)))
