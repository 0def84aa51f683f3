"""What goes between client and server: how records, questions and faults travel over Arrow Flight.

A record is a header and an Arrow IPC stream; a request to append is some of them, of one table or several, with one
acknowledgement. A small request is one message, the action `append`, which costs a third of a stream. A larger one is a
`do_put` stream: its descriptor says how many records follow, its rows carry them piece by piece, so no message is
large, and a stream that was cut off is known as such.
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

PROTOCOL = 1
"""Of this module. A server speaks with clients of the same protocol and of any older schema version."""
PIECE = 4 * 2**20
"""Bytes of a record in one message of a stream; a request that is no larger is one message."""
REQUEST_BYTES = 256 * 2**20
"""The largest request that a server takes."""
PIECES = pa.schema([("header", pa.string()), ("piece", pa.binary())])
"""The first piece of a record has a header, the others have none."""
_LENGTHS = struct.Struct("<IQ")
"""Bytes of a record's header and of its body, where it is not in pieces."""
_KEYS = ("table", "trial_id", "attempt", "sequence", "schema_version", "digest")


class StoreUnreachable(StoreBusy):
    """No server answers at the address, or it went away in the middle: try again later."""


class StoreDenied(StoreError):
    """The server refuses whoever asks."""


class StoreRefused(StoreError):
    """The server does not carry this request out for anybody."""


def pack(batches: Sequence[Batch]) -> Iterator[pa.RecordBatch]:
    """The messages of a stream to append."""
    for batch in batches:
        header, body = _parts(batch)
        for start in range(0, max(1, body.size), PIECE):
            piece = body.slice(start, min(PIECE, body.size - start)).to_pybytes()
            yield pa.record_batch({"header": [header if start == 0 else None], "piece": [piece]}, schema=PIECES)


def encode(batch: Batch) -> bytes:
    """A record as one piece, to be followed by others."""
    header, body = _parts(batch)
    text = header.encode()
    return b"".join((_LENGTHS.pack(len(text), body.size), text, memoryview(body)))


def decode(content: bytes) -> list[Batch]:
    """The records of one piece after the other.

    Raises:
        StoreRefused: they are not what their headers say.
    """
    return [_record(header, body) for header, body in _split(content)]


def owners(content: bytes) -> list[tuple[str, int]]:
    """The attempts that such records say they are of, without looking at more than that.

    Raises:
        StoreRefused: they are no records.
    """
    return sorted({(str(header["trial_id"]), int(header["attempt"])) for header, _ in _split(content)})


def _split(content: bytes) -> Iterator[tuple[dict[str, Any], memoryview]]:
    """Of each record its header and its body."""
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
    """What whoever sends more than REQUEST_BYTES is told."""
    return StoreRefused(
        f"the request is larger than {REQUEST_BYTES // 2**20} MiB", remedy="send fewer rows in one record."
    )


def unpack(messages: Iterable[pa.RecordBatch], expected: int) -> tuple[list[Batch], int]:
    """The records of a stream to append, and their bytes.

    Raises:
        StoreRefused: it was cut off, is too large, or its records are not what their headers say.
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
    known = known_schema(header["table"], header["schema_version"])
    try:
        data = normal(widened(read_rows(body, known), known))
    except (pa.ArrowException, OSError) as error:
        raise StoreRefused(f"a record is no Arrow stream: {str(error).splitlines()[0]}") from None
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
}
"""Faults by the names under which they travel; any other is an `error`."""


def kind_of(error: UserError) -> str:
    """The name under which a fault travels."""
    return next((kind for kind, fault in _KINDS.items() if isinstance(error, fault)), "error")


def pack_fault(error: UserError) -> bytes:
    """A fault, to travel beside the transport's own error."""
    return json.dumps({"kind": kind_of(error), "message": error.message, "remedy": error.remedy}).encode()


def unpack_fault(extra: bytes) -> StoreError | None:
    """The fault that travelled, or None where there was none."""
    try:
        found = json.loads(extra)
        return _KINDS.get(found["kind"], StoreError)(found["message"], remedy=found["remedy"])
    except (ValueError, TypeError, KeyError):
        return None
