"""The client of a store's server: the same methods as of a folder, over Arrow Flight."""

from __future__ import annotations

import ipaddress
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.ipc

from wtsbench.contract.outbox import Ack, Batch
from wtsbench.contract.schemas import SCHEMA_VERSION, TABLES
from wtsbench.errors import StoreError
from wtsbench.files import read_small
from wtsbench.settings import token_file, user_path
from wtsbench.spec.address import split_address
from wtsbench.store import wire
from wtsbench.store.lock import patience, persistently
from wtsbench.store.operations import StoreCalls
from wtsbench.store.queries import Query, items

SCHEMES = ("grpc://", "grpc+tls://", "grpc+unix://")
CALL_SECONDS = 120.0
"""After which a call that was not answered counts as lost: a half-open connection says nothing at all."""
HELLO_SECONDS = 10.0
_T = TypeVar("_T")


class RemoteEngine:
    """A connection to a server. Every call may be repeated: the server knows what it did before."""

    def __init__(self, address: str, client: flight.FlightClient, token: str | None, patience: float | None) -> None:
        self._address = address
        self._patience = patience
        self._client = client
        self._headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        self.hello: dict[str, Any] = {}

    @classmethod
    @contextmanager
    def open(cls, address: str, *, patience: float | None = None) -> Iterator[RemoteEngine]:
        """Connect for a few calls; see `connect`."""
        engine = cls.connect(address, patience=patience)
        try:
            yield engine
        finally:
            engine.close()

    @classmethod
    def connect(cls, address: str, *, wait: float = 0.0, patience: float | None = None) -> RemoteEngine:
        """Connect and agree on versions.

        Args:
            address: `grpc://HOST:PORT` on this machine, `grpc+tls://HOST:PORT`, or the local socket's.
            wait: seconds to go on trying.
            patience: seconds to go on trying with each call later; None is `lock.patience()`.

        Raises:
            StoreUnreachable: nobody answers there.
            StoreDenied: the token is not accepted.
            StoreError: the server speaks another protocol or an older schema version.
        """
        local = address.startswith("grpc+unix://")
        engine = cls(address, _client(address), None if local else _token(address), patience)
        persistently(engine._agree, wait)
        return engine

    def _agree(self) -> None:
        asked = {"protocol": wire.PROTOCOL, "schema_version": SCHEMA_VERSION}
        self.hello = self.action("hello", asked, seconds=HELLO_SECONDS)
        if self.hello["protocol"] != wire.PROTOCOL:
            raise StoreError(
                f"the server at {self._address} speaks protocol {self.hello['protocol']}, and this wtsbench speaks"
                f" {wire.PROTOCOL}",
                remedy="use the same version of wtsbench on both sides.",
            )
        if self.hello["schema_version"] < SCHEMA_VERSION:
            raise StoreError(
                f"the server at {self._address} has schema version {self.hello['schema_version']}, this wtsbench"
                f" {SCHEMA_VERSION}",
                remedy="update the server first; it serves older clients too.",
            )

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    # -- the calls of an engine

    def begin_attempt(self, trial_id: str, run: str, shared_id: str | None = None) -> int:
        """Take the next attempt number of a trial."""
        request = uuid.uuid4().hex  # asked again because the answer was lost, the server gives the same number
        asked = {"trial_id": trial_id, "run": run, "request": request, "schema_version": SCHEMA_VERSION}
        asked |= {} if shared_id is None else {"shared_id": shared_id}
        return int(self._patient(lambda: self.action("begin_attempt", asked))["attempt"])

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Take records in; tried once, for the courier tries again."""
        if sum(batch.data.nbytes for batch in batches) <= wire.PIECE:
            return wire.unpack_acks(self._act("append", b"".join(map(wire.encode, batches)), CALL_SECONDS))
        asked = {"op": "append", "records": len(batches), "schema_version": SCHEMA_VERSION}
        return wire.unpack_acks(self._put(asked, wire.PIECES, wire.pack(batches)))

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""
        return bool(self._patient(lambda: self.action("sealed", {"trial_id": trial_id, "attempt": attempt}))["sealed"])

    def put_dataset(self, row: dict[str, Any], items: pa.Table) -> None:
        """Keep a prepared data set."""
        schema = TABLES["items"]
        rows = items.select(schema.names).cast(schema)
        asked = {"op": "dataset", "row": row, "rows": rows.num_rows, "schema_version": SCHEMA_VERSION}
        self._patient(lambda: self._put(asked, schema, _pieces(rows)))

    def put_grid(self, name: str, grid_digest: str, yaml: str, cells: str) -> None:
        """Keep a submission of a grid."""
        asked = {"name": name, "grid_digest": grid_digest, "yaml": yaml, "cells": cells}
        self._patient(lambda: self.action("put_grid", {**asked, "schema_version": SCHEMA_VERSION}))

    def read(self, query: Query) -> pa.Table:
        """The answer to a question, in the question's schema."""
        asked: dict[str, Any] = {
            "table": query.table,
            "conditions": query.conditions,
            "parameters": query.parameters,
        }
        if query.only:
            asked["only"] = query.only  # a server that does not know this sends all columns
        schema = query.schema
        return self._patient(lambda: self._get(asked)).select(schema.names).cast(schema)

    # -- beyond an engine

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to one SELECT over the tables, within the server's limits."""
        return self._patient(lambda: self._get({"sql": statement, "parameters": list(parameters)}))

    def contents(self, trial_ids: Sequence[str]) -> pa.Table:
        """Fingerprints of what results are made of."""
        return self._patient(lambda: self._get({"contents": list(trial_ids)}))

    def scoped(self, table: str, shard: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """One of `archive.SCOPED`, of the trials whose id begins so, in the order of records."""
        found = self._patient(lambda: self._get({"archive": table, "shard": shard}))
        return found.schema, iter(found.to_batches())

    def whole(self, table: str) -> pa.Table:
        """`datasets` or `grids`."""
        return self.read(Query(table))

    def items(self, data_digest: str) -> pa.Table:
        """A data set's items, by split and item id."""
        return self.read(items(data_digest))

    def action(self, name: str, asked: dict[str, Any] | None = None, *, seconds: float | None = None) -> Any:
        """One of the server's actions; tried once."""
        return json.loads(self._act(name, json.dumps(asked or {}).encode(), seconds or CALL_SECONDS))

    def _act(self, name: str, body: bytes, seconds: float) -> bytes:
        client, action, options = self._client, flight.Action(name, body), self._options(seconds)
        with self._faults():
            results = _interruptibly(lambda: list(client.do_action(action, options)))
            return bytes(results[0].body.to_pybytes())

    def _get(self, asked: dict[str, Any]) -> pa.Table:
        client, ticket, options = self._client, flight.Ticket(json.dumps(asked).encode()), self._options(None)
        with self._faults():
            return _aligned(_interruptibly(lambda: client.do_get(ticket, options).read_all()))

    def _put(self, asked: dict[str, Any], schema: pa.Schema, batches: Any) -> bytes:
        """Send a stream; the acknowledgement. Without one nothing is known: that is a fault like any other."""
        descriptor = flight.FlightDescriptor.for_command(json.dumps(asked).encode())
        with self._faults():
            writer, reader = self._client.do_put(descriptor, schema, self._options(CALL_SECONDS))
            try:
                try:
                    for batch in batches:
                        writer.write_batch(batch)
                    writer.done_writing()
                    message = reader.read()
                except flight.FlightError:
                    writer.close()  # it is here that the server's own words come
                    raise
                writer.close()
            except BaseException:
                with suppress(pa.ArrowException, OSError):
                    writer.close()
                raise
        if message is None:
            raise wire.StoreUnreachable(f"the server at {self._address} did not acknowledge", remedy=_AGAIN)
        return bytes(message.to_pybytes())

    def _options(self, seconds: float | None) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(timeout=seconds, headers=self._headers)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except flight.FlightError as error:
            if isinstance(error, flight.FlightTimedOutError):
                self._client = _client(self._address)  # the connection may be half open: take a new one
            raise _fault(error, self._address) from None
        except (pa.ArrowException, OSError) as error:  # a connection that broke in the middle of a stream
            raise wire.StoreUnreachable(
                f"the connection to {self._address} broke: {_first_line(error)}", remedy=_AGAIN
            ) from None

    def _patient(self, call: Callable[[], _T]) -> _T:
        return persistently(call, patience() if self._patience is None else self._patience)


class ServerStore(StoreCalls):
    """A store behind a server. Its methods are those of `client.Store`."""

    def __init__(self, address: str, *, wait: float = 0.0) -> None:
        """Connect.

        Args:
            address: of the server.
            wait: seconds to go on trying if it does not answer.

        Raises:
            StoreError: as `RemoteEngine.connect`.
        """
        self._address = address
        self.remote = RemoteEngine.connect(address, wait=wait)

    @property
    def uri(self) -> str:
        """The address."""
        return self._address

    @property
    def only_grid(self) -> str | None:
        """The only grid that the token may submit."""
        return str(self.remote.hello["scope"]).partition(":")[2] or None

    def _engine(self, *, read_only: bool = False) -> nullcontext[RemoteEngine]:
        return nullcontext(self.remote)


_AGAIN = "is it running? Try again; what was acknowledged is kept, the rest waits in its outbox."


def _interruptibly(ask: Callable[[], _T]) -> _T:
    """Wait for an answer so that Ctrl-C ends the waiting at once, which it does not while pyarrow waits."""
    if threading.current_thread() is not threading.main_thread():
        return ask()
    answer: Future[_T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # whoever waits raises it
            answer.set_exception(error)

    threading.Thread(target=run, name="wtsbench-store-asks", daemon=True).start()
    return answer.result()


def _client(address: str) -> flight.FlightClient:
    options: dict[str, Any] = {}
    if address.startswith("grpc://") and not _on_this_machine(address):
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
        raise StoreError(f"{address} is no server's address: {_first_line(error)}", remedy=_SHAPE) from None


def _on_this_machine(address: str) -> bool:
    host = split_address(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _token(address: str) -> str | None:
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
"""What TLS says of certificates that are not valid now."""


def _fault(error: flight.FlightError, address: str) -> StoreError:
    told = wire.unpack_fault(error.extra_info or b"")
    if told is not None:
        return told
    if isinstance(error, flight.FlightUnauthenticatedError | flight.FlightUnauthorizedError):
        return wire.StoreDenied(f"the server at {address} refuses the token", remedy="check WTSBENCH_TOKEN_FILE.")
    text = _first_line(error)
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
        return wire.StoreUnreachable(f"no store answers at {address}: {text}", remedy=_AGAIN)
    return StoreError(f"the server at {address} failed: {text}", remedy="what was acknowledged before is kept.")


def _pieces(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Rows as messages that a server takes, unless a single row is too large."""
    for batch in rows.to_batches():
        count = max(1, batch.num_rows * wire.PIECE // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, count):
            yield batch.slice(start, count)


def _aligned(table: pa.Table) -> pa.Table:
    """A table as memory usually has it: what gRPC received may begin at any byte, and Arrow warns where it computes."""
    buffers = (buffer for column in table.columns for chunk in column.chunks for buffer in chunk.buffers())
    if all(buffer is None or buffer.address % 8 == 0 for buffer in buffers):
        return table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
