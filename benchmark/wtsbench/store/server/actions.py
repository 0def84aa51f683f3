"""The actions of `do_action` except `append`: each takes its argument as JSON and checks the client's rights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from wtsbench import __version__
from wtsbench.contract.operations import (
    NAME_CHARACTERS,
    Orders,
    Renewal,
    RunReport,
    check_renewal,
    check_report,
    storable_report,
)
from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.errors import StoreError
from wtsbench.spec.cell import Cell
from wtsbench.store import wire
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.server.bounds import MESSAGE_SECONDS, RECEIVING, WORKERS, Places, Room
from wtsbench.store.server.live import Limits, LiveStore
from wtsbench.store.server.metrics import Metrics
from wtsbench.store.server.questions import require_version
from wtsbench.store.server.sql import SqlProcesses
from wtsbench.store.server.tokens import OWNER, Grant
from wtsbench.store.upkeep.manifest import Form
from wtsbench.store.wire import StoreDenied, StoreRefused

_Told = TypeVar("_Told", Renewal, RunReport)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(kw_only=True)
class Core:
    """State shared by the public service and the one behind the local socket."""

    live: LiveStore
    metrics: Metrics
    backup: Callable[[str], dict[str, Any]]
    """Makes a backup of the given name."""
    export: Callable[[str, Form], dict[str, Any]]
    """Makes or updates an export of the given name and form."""
    merge: Callable[[Path], dict[str, Any]]
    """Merges another store, a backup or an export in."""
    verify: Callable[[], dict[str, Any]]
    limits: Limits
    sql: SqlProcesses
    room: Room = field(default_factory=Room)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(WORKERS, "wtsbench-store-worker"))
    """For work that waits for the disk or computes."""
    receiving: Places = field(init=False)
    """Limits messages that are received at once."""
    reading: Places = field(init=False)
    """Limits tables that are read at once."""
    asking: Places = field(init=False)
    """Limits SQL queries that are computed at once."""
    draining: bool = False
    busy: int = 0
    """Requests in progress."""
    busy_for: Counter[str] = field(default_factory=Counter)
    """Requests in progress by name of the token."""

    def __post_init__(self) -> None:
        seconds, full = self.limits.seconds, "too many questions are being answered"
        self.receiving = Places(RECEIVING, MESSAGE_SECONDS, "too many requests are being received")
        self.reading = Places(self.limits.readers, seconds, full)
        self.asking = Places(self.limits.questions, seconds, full)


def _hello(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Versions, and what the token allows."""
    return {
        "protocol": wire.PROTOCOL,
        "schema_version": SCHEMA_VERSION,
        "wtsbench_version": __version__,
        "name": grant.name,
        "scope": grant.scope,
        "draining": core.draining,
    }


