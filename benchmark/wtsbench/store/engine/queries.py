"""The queries on a store, as SQL on the views of `tables`: the same for every kind of store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from wtsbench.contract.operations import PRINTED, RUNNING, RUNS
from wtsbench.contract.schemas import TABLES

ORDER = {
    "items": "data_digest, split, item_id",
    "datasets": "data_digest",
    "grids": "submission",
    "attempts": "trial_id, attempt",
    "trials": "trial_id, attempt",
    "metrics": "trial_id, attempt, split, name, step NULLS FIRST, value NULLS FIRST",
    "predictions": "trial_id, split, item_id",
    "generations": "trial_id, split, item_id, sample",
    "scores": "trial_id, scorer, split, item_id, sample",
    "logs": "trial_id, attempt, line, stream, text",
}
"""The order in which every table is read; text compares byte by byte."""


_OF_DONE = "(trial_id, attempt) IN (SELECT (trial_id, attempt) FROM trials WHERE status = 'done')"
_KNOWN = re.compile(r"([a-z_]+)(?: = \?| IN \(SELECT unnest\(\?::VARCHAR\[\]\)\)| IS NULL)")
"""A condition as this module writes it: a column and its comparison. Older clients send the same text."""


@dataclass(frozen=True)
class Query:
    """Rows of a table, in its order."""

    table: str
    conditions: tuple[str, ...] = ()
    """SQL conditions, joined by AND, with `?` for parameters."""
    parameters: tuple[Any, ...] = ()
    only: tuple[str, ...] = ()
    """Columns to return; empty for all."""

    @property
    def schema(self) -> pa.Schema:
        """Schema of the result.

        Raises:
            KeyError: the table has no such column.
        """
        schema = TABLES[self.table]
        return pa.schema([schema.field(name) for name in self.only]) if self.only else schema

    @property
    def sql(self) -> str:
        """The statement; its columns are those of `schema`, in that order."""
        columns = ", ".join(self.schema.names)
        where = " AND ".join(self.conditions) or "true"
        return f"SELECT {columns} FROM {self.table} WHERE {where} ORDER BY {ORDER[self.table]}"

    @property
    def asked(self) -> dict[str, Any]:
        """What a server is sent."""
        asked = {"table": self.table, "conditions": self.conditions, "parameters": self.parameters}
        return {**asked, "only": self.only} if self.only else asked  # a server that does not know this sends all

    @property
    def unknown(self) -> str | None:
        """The first condition that this module cannot have made, but a client wrote itself; None if there is none."""
        names = TABLES[self.table].names
        matches = (_KNOWN.fullmatch(condition) for condition in self.conditions)
        for condition, match in zip(self.conditions, matches, strict=True):
            if condition != _OF_DONE and (match is None or match[1] not in names):
                return condition
        return None

    def among(self, column: str, values: Sequence[str] | None) -> Query:
        """Only rows where a text column has one of the values; None for all rows."""
        if values is None:
            return self
        condition = f"{column} IN (SELECT unnest(?::VARCHAR[]))"
        return self.where(condition, list(values))

    def of_done(self) -> Query:
        """Only rows of the attempts that succeeded."""
        return self.where(_OF_DONE)

    def where(self, condition: str, *parameters: Any) -> Query:
        """Only rows that meet a condition."""
        return replace(self, conditions=(*self.conditions, condition), parameters=(*self.parameters, *parameters))


CONTENTS = pa.schema([(name, pa.string()) for name in ("id", "table_name", "fingerprint")])
"""Columns of `contents`."""


def contents(trial_ids: Sequence[str]) -> tuple[str, list[list[str]]]:
    """SQL and its parameters for a fingerprint of the rows that results depend on, per trial or data set and table.

    It is computed from the rows themselves, so it changes with any of them, whatever the stored digests say.
    """
    parts = [
        f"SELECT {key} AS id, '{table}' AS table_name, count(*) || ' ' || sum(hash({columns})::HUGEINT) AS fingerprint"
        f" FROM {table} {where} GROUP BY {key}"
        for table, key, columns, where in (
            *((table, "trial_id", columns, _AMONG) for table, columns in _RESULTS.items()),
            (
                "items",
                "data_digest",
                "item_id, group_id, split, text, label, target",
                f"WHERE data_digest IN ({_THEIRS})",
            ),
        )
    ]
    return " UNION ALL ".join(parts) + " ORDER BY id, table_name", [list(trial_ids)] * len(parts)


_RESULTS = {
    "predictions": "split, item_id, probabilities",
    "generations": "split, item_id, sample, text, tokens, finished, reference_nll, reference_tokens",
    "scores": "split, item_id, sample, scorer, value",
}
_AMONG = "WHERE trial_id IN (SELECT unnest(?::VARCHAR[]))"
_THEIRS = f"SELECT data_digest FROM trials {_AMONG}"


@dataclass(frozen=True)
class Look:
    """A question about runs and leases."""

    what: Literal["runs", "yaml", "running", "printed"]
    parameters: tuple[str | int, ...] = ()

    @classmethod
    def of(cls, what: object, parameters: Sequence[Any]) -> Look | None:
        """A client's question; None if there is no such question."""
        known = what in _LOOKS and len(parameters) == _LOOKS[str(what)][0].count("?")
        if not known or not all(isinstance(one, str | int) for one in parameters):
            return None
        return cls(what, tuple(parameters))  # type: ignore[arg-type]  # it was just looked up

    @property
    def sql(self) -> str:
        """The statement; its columns are those of `schema`."""
        return _LOOKS[self.what][0]

    @property
    def schema(self) -> pa.Schema:
        """Schema of the answer."""
        return _LOOKS[self.what][1]

    @property
    def asked(self) -> dict[str, Any]:
        """What a server is sent."""
        return {"look": self.what, "parameters": self.parameters}


_NOW = "epoch_us(now())"
"""The store's clock. Its times have no zone, and are in UTC."""
_SILENT = f"({_NOW} - epoch_us(seen_at)) / 1e6 AS silent_s"
_LOOKS: dict[str, tuple[str, pa.Schema]] = {
    "runs": (f"SELECT {', '.join(RUNS.names[:-1])}, {_SILENT} FROM operations.runs ORDER BY started_at, run", RUNS),
    "yaml": ("SELECT yaml FROM operations.runs WHERE run = ?::VARCHAR", pa.schema([("yaml", pa.string())])),
    "running": (
        f"SELECT {', '.join(RUNNING.names[:-1])}, ({_NOW} - epoch_us(started_at)) / 1e6 AS age_s"
        f" FROM operations.leases WHERE epoch_us(until) > {_NOW} ORDER BY trial_id, attempt",
        RUNNING,
    ),
    "printed": (
        "SELECT line, text FROM operations.printed WHERE key IN (SELECT key FROM operations.leases"
        " WHERE trial_id = ?::VARCHAR AND attempt = ?::INTEGER) AND line > ?::BIGINT ORDER BY line",
        PRINTED,
    ),
}
