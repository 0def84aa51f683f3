"""The interface of a store, the same for a folder and for a server. Arrow in, Arrow out."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from wtsbench.contract.operations import (
    Orders,
    RunReport,
    check_renewal,
    check_report,
    renewals,
    storable_report,
)
from wtsbench.contract.outbox import Ack, Batch
from wtsbench.store.engine.queries import Look, Query

if TYPE_CHECKING:
    from wtsbench.store.engine.transaction import Engine
    from wtsbench.store.remote import RemoteEngine

_T = TypeVar("_T")
_TRIALS_AT_ONCE = 2000
"""Trials of one query, so that a server answers it within its limits."""


class Store(ABC):
    """The store as courier, supervisors, CLI and reports see it.

    Each method makes one request to an engine, in this process or behind a server; subclasses implement the access.
    All raise StoreError if the store cannot be read or written. Tables have the schemas of `schemas` and a fixed order,
    named with each method; text is ordered byte by byte.
    """

    @property
    @abstractmethod
    def uri(self) -> str:
        """Address of the store; `open_store` of it gives the same store."""

    @abstractmethod
    def _engine(self, *, read_only: bool = False) -> AbstractContextManager[Engine | RemoteEngine]:
        """The engine, for one request."""

    def _ask(self, question: Callable[[Engine | RemoteEngine], _T], *, read_only: bool = False) -> _T:
        """Make one request to the engine; subclasses may retry, because every request is idempotent."""
        with self._engine(read_only=read_only) as engine:
            return question(engine)

    def _operate(self, question: Callable[[Engine | RemoteEngine], _T]) -> _T:
        """Make a request that changes no record, so that `state` stays as it is."""
        return self._ask(question)

    def _read(self, query: Query | Look) -> pa.Table:
        return self._ask(lambda engine: engine.read(query), read_only=True)

    @property
    def only_grid(self) -> str | None:
        """The only grid that the token may submit, whose trials then have ids of their own; None for any grid."""
        return None

    @property
    def state(self) -> str | None:
        """Changes whenever records, data sets or submissions do; None if that cannot be told without reading them.

        It stays when attempts are begun, leases are renewed and runs tell how they stand.
        """
        return None

    # -- writing

    def begin_attempt(
        self, trial_id: str, *, run: str, shared_id: str | None = None, host: str = "", lease: bool = False
    ) -> int:
        """Take the next attempt number of a trial; two callers never get the same.

        Args:
            trial_id: the trial.
            run: name of the submission that the attempt belongs to.
            shared_id: id that the trial would have if its result counted for every grid; needed with an `only_grid`.
            host: where the attempt is to be run, for display.
            lease: take a lease on the trial as well, for LEASE_SECONDS: then nobody else gets one until it has ended,
                by itself or because the attempt is sealed.

        Raises:
            Cancelled: with `lease`, somebody asked to cancel the run, or this trial of it.
            Held: with `lease`, the trial is done, or another attempt has a lease, whichever run it is of.
        """
        request = uuid.uuid4().hex  # if the answer is lost, a repeated request gets the same number
        return self._operate(
            lambda engine: engine.begin_attempt(trial_id, run, shared_id, host=host, lease=lease, request=request)
        )

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Write records durably in one transaction: all of them or none.

        Returns:
            One acknowledgement per batch, in the same order. The rows are on the disk.

        Raises:
            StoreConflict: a record's key exists with other content, or its attempt has ended.
        """
        return self._ask(lambda engine: engine.append(batches)) if batches else []

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
        """Store a prepared data set with all its items, or nothing; the same digest twice is a no-op."""
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

    def put_grid(self, *, name: str, grid_digest: str, yaml: str, cells: Sequence[dict[str, Any]]) -> None:
        """Store a submitted grid under the next submission number.

        A no-op if it equals the newest submission of that name.
        """
        listed = json.dumps(list(cells), sort_keys=True)
        self._ask(lambda engine: engine.put_grid(name, grid_digest, yaml, listed))

    # -- what happens now

    def renew(self, trial_id: str, attempt: int, *, share: float | None, lines: Sequence[str], first: int) -> Orders:
        """Renew an attempt's lease for LEASE_SECONDS from now. May be repeated.

        An attempt that is sealed, unknown, or whose lease was taken by another one after it had ended stays without.

        Args:
            trial_id: the trial.
            attempt: the attempt, begun with a lease.
            share: how much of it is done, from 0 to 1; None if that is not known.
            lines: what it printed. Those that are stored already are skipped; the last KEPT_LINES are kept.
            first: number of the first of these lines; an attempt's lines are counted from 1.

        Returns:
            What to do: whether the run or this trial is to be cancelled, and whether another run goes first.
        """
        orders = Orders()
        for renewal in renewals(trial_id, attempt, share=share, lines=lines, first=first):
            check_renewal(renewal)
            orders = self._operate(lambda engine, renewal=renewal: engine.renew(renewal))  # type: ignore[misc]
        return orders

    def report_run(self, report: RunReport) -> Orders:
        """Say how a run stands, every BEAT_SECONDS and when it ends. May be repeated.

        The report replaces the one before. A run that has ended stays so until it is started again with a higher
        `resumed`, which also withdraws what was cancelled before it ended.

        Returns:
            What to do: whether all of it or which trials are to be cancelled, and whether another run goes first.

        Raises:
            StoreError: the report has a value that no run has.
        """
        check_report(report)
        told = storable_report(report)
        return self._operate(lambda engine: engine.report_run(told))

    def cancel(self, run: str, trial_ids: Sequence[str] | None) -> bool:
        """Ask to cancel some trials of a run, or all of it (None): its supervisor hears of it with its next beat.

        Returns:
            False if there is no such run, or it has ended.
        """
        return self._operate(lambda engine: engine.cancel(run, trial_ids))

    def runs(self) -> pa.Table:
        """All runs, by start and name, in the columns of `operations.RUNS`."""
        return self._read(Look("runs"))

    def running(self) -> pa.Table:
        """Attempts with a lease, by trial id and attempt, in the columns of `operations.RUNNING`.

        One whose lease has ended is not listed: nobody has renewed it for LEASE_SECONDS.
        """
        return self._read(Look("running"))

    def printed(self, trial_id: str, attempt: int, after: int = 0) -> pa.Table:
        """What a running attempt printed so far, by line: the lines after a number. Empty once it is sealed."""
        return self._read(Look("printed", (trial_id, attempt, after)))

    # -- reading

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended: its rows are visible, or another attempt was done before it."""
        return self._ask(lambda engine: engine.sealed(trial_id, attempt), read_only=True)

    def has_dataset(self, data_digest: str) -> bool:
        """Whether a prepared data set is stored."""
        rows: int = self._read(Query("datasets").where("data_digest = ?", data_digest)).num_rows
        return rows > 0

    def grids(self) -> pa.Table:
        """All submissions of grids, by submission number."""
        return self._read(Query("grids"))

    def datasets(self) -> pa.Table:
        """All prepared data sets, by digest."""
        return self._read(Query("datasets"))

    def items(self, data_digest: str) -> pa.Table:
        """The items of a data set, by split and item id."""
        return self._read(Query("items").where("data_digest = ?", data_digest))

    def attempts(self, trial_ids: Sequence[str] | None = None) -> pa.Table:
        """Attempts begun, by trial id and attempt; None for all trials."""
        return self._read(Query("attempts").among("trial_id", trial_ids))

    def trials(
        self,
        trial_ids: Sequence[str] | None = None,
        *,
        tasks: Sequence[str] | None = None,
        data_digests: Sequence[str] | None = None,
        columns: Sequence[str] = (),
    ) -> pa.Table:
        """Sealed attempts, by trial id and attempt; None for all trials, tasks or data sets, () for all columns."""
        query = Query("trials", only=tuple(columns))
        return self._read(query.among("trial_id", trial_ids).among("task", tasks).among("data_digest", data_digests))

    def predictions(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Predictions of the attempts that succeeded, by trial id, split and item id."""
        return self._read(Query("predictions").among("trial_id", trial_ids).among("split", splits).of_done())

    def generations(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Generations of the attempts that succeeded, by trial id, split, item id and sample."""
        return self._read(Query("generations").among("trial_id", trial_ids).among("split", splits).of_done())

    def scores(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Scores of those generations, by trial id, scorer, split, item id and sample."""
        return self._read(Query("scores").among("trial_id", trial_ids).among("split", splits).of_done())

    def contents(self, trial_ids: Sequence[str]) -> dict[str, str]:
        """Fingerprints of the rows that results depend on, by trial id and by digest of the data set."""
        prints: dict[str, str] = {}
        for start in range(0, len(trial_ids), _TRIALS_AT_ONCE):
            for row in self._contents(trial_ids[start : start + _TRIALS_AT_ONCE]).to_pylist():
                prints[row["id"]] = f"{prints.get(row['id'], '')} {row['table_name']} {row['fingerprint']}"
        return prints

    def _contents(self, trial_ids: Sequence[str]) -> pa.Table:
        return self._ask(lambda engine: engine.contents(trial_ids), read_only=True)

    def metrics(self, trial_ids: Sequence[str], *, final_only: bool = False) -> pa.Table:
        """Metrics of sealed attempts, by trial id, attempt, split, name, step (final ones first) and value.

        Args:
            trial_ids: the trials.
            final_only: leave out the points of training curves.
        """
        query = Query("metrics").among("trial_id", trial_ids)
        return self._read(query.where("step IS NULL") if final_only else query)

    def logs(self, trial_id: str, attempt: int | None = None) -> pa.Table:
        """Log lines of a trial's sealed attempts, by attempt, line, stream and text."""
        query = Query("logs").where("trial_id = ?", trial_id)
        return self._read(query if attempt is None else query.where("attempt = ?", attempt))

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Result of one read-only SELECT over the published tables, in the order that it asks for.

        Args:
            statement: DuckDB's SQL. A server has limits, see `docs/store.md`.
            parameters: for its `?`.

        Raises:
            StoreError: it is not one SELECT over these tables, or the result exceeds the limits.
        """
        return self._ask(lambda engine: engine.sql(statement, parameters), read_only=True)
