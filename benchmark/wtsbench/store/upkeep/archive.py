"""Reading a whole store: attempts as their original records, for verifying, exporting and merging.

The engine keeps rows and ledger in order of arrival. So the ledger's row counts say which rows belong to a record, and
its digest can be recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from wtsbench.contract.outbox import Batch, normal
from wtsbench.contract.schemas import RECORD_TABLES, SCHEMA_VERSION, TABLES
from wtsbench.errors import StoreError
from wtsbench.store.engine.database import insert
from wtsbench.store.engine.queries import Query
from wtsbench.store.engine.tables import ATTEMPT, new_table
from wtsbench.store.engine.transaction import Begun, Engine

_Attempt = tuple[str, int]
_KEY = pa.field("trial_id", pa.string(), nullable=False), pa.field("attempt", pa.int32(), nullable=False)
_TIME = pa.timestamp("us", tz="UTC")
LEDGER = pa.schema(
    [
        *_KEY,
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("row_count", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)
"""Columns of the ledger: records of sealed attempts, by attempt and in order of arrival."""
ATTEMPTS = pa.schema(
    [*_KEY, *(pa.field(name, kind) for name, kind in (("run", pa.string()), ("started_at", _TIME)))]
    + [pa.field(name, pa.string()) for name in ("token", "scope")]
)
"""Columns of all attempts, as in `transaction.Begun`; run and start are null for those begun in another store."""
SCOPED = {"attempts": ATTEMPTS, "ledger": LEDGER, **RECORD_TABLES}
"""Tables of an archive that are divided by trial id."""
_SEALED = " SEMI JOIN trials_rows AS t ON t.key = k.key"


def scoped_sql(table: str) -> str:
    """SQL for a table of SCOPED, for trials whose id begins with its parameter, attempt by attempt."""
    begins = "WHERE starts_with(k.trial_id, ?) ORDER BY k.trial_id, k.attempt"
    if table == "attempts":
        return f"SELECT {', '.join(ATTEMPTS.names)} FROM attempt_keys AS k {begins}"
    source = "ledger" if table == "ledger" else f"{table}_rows"
    columns = ", ".join(f"{'k' if name in ATTEMPT else 'r'}.{name}" for name in SCOPED[table].names)
    return f"SELECT {columns} FROM {source} AS r JOIN attempt_keys AS k USING (key){_SEALED} {begins}, r.rowid"


class Archive:
    """A whole store as one transaction sees it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db = engine.connection

    def column(self, sql: str) -> list[Any]:
        """The first column of a statement's result."""
        return [row[0] for row in self._db.execute(sql).fetchall()]

    def attempt_keys(self) -> list[_Attempt]:
        """Every attempt, sealed or not, in order of arrival."""
        return self._db.execute("SELECT trial_id, attempt FROM attempt_keys ORDER BY key").fetchall()

    def records(self, trial_id: str, attempt: int) -> list[Batch]:
        """The records of an attempt as they arrived, rebuilt from its rows; empty if the attempt was superseded.

        Raises:
            StoreError: the rows are more or fewer than the ledger says.
        """
        query = "SELECT key, key IN (SELECT key FROM superseded) FROM attempt_keys WHERE trial_id = ? AND attempt = ?"
        key, superseded = self._row(query, [trial_id, attempt]) or (None, True)
        if superseded:
            return []
        query = "SELECT sequence, table_name, row_count, digest FROM ledger WHERE key = ? ORDER BY rowid"
        entries = self._db.execute(query, [key]).fetchall()
        batches = []
        for name in dict.fromkeys(table for _, table, _, _ in entries):
            rows, start = self._rows_of(name, key, trial_id, attempt), 0
            for sequence, table, count, digest in entries:
                if table == name:
                    batches.append(
                        Batch(
                            table=name,
                            trial_id=trial_id,
                            attempt=attempt,
                            sequence=sequence,
                            schema_version=SCHEMA_VERSION,
                            data=normal(rows.slice(start, count)),
                            digest=digest,
                        )
                    )
                    start += count
            if start != rows.num_rows:
                raise StoreError(
                    f"attempt {attempt} of trial {trial_id[:12]} has {rows.num_rows} rows of {name}, its ledger {start}"
                )
        return sorted(batches, key=lambda batch: batch.sequence)

    def _rows_of(self, table: str, key: int, trial_id: str, attempt: int) -> pa.Table:
        schema = RECORD_TABLES[table]
        columns = ", ".join(name for name in schema.names if name not in ATTEMPT)
        # An attempt has one row of `trials`, in one of the two tables.
        source = "(FROM trials_rows UNION ALL BY NAME FROM trials_waiting)" if table == "trials" else f"{table}_rows"
        order = "" if table == "trials" else " ORDER BY rowid"
        query = f"SELECT ?, ?, {columns} FROM {source} WHERE key = ?{order}"
        rows: pa.Table = self._db.sql(query, params=[trial_id, attempt, key]).to_arrow_table()
        return rows.rename_columns(schema.names).cast(schema)

    def dataset(self, data_digest: str) -> tuple[dict[str, Any], pa.Table]:
        """A prepared data set's row, and its items in order of arrival."""
        row = self._engine.read(Query("datasets").where("data_digest = ?", data_digest)).to_pylist()[0]
        names = ", ".join(TABLES["items"].names)
        query = f"SELECT {names} FROM items WHERE data_digest = ? ORDER BY rowid"
        items: pa.Table = self._db.sql(query, params=[data_digest]).to_arrow_table()
        return row, items.cast(TABLES["items"])

    # -- reading all of it

    def scoped(self, table: str, shard: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Rows of a table of SCOPED for trials whose id begins with `shard`."""
        schema = SCOPED[table]
        reader: pa.RecordBatchReader = self._db.sql(scoped_sql(table), params=[shard]).to_arrow_reader(65_536)
        return schema, (
            pa.Table.from_batches([batch]).cast(schema).to_batches()[0] for batch in reader if batch.num_rows
        )

    def whole(self, table: str) -> pa.Table:
        """`datasets` or `grids`."""
        return self._engine.read(Query(table))

    def items(self, data_digest: str) -> pa.Table:
        """A data set's items, in order of arrival."""
        return self.dataset(data_digest)[1]

    def attempts(self) -> Sequence[Begun]:
        """Every attempt, by number, so that the order of attempts is kept."""
        rows = self._db.execute(f"SELECT {', '.join(Begun._fields)} FROM attempt_keys ORDER BY key").fetchall()
        return [Begun(*row) for row in rows]

    def datasets(self) -> Iterator[tuple[dict[str, Any], pa.Table]]:
        """Every data set's row, with its items."""
        for digest in self.column("SELECT data_digest FROM datasets ORDER BY data_digest"):
            yield self.dataset(digest)

    def grids(self) -> list[dict[str, Any]]:
        """Submissions of grids, by their number."""
        rows: list[dict[str, Any]] = self.whole("grids").to_pylist()
        return rows

    # -- merging another store in

    def ledger(self, trial_id: str) -> dict[int, dict[int, str]]:
        """The attempts of a trial, each with its records' digests by sequence number."""
        query = (
            "SELECT k.attempt, l.sequence, l.digest FROM attempt_keys AS k LEFT JOIN ledger AS l USING (key)"
            " WHERE k.trial_id = ?"
        )
        attempts: dict[int, dict[int, str]] = {}
        for attempt, sequence, digest in self._db.execute(query, [trial_id]).fetchall():
            digests = attempts.setdefault(attempt, {})
            if sequence is not None:
                digests[sequence] = digest
        return attempts

    def done_attempt(self, trial_id: str) -> int | None:
        """The attempt of a trial that is done."""
        query = "SELECT k.attempt FROM done AS d JOIN attempt_keys AS k USING (key) WHERE d.trial_id = ?"
        row = self._row(query, [trial_id])
        return None if row is None else int(row[0])

    def has_dataset(self, data_digest: str) -> bool:
        """Whether a data set is stored."""
        return self._row("SELECT 1 FROM datasets WHERE data_digest = ?", [data_digest]) is not None

    def take_grids(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add another store's submissions and renumber all by time; the number of new ones."""
        stored = self.grids()
        unnumbered = [{**row, "submission": 0} for row in stored]
        new = [row for row in rows if {**row, "submission": 0} not in unnumbered]
        if new:
            names = [name for name in TABLES["grids"].names if name != "submission"]
            ordered = sorted(
                [*stored, *new], key=lambda row: (row["submitted_at"], *(str(row[name]) for name in names))
            )
            numbered = [{**row, "submission": number} for number, row in enumerate(ordered, 1)]
            self._db.execute("DROP TABLE grids")  # a deleted row's key cannot be reused in the same transaction
            self._db.execute(new_table("grids"))
            insert(self._db, "grids", pa.Table.from_pylist(numbered, schema=TABLES["grids"]))
        return len(new)

    def _row(self, query: str, parameters: Sequence[Any]) -> tuple[Any, ...] | None:
        rows = self._db.execute(query, list(parameters)).fetchall()
        return rows[0] if rows else None
