"""The Flight service: requests of clients as calls of the live store, with the rights of whoever asks.

do_put      append many records (see `wire`), or keep a data set with its items
do_get      a named table of the store, or one SELECT
list_flights, get_flight_info
            the tables and their schemas, for any Flight client
do_action   append (few records), hello, begin_attempt, sealed, put_grid, status, verify, compact, backup, export,
            merge
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from wtsbench.errors import StoreError, UserError
from wtsbench.store import wire
from wtsbench.store.archive import SCOPED, scoped_sql
from wtsbench.store.lock import StoreBusy
from wtsbench.store.outbox import widened
from wtsbench.store.plain import require_columns
from wtsbench.store.queries import Query
from wtsbench.store.schemas import TABLES
from wtsbench.store.server.actions import ACTIONS, Core
from wtsbench.store.server.bounds import counted, no_more
from wtsbench.store.server.guard import Refused
from wtsbench.store.server.questions import (
    faults_travel,
    parsed_question,
    question,
    require_version,
    table_of,
    travelling,
)
from wtsbench.store.server.tokens import OWNER, Denied, Grant, Tokens
from wtsbench.store.verify import digest_of


class _Bearer(flight.ServerMiddleware):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, grant: Grant | Denied) -> None:
        self.grant = grant


class _Doorman(flight.ServerMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    """Looks at the bearer token of every call."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[Any]]) -> _Bearer:
        """Who calls; a refusal is raised by the method, which knows how to say it."""
        if info.method == flight.FlightMethod.GET_SCHEMA:  # whose errors pyarrow sends as a traceback
            raise travelling(Refused("get_schema is not served: get_flight_info has each table's schema"))[1]
        sent = [value for name, values in headers.items() if name.lower() == "authorization" for value in values]
        kind, _, token = str(sent[0]).partition(" ") if len(sent) == 1 else ("", "", "")
        if kind.lower() != "bearer":
            return _Bearer(Denied("the server wants a token", remedy="name its file with WTSBENCH_TOKEN_FILE."))
        try:
            return _Bearer(self._tokens.grant(token))
        except Denied as error:
            return _Bearer(error)
        except StoreError:
            return _Bearer(Denied("the server cannot read its tokens", remedy="tell whoever runs it."))


