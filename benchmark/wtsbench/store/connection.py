"""How a client reaches a server: address, certificates and token; and the server's errors as exceptions."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from wtsbench.errors import StoreError
from wtsbench.files import read_small
from wtsbench.settings import token_file, user_path
from wtsbench.spec.address import on_loopback, split_address
from wtsbench.store import wire
from wtsbench.visible import first_line

AGAIN = "is it running? Try again; what was acknowledged is kept, the rest waits in its outbox."


def connect(address: str) -> flight.FlightClient:
    """A client of the server at an address; no request is made yet.

    Raises:
        StoreError: the address is invalid, or would send the token in plain text, or a certificate cannot be read.
    """
    options: dict[str, Any] = {}
    if address.startswith("grpc://") and not on_loopback(split_address(address).hostname or ""):
        raise StoreError(f"{address} would send the token over the network in plain text", remedy="use grpc+tls://.")
    if address.startswith("grpc+tls://"):
        authority = _file("WTSBENCH_STORE_CA")
        if authority is not None and b"-----BEGIN CERTIFICATE-----" not in authority:
            raise StoreError(
                f"WTSBENCH_STORE_CA names {os.environ['WTSBENCH_STORE_CA']}, which holds no certificate",
                remedy="name a copy of the server's ca.pem.",
            )
        certificate, key = _file("WTSBENCH_STORE_CERTIFICATE"), _file("WTSBENCH_STORE_KEY")
        options = {"tls_root_certs": authority, "cert_chain": certificate, "private_key": key}
    keepalive = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]
    reconnect = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 2_000)]
    own = [("grpc.use_local_subchannel_pool", 1)]  # else a new client would go on with the old one's connection
    try:
        return flight.connect(address, generic_options=[*keepalive, *reconnect, *own], **options)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"{address} is no server's address: {first_line(error)}", remedy=_SHAPE) from None


_SHAPE = "addresses are grpc+tls://HOST:PORT, or grpc://HOST:PORT on one machine."


def _file(variable: str) -> bytes | None:
    named = os.environ.get(variable)
    if not named:
        return None
    try:
        return read_small(user_path(named))
    except OSError as error:
        raise StoreError(
            f"{variable} names {named}, which cannot be read: {error.strerror}", remedy="correct it, or unset it."
        ) from None


def token() -> str | None:
    """The token from the file that the environment names; None if it names none.

    Raises:
        StoreError: the file cannot be read, or does not hold one token.
    """
    path = token_file()
    if path is None:
        return None
    try:
        words = read_small(path).decode().split()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"the token file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}",
            remedy="correct WTSBENCH_TOKEN_FILE.",
        ) from None
    if len(words) != 1 or not words[0].isascii():
        raise StoreError(f"the token file {path} does not hold one token", remedy="correct WTSBENCH_TOKEN_FILE.")
    return words[0]


_OUT_OF_TIME = {
    "certificate has expired": "has expired",
    "certificate is not yet valid": "is not valid yet",
    "certificate_expired": "has expired (or this client's own)",
}
"""TLS messages for certificates that are not valid now."""


def fault_of(error: flight.FlightError, address: str) -> StoreError:
    """The exception for an error of the server or of the connection to it."""
    sent = wire.unpack_fault(error.extra_info or b"")
    if sent is not None:
        return sent
    if isinstance(error, flight.FlightUnauthenticatedError | flight.FlightUnauthorizedError):
        return wire.StoreDenied(f"the server at {address} refuses the token", remedy="check WTSBENCH_TOKEN_FILE.")
    text = first_line(error)
    for reason, words in _OUT_OF_TIME.items():
        if reason in str(error).lower():
            return StoreError(
                f"the certificate of the server at {address}, or of its authority, {words}",
                remedy="check the clocks, here and there; else whoever runs the server renews it.",
            )
    if "CERTIFICATE_VERIFY_FAILED" in str(error) or "certificate" in str(error).lower():
        return StoreError(
            f"the server at {address} has no certificate that is trusted here: {text}",
            remedy="name the certificate of its authority with WTSBENCH_STORE_CA.",
        )
    if isinstance(error, flight.FlightUnavailableError | flight.FlightTimedOutError | flight.FlightCancelledError):
        return wire.StoreUnreachable(f"no store answers at {address}: {text}", remedy=AGAIN)
    return StoreError(f"the server at {address} failed: {text}", remedy="what was acknowledged before is kept.")
