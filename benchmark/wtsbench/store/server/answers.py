"""Answers to readers: parsing a query, and fetching its rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from wtsbench.contract.schemas import TABLES
from wtsbench.errors import StoreError
from wtsbench.store.engine.queries import CONTENTS, Look, Query, contents
from wtsbench.store.server.actions import Core
from wtsbench.store.server.bounds import Stop
from wtsbench.store.upkeep.archive import SCOPED, scoped_sql
from wtsbench.store.wire import StoreRefused


def found(core: Core, asked: dict[str, Any], kind: str, stop: Stop) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Schema and rows of the answer to a query.

    Args:
        core: state of the server.
        asked: the query, as the client sent it.
        kind: `sql`, `archive` or `read`.
        stop: ends the computation.

    Raises:
        StoreRefused: the query is invalid.
    """
    live = core.live
    if kind == "sql":
        return core.sql.stream(str(asked["sql"]), list(asked.get("parameters", [])), stop=stop)
    if kind == "archive":
        table, shard = asked["archive"], str(asked["shard"])
        if table not in SCOPED:
            raise StoreRefused(f"{table!r} is no table of an archive")
        return live.stream(scoped_sql(table), [shard], schema=SCOPED[table], stop=stop)
    if "look" in asked:
        look = Look.of(asked["look"], list(asked.get("parameters", ())))
        if look is None:
            raise StoreRefused(f"{asked['look']!r} is no question about runs")
        return live.stream(look.sql, look.parameters, schema=look.schema, stop=stop)
    if "contents" in asked:
        sql, ids = contents([str(trial_id) for trial_id in asked["contents"]])
        return live.stream(sql, ids, schema=CONTENTS, stop=stop)
    table = asked["table"]
    if table not in TABLES:
        raise StoreRefused(f"{table!r} is no table of the store")
    conditions, parameters, only = (tuple(asked.get(name, ())) for name in ("conditions", "parameters", "only"))
    if unknown := sorted(set(only) - set(TABLES[table].names)):
        raise StoreRefused(f"{table} has no column {unknown[0]!r}")
    query = Query(table, conditions, parameters, only)
    if query.unknown is not None:
        raise StoreRefused(f"{query.unknown!r} is no condition of a named table", remedy="ask in SQL.")
    return live.stream(query.sql, query.parameters, schema=query.schema, stop=stop)


class Answer:
    """Rows of an answer, fetched by one worker at a time."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._closed = False
        self.stop = Stop()

    def begin(self, find: Callable[[], tuple[pa.Schema, Iterator[pa.RecordBatch]]]) -> pa.Schema:
        """Start the computation; the schema of the rows."""
        with self._mutex:
            if self._closed:
                raise StoreError("nobody waits for the answer any more")
            schema, self._batches = find()
            return schema

    def next(self) -> pa.RecordBatch | None:
        """The next rows; None after the last."""
        with self._mutex:
            assert self._batches is not None, "it has begun"
            return next(self._batches, None)

    def close(self) -> None:
        """Drop the remaining rows, and end the computation."""
        self.stop()
        with self._mutex:
            self._closed = True
            if self._batches is not None:
                self._batches.close()  # type: ignore[attr-defined]  # it is a generator
