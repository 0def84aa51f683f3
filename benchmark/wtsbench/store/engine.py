"""The engine: DuckDB behind Arrow.

An `Engine` lives for one transaction on a store's database file; who may open it when is the client's business. Tables
that come in and go out are Arrow tables in the schemas of `schemas`; `tables` says how they are laid out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from wtsbench.contract.outbox import Ack, Batch, Outcome, check_batch
from wtsbench.contract.schemas import RECORD_TABLES, TABLES
from wtsbench.errors import StoreError
from wtsbench.store import database, journal, queries
from wtsbench.store.arrival import Arrival, Memory, Seal
from wtsbench.store.explain import explained
from wtsbench.store.queries import Query
from wtsbench.store.tables import ATTEMPT, LEDGER

_Attempt = tuple[str, int]
_KEYS = pa.schema([("key", pa.int64()), ("trial_id", pa.string()), ("attempt", pa.int32())])
_DONE = pa.schema([("trial_id", pa.string()), ("key", pa.int64())])


class Begun(NamedTuple):
    """An attempt that was begun; what is not known of it, as of one begun in another store, is None."""

    trial_id: str
    attempt: int
    run: str | None
    started_at: datetime | None
    token: str | None
    scope: str | None


class Engine:
    """One open transaction on a store's database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Take an open transaction's connection."""
        self._db = connection
        self.appended = False
        """Records went into the tables by `append`, past the memory of whoever has one."""

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The open transaction's connection."""
        return self._db

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, read_only: bool) -> Iterator[Engine]:
        """Open the database for one transaction: committed, flushed and closed at the end, or rolled back on an error.

        Raises:
            StoreError: the file cannot be opened or written, is none of ours, or is of a newer schema version.
            Behind: it is of an older one, or its server was killed, and it is opened for reading.
        """
        waiting = journal.journal_of(path)
        left_over = waiting.exists()
        if not path.exists():
            raise StoreError(f"the store {path.parent} is gone", remedy="was it moved or deleted meanwhile?")
        try:
            connection = database.connect(path, read_only=read_only)
            try:
                connection.begin()
                engine = cls(connection)
                database.check_version(connection, path, may_write=not read_only)
                if left_over and read_only:
                    raise database.Behind(
                        f"the server of {path} was killed, and left {waiting.name}", remedy=database.UP_TO_DATE
                    )
                if left_over:
                    engine.catch_up(waiting)
                yield engine
                connection.commit()
            finally:
                connection.close()
        except duckdb.Error as error:
            raise explained(str(error), path) from error
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # how Ctrl-C during a query arrives here
                raise KeyboardInterrupt from error
            raise
        if not read_only:
            database.sync_left_over(path)
        if left_over:
            journal.remove(waiting)

    def begin_attempt(
        self,
        trial_id: str,
        run: str,
        shared_id: str | None = None,
        *,
        token: str | None = None,
        scope: str | None = None,
    ) -> int:
        """The next free attempt number of a trial, taken.

        Args:
            trial_id: the trial.
            run: name of the submission.
            shared_id: of no interest here: whoever serves the store checks it.
            token: name of the token of whoever begins it; None where the folder is used without a server.
            scope: that token's.
        """
        query = "SELECT coalesce(max(attempt), 0) + 1 FROM attempt_keys WHERE trial_id = ?"
        attempt = int(self._value(query, [trial_id]))
        self.know(Begun(trial_id, attempt, run, datetime.now(UTC), token, scope))
        return attempt

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Take the records of one request in, each key once: by sequence number, whatever the order they come in.

        Returns:
            One acknowledgement a batch, in the order of the batches.

        Raises:
            StoreConflict: a key is known with other content, or comes after the seal of its attempt.
            StoreError: a batch is not what a record must be.
        """
        (answer,) = self.append_all([batches])
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def append_all(self, requests: Sequence[Sequence[Batch]]) -> list[list[Ack] | StoreError]:
        """Take the records of several requests in, as one transaction; a request that is refused leaves no trace.

        Returns:
            For each request its acknowledgements, in the order of its batches; or why it was refused.
        """
        memory = Memory()
        answers, _ = self.decide(requests, memory)
        self.store(memory)
        self.appended = True
        return answers

    def decide(
        self, requests: Sequence[Sequence[Batch] | StoreError], memory: Memory
    ) -> tuple[list[list[Ack] | StoreError], list[Batch]]:
        """Say which records of several requests are new, and note them in the memory; only reads.

        Args:
            requests: the records of each, or why it is refused already. One that is refused leaves no trace.
            memory: of the only writer of the database; what it knows nothing of is looked up.

        Returns:
            For each request its acknowledgements, in the order of its batches, or why it was refused; and the records
            that are to be stored, in the order in which they were taken.
        """
        requests = [_checked(request) for request in requests]
        whole = [request for request in requests if not isinstance(request, StoreError)]
        self._look_up({(batch.trial_id, batch.attempt) for request in whole for batch in request}, memory)
        outcomes: list[set[int] | StoreError] = []
        taken: list[Batch] = []
        for request in whole:
            named = {
                (batch.trial_id, batch.attempt): memory.arrivals[batch.trial_id, batch.attempt] for batch in request
            }
            marks = [(arrival, arrival.mark()) for arrival in named.values()]
            open_trials = {trial_id for trial_id, _ in named} - memory.done
            new: list[int] = []
            try:
                for index, batch in sorted(enumerate(request), key=lambda pair: pair[1].sequence):
                    if named[batch.trial_id, batch.attempt].take(batch, memory.done):
                        new.append(index)
            except StoreError as error:
                for arrival, mark in marks:
                    arrival.back_to(mark)
                memory.done -= open_trials
                outcomes.append(error)
            else:
                memory.waiting |= {one: arrival for one, arrival in named.items() if arrival.new}
                taken += [request[index] for index in new]
                outcomes.append({*new})
        decided = iter(
            outcome if isinstance(outcome, StoreError) else _acks(request, outcome, memory.arrivals)
            for request, outcome in zip(whole, outcomes, strict=True)
        )
        answers = [request if isinstance(request, StoreError) else next(decided) for request in requests]
        return answers, taken

    def catch_up(self, path: Path) -> None:
        """Put what is in a journal into the tables; what is there already is known by its key.

        Raises:
            StoreError: the journal is damaged, or contradicts the tables.
        """
        requests = [[batch] for batch in journal.read(path)]
        journal.give_room(path)  # a killed server's: on a full disk the tables need it
        answers = self.append_all(requests)
        for answer in answers:
            if isinstance(answer, StoreError):
                raise StoreError(
                    f"{path} does not fit its store: {answer.message}", remedy="is it another store's? Move it away."
                )

    def _look_up(self, attempts: set[_Attempt], memory: Memory) -> None:
        """Have attempts in memory; those that were begun in another store have no number here yet."""
        unknown = attempts - memory.arrivals.keys()
        if unknown:
            memory.arrivals |= self._looked_up(unknown)
            query = "SELECT trial_id FROM done WHERE trial_id IN (SELECT unnest(?::VARCHAR[]))"
            found = self._db.execute(query, [[trial_id for trial_id, _ in unknown]]).fetchall()
            memory.done |= {trial_id for (trial_id,) in found}

    def _looked_up(self, attempts: set[_Attempt]) -> dict[_Attempt, Arrival]:
        ordered = sorted(attempts)
        named = [[trial_id for trial_id, _ in ordered], [attempt for _, attempt in ordered]]
        query = (
            "SELECT trial_id, attempt, key, key IN (SELECT key FROM superseded) FROM attempt_keys SEMI JOIN"
            " (SELECT unnest(?::VARCHAR[]) AS trial_id, unnest(?::INTEGER[]) AS attempt) USING (trial_id, attempt)"
        )
        found = self._db.execute(query, named).fetchall()
        arrivals = {
            (trial_id, attempt): Arrival(key=key, superseded=superseded) for trial_id, attempt, key, superseded in found
        }
        by_key = {arrival.key: arrival for arrival in arrivals.values()}
        query = "SELECT key, sequence, digest, table_name FROM ledger WHERE key IN (SELECT unnest(?::BIGINT[]))"
        for key, sequence, digest, table in self._db.execute(query, [list(by_key)]).fetchall():
            by_key[key].known[sequence] = digest
            by_key[key].visible |= table == "trials"
        self._find_waiting([arrival for arrival in by_key.values() if arrival.visible])
        return {one: arrivals.get(one) or Arrival(key=None) for one in ordered}

    def _find_waiting(self, sealed: Sequence[Arrival]) -> None:
        """Of attempts whose last record came, tell those that are visible from those that lack others."""
        for arrival in sealed:
            arrival.seal = Seal("", len(arrival.known))
        query = "SELECT key, status, records FROM trials_waiting WHERE key IN (SELECT unnest(?::BIGINT[]))"
        by_key = {arrival.key: arrival for arrival in sealed}
        for key, status, records in self._db.execute(query, [list(by_key)]).fetchall() if sealed else ():
            by_key[key].seal, by_key[key].visible = Seal(status, records), False

    def store(self, memory: Memory) -> None:
        """Put what is new into the tables; of a second attempt of a trial that is done, nothing but that it was there.

        Where this or the commit fails, the memory is to be forgotten.
        """
        arrivals = list(memory.waiting.values())
        if not arrivals:
            return
        unknown = [arrival for arrival in arrivals if arrival.key is None]
        if unknown:
            for key, arrival in enumerate(unknown, self._next_key()):
                arrival.key = key
            named = [(one.key, one.new[0].trial_id, one.new[0].attempt) for one in unknown]
            self.insert("attempt_keys", _table(_KEYS, named))
        entries = [
            (arrival.key, new.sequence, new.table, new.data.num_rows, new.digest)
            for arrival in arrivals
            for new in arrival.new
        ]
        self.insert("ledger", _table(LEDGER, entries))
        self._note_done([arrival for arrival in arrivals if arrival.ending])
        kept = [arrival for arrival in arrivals if not arrival.superseded]
        for table in RECORD_TABLES:
            if table != "trials":
                self._insert_rows(table, [(one.key, new.data) for one in kept for new in one.new if new.table == table])
        self._store_seals([arrival for arrival in kept if arrival.seal is not None])
        for arrival in arrivals:
            arrival.stored()
        memory.waiting.clear()

    def _store_seals(self, arrivals: Sequence[Arrival]) -> None:
        """Make attempts visible that are whole, and keep the seals of others until they are."""
        whole: list[tuple[int | None, pa.RecordBatch]] = []
        partial: list[tuple[int | None, pa.RecordBatch]] = []
        for arrival in arrivals:
            seal = next((new for new in arrival.new if new.status is not None), None)
            if seal is not None:
                (whole if arrival.ended else partial).append((arrival.key, _counted(seal.data, arrival)))
            elif arrival.ended:
                self._db.execute(
                    "INSERT INTO trials_rows BY NAME SELECT * REPLACE (? AS records_digest) FROM trials_waiting"
                    " WHERE key = ?",
                    [arrival.records_digest, arrival.key],
                )
                self._db.execute("DELETE FROM trials_waiting WHERE key = ?", [arrival.key])
        self._insert_rows("trials", whole)
        self._insert_rows("trials", partial, "trials_waiting")

    def _insert_rows(
        self, table: str, parts: Sequence[tuple[int | None, pa.RecordBatch]], into: str | None = None
    ) -> None:
        if parts:
            rows = pa.Table.from_batches([data for _, data in parts]).drop_columns(list(ATTEMPT))
            keys = pa.chunked_array([pa.repeat(pa.scalar(key, pa.int64()), len(data)) for key, data in parts])
            # In one chunk, for the engine would share many small ones out among its threads, which takes longer.
            self.insert(into or f"{table}_rows", rows.append_column("key", keys).combine_chunks())

    def _note_done(self, ending: Sequence[Arrival]) -> None:
        """Of each trial the first attempt that is done stays; of later ones all rows are dropped."""
        finished = [one for one in ending if one.seal is not None and one.seal.status == "done"]
        first = [(one.new[0].trial_id, one.key) for one in finished if not one.superseded]
        if first:
            self.insert("done", _table(_DONE, first))
        for arrival in finished:
            if arrival.superseded:
                for table in (*(f"{name}_rows" for name in RECORD_TABLES), "trials_waiting"):
                    self._db.execute(f"DELETE FROM {table} WHERE key = ?", [arrival.key])
                self._db.execute("INSERT INTO superseded VALUES (?)", [arrival.key])

    def _next_key(self) -> int:
        return int(self._value("SELECT coalesce(max(key), 0) + 1 FROM attempt_keys"))

    def know(self, one: Begun) -> None:
        """Note an attempt that was begun, here or in another store."""
        at = one.started_at
        moment = at if at is None or at.tzinfo is None else _naive(at)
        self._db.execute(
            f"INSERT INTO attempt_keys (key, {', '.join(Begun._fields)}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [self._next_key(), *one._replace(started_at=moment)],
        )

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended: its rows are visible, or were dropped because another one was done before."""
        query = (
            "SELECT count(*) FROM attempt_keys WHERE trial_id = ? AND attempt = ?"
            " AND (key IN (SELECT key FROM trials_rows) OR key IN (SELECT key FROM superseded))"
        )
        return bool(self._value(query, [trial_id, attempt]))

    def scopes(self, attempts: Sequence[_Attempt]) -> dict[_Attempt, str | None]:
        """Scopes of the tokens under which attempts were begun; None where there was none, absent where unknown."""
        query = (
            "SELECT trial_id, attempt, scope FROM attempt_keys SEMI JOIN"
            " (SELECT unnest(?::VARCHAR[]) AS trial_id, unnest(?::INTEGER[]) AS attempt) USING (trial_id, attempt)"
        )
        rows = self._db.execute(query, [[one[0] for one in attempts], [one[1] for one in attempts]]).fetchall()
        return {(trial_id, attempt): scope for trial_id, attempt, scope in rows}

    def counts(self) -> dict[str, int]:
        """Rows by table, as readers see them."""
        return {table: int(self._value(f"SELECT count(*) FROM {table}")) for table in TABLES}

    def put_dataset(self, row: dict[str, Any], items: pa.Table) -> None:
        """Keep a prepared data set; the same digest twice is a no-op."""
        if self._value("SELECT count(*) FROM datasets WHERE data_digest = ?", [row["data_digest"]]):
            return
        self.insert("items", items.select(TABLES["items"].names).cast(TABLES["items"]))
        dated = {**row, "created_at": datetime.now(UTC)}
        self.insert("datasets", pa.Table.from_pylist([dated], schema=TABLES["datasets"]))

    def put_grid(self, name: str, grid_digest: str, yaml: str, cells: str) -> None:
        """Keep a submission of a grid, unless it equals the newest of its name."""
        query = "SELECT grid_digest, yaml, cells FROM grids WHERE name = ? ORDER BY submission DESC LIMIT 1"
        if self._row(query, [name]) == (grid_digest, yaml, cells):
            return
        number = int(self._value("SELECT coalesce(max(submission), 0) + 1 FROM grids"))
        self._db.execute(
            "INSERT INTO grids (name, grid_digest, submission, yaml, cells, submitted_at) VALUES (?, ?, ?, ?, ?, ?)",
            [name, grid_digest, number, yaml, cells, _now()],
        )

    def read(self, query: Query) -> pa.Table:
        """The answer to a question, in the question's schema."""
        found: pa.Table = self._db.sql(query.sql, params=list(query.parameters)).to_arrow_table()
        columns = [_typed(found[field.name], field.type) for field in query.schema]
        return pa.Table.from_arrays(columns, schema=query.schema)

    def contents(self, trial_ids: Sequence[str]) -> pa.Table:
        """Fingerprints of what results are made of, in the columns of `queries.CONTENTS`."""
        sql, parameters = queries.contents(trial_ids)
        return self._db.sql(sql, params=parameters).to_arrow_table().cast(queries.CONTENTS)

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to a reader's SQL, which is held against the same rules as at a server.

        Raises:
            StoreError: it is not one SELECT over the published tables, or the engine cannot answer it.
        """
        from wtsbench.store.server.guard import Refused, require_harmless

        require_harmless(self._db, statement)
        try:
            return self._db.sql(statement, params=list(parameters)).to_arrow_table()
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise Refused(f"the SQL cannot be answered: {str(error).splitlines()[0]}") from None

    def insert(self, table: str, rows: pa.Table) -> None:
        """Add rows to one of the engine's own tables; columns are matched by name."""
        # The engine's times carry no zone: with one, it would need an extension to handle them.
        naive = [f.with_type(pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f for f in rows.schema]
        self._db.register("incoming", rows.cast(pa.schema(naive)))
        try:
            self._db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
        finally:
            self._db.unregister("incoming")

    def _value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        row = self._row(query, parameters)
        return None if row is None else row[0]

    def _row(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row; all are fetched, since an open result blocks the connection."""
        rows = self._db.execute(query, list(parameters)).fetchall()
        return rows[0] if rows else None


def _typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column in the published type. The engine's times have no zone, and are in UTC."""
    if column.type == kind:
        return column
    if pa.types.is_timestamp(kind):  # a cast would do as well, but load a library for it
        return pa.chunked_array([chunk.view(kind) for chunk in column.chunks], kind)
    return column.cast(kind)


def _table(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for field, column in zip(schema, zip(*rows, strict=True), strict=True)],
        schema=schema,
    )


def _counted(seal: pa.RecordBatch, arrival: Arrival) -> pa.RecordBatch:
    """A seal with what the store says of it: how many records there are, and, where they are here, their digest."""
    assert arrival.seal is not None, "its seal is here"
    said = {"records": arrival.seal.records, "records_digest": arrival.records_digest if arrival.ended else None}
    for name, value in said.items():
        place = seal.schema.get_field_index(name)
        field = seal.schema.field(place)
        seal = seal.set_column(place, field, pa.array([value], field.type))
    return seal


def _checked(request: Sequence[Batch] | StoreError) -> Sequence[Batch] | StoreError:
    """A request, or why it is refused whatever the store holds: what cannot be a key must not be looked up."""
    if isinstance(request, StoreError):
        return request
    try:
        for batch in request:
            check_batch(batch)
    except StoreError as error:
        return error
    return request


def _acks(request: Sequence[Batch], new: set[int], arrivals: dict[_Attempt, Arrival]) -> list[Ack]:
    acks = []
    for index, batch in enumerate(request):
        outcome: Outcome = "stored" if index in new else "duplicate"
        if arrivals[batch.trial_id, batch.attempt].superseded:
            outcome = "superseded"
        acks.append(Ack(batch.trial_id, batch.attempt, batch.sequence, outcome))
    return acks


def _now() -> datetime:
    return _naive(datetime.now(UTC))


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
