"""What happens now, and which runs there were: what supervisors tell the store, and what they are told in return.

A *run* is one submission of a grid. A *lease* says that an attempt is being run; whoever runs it renews the lease, and
a lease that nobody renews ends. None of it is a result: it is neither exported nor merged, and not for readers' SQL.

All times in these tables are of the store's own clock (a server's, if there is one), in UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import pyarrow as pa

from wtsbench.errors import StoreError
from wtsbench.visible import storable

LEASE_SECONDS = 60.0
"""A lease that nobody renews ends after this."""
BEAT_SECONDS = 10.0
"""Between two renewals of a lease, and between two reports of a run."""
LINE_CHARACTERS = 4_000
"""Where a printed line is cut."""
LINES_AT_ONCE = 500
"""Printed lines of one renewal, at most."""
_CHARACTERS_AT_ONCE = 250_000
"""Characters of one renewal's lines, about."""
KEPT_LINES = 2_000
"""Printed lines that are kept of an attempt; the oldest go first."""
KEPT_BYTES = 2**20
"""Bytes of those lines in UTF-8, at most."""
DETAIL_CHARACTERS = 4_000
"""Where the detail of a run is cut."""
NAME_CHARACTERS = 500
"""The longest name of a run, a grid, a cluster, a job or a host."""

State = Literal["queued", "running", "done", "failed", "cancelled"]
"""Of a run. One that has not ended and was last seen more than LEASE_SECONDS ago is lost; that is not stored."""
ENDED: frozenset[str] = frozenset({"done", "failed", "cancelled"})

_TIME = pa.timestamp("us", tz="UTC")
_COUNTS = ("total", "stored", "done", "failed", "waiting", "running")
RUNS = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("grid", pa.string(), nullable=False),
        pa.field("cluster", pa.string()),
        pa.field("job", pa.string()),
        pa.field("host", pa.string(), nullable=False),
        pa.field("owner", pa.string()),
        pa.field("priority", pa.int32(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("started_at", _TIME, nullable=False),
        pa.field("seen_at", _TIME, nullable=False),
        pa.field("ended_at", _TIME),
        *(pa.field(name, pa.int32(), nullable=False) for name in _COUNTS),
        pa.field("detail", pa.string()),
        pa.field("cancelled", pa.bool_(), nullable=False),
        pa.field("resumed", pa.int32(), nullable=False),
        pa.field("silent_s", pa.float64(), nullable=False),
    ]
)
"""Columns of `Store.runs`. `silent_s` is the seconds since `seen_at`, by the store's clock; `owner` is the name of the
token that began the run; `cancelled` says that somebody asked to cancel all of it."""
RUNNING = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("run", pa.string(), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("started_at", _TIME, nullable=False),
        pa.field("seen_at", _TIME, nullable=False),
        pa.field("until", _TIME, nullable=False),
        pa.field("share", pa.float64()),
        pa.field("age_s", pa.float64(), nullable=False),
    ]
)
"""Columns of `Store.running`. `age_s` is the seconds since `started_at`, by the store's clock; `until` is the lease's
end; `share` is how much of the attempt is done, from 0 to 1."""
PRINTED = pa.schema([pa.field("line", pa.int64(), nullable=False), pa.field("text", pa.string(), nullable=False)])
"""Columns of `Store.printed`."""


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """How a run stands, as its supervisor sees it."""

    run: str
    grid: str
    cluster: str | None = None
    """Address of the Ray cluster; runs of one cluster wait for each other by priority. None without a cluster."""
    job: str | None = None
    """Id of the Ray job."""
    host: str = ""
    """Where the supervisor of the run is."""
    priority: int = 0
    """Higher goes first."""
    state: State = "running"
    total: int = 0
    """Trials of the grid; the next five say how many of them are what."""
    stored: int = 0
    """Done before the run began."""
    done: int = 0
    failed: int = 0
    waiting: int = 0
    running: int = 0
    detail: str | None = None
    """A sentence for people, such as why the run failed."""
    yaml: str = ""
    """Text of the grid file. An empty one leaves the stored one as it is."""
    resumed: int = 0
    """How often the run was started again."""


