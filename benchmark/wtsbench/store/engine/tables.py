"""Layout of the engine's tables: the SQL that makes a store, and the SQL that migrates an older one.

Readers see views with the schemas of `schemas`. In the tables below them every attempt has a number, `key`, given in
order of arrival: so rows are small, and reading one attempt skips the blocks of all others.

    store                       one row: the schema version
    attempt_keys                key, trial_id, attempt; run and started_at if the attempt was begun here, and token
                                and scope if a server began it
    ledger                      one row per stored record: key, sequence, table_name, row_count, digest
    done                        the first attempt of a trial that succeeded
    superseded                  attempts that succeeded after another one had; their rows are deleted
    trials_waiting              as `trials_rows`, of attempts whose last record arrived before some of the others
    trials_rows, metrics_rows, and so on for every table of records
                                rows of all attempts, sealed or not; the row in trials_rows seals an attempt, and is
                                inserted once all of its records are stored
    items, datasets, grids      as in `schemas`
    attempts, trials, metrics, and so on
                                views: attempts begun here, and rows of sealed attempts

A schema of its own, `operations`, holds what happens now. Readers' SQL does not reach it, and exports and merges leave
it out. Its times are of the store's own clock.

    operations.runs             one row a run: how it stood when its supervisor last told
    operations.cancelled_trials run, trial_id: somebody asked to cancel these trials of the run
    operations.leases           one row an attempt that is being run, with its names, so that a renewal need not look
                                through all attempts; `request` is the id of the request that began it
    operations.printed          key, line, text: what those attempts printed so far

The rows of an attempt go when it is sealed. Tables that lose rows all the time have no index: with one, the engine
would never give the room of deleted rows back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from wtsbench.contract.schemas import RECORD_TABLES, TABLES

_TYPES = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
    pa.list_(pa.string()): "VARCHAR[]",
    pa.list_(pa.float64()): "DOUBLE[]",
}
_PRIMARY_KEYS = {"datasets": "data_digest", "grids": "submission"}
ATTEMPT = ("trial_id", "attempt")
LEDGER = pa.schema(
    [
        ("key", pa.int64()),
        ("sequence", pa.int64()),
        ("table_name", pa.string()),
        ("row_count", pa.int64()),
        ("digest", pa.string()),
    ]
)
"""The ledger's columns; its rows are in the order in which records arrived."""


_OPERATIONS = (
    "CREATE SCHEMA operations",
    "CREATE TABLE operations.runs (run VARCHAR PRIMARY KEY, grid VARCHAR NOT NULL, cluster VARCHAR, job VARCHAR,"
    " host VARCHAR NOT NULL, owner VARCHAR, priority INTEGER NOT NULL, state VARCHAR NOT NULL,"
    " started_at TIMESTAMP NOT NULL, seen_at TIMESTAMP NOT NULL, ended_at TIMESTAMP, total INTEGER NOT NULL,"
    " stored INTEGER NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL, waiting INTEGER NOT NULL,"
    " running INTEGER NOT NULL, detail VARCHAR, cancelled BOOLEAN NOT NULL, resumed INTEGER NOT NULL,"
    " yaml VARCHAR NOT NULL)",
    "CREATE TABLE operations.cancelled_trials (run VARCHAR NOT NULL, trial_id VARCHAR NOT NULL)",
    "CREATE TABLE operations.leases (key BIGINT NOT NULL, trial_id VARCHAR NOT NULL, attempt INTEGER NOT NULL,"
    " run VARCHAR NOT NULL, host VARCHAR NOT NULL, request VARCHAR, started_at TIMESTAMP NOT NULL,"
    " until TIMESTAMP NOT NULL, seen_at TIMESTAMP NOT NULL, share DOUBLE)",
    "CREATE TABLE operations.printed (key BIGINT NOT NULL, line BIGINT NOT NULL, text VARCHAR NOT NULL)",
)


def creation() -> Iterator[str]:
    """The statements that make an empty store."""
    yield "CREATE TABLE store (schema_version INTEGER NOT NULL)"
    yield (
        "CREATE TABLE attempt_keys (key BIGINT PRIMARY KEY, trial_id VARCHAR NOT NULL, attempt INTEGER NOT NULL,"
        " run VARCHAR, started_at TIMESTAMP, token VARCHAR, scope VARCHAR, UNIQUE (trial_id, attempt))"
    )
    yield (
        "CREATE TABLE ledger (key BIGINT, sequence BIGINT, table_name VARCHAR NOT NULL, row_count BIGINT NOT NULL,"
        " digest VARCHAR NOT NULL, PRIMARY KEY (key, sequence))"
    )
    yield "CREATE TABLE done (trial_id VARCHAR PRIMARY KEY, key BIGINT NOT NULL)"
    yield "CREATE TABLE superseded (key BIGINT PRIMARY KEY)"
    for name in ("items", "datasets", "grids"):
        yield new_table(name)
    for name in RECORD_TABLES:
        yield _rows_table(name)
    yield "CREATE TABLE trials_waiting AS FROM trials_rows LIMIT 0"
    yield (
        "CREATE VIEW attempts AS SELECT trial_id, attempt, run, started_at, token, scope FROM attempt_keys"
        " WHERE started_at IS NOT NULL"
    )
    for name in RECORD_TABLES:
        yield _view(name)
    yield from _OPERATIONS


def new_table(name: str) -> str:
    """The statement that makes a table that readers see as it is, such as `grids`."""
    extra = [f"PRIMARY KEY ({_PRIMARY_KEYS[name]})"] if name in _PRIMARY_KEYS else []
    return f"CREATE TABLE {name} ({', '.join([*_columns(TABLES[name]), *extra])})"


def _rows_table(name: str) -> str:
    key = "key BIGINT PRIMARY KEY" if name == "trials" else "key BIGINT NOT NULL"
    return f"CREATE TABLE {name}_rows ({', '.join([key, *_columns(RECORD_TABLES[name], without=ATTEMPT)])})"


RECORDS_DIGEST = "sha256(string_agg(sequence || ' ' || digest, chr(10) ORDER BY sequence))"
"""SQL for the digest of an attempt's records, over its rows of the ledger."""


def _view(name: str) -> str:
    # `trials` and `attempt_keys` have columns of the same name: qualify them.
    columns = ", ".join(f"{'k' if column in ATTEMPT else 'r'}.{column}" for column in RECORD_TABLES[name].names)
    sealed = "" if name == "trials" else " SEMI JOIN trials_rows AS t ON t.key = r.key"
    return f"CREATE VIEW {name} AS SELECT {columns} FROM {name}_rows AS r JOIN attempt_keys AS k USING (key){sealed}"


def _columns(schema: pa.Schema, *, without: Sequence[str] = ()) -> list[str]:
    return [
        f"{field.name} {_TYPES[field.type]}{'' if field.nullable else ' NOT NULL'}"
        for field in schema
        if field.name not in without
    ]


MIGRATIONS: Mapping[int, Sequence[str]] = {4: _OPERATIONS}
"""By schema version: the statements that migrate a store of that version to the next. They may use `_rows_table`,
`_view` and `_OPERATIONS` while the table still has the form of that next version; a later change must write the older
form out. No version before 4 was released."""
SAME_RESULTS = 4
"""The oldest schema version whose tables of results are as now, so that they can be read without a migration."""
