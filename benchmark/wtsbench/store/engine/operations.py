"""Runs and leases in the engine: the statements behind `Store.renew`, `Store.report_run` and the like.

The tables are described in `tables`. Each function works in an open transaction; `now` is the store's clock, as the
engine keeps times: UTC without a zone. Who has a lease is decided here alone: the database has one writer at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb

from wtsbench.contract.operations import (
    ENDED,
    KEPT_BYTES,
    KEPT_LINES,
    LEASE_SECONDS,
    LINE_CHARACTERS,
    Orders,
    Renewal,
    RunReport,
)
from wtsbench.store.wire import Cancelled, Held
from wtsbench.visible import shortened

_LEASE = timedelta(seconds=LEASE_SECONDS)
_ABANDONED = timedelta(days=1)
"""So long after its end a lease is deleted, with what its attempt printed; nobody sealed that attempt."""


# -- leases


def claimed(db: duckdb.DuckDBPyConnection, trial_id: str, run: str, request: str | None, now: datetime) -> int | None:
    """Make way for a new lease on a trial.

    Args:
        db: with an open transaction.
        trial_id: the trial.
        run: the run that asks for it.
        request: the client's id of its request; None if it has none.
        now: the store's clock.

    Returns:
        The attempt that the same request has begun before, its lease renewed; None if there is none.

    Raises:
        Cancelled: somebody asked to cancel the run, or this trial of it. Nothing was changed, as by the next.
        Held: the trial is done, or another attempt has a lease that has not ended.
    """
    done = _row(db, "SELECT k.run FROM done AS d JOIN attempt_keys AS k USING (key) WHERE d.trial_id = ?", [trial_id])
    if done is not None:
        raise Held(f"trial {trial_id[:12]} is done", remedy="take its result.", by=done[0] or "")
    rows = db.execute(
        "SELECT attempt, key, run, request, until FROM operations.leases WHERE trial_id = ? ORDER BY until DESC",
        [trial_id],
    ).fetchall()
    own = next(((attempt, key) for attempt, key, _, by, _ in rows if request is not None and by == request), None)
    if own is None:  # what was begun before hears of it with its next renewal
        _require_wanted(db, trial_id, run)
    for attempt, _, holder, _, until in rows:
        # A lease further ahead was written before the clock was set back: waiting for it might take days.
        if now < until <= now + 2 * _LEASE and (own is None or attempt != own[0]):
            raise Held(
                f"trial {trial_id[:12]} is being run by {shortened(holder)}, attempt {attempt}",
                remedy="wait for it, or try again when its lease has ended.",
                by=holder,
            )
    if own is not None:
        db.execute("UPDATE operations.leases SET until = ?, seen_at = ? WHERE key = ?", [now + _LEASE, now, own[1]])
        return int(own[0])
    abandoned = db.execute("SELECT key FROM operations.leases WHERE until < ?", [now - _ABANDONED]).fetchall()
    release(db, sorted({key for _, key, *_ in rows} | {key for (key,) in abandoned}))
    return None


def _require_wanted(db: duckdb.DuckDBPyConnection, trial_id: str, run: str) -> None:
    """Refuse a trial that somebody asked to cancel: its run may not have heard of it yet."""
    whole = _row(db, "SELECT run FROM operations.runs WHERE run = ? AND cancelled", [run])
    one = _row(db, "SELECT run FROM operations.cancelled_trials WHERE run = ? AND trial_id = ?", [run, trial_id])
    if whole is not None or one is not None:
        what = f"run {shortened(run)}" if whole is not None else f"trial {trial_id[:12]} of {shortened(run)}"
        raise Cancelled(f"{what} is cancelled", remedy="submit its grid again to run what is missing.")


def lease(
    db: duckdb.DuckDBPyConnection,
    key: int,
    trial_id: str,
    attempt: int,
    *,
    run: str,
    host: str,
    request: str | None,
    now: datetime,
) -> None:
    """Give an attempt that was just begun its lease."""
    db.execute(
        "INSERT INTO operations.leases (key, trial_id, attempt, run, host, request, started_at, until, seen_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [key, trial_id, attempt, run, host, request, now, now + _LEASE, now],
    )


def release(db: duckdb.DuckDBPyConnection, keys: Sequence[int | None]) -> None:
    """End the leases of attempts, and delete what they printed so far."""
    if not keys:
        return
    held = db.execute(
        "DELETE FROM operations.leases WHERE key IN (SELECT unnest(?::BIGINT[])) RETURNING key", [list(keys)]
    ).fetchall()
    if held:  # without a lease nothing is kept of what an attempt prints
        ended = [key for (key,) in held]
        db.execute("DELETE FROM operations.printed WHERE key IN (SELECT unnest(?::BIGINT[]))", [ended])


def renew(db: duckdb.DuckDBPyConnection, renewal: Renewal, now: datetime) -> Orders:
    """Renew a lease and keep new lines; an attempt without a lease stays without one."""
    share = None if renewal.share is None else float(renewal.share)
    named = [renewal.trial_id, renewal.attempt]
    held = db.execute(
        "UPDATE operations.leases SET until = ?, seen_at = ?, share = ? WHERE trial_id = ? AND attempt = ?"
        " RETURNING key, run",
        [now + _LEASE, now, share, *named],
    ).fetchall()
    if not held:
        row = _row(db, "SELECT run FROM attempt_keys WHERE trial_id = ? AND attempt = ?", named)
        return Orders() if row is None else _orders(db, row[0], now, renewal.trial_id)
    ((key, run),) = held
    if renewal.lines:
        _keep_lines(db, key, renewal)
    return _orders(db, run, now, renewal.trial_id)


def _keep_lines(db: duckdb.DuckDBPyConnection, key: int, renewal: Renewal) -> None:
    """Append the lines after the last one that is stored, and delete the oldest of too many."""
    (last,) = _row(db, "SELECT max(line) FROM operations.printed WHERE key = ?", [key]) or (None,)
    known = 0 if last is None else max(0, last + 1 - renewal.first)
    texts = [line[:LINE_CHARACTERS] for line in renewal.lines[known:]]
    if not texts:
        return
    db.execute(
        "INSERT INTO operations.printed SELECT ?, ? + unnest(range(len(?::VARCHAR[]))), unnest(?::VARCHAR[])",
        [key, renewal.first + known, texts, texts],
    )
    count, size = _row(db, "SELECT count(*), sum(strlen(text)) FROM operations.printed WHERE key = ?", [key]) or (0, 0)
    if count > KEPT_LINES or size > KEPT_BYTES:
        db.execute(
            "DELETE FROM operations.printed WHERE key = ? AND line < (SELECT min(line) FROM (SELECT line,"
            " count(*) OVER newest AS lines, sum(strlen(text)) OVER newest AS bytes FROM operations.printed"
            " WHERE key = ? WINDOW newest AS (ORDER BY line DESC)) WHERE lines <= ? AND bytes <= ?)",
            [key, key, KEPT_LINES, KEPT_BYTES],
        )


# -- runs


def report(db: duckdb.DuckDBPyConnection, told: RunReport, owner: str | None, now: datetime) -> Orders:
    """Note how a run stands.

    A run that has ended stays so until it is started again, which raises `resumed`: reports that come late, after a
    later one, change nothing. A run that had ended and is started again is not cancelled any more.

    Args:
        db: with an open transaction.
        told: the report, checked.
        owner: name of the client's token, kept with the first report.
        now: the store's clock.
    """
    stored = _row(db, "SELECT resumed, ended_at FROM operations.runs WHERE run = ?", [told.run])
    ended_at = now if told.state in ENDED else None
    values = {
        "grid": told.grid,
        "cluster": told.cluster,
        "job": told.job,
        "host": told.host,
        "priority": told.priority,
        "state": told.state,
        "seen_at": now,
        "ended_at": ended_at,
        "total": told.total,
        "stored": told.stored,
        "done": told.done,
        "failed": told.failed,
        "waiting": told.waiting,
        "running": told.running,
        "detail": told.detail,
        "resumed": told.resumed,
    }
    if stored is None:
        values |= {"run": told.run, "owner": owner, "started_at": now, "cancelled": False, "yaml": told.yaml}
        places = ", ".join("?" * len(values))
        db.execute(f"INSERT INTO operations.runs ({', '.join(values)}) VALUES ({places})", list(values.values()))
        return _orders(db, told.run, now)
    resumed, ended_before = stored
    again = told.resumed > resumed
    if again or (told.resumed == resumed and (ended_before is None or ended_at is not None)):
        if ended_before is not None and again:
            values["cancelled"] = False
            db.execute("DELETE FROM operations.cancelled_trials WHERE run = ?", [told.run])
        elif ended_before is not None:
            values["ended_at"] = ended_before
        changes = ", ".join(f"{name} = ?" for name in values)
        db.execute(f"UPDATE operations.runs SET {changes} WHERE run = ?", [*values.values(), told.run])
        if told.yaml:  # mostly the stored one: then it is not written into the log again
            db.execute(
                "UPDATE operations.runs SET yaml = ? WHERE run = ? AND yaml <> ?", [told.yaml, told.run, told.yaml]
            )
    return _orders(db, told.run, now)


def cancel(db: duckdb.DuckDBPyConnection, run: str, trial_ids: Sequence[str] | None) -> bool:
    """Ask to cancel a run, or some of its trials; False if there is no such run or it has ended."""
    row = _row(db, "SELECT ended_at FROM operations.runs WHERE run = ?", [run])
    if row is None or row[0] is not None:
        return False
    if trial_ids is None:
        db.execute("UPDATE operations.runs SET cancelled = true WHERE run = ?", [run])
    elif trial_ids:
        db.execute(
            "INSERT INTO operations.cancelled_trials SELECT ?, trial_id FROM (SELECT DISTINCT unnest(?::VARCHAR[]) AS"
            " trial_id) ANTI JOIN (SELECT trial_id FROM operations.cancelled_trials WHERE run = ?) USING (trial_id)",
            [run, list(trial_ids), run],
        )
    return True


def grid_of(db: duckdb.DuckDBPyConnection, run: str) -> str | None:
    """The grid of a run; None if there is no such run."""
    row = _row(db, "SELECT grid FROM operations.runs WHERE run = ?", [run])
    return None if row is None else str(row[0])


def _orders(db: duckdb.DuckDBPyConnection, run: str | None, now: datetime, trial_id: str | None = None) -> Orders:
    """What the supervisor of a run is to do, or that of one of its trials."""
    row = _row(db, "SELECT cancelled, cluster, priority FROM operations.runs WHERE run = ?", [run])
    if row is None:
        return Orders()
    cancelled, cluster, priority = row
    only, parameters = ("", [run]) if trial_id is None else (" AND trial_id = ?", [run, trial_id])
    trials = db.execute(
        f"SELECT trial_id FROM operations.cancelled_trials WHERE run = ?{only} ORDER BY trial_id", parameters
    ).fetchall()
    above = None
    if cluster is not None:
        above = _row(
            db,
            "SELECT run FROM operations.runs WHERE cluster = ? AND run <> ? AND state = 'running' AND priority > ?"
            " AND waiting > 0 AND seen_at > ? ORDER BY priority DESC, started_at, run LIMIT 1",
            [cluster, run, priority, now - _LEASE],
        )
    return Orders(bool(cancelled), tuple(one for (one,) in trials), None if above is None else str(above[0]))


def _row(db: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any]) -> tuple[Any, ...] | None:
    rows = db.execute(query, list(parameters)).fetchall()
    return rows[0] if rows else None
