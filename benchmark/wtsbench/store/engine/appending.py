"""Storing records, each key once. `arrival` decides which records of an attempt are new; here they are stored."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from wtsbench.contract.outbox import Ack, Batch, Outcome, check_batch
from wtsbench.contract.schemas import RECORD_TABLES
from wtsbench.errors import StoreError
from wtsbench.store.arrival import Arrival, Memory, Seal
from wtsbench.store.engine import operations
from wtsbench.store.engine.database import insert, next_number
from wtsbench.store.engine.tables import ATTEMPT, LEDGER

_Attempt = tuple[str, int]
Answer = list[Ack] | StoreError
"""Acknowledgements of one request, in the order of its batches, or the error by which it was refused."""
_KEYS = pa.schema([("key", pa.int64()), ("trial_id", pa.string()), ("attempt", pa.int32())])
_DONE = pa.schema([("trial_id", pa.string()), ("key", pa.int64())])


def append(
    database: duckdb.DuckDBPyConnection, memory: Memory, requests: Sequence[Sequence[Batch] | StoreError]
) -> tuple[list[Answer], int]:
    """Append the records of several requests in the open transaction; a refused request changes nothing.

    If the transaction fails, the caller must discard the memory.

    Args:
        database: with an open transaction.
        memory: cache of the only writer of the database; attempts missing from it are queried.
        requests: the records of each, or the error by which it was refused before.

    Returns:
        The answer to each request, and the number of new rows.
    """
    requests = [_checked(request) for request in requests]
    whole = [request for request in requests if not isinstance(request, StoreError)]
    attempts = list(dict.fromkeys((batch.trial_id, batch.attempt) for request in whole for batch in request))
    _look_up(database, attempts, memory)
    answers = [
        request if isinstance(request, StoreError) else _decided(request, memory.arrivals, memory.done)
        for request in requests
    ]
    arrivals = [arrival for attempt in attempts if (arrival := memory.arrivals[attempt]).new]
    rows = sum(batch.data.num_rows for arrival in arrivals for batch in arrival.new)
    if arrivals:
        _store(database, arrivals, memory)
    return answers, rows


def _checked(request: Sequence[Batch] | StoreError) -> Sequence[Batch] | StoreError:
    """A request, or the error if a record is invalid: checked first, because invalid keys must not be queried."""
    if isinstance(request, StoreError):
        return request
    try:
        for batch in request:
            check_batch(batch)
    except StoreError as error:
        return error
    return request


# -- what is new


def _decided(request: Sequence[Batch], arrivals: dict[_Attempt, Arrival], done: set[str]) -> Answer:
    """Take all of a request's records, in order of sequence number, or none of them."""
    named = {(batch.trial_id, batch.attempt): arrivals[batch.trial_id, batch.attempt] for batch in request}
    marks = [(arrival, arrival.mark()) for arrival in named.values()]
    open_trials = {trial_id for trial_id, _ in named} - done
    new: set[int] = set()
    try:
        for index, batch in sorted(enumerate(request), key=lambda pair: pair[1].sequence):
            if named[batch.trial_id, batch.attempt].take(batch, done):
                new.add(index)
    except StoreError as error:
        for arrival, mark in marks:
            arrival.back_to(mark)
        done -= open_trials
        return error
    return [
        Ack(batch.trial_id, batch.attempt, batch.sequence, _outcome(named[batch.trial_id, batch.attempt], index in new))
        for index, batch in enumerate(request)
    ]


def _outcome(arrival: Arrival, new: bool) -> Outcome:
    return "superseded" if arrival.superseded else "stored" if new else "duplicate"


# -- what is stored already


def _look_up(database: duckdb.DuckDBPyConnection, attempts: Sequence[_Attempt], memory: Memory) -> None:
    """Load attempts into memory; those begun in another store have no key here yet."""
    unknown = [attempt for attempt in attempts if attempt not in memory.arrivals]
    if not unknown:
        return
    arrivals = _named(database, "operations.leases", unknown)  # most are being run, and those are few
    arrivals |= _named(database, "attempt_keys", [attempt for attempt in unknown if attempt not in arrivals])
    by_key = {arrival.key: arrival for arrival in arrivals.values()}
    query = "SELECT key, sequence, digest, table_name FROM ledger WHERE key IN (SELECT unnest(?::BIGINT[]))"
    for key, sequence, digest, table in database.execute(query, [list(by_key)]).fetchall() if by_key else ():
        by_key[key].known[sequence] = digest
        by_key[key].visible |= table == "trials"
    _find_waiting(database, [arrival for arrival in by_key.values() if arrival.visible])
    memory.arrivals |= {attempt: arrivals.get(attempt) or Arrival(key=None) for attempt in unknown}
    query = "SELECT trial_id FROM done WHERE trial_id IN (SELECT unnest(?::VARCHAR[]))"
    trial_ids = [trial_id for trial_id, _ in unknown]
    memory.done |= {trial_id for (trial_id,) in database.execute(query, [trial_ids]).fetchall()}


