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
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from wtsbench import __version__
from wtsbench.errors import NoStore, StoreError, UserError
from wtsbench.store import wire
from wtsbench.store.archive import SCOPED, scoped_sql
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.export import Form
from wtsbench.store.lock import StoreBusy
from wtsbench.store.outbox import widened
from wtsbench.store.queries import Query
from wtsbench.store.schemas import SCHEMA_VERSION, TABLES
from wtsbench.store.server.bounds import Room, counted, no_more
from wtsbench.store.server.guard import Refused
from wtsbench.store.server.live import Limits, LiveStore
from wtsbench.store.server.metrics import Metrics
from wtsbench.store.server.tokens import OWNER, Denied, Grant, Tokens
from wtsbench.store.verify import digest_of

MAX_QUESTION = 8 * 2**20
"""Bytes of a ticket, a descriptor or an action's body."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(kw_only=True)
class Core:
    """What the public service and the one behind the local socket share."""

    live: LiveStore
    metrics: Metrics
    backup: Callable[[str], dict[str, Any]]
    """Makes a backup of the given name."""
    export: Callable[[str, Form], dict[str, Any]]
    """Makes an export of the given name and form, or brings it up to date."""
    merge: Callable[[Path], dict[str, Any]]
    """Brings another store, a backup or an export in."""
    verify: Callable[[], dict[str, Any]]
    limits: Limits
    room: Room = field(default_factory=Room)
    draining: bool = False
    busy: int = 0
    """Requests in progress."""
    mutex: threading.Lock = field(default_factory=threading.Lock)


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
            raise _travelling(Refused("get_schema is not served: get_flight_info has each table's schema"))[1]
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
            outcome, travelling = _travelling(error)
            raise travelling from None
        except (flight.FlightError, pa.ArrowException):  # the client's stream broke: the transport tells
            raise
        except Exception as error:  # noqa: BLE001  # for whoever runs the server, not for who asks
            traceback.print_exception(error)
            fault = StoreError("the server itself failed", remedy="whoever runs it finds the reason in its log.")
            raise _travelling(fault)[1] from None
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
        asked = _body(descriptor.command)
        operation = asked.get("op")
        kind = str(operation) if operation in ("append", "dataset") else "unknown"
        with self._request(kind), self._core.room.request() as take:
            grant = self._grant(context)
            grant.require_append()
            _require_version(asked)
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
        """Refuse records of attempts that are not of the token's own runs."""
        if grant.may_write_run(None):
            return
        named = owners()
        runs = self._core.live.runs(named)
        for attempt in named:
            if not grant.may_write_run(runs.get(attempt)):
                raise Denied(f"attempt {attempt[1]} of trial {attempt[0][:12]} is not of a run of token {grant.name}")

    def _put_dataset(self, grant: Grant, asked: dict[str, Any], chunks: Iterator[pa.RecordBatch]) -> None:
        schema = TABLES["items"]
        batches, size = [], 0
        for batch in chunks:
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
        if not grant.may_write_run(None) and digest_of(known, items) != known["data_digest"]:
            # Whoever may submit one grid only must not say what other grids are scored by.
            raise Denied("the items do not have the digest that they are to be kept under")
        self._core.live.call(lambda engine: engine.put_dataset(known, items), size)

    # -- reading

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:
        """Rows of a table, or of one SELECT, as a stream."""
        asked = _parsed(ticket.ticket)
        kind = "sql" if "sql" in asked else "archive" if "archive" in asked else "read"
        with self._request(kind):
            self._grant(context)
            asked = _body(ticket.ticket)
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
            return flight.GeneratorStream(schema, _faults_travel(batches))

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
            return self._info(_table(descriptor))

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
        described |= {name: str(method.__doc__) for name, method in _ACTIONS.items()}
        return [flight.ActionType(*one) for one in described.items()]

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> list[flight.Result]:
        """One of the actions; its argument and answer are JSON, but for the records to append."""
        known = action.type == "append" or action.type in _ACTIONS
        with self._request(action.type if known else "unknown"):
            grant = self._grant(context)
            if not known:
                raise Refused(f"there is no action {action.type!r}")
            if action.type == "append":
                with self._core.room.request() as take:
                    take(action.body.size)
                    return [flight.Result(self._append(grant, action.body))]
            answer = _ACTIONS[action.type](self._core, grant, _body(action.body.to_pybytes()))
            return [flight.Result(json.dumps(answer).encode())]


