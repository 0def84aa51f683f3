"""The protocol between client and server: records, queries and errors over Arrow Flight.

A record is a header and an Arrow IPC stream; a request to append has one or more records, of one or several tables,
and one acknowledgement. A small request is one message, the action `append`, which costs a third of a stream. A larger
one is a `do_put` stream: its descriptor gives the number of records, its rows carry them in pieces, so that no message
is large and a truncated stream is detected. The cells of a grid travel likewise: in the action `put_grid`, or as the
UTF-8 of their text in pieces.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from wtsbench.contract.digests import holds
from wtsbench.contract.outbox import Ack, Batch, known_schema, normal, widened
from wtsbench.contract.plain import read_rows
from wtsbench.errors import NoStore, StoreError, UserError
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.lock import StoreBusy
from wtsbench.visible import first_line

PROTOCOL = 1
"""Version of this protocol. A server accepts clients of the same one and of any older schema version."""
PIECE = 4 * 2**20
"""Bytes of a record in one message of a stream; a request that is no larger is one message."""
REQUEST_BYTES = 256 * 2**20
"""The largest request that a server takes."""
PIECES = pa.schema([("header", pa.string()), ("piece", pa.binary())])
"""Only the first piece of a record has a header."""
CELLS = pa.schema([("piece", pa.binary())])
"""Of the cells of a grid that are larger than one message."""
_LENGTHS = struct.Struct("<IQ")
"""Sizes of header and body of a record that is sent as one message, in bytes."""
_KEYS = ("table", "trial_id", "attempt", "sequence", "schema_version", "digest")


class StoreUnreachable(StoreBusy):
    """No server answers at the address, or it stopped during the request: try again later."""


class StoreDenied(StoreError):
    """The server refuses the client: it lacks the permission."""


class StoreRefused(StoreError):
    """The server refuses the request, from any client."""


class Cancelled(StoreError):
    """The run that asks for the trial is cancelled, or this trial of it."""


class Held(StoreError):
    """The trial is being run by another attempt."""

    def __init__(self, message: str, *, remedy: str | None = None, by: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.by = by
        """The run that holds it."""

    def __reduce__(self) -> tuple[object, ...]:
        return _held, (self.message, self.remedy, self.by)


def _held(message: str, remedy: str | None, by: str) -> Held:
    return Held(message, remedy=remedy, by=by)


def pack(batches: Sequence[Batch]) -> Iterator[pa.RecordBatch]:
    """The messages of a stream to append."""
    for batch in batches:
        header, body = _parts(batch)
        for start in range(0, max(1, body.size), PIECE):
            piece = body.slice(start, min(PIECE, body.size - start)).to_pybytes()
            yield pa.record_batch({"header": [header if start == 0 else None], "piece": [piece]}, schema=PIECES)


def pack_cells(text: bytes) -> Iterator[pa.RecordBatch]:
    """The messages of a stream with the cells of a grid.

    Raises:
        StoreRefused: no server takes so many.
    """
    if len(text) > REQUEST_BYTES:
        raise StoreRefused(
            f"the cells of the grid take {len(text) // 2**20} MiB, and a server takes {REQUEST_BYTES // 2**20} MiB",
            remedy="make several grids of it, or submit it to a store in a folder.",
        )
    for start in range(0, len(text), PIECE):
        yield pa.record_batch({"piece": [text[start : start + PIECE]]}, schema=CELLS)


def unpack_cells(messages: Iterable[pa.RecordBatch], expected: int) -> str:
    """The cells out of such a stream, of so many bytes.

    Raises:
        StoreRefused: it was cut off, or is no text.
    """
    content = b"".join(piece or b"" for message in messages for piece in message.column(0).to_pylist())
    if len(content) != expected:
        raise StoreRefused(f"the request was cut off: {len(content)} of {expected} bytes came")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise StoreRefused("the cells are no UTF-8") from None


def encode(batch: Batch) -> bytes:
    """A record as bytes; encoded records can be concatenated."""
    header, body = _parts(batch)
    text = header.encode()
    return b"".join((_LENGTHS.pack(len(text), body.size), text, memoryview(body)))


def decode(content: bytes) -> list[Batch]:
    """The records in concatenated encodings.

    Raises:
        StoreRefused: they contradict their headers.
    """
    return [_record(header, body) for header, body in _split(content)]


def owners(content: bytes) -> list[tuple[str, int]]:
    """The attempts that the headers of encoded records name; their bodies are not read.

    Raises:
        StoreRefused: these are not records.
    """
    return sorted({(str(header["trial_id"]), int(header["attempt"])) for header, _ in _split(content)})


def _split(content: bytes) -> Iterator[tuple[dict[str, Any], memoryview]]:
    """Header and body of each record."""
    start = 0
    while start < len(content):
        try:
            header, body = _LENGTHS.unpack_from(content, start)
            middle = start + _LENGTHS.size + header
            fields = json.loads(content[start + _LENGTHS.size : middle])
            if not {*_KEYS, "bytes"} <= fields.keys() or len(content) < middle + body:
                raise ValueError
        except (struct.error, ValueError, AttributeError):
            raise StoreRefused("the request is no sequence of records") from None
        yield fields, memoryview(content)[middle : middle + body]
        start = middle + body


def _parts(batch: Batch) -> tuple[str, pa.Buffer]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.data.schema) as writer:
        writer.write_batch(batch.data)
    body = sink.getvalue()
    return json.dumps({**{key: getattr(batch, key) for key in _KEYS}, "bytes": body.size}), body


def too_large() -> StoreRefused:
    """The error for a request of more than REQUEST_BYTES."""
    return StoreRefused(
        f"the request is larger than {REQUEST_BYTES // 2**20} MiB", remedy="send fewer rows in one record."
    )


def unpack(messages: Iterable[pa.RecordBatch], expected: int) -> tuple[list[Batch], int]:
    """The records of a stream to append, and their size in bytes.

    Raises:
        StoreRefused: it was cut off, is too large, or its records contradict their headers.
    """
    bodies: list[tuple[dict[str, Any], list[bytes]]] = []
    size = 0
    for message in messages:
        if message.schema != PIECES:
            raise StoreRefused("the request has other columns than records have")
        for header, piece in zip(message.column(0).to_pylist(), message.column(1).to_pylist(), strict=True):
            size += len(piece or b"")
            if size > REQUEST_BYTES:
                raise too_large()
            if header is not None:
                bodies.append((json.loads(header), []))
            if not bodies:
                raise StoreRefused("the request begins in the middle of a record")
            bodies[-1][1].append(piece or b"")
    if len(bodies) != expected:
        raise StoreRefused(f"the request was cut off: {len(bodies)} of {expected} records came")
    return [_record(header, b"".join(pieces)) for header, pieces in bodies], size


def _record(header: dict[str, Any], body: bytes | memoryview) -> Batch:
    if len(body) != header["bytes"]:
        raise StoreRefused("the request was cut off in the middle of a record")
    schema = known_schema(header["table"], header["schema_version"])
    try:
        data = normal(widened(read_rows(body, schema), schema))
    except (pa.ArrowException, OSError) as error:
        raise StoreRefused(f"a record is no Arrow stream: {first_line(error)}") from None
    batch = Batch(data=data, **{key: header[key] for key in _KEYS})
    if not holds(batch.digest, batch.table, data):
        raise StoreRefused(f"record {batch.sequence} does not hold what was sent: its digest differs")
    return batch


def pack_acks(acks: Sequence[Ack]) -> bytes:
    """Acknowledgements as one message."""
    return json.dumps([[a.trial_id, a.attempt, a.sequence, a.outcome] for a in acks]).encode()


def unpack_acks(message: bytes) -> list[Ack]:
    """Acknowledgements out of a message."""
    return [Ack(*row) for row in json.loads(message)]


_KINDS: dict[str, type[StoreError]] = {
    "conflict": StoreConflict,
    "busy": StoreBusy,
    "denied": StoreDenied,
    "refused": StoreRefused,
    "absent": NoStore,
    "held": Held,
    "cancelled": Cancelled,
}
"""Error classes by their names in the protocol; any other is an `error`."""


def kind_of(error: UserError) -> str:
    """The name of an error in the protocol."""
    return next((kind for kind, fault in _KINDS.items() if isinstance(error, fault)), "error")


def pack_fault(error: UserError, *, longest: int | None = None) -> bytes:
    """An error as bytes, sent with the transport's own error.

    Args:
        error: the error.
        longest: characters after which its message is cut.
    """
    fields = {"kind": kind_of(error), "message": error.message[:longest], "remedy": error.remedy}
    return json.dumps({**fields, "by": error.by} if isinstance(error, Held) else fields).encode()


def unpack_fault(extra: bytes) -> StoreError | None:
    """The error from such bytes; None if they hold none."""
    try:
        fault = json.loads(extra)
        if fault["kind"] == "held":
            return Held(fault["message"], remedy=fault["remedy"], by=str(fault["by"]))
        return _KINDS.get(fault["kind"], StoreError)(fault["message"], remedy=fault["remedy"])
    except (ValueError, TypeError, KeyError):
        return None
