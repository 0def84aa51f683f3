"""Verifying a store: every invariant, checked from the stored rows alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from wtsbench.contract.digests import holds
from wtsbench.contract.schemas import RECORD_TABLES
from wtsbench.errors import StoreError
from wtsbench.spec.trial import CURVES, Split
from wtsbench.store.engine.tables import RECORDS_DIGEST
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.upkeep.archive import Archive

SHOWN = 50
"""How many faults of a kind are listed; all are counted."""
_SPLITS = [split.value for split in Split]
_ATTEMPT = "trial_id || ' ' || attempt"
_RECORDS = f"(SELECT key, count(*) AS records, {RECORDS_DIGEST} AS records_digest FROM ledger GROUP BY key)"
_STATED = {
    "an attempt has two names": f"SELECT {_ATTEMPT} FROM attempt_keys GROUP BY trial_id, attempt HAVING count(*) > 1",
    "a record is in the ledger twice": "SELECT key || ' ' || sequence FROM ledger GROUP BY key, sequence"
    " HAVING count(*) > 1",
    "a record of an attempt that is unknown": "SELECT DISTINCT key FROM ledger ANTI JOIN attempt_keys USING (key)",
    "an attempt is sealed twice": "SELECT key FROM trials_rows GROUP BY key HAVING count(*) > 1",
    "an attempt is sealed and waits for records": "SELECT key FROM trials_waiting SEMI JOIN trials_rows USING (key)",
    "an attempt has not the records that it ended with": f"SELECT {_ATTEMPT} FROM trials_rows AS t JOIN attempt_keys"
    f" USING (key) LEFT JOIN {_RECORDS} AS l USING (key) WHERE t.records IS DISTINCT FROM l.records"
    " OR t.records_digest IS DISTINCT FROM l.records_digest",
    "an attempt has all its records and is not visible": f"SELECT {_ATTEMPT} FROM trials_waiting AS t JOIN"
    f" attempt_keys USING (key) LEFT JOIN {_RECORDS} AS l USING (key) WHERE coalesce(l.records, 0) >= t.records",
    "a trial counts as done and has no such attempt": "SELECT trial_id FROM done ANTI JOIN"
    " (SELECT key FROM trials_rows WHERE status = 'done') USING (key)",
    "a trial is done and does not count as such": "SELECT trial_id FROM trials WHERE status = 'done'"
    " AND trial_id NOT IN (SELECT trial_id FROM done)",
    "a trial is done twice": "SELECT trial_id FROM trials WHERE status = 'done' GROUP BY trial_id HAVING count(*) > 1",
    "a superseded attempt is sealed": "SELECT key FROM superseded SEMI JOIN trials_rows USING (key)",
    "a superseded attempt of a trial that is not done": "SELECT s.key FROM superseded AS s LEFT JOIN attempt_keys AS k"
    " USING (key) WHERE k.trial_id IS NULL OR k.trial_id NOT IN (SELECT trial_id FROM done)",
    "a trial counts as done by an attempt of another": "SELECT d.trial_id FROM done AS d JOIN attempt_keys AS k"
    " USING (key) WHERE k.trial_id <> d.trial_id",
    "a lease of an attempt that is unknown or has ended": "SELECT key FROM operations.leases WHERE key IN"
    " (SELECT key FROM trials_rows UNION ALL SELECT key FROM superseded)"
    " OR (key, trial_id, attempt) NOT IN (SELECT (key, trial_id, attempt) FROM attempt_keys)",
    "an attempt has two leases": "SELECT key FROM operations.leases GROUP BY key HAVING count(*) > 1",
    "printed lines of an attempt that has no lease": "SELECT DISTINCT key FROM operations.printed ANTI JOIN"
    " operations.leases USING (key)",
    "a student that is done has a parent that is not": "SELECT DISTINCT trial_id FROM"
    " (SELECT trial_id, unnest(parents) AS parent FROM trials WHERE status = 'done')"
    " WHERE parent NOT IN (SELECT trial_id FROM done)",
    "a trial is of a data set that is not here": "SELECT DISTINCT trial_id FROM trials ANTI JOIN datasets"
    " USING (data_digest) WHERE status = 'done'",
    "trials of one model's revision began with different weights": "SELECT model_revision FROM"
    " (SELECT model_revision, CASE WHEN json_valid(measurements)"
    " THEN json_extract_string(measurements, '$.weights_sha256') END AS weights FROM trials WHERE status = 'done')"
    " GROUP BY ALL HAVING count(DISTINCT weights) > 1",
    "items of a data set that is not here": "SELECT DISTINCT data_digest FROM items ANTI JOIN datasets"
    " USING (data_digest)",
    "an item is there twice": "SELECT data_digest || ' ' || item_id FROM items GROUP BY data_digest, item_id, split"
    " HAVING count(*) > 1",
    "an item is predicted twice": "SELECT DISTINCT trial_id FROM (SELECT trial_id FROM predictions"
    " GROUP BY trial_id, attempt, split, item_id HAVING count(*) > 1)",
    "a prediction is of an item that is not here": "SELECT DISTINCT p.trial_id FROM predictions AS p"
    " JOIN trials AS t ON t.trial_id = p.trial_id AND t.attempt = p.attempt AND t.status = 'done'"
    " ANTI JOIN items AS i ON i.data_digest = t.data_digest AND i.item_id = p.item_id"
    " AND i.split = split_part(p.split, '~', 1)",
    "a final metric is there twice": "SELECT DISTINCT trial_id FROM (SELECT trial_id FROM metrics WHERE step IS NULL"
    " GROUP BY trial_id, attempt, split, name HAVING count(*) > 1)",
    "a metric over steps is no training curve, or has a step twice": "SELECT DISTINCT trial_id FROM (SELECT trial_id"
    " FROM metrics WHERE step IS NOT NULL GROUP BY trial_id, attempt, split, name, step"
    f" HAVING count(*) > 1 OR name NOT IN ({', '.join(map(repr, CURVES))}))",
    "a continuation is there twice": "SELECT DISTINCT trial_id FROM (SELECT trial_id FROM generations"
    " GROUP BY trial_id, attempt, split, item_id, sample HAVING count(*) > 1)",
    "a score of a continuation that is not here": "SELECT DISTINCT trial_id FROM scores ANTI JOIN generations"
    " USING (trial_id, attempt, split, item_id, sample)",
}
"""Faults and the SQL that finds them; its one column names the places."""
_ROWS = "rows of {0} are others than the records that brought them"
_ROWS_SQL = (
    "SELECT CASE WHEN k.key IS NULL THEN 'key ' || c.key ELSE k.trial_id || ' ' || k.attempt END FROM"
    " (SELECT key, sum(stored)::BIGINT AS stored, sum(brought)::BIGINT AS brought FROM"
    " (SELECT key, count(*) AS stored, 0 AS brought FROM {1} GROUP BY key UNION ALL"
    " SELECT key, 0, sum(row_count) FROM ledger WHERE table_name = '{0}' AND key NOT IN (SELECT key FROM superseded)"
    " GROUP BY key) GROUP BY key) AS c LEFT JOIN attempt_keys AS k USING (key)"
    " WHERE k.key IS NULL OR c.stored <> c.brought"
)
"""SQL for attempts whose rows are not those of their records; a superseded attempt has no rows."""


@dataclass(frozen=True)
class Wrong:
    """A fault of a store."""

    what: str
    count: int
    where: tuple[str, ...]
    """The first places."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of a verification."""

    attempts: int
    records: int
    rows: int
    datasets: int
    wrong: tuple[Wrong, ...]

    def record(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**asdict(self), "ok": not self.wrong}