def _hello(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Versions, and what the token allows."""
    return {
        "protocol": wire.PROTOCOL,
        "schema_version": SCHEMA_VERSION,
        "wtsbench_version": __version__,
        "name": grant.name,
        "scope": grant.scope,
        "draining": core.draining,
    }


def _begin_attempt(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Take the next attempt number of a trial."""
    trial_id, run, request = str(asked["trial_id"]), str(asked["run"]), str(asked["request"])
    _require_version(asked)
    grant.require_append()
    if not grant.may_write_run(run):
        raise Denied(f"token {grant.name} may not begin attempts of run {run}")
    return {"attempt": core.live.begin_attempt(trial_id, run, request)}


def _sealed(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Whether an attempt has ended."""
    return {"sealed": core.live.sealed(str(asked["trial_id"]), int(asked["attempt"]))}


def _put_grid(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Keep what was asked for."""
    name, digest, yaml, cells = (str(asked[key]) for key in ("name", "grid_digest", "yaml", "cells"))
    _require_version(asked)
    grant.require_grid(name)
    core.live.call(lambda engine: engine.put_grid(name, digest, yaml, cells), len(yaml) + len(cells))
    return {}


def _status(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Rows, bytes, and what waits."""
    with core.live.snapshot() as engine:
        counts = engine.counts()
    requests, size = core.live.waiting
    return {"tables": counts, "bytes": core.live.size, "waiting_requests": requests, "waiting_bytes": size}


def _verify(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Check every invariant of the store."""
    grant.require_admin()
    return core.verify()


def _compact(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Write the log into the database file."""
    grant.require_admin()
    return dict(core.live.compact())


def _backup(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Make a backup beside the store, under a name."""
    grant.require_admin()
    return core.backup(_name(asked, "a backup"))


def _export(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Export the store to files beside it, under a name; again, to bring that export up to date."""
    grant.require_admin()
    form = asked["form"]
    if form not in ("parquet", "arrow"):
        raise Refused(f"{form!r} is no form of an export", remedy="it is parquet or arrow.")
    return core.export(_name(asked, "an export"), form)


def _merge(core: Core, grant: Grant, asked: dict[str, Any]) -> dict[str, Any]:
    """Bring another store, a backup or an export of the server's machine in; only for the store's owner."""
    if grant is not OWNER:
        raise Denied("only the owner of the folder may name files of the server's machine", remedy="merge there.")
    return core.merge(Path(str(asked["source"])))


def _name(asked: dict[str, Any], what: str) -> str:
    name = str(asked["name"])
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} is no name for {what}", remedy="letters, digits, dots, dashes; no path.")
    return name


_ACTIONS: dict[str, Callable[[Core, Grant, dict[str, Any]], dict[str, Any]]] = {
    "hello": _hello,
    "begin_attempt": _begin_attempt,
    "sealed": _sealed,
    "put_grid": _put_grid,
    "status": _status,
    "verify": _verify,
    "compact": _compact,
    "backup": _backup,
    "export": _export,
    "merge": _merge,
}


def _table(descriptor: flight.FlightDescriptor) -> str:
    """The table that a path names."""
    names = [part.decode(errors="replace") for part in descriptor.path or ()]
    if len(names) != 1 or names[0] not in TABLES:
        raise Refused("a path is the name of one table", remedy=f"the tables are {', '.join(TABLES)}.")
    return str(names[0])


def _body(raw: bytes | None) -> dict[str, Any]:
    """A question, or an argument."""
    if raw is not None and len(raw) > MAX_QUESTION:
        raise _travelling(Refused(f"a question of more than {MAX_QUESTION // 2**20} MiB"))[1]
    found = _json(raw)
    if not isinstance(found, dict):
        raise _travelling(Refused("a question is a JSON object"))[1]
    return found


def _parsed(raw: bytes | None) -> dict[str, Any]:
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


def _require_version(asked: dict[str, Any]) -> None:
    """An old client may write: what it does not know of is empty. A newer one knows what this server could not keep."""
    version = int(asked["schema_version"])
    if version > SCHEMA_VERSION:
        raise Refused(
            f"the client writes schema version {version}, and the server knows up to {SCHEMA_VERSION}",
            remedy="update the server.",
        )


def _travelling(error: Exception) -> tuple[str, flight.FlightError]:
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


def _faults_travel(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except UserError as error:
        raise _travelling(error)[1] from None
