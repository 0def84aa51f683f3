"""The engine: DuckDB behind Arrow.

An `Engine` lives for one transaction on a store's database file; the caller controls access to the file. It takes and
returns Arrow tables in the schemas of `schemas`; `tables` defines how they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from wtsbench.contract.operations import Orders, Renewal, RunReport
from wtsbench.contract.outbox import Ack, Batch
from wtsbench.contract.schemas import TABLES
from wtsbench.errors import StoreError
from wtsbench.store.arrival import Memory
from wtsbench.store.engine import appending, database, operations, queries
from wtsbench.store.engine.database import insert, next_number
from wtsbench.store.engine.explain import explained
from wtsbench.store.engine.queries import Look, Query
from wtsbench.store.wire import StoreRefused
from wtsbench.visible import first_line

_Attempt = tuple[str, int]


class Begun(NamedTuple):
    """An attempt that was begun; fields unknown here, as for one begun in another store, are None."""

    trial_id: str
    attempt: int
    run: str | None
    started_at: datetime | None
    token: str | None
    scope: str | None


class Engine:
    """One open transaction on a store's database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, memory: Memory | None = None) -> None:
        """Use the connection of an open transaction.

        Args:
            connection: with the transaction.
            memory: cache of the only writer of the database; the caller discards it if the transaction fails.
        """
        self._db = connection
        self._memory = Memory() if memory is None else memory

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The open transaction's connection."""
        return self._db

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, read_only: bool, oldest: int | None = None) -> Iterator[Engine]:
        """Open the database for one transaction: committed, flushed and closed at the end, or rolled back on an error.

        Args:
            path: the database.
            read_only: open it for reading.
            oldest: the oldest schema version that is read as it is; None for this one.

        Raises:
            StoreError: the file cannot be opened or written, is no store, or has a newer schema version.
            Behind: it has an older one, and is opened for reading.
        """
        if not path.exists():
            raise StoreError(f"the store {path.parent} is gone", remedy="was it moved or deleted meanwhile?")
        try:
            connection = database.connect(path, read_only=read_only)
            try:
                connection.begin()
                database.check_version(connection, path, may_write=not read_only, oldest=oldest)
                yield cls(connection)
                connection.commit()
            finally:
                connection.close()
        except duckdb.Error as error:
            raise explained(str(error), path) from error
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # how DuckDB reports Ctrl-C during a query
                raise KeyboardInterrupt from error
            raise
        if not read_only:
            database.sync_left_over(path)

    def begin_attempt(
        self,
        trial_id: str,
        run: str,
        shared_id: str | None = None,
        *,
        host: str = "",
        lease: bool = False,
        request: str | None = None,
        token: str | None = None,
        scope: str | None = None,
    ) -> int:
        """Take the next free attempt number of a trial.

        Args:
            trial_id: the trial.
            run: name of the submission.
            shared_id: ignored here; a server checks it.
            host: where the attempt is to be run.
            lease: take a lease on the trial with it.
            request: the client's id for this request; repeating one with a lease gives the same number.
            token: name of the client's token; None if the folder is used without a server.
            scope: scope of that token.

        Raises:
            Cancelled, Held: with `lease`, as `operations.claimed`; nothing was changed.
        """
        now = _naive(datetime.now(UTC))
        if lease:
            again = operations.claimed(self._db, trial_id, run, request, now)
            if again is not None:
                return again
        attempt = self._highest(trial_id) + 1
        key = self.know(Begun(trial_id, attempt, run, now, token, scope))
        if lease:
            operations.lease(self._db, key, trial_id, attempt, run=run, host=host, request=request, now=now)
        return attempt

    def _highest(self, trial_id: str) -> int:
        if self._memory.numbers is not None:
            return self._memory.numbers.highest(self._db, trial_id)
        return int(self._value("SELECT coalesce(max(attempt), 0) FROM attempt_keys WHERE trial_id = ?", [trial_id]))

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Append the records of one request, each key once; taken by sequence number, in whatever order they are given.

        Returns:
            One acknowledgement per batch, in the order of the batches.

        Raises:
            StoreConflict: a key exists with other content, or its attempt has ended.
            StoreError: a batch is not a valid record.
        """
        (answer,), _ = self.append_all([batches])
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def append_all(self, requests: Sequence[Sequence[Batch] | StoreError]) -> tuple[list[appending.Answer], int]:
        """Append the records of several requests; see `appending.append`."""
        return appending.append(self._db, self._memory, requests)

    def know(self, begun: Begun) -> int:
        """Note an attempt that was begun, here or in another store; its key."""
        self._memory.arrivals.pop((begun.trial_id, begun.attempt), None)  # it may be cached there without a key
        at = begun.started_at
        moment = at if at is None or at.tzinfo is None else _naive(at)
        key = next_number(self._db, "attempt_keys", "key")
        self._db.execute(
            f"INSERT INTO attempt_keys (key, {', '.join(Begun._fields)}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [key, *begun._replace(started_at=moment)],
        )
        if self._memory.numbers is not None:
            self._memory.numbers.note(begun.trial_id, begun.attempt)
        return key

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended: its rows are visible, or were deleted because another one was done before."""
        leased = "SELECT count(*) FROM operations.leases WHERE trial_id = ? AND attempt = ?"
        if self._value(leased, [trial_id, attempt]):  # few attempts have one, and none that has ended
            return False
        query = (
            "SELECT count(*) FROM attempt_keys WHERE trial_id = ? AND attempt = ?"
            " AND (key IN (SELECT key FROM trials_rows) OR key IN (SELECT key FROM superseded))"
        )
        return bool(self._value(query, [trial_id, attempt]))

    def scopes(self, attempts: Sequence[_Attempt]) -> dict[_Attempt, str | None]:
        """Scopes of the tokens with which attempts were begun; None for no token, no entry for an unknown attempt."""
        query = (
            "SELECT trial_id, attempt, scope FROM attempt_keys SEMI JOIN"
            " (SELECT unnest(?::VARCHAR[]) AS trial_id, unnest(?::INTEGER[]) AS attempt) USING (trial_id, attempt)"
        )
        trial_ids, numbers = [trial_id for trial_id, _ in attempts], [number for _, number in attempts]
        rows = self._db.execute(query, [trial_ids, numbers]).fetchall()
        return {(trial_id, attempt): scope for trial_id, attempt, scope in rows}

    def counts(self) -> dict[str, int]:
        """Rows by table, as readers see them."""
        return {table: int(self._value(f"SELECT count(*) FROM {table}")) for table in TABLES}

    def put_dataset(self, row: dict[str, Any], items: pa.Table) -> None:
        """Store a prepared data set; the same digest twice is a no-op.

        Args:
            row: of `datasets`; without `created_at` it gets the current time.
            items: of the data set.
        """
        if self._value("SELECT count(*) FROM datasets WHERE data_digest = ?", [row["data_digest"]]):
            return
        insert(self._db, "items", items.select(TABLES["items"].names).cast(TABLES["items"]))
        dated = {"created_at": datetime.now(UTC), **row}
        insert(self._db, "datasets", pa.Table.from_pylist([dated], schema=TABLES["datasets"]))

    def put_grid(self, name: str, grid_digest: str, yaml: str, cells: str) -> None:
        """Store a submission of a grid, unless it equals the newest of its name."""
        query = "SELECT grid_digest, yaml, cells FROM grids WHERE name = ? ORDER BY submission DESC LIMIT 1"
        if self._row(query, [name]) == (grid_digest, yaml, cells):
            return
        self._db.execute(
            "INSERT INTO grids (name, grid_digest, submission, yaml, cells, submitted_at) VALUES (?, ?, ?, ?, ?, ?)",
            [name, grid_digest, next_number(self._db, "grids", "submission"), yaml, cells, _naive(datetime.now(UTC))],
        )

    # -- what happens now; see `operations`

    def renew(self, renewal: Renewal) -> Orders:
        """Renew the lease of an attempt."""
        return operations.renew(self._db, renewal, _naive(datetime.now(UTC)))

    def report_run(self, report: RunReport, *, owner: str | None = None) -> Orders:
        """Note how a run stands; `owner` is the name of the client's token."""
        return operations.report(self._db, report, owner, _naive(datetime.now(UTC)))

    def cancel(self, run: str, trial_ids: Sequence[str] | None) -> bool:
        """Ask to cancel a run, or some of its trials."""
        return operations.cancel(self._db, run, trial_ids)

    def grid_of(self, run: str) -> str | None:
        """The grid of a run; None if there is no such run."""
        return operations.grid_of(self._db, run)

    # -- reading

    def read(self, query: Query | Look) -> pa.Table:
        """Rows of a query, in its schema."""
        table: pa.Table = self._db.sql(query.sql, params=list(query.parameters)).to_arrow_table()
        columns = [_typed(table[field.name], field.type) for field in query.schema]
        return pa.Table.from_arrays(columns, schema=query.schema)

    def contents(self, trial_ids: Sequence[str]) -> pa.Table:
        """Fingerprints of the rows that results depend on, in the columns of `queries.CONTENTS`."""
        sql, parameters = queries.contents(trial_ids)
        return self._db.sql(sql, params=parameters).to_arrow_table().cast(queries.CONTENTS)

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Result of a reader's SQL, which must obey the same rules as on a server.

        Raises:
            StoreError: it is not one SELECT over the published tables, or the engine cannot answer it.
        """
        from wtsbench.store.engine.guard import require_harmless

        require_harmless(self._db, statement)
        try:
            return self._db.sql(statement, params=list(parameters)).to_arrow_table()
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise StoreRefused(f"the SQL cannot be answered: {first_line(error)}") from None

    def _value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        row = self._row(query, parameters)
        return None if row is None else row[0]

    def _row(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row. All rows are fetched, because an open result blocks the connection."""
        rows = self._db.execute(query, list(parameters)).fetchall()
        return rows[0] if rows else None


def _typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column in the published type. The engine's times have no zone, and are in UTC."""
    if column.type == kind:
        return column
    if pa.types.is_timestamp(kind):  # a cast works too, but loads a library
        return pa.chunked_array([chunk.view(kind) for chunk in column.chunks], kind)
    return column.cast(kind)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
