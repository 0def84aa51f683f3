"""What clients ask, read as strangers' words; and faults, as they travel back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from wtsbench.errors import NoStore, UserError
from wtsbench.store import wire
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.lock import StoreBusy
from wtsbench.store.schemas import SCHEMA_VERSION, TABLES
from wtsbench.store.server.guard import Refused
from wtsbench.store.server.tokens import Denied

MAX_QUESTION = 8 * 2**20
"""Bytes of a ticket, a descriptor or an action's body."""


def table_of(descriptor: flight.FlightDescriptor) -> str:
    """The table that a path names."""
    names = [part.decode(errors="replace") for part in descriptor.path or ()]
    if len(names) != 1 or names[0] not in TABLES:
        raise Refused("a path is the name of one table", remedy=f"the tables are {', '.join(TABLES)}.")
    return str(names[0])


def question(raw: bytes | None) -> dict[str, Any]:
    """A question, or an argument."""
    if raw is not None and len(raw) > MAX_QUESTION:
        raise travelling(Refused(f"a question of more than {MAX_QUESTION // 2**20} MiB"))[1]
    found = _json(raw)
    if not isinstance(found, dict):
        raise travelling(Refused("a question is a JSON object"))[1]
    return found


def parsed_question(raw: bytes | None) -> dict[str, Any]:
    """A question as far as it is one: what kind it is must be known before it may be refused."""
    found = _json(raw) if raw is not None and len(raw) <= MAX_QUESTION else None
    return found if isinstance(found, dict) else {}


def _json(raw: bytes | None) -> Any:
    """JSON as text that can be stored; None where it is none."""
    try:
        found = json.loads(raw or b"{}")
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is valid JSON, and no text
    except (ValueError, RecursionError):
        return None
    return found


def require_version(asked: dict[str, Any]) -> None:
    """An old client may write: what it does not know of is empty. A newer one knows what this server could not keep."""
    version = int(asked["schema_version"])
    if version > SCHEMA_VERSION:
        raise Refused(
            f"the client writes schema version {version}, and the server knows up to {SCHEMA_VERSION}",
            remedy="update the server.",
        )


def travelling(error: Exception) -> tuple[str, flight.FlightError]:
    """An outcome for the counters, and the error as the transport carries it."""
    if isinstance(error, Denied):
        kind, carrier = "denied", flight.FlightUnauthenticatedError
    elif isinstance(error, StoreConflict):
        kind, carrier = "conflict", flight.FlightServerError
    elif isinstance(error, StoreBusy):
        kind, carrier = "busy", flight.FlightUnavailableError
    elif isinstance(error, Refused | wire.StoreRefused):
        kind, carrier = "refused", flight.FlightServerError
    elif isinstance(error, NoStore):
        kind, carrier = "absent", flight.FlightServerError
    elif isinstance(error, UserError):
        kind, carrier = "error", flight.FlightServerError
    else:  # a malformed question: a key that is not there, a number that is none
        kind, carrier = "refused", flight.FlightServerError
        missing = isinstance(error, KeyError)
        error = Refused(f"the request is malformed: {f'it lacks {error}' if missing else 'a value is of a wrong kind'}")
    assert isinstance(error, UserError)
    return kind, carrier(error.message, wire.pack_fault(kind, error))


def faults_travel(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """An answer whose faults, met on the way, travel as what they are."""
    try:
        yield from batches
    except UserError as error:
        raise travelling(error)[1] from None