def _named(database: duckdb.DuckDBPyConnection, table: str, attempts: Sequence[_Attempt]) -> dict[_Attempt, Arrival]:
    """Those of some attempts that a table has, with nothing but their keys."""
    if not attempts:
        return {}
    query = (
        f"SELECT trial_id, attempt, key, key IN (SELECT key FROM superseded) FROM {table} SEMI JOIN"
        " (SELECT unnest(?::VARCHAR[]) AS trial_id, unnest(?::INTEGER[]) AS attempt) USING (trial_id, attempt)"
    )
    trial_ids, numbers = [trial_id for trial_id, _ in attempts], [number for _, number in attempts]
    return {
        (trial_id, attempt): Arrival(key=key, superseded=superseded)
        for trial_id, attempt, key, superseded in database.execute(query, [trial_ids, numbers]).fetchall()
    }


def _find_waiting(database: duckdb.DuckDBPyConnection, sealed: Sequence[Arrival]) -> None:
    """Mark sealed attempts that still wait for other records as not visible."""
    for arrival in sealed:
        arrival.seal = Seal("", len(arrival.known))
    query = "SELECT key, status, records FROM trials_waiting WHERE key IN (SELECT unnest(?::BIGINT[]))"
    by_key = {arrival.key: arrival for arrival in sealed}
    for key, status, records in database.execute(query, [list(by_key)]).fetchall() if sealed else ():
        by_key[key].seal, by_key[key].visible = Seal(status, records), False


# -- storing


def _store(database: duckdb.DuckDBPyConnection, arrivals: Sequence[Arrival], memory: Memory) -> None:
    """Insert the new records; of a superseded attempt only the ledger entries."""
    unknown = [arrival for arrival in arrivals if arrival.key is None]
    if unknown:
        for key, arrival in enumerate(unknown, next_number(database, "attempt_keys", "key")):
            arrival.key = key
        named = [(arrival.key, arrival.new[0].trial_id, arrival.new[0].attempt) for arrival in unknown]
        insert(database, "attempt_keys", _table(_KEYS, named))
        if memory.numbers is not None:
            for _, trial_id, attempt in named:
                memory.numbers.note(trial_id, attempt)
    entries = [
        (arrival.key, batch.sequence, batch.table, batch.data.num_rows, batch.digest)
        for arrival in arrivals
        for batch in arrival.new
    ]
    insert(database, "ledger", _table(LEDGER, entries))
    _note_done(database, [arrival for arrival in arrivals if arrival.ending])
    kept = [arrival for arrival in arrivals if not arrival.superseded]
    for table in RECORD_TABLES:
        if table != "trials":
            parts = [(arrival.key, batch.data) for arrival in kept for batch in arrival.new if batch.table == table]
            _insert_rows(database, f"{table}_rows", parts)
    _store_seals(database, [arrival for arrival in kept if arrival.seal is not None])
    operations.release(database, [arrival.key for arrival in arrivals if arrival.ending])
    for arrival in arrivals:
        arrival.stored()


def _note_done(database: duckdb.DuckDBPyConnection, ending: Sequence[Arrival]) -> None:
    """Keep the first attempt of each trial that is done; delete all rows of later ones."""
    finished = [arrival for arrival in ending if arrival.seal is not None and arrival.seal.status == "done"]
    first = [(arrival.new[0].trial_id, arrival.key) for arrival in finished if not arrival.superseded]
    if first:
        insert(database, "done", _table(_DONE, first))
    for arrival in finished:
        if arrival.superseded:
            for table in (*(f"{name}_rows" for name in RECORD_TABLES), "trials_waiting"):
                database.execute(f"DELETE FROM {table} WHERE key = ?", [arrival.key])
            database.execute("INSERT INTO superseded VALUES (?)", [arrival.key])


def _store_seals(database: duckdb.DuckDBPyConnection, arrivals: Sequence[Arrival]) -> None:
    """Make complete attempts visible, and keep the seals of others until they are complete."""
    whole: list[tuple[int | None, pa.RecordBatch]] = []
    partial: list[tuple[int | None, pa.RecordBatch]] = []
    for arrival in arrivals:
        seal = next((batch for batch in arrival.new if batch.status is not None), None)
        if seal is not None:
            (whole if arrival.ended else partial).append((arrival.key, _with_digest(seal.data, arrival)))
        elif arrival.ended:
            database.execute(
                "INSERT INTO trials_rows BY NAME SELECT * REPLACE (? AS records_digest) FROM trials_waiting"
                " WHERE key = ?",
                [arrival.records_digest, arrival.key],
            )
            database.execute("DELETE FROM trials_waiting WHERE key = ?", [arrival.key])
    _insert_rows(database, "trials_rows", whole)
    _insert_rows(database, "trials_waiting", partial)


def _with_digest(seal: pa.RecordBatch, arrival: Arrival) -> pa.RecordBatch:
    """A seal with the digest of its attempt's records, if the attempt is complete."""
    place = seal.schema.get_field_index("records_digest")
    field = seal.schema.field(place)
    return seal.set_column(place, field, pa.array([arrival.records_digest if arrival.ended else None], field.type))


def _insert_rows(
    database: duckdb.DuckDBPyConnection, table: str, parts: Sequence[tuple[int | None, pa.RecordBatch]]
) -> None:
    if parts:
        rows = pa.Table.from_batches([data for _, data in parts]).drop_columns(list(ATTEMPT))
        keys = pa.chunked_array([pa.repeat(pa.scalar(key, pa.int64()), len(data)) for key, data in parts])
        # In one chunk: distributing many small ones among threads takes the engine longer.
        insert(database, table, rows.append_column("key", keys).combine_chunks())


def _table(schema: pa.Schema, rows: Sequence[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for field, column in zip(schema, zip(*rows, strict=True), strict=True)],
        schema=schema,
    )
