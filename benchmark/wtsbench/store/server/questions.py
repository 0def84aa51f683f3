"""Parsing clients' requests, which are untrusted; and errors as they are sent back."""

from __future__ import annotations

from typing import Any

import grpc
import pyarrow.flight as flight

from wtsbench.contract.schemas import SCHEMA_VERSION, TABLES
from wtsbench.errors import UserError
from wtsbench.json_text import parsed
from wtsbench.store import wire
from wtsbench.store.wire import StoreRefused

MAX_QUESTION = 8 * 2**20
"""Bytes of a ticket, a descriptor or an action's body."""


def table_of(descriptor: flight.FlightDescriptor) -> str:
    """The table that a path names."""
    names = [part.decode(errors="replace") for part in descriptor.path or ()]
    if len(names) != 1 or names[0] not in TABLES:
        raise StoreRefused("a path is the name of one table", remedy=f"the tables are {', '.join(TABLES)}.")
    return str(names[0])


def question(raw: bytes | None) -> dict[str, Any]:
    """A query or an action's argument, parsed."""
    if raw is not None and len(raw) > MAX_QUESTION:
        raise StoreRefused(f"a question of more than {MAX_QUESTION // 2**20} MiB")
    try:
        fields = parsed(raw or b"{}")
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise StoreRefused("a question is a JSON object")
    return fields


def require_version(asked: dict[str, Any]) -> None:
    """Refuse a client of a newer schema version, whose data may not fit. Older ones may write: new fields are empty."""
    version = int(asked["schema_version"])
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"the client writes schema version {version}, and the server knows up to {SCHEMA_VERSION}",
            remedy="update the server.",
        )


class Fault(Exception):
    """An error as gRPC sends it to a client."""

    def __init__(self, error: UserError) -> None:
        super().__init__(error.message)
        self.kind = wire.kind_of(error)
        """Outcome for the counters."""
        self.code: grpc.StatusCode = _CODES.get(self.kind, grpc.StatusCode.UNKNOWN)
        self.message = error.message[:_LONGEST]
        details = wire.pack_fault(error, longest=_LONGEST)
        self.trailers = (
            ("x-arrow-status", _UNKNOWN_ERROR),
            ("x-arrow-status-message-bin", self.message.encode(errors="replace")),
            ("grpc-status-details-bin", details),
        )
        """Arrow's clients read the last one only if the first is there."""


_UNKNOWN_ERROR = "9"
"""Arrow's status code; the error itself is in the details."""
_LONGEST = 1000
"""Characters of a message: a client's gRPC refuses more than 8 KiB in all."""
_CODES = {"denied": grpc.StatusCode.UNAUTHENTICATED, "busy": grpc.StatusCode.UNAVAILABLE}


def travelling(error: Exception) -> Fault:
    """An error in the form in which it is sent to the client."""
    if not isinstance(error, UserError):  # a malformed request: a missing key, or a value of a wrong kind
        missing = isinstance(error, KeyError)
        error = StoreRefused(
            f"the request is malformed: {f'it lacks {error}' if missing else 'a value is of a wrong kind'}"
        )
    return Fault(error)