@dataclass(frozen=True)
class Orders:
    """What a supervisor is to do."""

    cancelled: bool = False
    """Somebody asked to cancel the whole run."""
    cancelled_trials: tuple[str, ...] = ()
    """Trials of the run that somebody asked to cancel; in the answer to a renewal at most the trial itself."""
    outranked_by: str | None = None
    """A living run of the same cluster with a higher priority, trials of which wait."""


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """One request to renew a lease."""

    trial_id: str
    attempt: int
    share: float | None = None
    """How much of the attempt is done, from 0 to 1."""
    lines: tuple[str, ...] = ()
    """Lines that the attempt printed."""
    first: int = 1
    """Number of the first of them; an attempt's lines are counted from 1."""


def renewals(
    trial_id: str, attempt: int, *, share: float | None, lines: Sequence[str], first: int
) -> Iterator[Renewal]:
    """The requests that renew a lease and bring some lines: at least one, each within a server's bounds.

    Lines are cut at LINE_CHARACTERS; of more than KEPT_LINES only the last ones are sent.
    """
    share = share if share is not None and math.isfinite(share) else None
    skipped = max(0, len(lines) - KEPT_LINES)
    first, start = first + skipped, 0
    texts = [storable(line[:LINE_CHARACTERS]) for line in lines[skipped:]]
    while True:
        end, size = start, 0
        while end < len(texts) and end - start < LINES_AT_ONCE and size < _CHARACTERS_AT_ONCE:
            size, end = size + len(texts[end]), end + 1
        part = tuple(texts[start:end])
        yield Renewal(trial_id=trial_id, attempt=attempt, share=share, lines=part, first=first + start)
        start = end
        if start == len(texts):
            return


def check_renewal(renewal: Renewal) -> None:
    """Refuse a renewal that no table can hold, or that is too large.

    Raises:
        StoreError: it says what is wrong.
    """
    _check_number("attempt", renewal.attempt, 2**31)
    _check_number("first line", renewal.first, 2**62)
    share: Any = renewal.share  # what a client sent
    if share is not None and not (isinstance(share, int | float) and math.isfinite(share)):
        raise StoreError(f"{share!r} is no share of an attempt")
    if len(renewal.lines) > LINES_AT_ONCE:
        raise StoreError(f"a renewal brings {LINES_AT_ONCE} lines at most, not {len(renewal.lines)}")
    sent: tuple[Any, ...] = renewal.lines
    if not all(isinstance(line, str) for line in (renewal.trial_id, *sent)):
        raise StoreError("the id of a trial and what it printed are texts")


def check_report(report: RunReport) -> None:
    """Refuse a report that no table can hold.

    Raises:
        StoreError: it says what is wrong.
    """
    for name in ("run", "grid", "cluster", "job", "host"):
        value = getattr(report, name)
        if value is None and name in ("cluster", "job"):
            continue
        if not isinstance(value, str) or len(value) > NAME_CHARACTERS or (not value and name in ("run", "grid")):
            raise StoreError(f"the {name} of a run is a name of {NAME_CHARACTERS} characters at most")
    if report.state not in get_args(State):
        raise StoreError(f"{report.state!r} is no state of a run")
    _check_number("priority", report.priority, 2**31, least=-(2**31))
    for name in (*_COUNTS, "resumed"):
        _check_number(f"number of trials {name}" if name in _COUNTS else name, getattr(report, name), 2**31)
    texts: tuple[Any, Any] = report.yaml, report.detail
    if not isinstance(texts[0], str) or not isinstance(texts[1], str | None):
        raise StoreError("the grid file and the detail of a run are texts")


def _check_number(name: str, value: Any, limit: int, *, least: int = 0) -> None:
    if type(value) is not int or not least <= value < limit:
        raise StoreError(f"{value!r} is no {name}")


def storable_report(report: RunReport) -> RunReport:
    """The report with texts that tables can hold, and its detail cut at DETAIL_CHARACTERS."""
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    texts = {name: storable(value) for name, value in values.items() if isinstance(value, str)}
    detail = None if report.detail is None else texts["detail"][:DETAIL_CHARACTERS]
    return RunReport(**{**values, **texts, "detail": detail})