def verify_engine(engine: Engine) -> Verdict:
    """Check a store: keys, counts, references, and every record's and data set's digest, recomputed from the rows."""
    archive = Archive(engine)
    wrong = []
    counted = {_ROWS.format(table): _ROWS_SQL.format(table, _stored(table)) for table in RECORD_TABLES}
    for what, sql in {**_STATED, **counted}.items():
        places = archive.column(sql)
        if places:
            wrong.append(Wrong(what, len(places), tuple(sorted(map(str, places))[:SHOWN])))
    records = rows = 0
    broken: list[str] = []
    scored_twice: list[str] = []
    attempts = archive.attempt_keys()
    for trial_id, attempt in attempts:
        final = 0
        try:
            for batch in archive.records(trial_id, attempt):
                records += 1
                final += batch.table == "metrics" and batch.data["step"].null_count > 0
                rows += batch.data.num_rows
                if not holds(batch.digest, batch.table, batch.data):
                    broken.append(f"record {batch.sequence} of attempt {attempt} of trial {trial_id[:12]}")
        except StoreError as error:
            broken.append(error.message)
        if final > 1:
            scored_twice.append(f"attempt {attempt} of trial {trial_id[:12]}")
    if scored_twice:  # the supervisor writes them all in one record
        what = "final metrics are in several records, so the trial may have written some itself"
        wrong.append(Wrong(what, len(scored_twice), tuple(scored_twice[:SHOWN])))
    if broken:
        wrong.append(Wrong("a record is not what was sent", len(broken), tuple(broken[:SHOWN])))
    digests = archive.column("SELECT data_digest FROM datasets")
    changed = list(islice((digest for digest in digests if not _as_named(archive, digest)), SHOWN))
    if changed:
        wrong.append(Wrong("a data set's items do not have its digest", len(changed), tuple(changed)))
    return Verdict(attempts=len(attempts), records=records, rows=rows, datasets=len(digests), wrong=tuple(wrong))


def _stored(table: str) -> str:
    """SQL for all rows of a table of records."""
    if table == "trials":
        return "(SELECT key FROM trials_rows UNION ALL SELECT key FROM trials_waiting)"
    return f"{table}_rows"


def _as_named(archive: Archive, data_digest: str) -> bool:
    """Whether a data set's items have its digest."""
    return digest_of(*archive.dataset(data_digest)) == data_digest


def digest_of(row: dict[str, Any], items: pa.Table) -> str:
    """A data set's digest, computed from its row and its items."""
    from wtsbench.data.dataset import balance_in, digest_items  # `data` defines the digest

    order = pa.array([_SPLITS.index(split) for split in items["split"].to_pylist()], pa.int32())
    sorted_items = items.append_column("order", order).sort_by([("order", "ascending"), ("item_id", "ascending")])
    settings = None if row["settings"] is None else json.loads(row["settings"])
    return digest_items(
        task=row["task"],
        labels=tuple(row["labels"]),
        metric=row["metric"],
        items=sorted_items,
        settings=settings,
        balance=balance_in(row.get("report")),
    )