class StoreService(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """One listening address of a served store."""

    def __init__(self, location: str, core: Core, tokens: Tokens | None, **tls: Any) -> None:
        """Listen.

        Args:
            location: a Flight address.
            core: the store and what belongs to it.
            tokens: who may ask; None for the local socket, where everybody is the owner.
            tls: certificates, as FlightServerBase takes them.
        """
        self._core = core
        self._open = tokens is None
        middleware = {} if tokens is None else {"doorman": _Doorman(tokens)}
        super().__init__(location, middleware=middleware, **tls)

    def _grant(self, context: flight.ServerCallContext) -> Grant:
        if self._open:
            return OWNER
        found = context.get_middleware("doorman").grant
        if isinstance(found, Denied):
            raise found
        return found  # type: ignore[no-any-return]  # pyarrow has no types

    @contextmanager
    def _request(self, kind: str) -> Iterator[None]:
        """Count, time, and let every fault travel as what it is."""
        core = self._core
        with core.mutex:
            core.busy += 1
            many = core.busy > core.limits.requests
        begun, outcome = time.monotonic(), "error"
        try:
            if many:
                raise StoreBusy(
                    f"the server works on {core.limits.requests} requests already",
                    remedy="try again; nothing was lost.",
                )
            if core.draining and kind != "hello":
                raise StoreBusy("the store is stopping", remedy="try again when it is back; nothing was lost.")
            yield
            outcome = "ok"
        except (UserError, ValueError, KeyError, TypeError, OverflowError) as error:
            outcome, carried = travelling(error)
            raise carried from None
        except (flight.FlightError, pa.ArrowException):  # the client's stream broke: the transport tells
            raise
        except Exception as error:  # noqa: BLE001  # for whoever runs the server, not for who asks
            traceback.print_exception(error)
            fault = StoreError("the server itself failed", remedy="whoever runs it finds the reason in its log.")
            raise travelling(fault)[1] from None
        finally:
            with core.mutex:
                core.busy -= 1
            core.metrics.requests.labels(kind, outcome).inc()
            core.metrics.seconds.labels(kind).observe(time.monotonic() - begun)

    # -- writing

    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Append records, or keep a data set; the acknowledgement is written when it is durable."""
        asked = question(descriptor.command)
        operation = asked.get("op")
        kind = str(operation) if operation in ("append", "dataset") else "unknown"
        with self._request(kind), self._core.room.request() as take:
            grant = self._grant(context)
            grant.require_append()
            require_version(asked)
            chunks = counted((chunk.data for chunk in reader if chunk.data is not None), take)
            if operation == "append":
                batches, size = wire.unpack(chunks, int(asked["records"]))
                self._may_write(grant, lambda: sorted({(batch.trial_id, batch.attempt) for batch in batches}))
                writer.write(wire.pack_acks(self._core.live.append(batches, size)))
            elif operation == "dataset":
                self._put_dataset(grant, asked, chunks)
                writer.write(b"{}")
            else:
                raise Refused("what was put is neither records nor a data set")

    def _append(self, grant: Grant, content: pa.Buffer) -> bytes:
        grant.require_append()
        if content.size > wire.REQUEST_BYTES:
            raise wire.too_large()
        records = content.to_pybytes()
        self._may_write(grant, lambda: wire.owners(records))
        return wire.pack_acks(self._core.live.append(records, len(records)))

    def _may_write(self, grant: Grant, owners: Callable[[], list[tuple[str, int]]]) -> None:
        """Refuse records of attempts that were not begun under a token like this one."""
        if not grant.limited:
            return
        named = owners()
        scopes = self._core.live.scopes(named)
        for attempt in named:
            if not grant.may_append(scopes.get(attempt)):
                what = f"attempt {attempt[1]} of trial {attempt[0][:12]}"
                raise Denied(f"{what} was not begun under a token of scope {grant.scope}")

    def _put_dataset(self, grant: Grant, asked: dict[str, Any], chunks: Iterator[pa.RecordBatch]) -> None:
        schema = TABLES["items"]
        batches, size = [], 0
        for batch in chunks:
            try:
                require_columns(batch.schema, schema)
            except pa.ArrowInvalid as error:
                raise Refused(f"the data set is none: {error}") from None
            size += batch.nbytes
            if size > wire.REQUEST_BYTES:
                raise wire.StoreRefused(f"the data set is larger than {wire.REQUEST_BYTES // 2**20} MiB")
            batches.append(batch)
        rows = widened(pa.Table.from_batches(batches) if batches else schema.empty_table(), schema)
        items = rows.select(schema.names).cast(schema)
        if items.num_rows != asked["rows"]:
            raise wire.StoreRefused(f"the data set was cut off: {items.num_rows} of {asked['rows']} items came")
        row = {"form": "classification", "settings": None, **asked["row"]}
        known = {name: row[name] for name in TABLES["datasets"].names if name in row}
        digests = set(items["data_digest"].unique().to_pylist())
        if digests - {known["data_digest"]}:
            raise Refused("some items are of another data set")
        if grant.limited and digest_of(known, items) != known["data_digest"]:
            # Whoever may submit one grid only must not say what other grids are scored by.
            raise Denied("the items do not have the digest that they are to be kept under")
        self._core.live.call(lambda engine: engine.put_dataset(known, items), size)

    # -- reading

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:
        """Rows of a table, or of one SELECT, as a stream."""
        asked = parsed_question(ticket.ticket)
        kind = "sql" if "sql" in asked else "archive" if "archive" in asked else "read"
        with self._request(kind):
            self._grant(context)
            asked = question(ticket.ticket)
            if kind == "sql":
                schema, batches = self._core.live.stream(str(asked["sql"]), asked.get("parameters", []), limited=True)
                batches = no_more(batches, self._core.limits.bytes)
            elif kind == "archive":
                table, shard = asked["archive"], str(asked["shard"])
                if table not in SCOPED:
                    raise Refused(f"{table!r} is no table of an archive")
                schema, batches = self._core.live.stream(
                    scoped_sql(table), [shard], limited=False, schema=SCOPED[table], own=True
                )
            else:
                table = asked["table"]
                if table not in TABLES:
                    raise Refused(f"{table!r} is no table of the store")
                conditions, parameters, only = (
                    tuple(asked.get(name, ())) for name in ("conditions", "parameters", "only")
                )
                if unknown := sorted(set(only) - set(TABLES[table].names)):
                    raise Refused(f"{table} has no column {unknown[0]!r}")
                query = Query(table, conditions, parameters, only)
                schema, batches = self._core.live.stream(
                    query.sql, query.parameters, limited=False, schema=query.schema
                )
            return flight.GeneratorStream(schema, faults_travel(batches))

    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> Iterator[flight.FlightInfo]:
        """The tables."""
        with self._request("list"):
            self._grant(context)
        for table in TABLES:
            yield self._info(table)

    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """One table, by its name as the path."""
        with self._request("list"):
            self._grant(context)
            return self._info(table_of(descriptor))

    def do_exchange(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.MetadataRecordBatchWriter,
    ) -> None:
        """Nothing goes both ways here."""
        with self._request("unknown"):
            self._grant(context)
            raise Refused("this server exchanges nothing", remedy="put records, or get tables.")

    def _info(self, table: str) -> flight.FlightInfo:
        ticket = flight.Ticket(json.dumps({"table": table}).encode())
        return flight.FlightInfo(
            TABLES[table], flight.FlightDescriptor.for_path(table), [flight.FlightEndpoint(ticket, [])], -1, -1
        )

    # -- everything else

    def list_actions(self, context: flight.ServerCallContext) -> list[flight.ActionType]:
        """What `do_action` knows."""
        with self._request("list"):
            self._grant(context)
        described = {"append": "Append records that fit into one message."}
        described |= {name: str(method.__doc__) for name, method in ACTIONS.items()}
        return [flight.ActionType(*one) for one in described.items()]

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> list[flight.Result]:
        """One of the actions; its argument and answer are JSON, but for the records to append."""
        known = action.type == "append" or action.type in ACTIONS
        with self._request(action.type if known else "unknown"):
            grant = self._grant(context)
            if not known:
                raise Refused(f"there is no action {action.type!r}")
            if action.type == "append":
                with self._core.room.request() as take:
                    take(action.body.size)
                    return [flight.Result(self._append(grant, action.body))]
            answer = ACTIONS[action.type](self._core, grant, question(action.body.to_pybytes()))
            return [flight.Result(json.dumps(answer).encode())]
