"""The client of a store's server: the same methods as of a folder, over Arrow Flight."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.ipc

from wtsbench.contract.operations import Orders, Renewal, RunReport
from wtsbench.contract.outbox import Ack, Batch
from wtsbench.contract.schemas import SCHEMA_VERSION, TABLES
from wtsbench.errors import StoreError
from wtsbench.settings import patience_seconds
from wtsbench.store import wire
from wtsbench.store.base import Store
from wtsbench.store.connection import AGAIN, connect, fault_of, token
from wtsbench.store.engine.queries import Look, Query
from wtsbench.store.lock import persistently
from wtsbench.visible import first_line

SCHEMES = ("grpc://", "grpc+tls://", "grpc+unix://")
CALL_SECONDS = 120.0
"""Time limit of a call: a half-open connection reports no error."""
HELLO_SECONDS = 10.0
_T = TypeVar("_T")


class RemoteEngine:
    """A connection to a server. Every call may be repeated: the server recognizes repeated requests."""

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
            patience: seconds to go on trying with each call later; None is `settings.patience_seconds()`.

        Raises:
            StoreUnreachable: no server answers there.
            StoreDenied: the token is not accepted.
            StoreError: the server speaks another protocol or an older schema version.
        """
        local = address.startswith("grpc+unix://")
        engine = cls(address, connect(address), None if local else token(), patience)
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
        """Close the connection."""
        self._client.close()

    # -- the calls of an engine

    def begin_attempt(
        self,
        trial_id: str,
        run: str,
        shared_id: str | None = None,
        *,
        request: str,
        host: str = "",
        lease: bool = False,
    ) -> int:
        """Take the next attempt number of a trial; a repeated request gets the same."""
        asked = {"trial_id": trial_id, "run": run, "request": request, "host": host, "lease": lease}
        asked |= {} if shared_id is None else {"shared_id": shared_id}
        return int(self._change("begin_attempt", asked)["attempt"])

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Append records; tried once, because the courier retries."""
        if sum(batch.data.nbytes for batch in batches) <= wire.PIECE:
            return wire.unpack_acks(self._act("append", b"".join(map(wire.encode, batches)), CALL_SECONDS))
        asked = {"op": "append", "records": len(batches), "schema_version": SCHEMA_VERSION}
        return wire.unpack_acks(self._put(asked, wire.PIECES, wire.pack(batches)))

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""
        return bool(self._patient(lambda: self.action("sealed", {"trial_id": trial_id, "attempt": attempt}))["sealed"])

    def put_dataset(self, row: dict[str, Any], items: pa.Table) -> None:
        """Store a prepared data set."""
        schema = TABLES["items"]
        rows = items.select(schema.names).cast(schema)
        asked = {"op": "dataset", "row": row, "rows": rows.num_rows, "schema_version": SCHEMA_VERSION}
        self._patient(lambda: self._put(asked, schema, _pieces(rows)))

    def put_grid(self, name: str, grid_digest: str, yaml: str, cells: str) -> None:
        """Store a submission of a grid."""
        asked = {"name": name, "grid_digest": grid_digest, "yaml": yaml}
        if len(cells) <= wire.PIECE:
            self._change("put_grid", {**asked, "cells": cells})
            return
        text = cells.encode()
        streamed = {**asked, "op": "grid", "bytes": len(text), "schema_version": SCHEMA_VERSION}
        self._patient(lambda: self._put(streamed, wire.CELLS, wire.pack_cells(text)))

    def renew(self, renewal: Renewal) -> Orders:
        """Renew the lease of an attempt."""
        return _orders(self._change("renew", asdict(renewal)))

    def report_run(self, report: RunReport) -> Orders:
        """Note how a run stands."""
        return _orders(self._change("report_run", asdict(report)))

    def cancel(self, run: str, trial_ids: Sequence[str] | None) -> bool:
        """Ask to cancel a run, or some of its trials."""
        asked = {"run": run, "trial_ids": None if trial_ids is None else list(trial_ids)}
        return bool(self._change("cancel", asked)["cancelled"])

    def _change(self, name: str, asked: dict[str, Any]) -> Any:
        """An action that writes; every one may be repeated."""
        return self._patient(lambda: self.action(name, {**asked, "schema_version": SCHEMA_VERSION}))

    def read(self, query: Query | Look) -> pa.Table:
        """Rows of a query, in its schema."""
        schema = query.schema
        return self._patient(lambda: self._get(query.asked)).select(schema.names).cast(schema)

    # -- beyond an engine

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Result of one SELECT over the tables, within the server's limits."""
        return self._patient(lambda: self._get({"sql": statement, "parameters": list(parameters)}))

    def contents(self, trial_ids: Sequence[str]) -> pa.Table:
        """Fingerprints of the rows that results depend on."""
        return self._patient(lambda: self._get({"contents": list(trial_ids)}))

    def scoped(self, table: str, shard: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Rows of a table of `archive.SCOPED` for trials whose id begins with `shard`, in the order of records."""
        answer = self._patient(lambda: self._get({"archive": table, "shard": shard}))
        return answer.schema, iter(answer.to_batches())

    def whole(self, table: str) -> pa.Table:
        """`datasets` or `grids`."""
        return self.read(Query(table))

    def items(self, data_digest: str) -> pa.Table:
        """A data set's items, by split and item id."""
        return self.read(Query("items").where("data_digest = ?", data_digest))

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
        """Send a stream; its acknowledgement. A stream without one is an error: it may or may not have been stored."""
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
                    writer.close()  # raises the server's own error
                    raise
                writer.close()
            except BaseException:
                with suppress(pa.ArrowException, OSError):
                    writer.close()
                raise
        if message is None:
            raise wire.StoreUnreachable(f"the server at {self._address} did not acknowledge", remedy=AGAIN)
        return bytes(message.to_pybytes())

    def _options(self, seconds: float | None) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(timeout=seconds, headers=self._headers)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except flight.FlightError as error:
            if isinstance(error, flight.FlightTimedOutError):
                self._client = connect(self._address)  # the connection may be half open: take a new one
            raise fault_of(error, self._address) from None
        except (pa.ArrowException, OSError) as error:  # a connection that broke in the middle of a stream
            raise wire.StoreUnreachable(
                f"the connection to {self._address} broke: {first_line(error)}", remedy=AGAIN
            ) from None

    def _patient(self, call: Callable[[], _T]) -> _T:
        return persistently(call, patience_seconds() if self._patience is None else self._patience)


class ServerStore(Store):
    """A store behind a server."""

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


def _orders(answer: dict[str, Any]) -> Orders:
    return Orders(bool(answer["cancelled"]), tuple(answer["cancelled_trials"]), answer["outranked_by"])


def _interruptibly(ask: Callable[[], _T]) -> _T:
    """Call in a thread and wait for it, so that Ctrl-C works at once: pyarrow's own waiting delays it."""
    if threading.current_thread() is not threading.main_thread():
        return ask()
    answer: Future[_T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # raised in the waiting thread
            answer.set_exception(error)

    threading.Thread(target=run, name="wtsbench-store-asks", daemon=True).start()
    return answer.result()


def _pieces(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Rows in messages small enough for a server, unless a single row is too large."""
    for batch in rows.to_batches():
        count = max(1, batch.num_rows * wire.PIECE // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, count):
            yield batch.slice(start, count)


def _aligned(table: pa.Table) -> pa.Table:
    """A table with aligned buffers: those received by gRPC may begin at any byte, about which Arrow warns."""
    buffers = (buffer for column in table.columns for chunk in column.chunks for buffer in chunk.buffers())
    if all(buffer is None or buffer.address % 8 == 0 for buffer in buffers):
        return table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()
