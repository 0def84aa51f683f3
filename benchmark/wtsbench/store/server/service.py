"""The Flight service: carries out clients' requests on the live store, within their rights.

DoPut       append many records (see `wire`), store a data set with its items, or a grid of many cells
DoGet       a named table of the store, runs and leases, or one SELECT
ListFlights, GetFlightInfo
            the tables and their schemas, for any Flight client
DoAction    append (few records), hello, begin_attempt, sealed, put_grid, renew, report_run, cancel, status, verify,
            compact, backup, export, merge

Methods run on the event loop; work that waits for the disk or computes goes to a worker's thread.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from wtsbench.contract.outbox import widened
from wtsbench.contract.plain import require_columns
from wtsbench.contract.schemas import TABLES
from wtsbench.errors import StoreError, UserError
from wtsbench.store import wire
from wtsbench.store.lock import StoreBusy
from wtsbench.store.server.actions import ACTIONS, LONG, Core
from wtsbench.store.server.answers import Answer, found
from wtsbench.store.server.messages import Incoming, batch_messages, encoded, schema_message
from wtsbench.store.server.questions import question, require_version, table_of, travelling
from wtsbench.store.server.tokens import Grant
from wtsbench.store.server.transport import Call, Method
from wtsbench.store.upkeep.verify import digest_of
from wtsbench.store.wire import StoreDenied, StoreRefused

_T = TypeVar("_T")


@dataclass
class _Kind:
    """Kind of a request, for the counters; set once it is known."""

    name: str


class StoreService:
    """Methods of the Flight service."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def methods(self) -> dict[str, Method]:
        """The methods, by their names in Flight."""
        return {
            "DoPut": self.do_put,
            "DoGet": self.do_get,
            "DoExchange": self.do_exchange,
            "DoAction": self.do_action,
            "ListActions": self.list_actions,
            "ListFlights": self.list_flights,
            "GetFlightInfo": self.get_flight_info,
            "GetSchema": self.get_schema,
        }

    @contextmanager
    def _request(self, call: Call, name: str = "unknown") -> Iterator[tuple[_Kind, Grant]]:
        """Count and time a request, and turn every error into the one for the client."""
        core, kind = self._core, _Kind(name)
        core.busy += 1
        core.busy_for[call.name] += 1
        begun, outcome = time.monotonic(), "error"
        try:
            grant = call.grant
            for busy, most in ((core.busy, core.limits.requests), (core.busy_for[grant.name], core.limits.of_one)):
                if busy > most:
                    raise StoreBusy(
                        f"the server works on {most} requests already", remedy="try again; nothing was lost."
                    )
            yield kind, grant
            outcome = "ok"
        except (UserError, ValueError, KeyError, TypeError, OverflowError) as error:
            fault = travelling(error)
            outcome = fault.kind
            raise fault from None
        except Exception as error:  # noqa: BLE001  # the details are for the server's operator, not for the client
            traceback.print_exception(error)
            failure = StoreError("the server itself failed", remedy="whoever runs it finds the reason in its log.")
            raise travelling(failure) from None
        finally:
            core.busy -= 1
            core.busy_for[call.name] -= 1
            core.busy_for += Counter()  # removes names without a request
            core.metrics.requests.labels(kind.name, outcome).inc()
            core.metrics.seconds.labels(kind.name).observe(time.monotonic() - begun)

    def _require_open(self) -> None:
        if self._core.draining:
            raise StoreBusy("the store is stopping", remedy="try again when it is back; nothing was lost.")

    async def _work(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function in a worker's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._core.workers, work, *arguments)

    # -- writing

    async def do_put(self, call: Call) -> None:
        """Append records, store a data set or a grid; the acknowledgement is sent when they are durable."""
        with self._request(call) as (kind, grant), self._core.room.request() as take:
            self._require_open()
            grant.require_append()
            incoming = Incoming(await call.only())
            asked = question(_descriptor(incoming.descriptor).command)
            operation = asked.get("op")
            kind.name = str(operation) if operation in ("append", "dataset", "grid") else "unknown"
            require_version(asked)
            if kind.name == "unknown":
                raise StoreRefused("what was put is neither records nor a data set nor a grid")
            if operation == "append" and incoming.schema != wire.PIECES:
                raise StoreRefused("the request has other columns than records have")
            if operation == "grid" and incoming.schema != wire.CELLS:
                raise StoreRefused("the request has other columns than the cells of a grid have")
            chunks, size = [], 0
            while (message := await call.receive()) is not None:
                size += len(message)
                if size > wire.REQUEST_BYTES:
                    raise wire.too_large()
                take(len(message))
                batch = incoming.batch(message)
                chunks += [] if batch is None else [batch]
            if operation == "append":
                answer = await self._work(self._append_pieces, grant, asked, chunks)
            elif operation == "grid":
                cells = await self._work(wire.unpack_cells, chunks, asked["bytes"])
                argument = {**asked, "cells": cells}
                answer = json.dumps(await self._work(ACTIONS["put_grid"], self._core, grant, argument)).encode()
            else:
                await self._work(self._put_dataset, grant, asked, incoming.schema, chunks)
                answer = b"{}"
            await call.send(encoded("PutResult", app_metadata=answer))

    def _append_pieces(self, grant: Grant, asked: dict[str, Any], chunks: Sequence[pa.RecordBatch]) -> bytes:
        batches, size = wire.unpack(chunks, int(asked["records"]))
        self._may_write(grant, lambda: sorted({(batch.trial_id, batch.attempt) for batch in batches}))
        return wire.pack_acks(self._core.live.append(batches, size))

    def _append(self, grant: Grant, records: bytes) -> bytes:
        grant.require_append()
        self._may_write(grant, lambda: wire.owners(records))
        return wire.pack_acks(self._core.live.append(records, len(records)))

    def _may_write(self, grant: Grant, owners: Callable[[], list[tuple[str, int]]]) -> None:
        """Refuse records of attempts that were not begun with a token of this scope."""
        if not grant.limited:
            return
        named = owners()
        scopes = self._core.live.scopes(named)
        for attempt in named:
            if not grant.may_append(scopes.get(attempt)):
                what = f"attempt {attempt[1]} of trial {attempt[0][:12]}"
                raise StoreDenied(f"{what} was not begun under a token of scope {grant.scope}")

    def _put_dataset(
        self, grant: Grant, asked: dict[str, Any], sent: pa.Schema, batches: Sequence[pa.RecordBatch]
    ) -> None:
        schema = TABLES["items"]
        try:
            require_columns(sent, schema)
        except pa.ArrowInvalid as error:
            raise StoreRefused(f"the data set is none: {error}") from None
        size = sum(batch.nbytes for batch in batches)
        rows = widened(pa.Table.from_batches(batches, sent), schema)
        items = rows.select(schema.names).cast(schema)
        if items.num_rows != asked["rows"]:
            raise StoreRefused(f"the data set was cut off: {items.num_rows} of {asked['rows']} items came")
        row = {"form": "classification", "settings": None, **asked["row"]}
        known = {name: row[name] for name in TABLES["datasets"].names if name in row}
        digests = set(items["data_digest"].unique().to_pylist())
        if digests - {known["data_digest"]}:
            raise StoreRefused("some items are of another data set")
        if grant.limited and digest_of(known, items) != known["data_digest"]:
            # A token for one grid must not decide on the data that other grids are scored with.
            raise StoreDenied("the items do not have the digest that they are to be kept under")
        self._core.live.call(lambda engine: engine.put_dataset(known, items), size)

    # -- reading

    async def do_get(self, call: Call) -> None:
        """Rows of a table, or of one SELECT, as a stream."""
        core = self._core
        with self._request(call, "read") as (kind, grant):
            self._require_open()
            asked = question(_read(flight.Ticket, await call.only()).ticket)
            kind.name = "sql" if "sql" in asked else "archive" if "archive" in asked else "read"
            places = core.asking if kind.name == "sql" else core.reading
            async with places.one(grant.name), self._stream(asked, kind.name) as (schema, answer):
                await call.send(schema_message(schema))
                while (batch := await self._work(answer.next)) is not None:
                    for message in batch_messages(batch):
                        await call.send(message)

    @asynccontextmanager
    async def _stream(self, asked: dict[str, Any], kind: str) -> AsyncIterator[tuple[pa.Schema, Answer]]:
        """The answer to a query; its computation is stopped when the block ends."""
        answer = Answer()
        try:
            yield await self._work(answer.begin, lambda: found(self._core, asked, kind, answer.stop)), answer
        finally:
            await asyncio.shield(self._work(answer.close))

    async def list_flights(self, call: Call) -> None:
        """The tables."""
        with self._request(call, "list"):
            for table in TABLES:
                await call.send(_info(table).serialize())

    async def get_flight_info(self, call: Call) -> None:
        """One table, by its name as the path."""
        with self._request(call, "list"):
            await call.send(_info(table_of(_descriptor(await call.only()))).serialize())

    async def get_schema(self, call: Call) -> None:
        """The schema of one table; Flight has two methods for it."""
        with self._request(call, "list"):
            raise StoreRefused("get_schema is not served: get_flight_info has each table's schema")

    async def do_exchange(self, call: Call) -> None:
        """Refuse: no request needs a stream in both directions."""
        with self._request(call):
            raise StoreRefused("this server exchanges nothing", remedy="put records, or get tables.")

    # -- everything else

    async def list_actions(self, call: Call) -> None:
        """The actions of `do_action`."""
        described = {"append": "Append records that fit into one message."}
        described |= {name: str(method.__doc__) for name, method in ACTIONS.items()}
        with self._request(call, "list"):
            for name, meaning in described.items():
                await call.send(encoded("ActionType", type=name.encode(), description=meaning.encode()))

    async def do_action(self, call: Call) -> None:
        """Carry out an action; its argument and answer are JSON, except for records to append."""
        core = self._core
        with self._request(call) as (kind, grant), core.room.request() as take:
            action = _read(flight.Action, await call.only())
            body = action.body
            if action.type == "append":
                kind.name = "append"
                take(body.size)
                self._require_open()
                answer = await self._work(self._append, grant, body.to_pybytes())
            elif action.type in ACTIONS:
                kind.name = action.type
                if action.type != "hello":
                    self._require_open()
                asked = question(body.to_pybytes())
                async with core.reading.one(grant.name) if action.type in LONG else nullcontext():
                    answer = json.dumps(await self._work(ACTIONS[action.type], core, grant, asked)).encode()
            else:
                raise StoreRefused(f"there is no action {action.type!r}")
            await call.send(flight.Result(answer).serialize())


def _read(kind: Any, content: bytes) -> Any:
    """Parse one of Flight's own messages."""
    try:
        return kind.deserialize(content)
    except (pa.ArrowException, ValueError, OSError):  # UnicodeDecodeError is a ValueError
        raise StoreRefused(f"the request is no {kind.__name__}") from None


def _descriptor(content: bytes) -> flight.FlightDescriptor:
    return _read(flight.FlightDescriptor, content)


def _info(table: str) -> flight.FlightInfo:
    ticket = flight.Ticket(json.dumps({"table": table}).encode())
    return flight.FlightInfo(
        TABLES[table], flight.FlightDescriptor.for_path(table), [flight.FlightEndpoint(ticket, [])], -1, -1
    )