def _begin_attempt(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Take the next attempt number of a trial."""
    trial_id, run, request = str(argument["trial_id"]), str(argument["run"]), str(argument["request"])
    host, lease = str(argument.get("host", ""))[:NAME_CHARACTERS], argument.get("lease", False) is True
    require_version(argument)
    grant.require_trial(trial_id, run, argument.get("shared_id"))
    if lease and len(run) > NAME_CHARACTERS:  # others are told the name in an error, which has to fit into a trailer
        raise StoreRefused(f"the name of a run has {NAME_CHARACTERS} characters at most")
    attempt = core.live.begin_attempt(
        trial_id, run, request, host=host, lease=lease, token=grant.name, scope=grant.scope
    )
    return {"attempt": attempt}


def _sealed(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Whether an attempt has ended."""
    return {"sealed": core.live.sealed(str(argument["trial_id"]), int(argument["attempt"]))}


def _put_grid(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Keep what was asked for."""
    name, digest, yaml, cells = (str(argument[key]) for key in ("name", "grid_digest", "yaml", "cells"))
    require_version(argument)
    grant.require_grid(name)
    if grant.limited:
        _require_cells(cells)
    core.live.call(lambda engine: engine.put_grid(name, digest, yaml, cells), len(yaml) + len(cells))
    return {}


def _renew(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Renew the lease of an attempt, and keep what it printed."""
    require_version(argument)
    renewal = _taken(Renewal, {**argument, "lines": tuple(argument["lines"])}, check_renewal)
    attempt = renewal.trial_id, renewal.attempt
    grant.require_append()
    if grant.limited and not grant.may_append(core.live.scopes([attempt])[attempt]):
        what = f"attempt {renewal.attempt} of trial {renewal.trial_id[:12]}"
        raise StoreDenied(f"{what} was not begun under a token of scope {grant.scope}")
    orders: Orders = core.live.call(lambda engine: engine.renew(renewal), 1024 + sum(map(len, renewal.lines)))
    return asdict(orders)


def _report_run(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Note how a run stands."""
    require_version(argument)
    report = storable_report(_taken(RunReport, argument, check_report))
    grant.require_run(report.run, report.grid)

    def change(engine: Engine) -> Orders:
        grant.require_run(report.run, engine.grid_of(report.run))
        return engine.report_run(report, owner=grant.name)

    return asdict(core.live.decide(change, 1024 + len(report.yaml)))


def _cancel(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Ask to cancel a run, or some of its trials."""
    require_version(argument)
    run, trial_ids = str(argument["run"]), argument["trial_ids"]
    asked = None if trial_ids is None else [str(trial_id) for trial_id in trial_ids]
    grant.require_run(run, None)

    def change(engine: Engine) -> bool:
        grant.require_run(run, engine.grid_of(run))
        return engine.cancel(run, asked)

    return {"cancelled": core.live.decide(change, 1024 + sum(map(len, asked or ())))}


def _taken(kind: type[_Told], argument: dict[str, Any], check: Callable[[_Told], None]) -> _Told:
    """What a client tells, as the dataclass whose fields it has sent; refused unless it passes the check."""
    told = kind(**{field.name: argument[field.name] for field in fields(kind)})
    try:
        check(told)
    except StoreError as error:
        raise StoreRefused(error.message) from None
    return told


def _require_cells(cells: str) -> None:
    """Refuse what is no list of cells: a token for one grid must not keep others from reading the store's reports."""
    try:
        Cell.listed(cells)
    except ValueError:
        raise StoreRefused("the cells of the grid cannot be read", remedy="submit it with this version.") from None


def _status(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Rows, bytes, and what waits."""
    with core.live.snapshot() as engine:
        counts = engine.counts()
    requests, size = core.live.waiting
    return {"tables": counts, "bytes": core.live.size, "waiting_requests": requests, "waiting_bytes": size}


def _verify(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Check every invariant of the store."""
    grant.require_admin()
    return core.verify()


def _compact(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Write the log into the database file."""
    grant.require_admin()
    return dict(core.live.compact())


def _backup(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Make a backup beside the store, under a name."""
    grant.require_admin()
    return core.backup(_name(argument, "a backup"))


def _export(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Export the store to files beside it, under a name; again, to bring that export up to date."""
    grant.require_admin()
    form = argument["form"]
    if form not in ("parquet", "arrow"):
        raise StoreRefused(f"{form!r} is no form of an export", remedy="it is parquet or arrow.")
    return core.export(_name(argument, "an export"), form)


def _merge(core: Core, grant: Grant, argument: dict[str, Any]) -> dict[str, Any]:
    """Bring another store, a backup or an export of the server's machine in; only for the store's owner."""
    if grant is not OWNER:
        raise StoreDenied("only the owner of the folder may name files of the server's machine", remedy="merge there.")
    return core.merge(Path(str(argument["source"])))


def _name(argument: dict[str, Any], what: str) -> str:
    name = str(argument["name"])
    if not _NAME.fullmatch(name):
        raise StoreRefused(f"{name!r} is no name for {what}", remedy="letters, digits, dots, dashes; no path.")
    return name


ACTIONS: dict[str, Callable[[Core, Grant, dict[str, Any]], dict[str, Any]]] = {
    "hello": _hello,
    "begin_attempt": _begin_attempt,
    "sealed": _sealed,
    "put_grid": _put_grid,
    "renew": _renew,
    "report_run": _report_run,
    "cancel": _cancel,
    "status": _status,
    "verify": _verify,
    "compact": _compact,
    "backup": _backup,
    "export": _export,
    "merge": _merge,
}
LONG = frozenset({"status", "verify", "compact", "backup", "export", "merge"})
"""Actions that read tables, whose number at once is limited."""
