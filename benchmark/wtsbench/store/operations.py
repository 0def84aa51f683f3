"""The methods of `client.Store`, the same for a folder and for a server: each is one question to an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from wtsbench.contract.outbox import Ack, Batch
from wtsbench.store import queries
from wtsbench.store.queries import Query

_T = TypeVar("_T")
_TRIALS_AT_ONCE = 2000
"""Of a question that a server answers within its limits."""


class EngineCalls(Protocol):
    """What a store asks of an engine, in this process or behind a server."""

    def begin_attempt(self, trial_id: str, run: str, shared_id: str | None = None) -> int:
        """Take the next attempt number of a trial."""

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Take records in."""

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""

    def put_dataset(self, row: dict[str, Any], items: pa.Table) -> None:
        """Keep a prepared data set."""

    def put_grid(self, name: str, grid_digest: str, yaml: str, cells: str) -> None:
        """Keep a submission of a grid."""

    def read(self, query: Query) -> pa.Table:
        """The answer to a question."""

    def contents(self, trial_ids: Sequence[str]) -> pa.Table:
        """Fingerprints of what results are made of, in the columns of `queries.CONTENTS`."""

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to one SELECT over the published tables."""


class StoreCalls:
    """The methods of a store; whoever inherits says how to reach its engine."""

    def _engine(self, *, read_only: bool = False) -> AbstractContextManager[EngineCalls]:
        raise NotImplementedError

    def _ask(self, question: Callable[[EngineCalls], _T], *, read_only: bool = False) -> _T:
        """Put one question to the engine; whoever inherits may do so again, for every question may be repeated."""
        with self._engine(read_only=read_only) as engine:
            return question(engine)

    def _read(self, query: Query) -> pa.Table:
        return self._ask(lambda engine: engine.read(query), read_only=True)

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to one SELECT over the published tables."""
        return self._ask(lambda engine: engine.sql(statement, parameters), read_only=True)

    @property
    def only_grid(self) -> str | None:
        """The only grid that may be submitted; of a folder's owner there is no such limit."""
        return None

    def begin_attempt(self, trial_id: str, *, run: str, shared_id: str | None = None) -> int:
        """Take the next attempt number of a trial."""
        return self._ask(lambda engine: engine.begin_attempt(trial_id, run, shared_id))

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Make records durable in one transaction."""
        return self._ask(lambda engine: engine.append(batches)) if batches else []

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""
        return self._ask(lambda engine: engine.sealed(trial_id, attempt), read_only=True)

    def put_dataset(
        self,
        *,
        data_digest: str,
        task: str,
        form: str = "classification",
        labels: Sequence[str],
        metric: str,
        settings: dict[str, Any] | None = None,
        report: dict[str, Any],
        items: pa.Table,
    ) -> None:
        """Keep a prepared data set."""
        if {data_digest} != {data_digest, *items["data_digest"].unique().to_pylist()}:
            raise ValueError(f"some items are of another data set than {data_digest}")
        row = {
            "data_digest": data_digest,
            "task": task,
            "form": form,
            "labels": list(labels),
            "metric": metric,
            "settings": None if settings is None else json.dumps(settings, sort_keys=True),
            "report": json.dumps(report, sort_keys=True),
        }
        self._ask(lambda engine: engine.put_dataset(row, items))

    def has_dataset(self, data_digest: str) -> bool:
        """Whether a prepared data set is there."""
        found: int = self._read(queries.datasets(data_digest)).num_rows
        return found > 0

    def put_grid(self, *, name: str, grid_digest: str, yaml: str, cells: Sequence[dict[str, Any]]) -> None:
        """Keep what was asked for."""
        listed = json.dumps(list(cells), sort_keys=True)
        self._ask(lambda engine: engine.put_grid(name, grid_digest, yaml, listed))

    def grids(self) -> pa.Table:
        """All submissions of grids."""
        return self._read(queries.grids())

    def datasets(self) -> pa.Table:
        """All prepared data sets."""
        return self._read(queries.datasets())

    def items(self, data_digest: str) -> pa.Table:
        """The items of a data set."""
        return self._read(queries.items(data_digest))

    def attempts(self, trial_ids: Sequence[str] | None = None) -> pa.Table:
        """Attempts begun."""
        return self._read(queries.attempts(trial_ids))

    def trials(self, trial_ids: Sequence[str] | None = None, *, columns: Sequence[str] = ()) -> pa.Table:
        """Sealed attempts."""
        return self._read(queries.trials(trial_ids, columns))

    def predictions(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Predictions of the attempts that succeeded."""
        return self._read(queries.predictions(trial_ids, splits=splits))

    def generations(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Generations of the attempts that succeeded."""
        return self._read(queries.generations(trial_ids, splits=splits))

    def scores(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Scores of those generations."""
        return self._read(queries.scores(trial_ids, splits=splits))

    def _contents(self, trial_ids: Sequence[str]) -> pa.Table:
        return self._ask(lambda engine: engine.contents(trial_ids), read_only=True)

    @property
    def state(self) -> str | None:
        """Another whenever what is stored is; None where that cannot be told without reading it."""
        return None

    def contents(self, trial_ids: Sequence[str]) -> dict[str, str]:
        """Fingerprints of the rows that results of trials are made of, by trial and by data set."""
        found: dict[str, str] = {}
        for start in range(0, len(trial_ids), _TRIALS_AT_ONCE):
            for row in self._contents(trial_ids[start : start + _TRIALS_AT_ONCE]).to_pylist():
                found[row["id"]] = f"{found.get(row['id'], '')} {row['table_name']} {row['fingerprint']}"
        return found

    def metrics(self, trial_ids: Sequence[str], *, final_only: bool = False) -> pa.Table:
        """Metrics of sealed attempts."""
        return self._read(queries.metrics(trial_ids, final_only=final_only))

    def logs(self, trial_id: str, attempt: int | None = None) -> pa.Table:
        """Log lines of a trial's sealed attempts."""
        return self._read(queries.logs(trial_id, attempt))
