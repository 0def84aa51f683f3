"""wtsbench in Python: open and query a store, plan and submit grids, show leaderboards.

Every function here is also an attribute of `wtsbench`. A grid is a name, the path of a file, its YAML as a text of
several lines, a dict, or a `wtsbench.spec.grid.Grid`; paths are relative to the file's folder, else to the working
folder. Errors that the user can correct are `wtsbench.errors.UserError`, whose `remedy` says how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from wtsbench.reports import rows
from wtsbench.settings import default_store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from wtsbench.execution.detach import Detached
    from wtsbench.execution.events import Event
    from wtsbench.execution.run_record import RunName
    from wtsbench.execution.scheduler import Summary
    from wtsbench.planning.check import GridSource
    from wtsbench.planning.report import PlanReport
    from wtsbench.store.client import Store as AnyStore

__all__ = ["Comparisons", "Leaderboard", "Store", "compare", "detach", "leaderboard", "open_store", "plan", "submit"]

_WIDTH = 110
"""Width of a leaderboard in a notebook, in characters."""


@dataclass(frozen=True)
class Store:
    """A store, for reading. Every method gives a pyarrow table, of which `.to_pandas()` makes a data frame.

    `wtsbench.contract.schemas` says what the columns mean, with their units; times are in UTC. Each method raises
    StoreError where the store cannot be read.
    """

    client: AnyStore
    """The store as the rest of wtsbench sees it, which writes as well."""

    @property
    def uri(self) -> str:
        """Its address: a folder, or that of a server."""
        return self.client.uri

    def trials(self) -> pa.Table:
        """Attempts that have ended, one a row; of each trial at most one has the `status` `done`."""
        return self.client.trials()

    def predictions(self, trial_ids: Sequence[str] | None = None, *, splits: Sequence[str] | None = None) -> pa.Table:
        """Predicted probabilities over the classes, one row per item and trial that is done.

        Args:
            trial_ids: of these trials only; by default of all, which may be more than fits into memory.
            splits: only `transfer`, `validation`, `test`, `ood` and so on.
        """
        return self.client.predictions(self._done(trial_ids), splits=splits)

    def metrics(self, trial_ids: Sequence[str] | None = None, *, curves: bool = False) -> pa.Table:
        """Scores of trials by split and name.

        Args:
            trial_ids: of these trials only; by default of all that are done.
            curves: with the points of training curves, which have a `step`.
        """
        return self.client.metrics(self._done(trial_ids), final_only=not curves)

    def items(self, data_digest: str | None = None) -> pa.Table:
        """The items of a prepared data set, or of all: split, text, label or target."""
        import pyarrow as pa

        from wtsbench.contract.schemas import ITEMS

        digests = self.client.datasets()["data_digest"].to_pylist() if data_digest is None else [data_digest]
        return pa.concat_tables([ITEMS.empty_table(), *map(self.client.items, digests)])

    def runs(self) -> pa.Table:
        """Submissions that ran or are running, one a row: state, counts of trials, when they were last heard of."""
        return self.client.runs()

    def running(self) -> pa.Table:
        """Attempts that are running now, one a row: on which host, of which run, and which share is done."""
        return self.client.running()

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to one SELECT (DuckDB's SQL) over the store's tables, of a folder and of a server alike.

        Args:
            statement: changes nothing, and reads nothing else.
            parameters: for its `?`.

        Raises:
            StoreError: it is something else than one SELECT, cannot be answered, or is beyond a server's limits.
        """
        return self.client.sql(statement, parameters)

    def _done(self, trial_ids: Sequence[str] | None) -> Sequence[str]:
        if trial_ids is not None:
            return list(trial_ids)
        ended = self.client.trials(columns=["trial_id", "status"]).to_pylist()
        return [row["trial_id"] for row in ended if row["status"] == "done"]


class Leaderboard(rows.Leaderboard):
    """A leaderboard: typed rows in `rows`, every comparison in `comparisons`. A notebook and `print` show it."""

    def to_arrow(self) -> pa.Table:
        """One row a strategy or control and table. What has parts (`metrics`, `trials`, `failures`) is in `rows`."""
        return _table(rows.Row, self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """The same as a data frame."""
        return self.to_arrow().to_pandas()

    def to_markdown(self, *, metrics: bool = False) -> str:
        """As Markdown; with all metrics below each table, if asked for."""
        from wtsbench.reports.renderers import render

        return render(self, "markdown", details=metrics)

    def __str__(self) -> str:
        from wtsbench.reports.renderers import render

        return render(self, "plain").rstrip("\n")

    def _repr_html_(self) -> str:
        from wtsbench.reports.renderers import notebook

        return notebook(self, width=_WIDTH)


class Comparisons(rows.Comparisons):
    """Strategies held against each other, a typed entry a pair in `pairs`. A notebook and `print` show it."""

    def to_arrow(self) -> pa.Table:
        """One row a pair."""
        return _table(rows.Comparison, self.pairs)

    def to_pandas(self) -> pd.DataFrame:
        """The same as a data frame."""
        return self.to_arrow().to_pandas()

    def __str__(self) -> str:
        from wtsbench.reports.comparison import text

        return text(self).rstrip("\n")

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def open_store(path_or_uri: str | os.PathLike[str] | None = None) -> Store:
    """Open a store for reading.

    Args:
        path_or_uri: a folder, or a server's address `grpc+tls://HOST:PORT`; by default `$WTSBENCH_STORE`, else
            `./wtsbench-store`.

    Raises:
        StoreError: there is none, or it cannot be reached or read.
    """
    from wtsbench.store.client import open_store as opened

    return Store(opened(_uri(path_or_uri)))


def leaderboard(
    store: Store | str | os.PathLike[str] | None = None, grid: str | None = None, *, submission: int | None = None
) -> Leaderboard:
    """The leaderboard of a store: scores with 95% intervals, PGR, ranks.

    Args:
        store: an open store, or where it is; by default as `open_store`.
        grid: the name of a grid in it; by default all.
        submission: another submission of a grid than its newest, by number.

    Raises:
        SpecError: there is no such grid or submission.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    from wtsbench.reports.kept import KeptTables
    from wtsbench.reports.leaderboard import leaderboard as computed

    board = computed(_opened(store).client, grid, submission=submission, kept=KeptTables.of_user())
    return Leaderboard(**vars(board))


def compare(
    store: Store | str | os.PathLike[str] | None = None,
    grid: str | None = None,
    *,
    submission: int | None = None,
    task: str | None = None,
    pair: str | None = None,
    metric: str | None = None,
    split: str | None = None,
) -> Comparisons:
    """Every two strategies of each table, and every strategy and control: difference, interval, corrected p-value.

    Args:
        store: an open store, or where it is; by default as `open_store`.
        grid: the name of a grid in it; by default all.
        submission: another submission of a grid than its newest, by number.
        task: only this task.
        pair: only this pair of models, written `weak:strong`.
        metric: any metric of the tasks; by default the one that ranks.
        split: only `test` or `ood`.

    Raises:
        SpecError: there is none of that name.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    from wtsbench.reports.comparison import compare as compared

    comparisons = compared(
        _opened(store).client, grid, submission=submission, task=task, pair=pair, metric=metric, split=split
    )
    return Comparisons(**vars(comparisons))


def plan(
    grid: GridSource,
    *,
    store: str | os.PathLike[str] | None = None,
    sandbox: Literal["auto", "process", "docker"] = "auto",
    mirror: Path | None = None,
) -> PlanReport:
    """What a submission would run, and why: every trial with its state and reason. Runs nothing, and makes no store.

    Args:
        grid: see above.
        store: where results are; by default as `open_store`.
        sandbox: what trials would run in, which is part of what a trial is.
        mirror: folder that holds data and models in place of their canonical source.

    Raises:
        UserError: the grid, a task's data, a model, the sandbox or the store is not as it must be.
    """
    from wtsbench.execution.session import Options, prepare

    options = Options(store=_uri(store), sandbox=sandbox, mirror=mirror)
    return prepare(grid, options, note=lambda text: None).report


def submit(
    grid: GridSource,
    *,
    store: str | os.PathLike[str] | None = None,
    executor: Literal["ray", "in-process"] = "ray",
    ray: str | None = None,
    sandbox: Literal["auto", "process", "docker"] = "auto",
    mirror: Path | None = None,
    trust: Sequence[str] = (),
    autoscale: bool = False,
    priority: int = 0,
    job: RunName | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_second_interrupt: Callable[[], NoReturn] | None = None,
) -> Summary:
    """Run what the store lacks of a grid. Returns when all of it has ended; what failed is in the answer, not raised.

    Interrupting it (Ctrl-C, or a notebook's stop button) stops cleanly: the answer counts what was `cancelled`, and the
    same call goes on from there. A second interruption raises KeyboardInterrupt at once.

    Args:
        grid: see above.
        store: where results go, made where there is none; by default as `open_store`.
        executor: who runs the trials; `in-process` needs no cluster.
        ray: address of a Ray cluster; by default `$RAY_ADDRESS`, else Ray is started here for this time.
        sandbox: what each trial runs in.
        mirror: folder that holds data and models in place of their canonical source.
        trust: grids whose trials are taken though they were finished under tokens for these grids only.
        autoscale: whether the cluster adds nodes where trials wait; then some more are given to it than it can run.
        priority: on one cluster, nothing is started while a run of higher priority has trials to start.
        job: the detached run that this call carries out on the cluster.
        on_event: told of everything that happens (`wtsbench.execution.events`); by default a bar shows the progress, in
            a notebook as well. Where it raises KeyboardInterrupt, that stops the submission as Ctrl-C does.
        on_second_interrupt: called in the signal's handler in place of raising KeyboardInterrupt.

    Raises:
        UserError: the grid, a task's data, a model, the sandbox or the store is not as it must be, or the cluster or
            the store cannot be reached. What the store acknowledged is kept.
    """
    from wtsbench.execution.session import Options, prepare
    from wtsbench.execution.watching import watched

    address = None if executor == "in-process" else ray or os.environ.get("RAY_ADDRESS") or None
    options = Options(
        store=_uri(store),
        sandbox=sandbox,
        ray=address,
        executor=executor,
        mirror=mirror,
        trust=tuple(trust),
        autoscale=autoscale,
        priority=priority,
        run=job,
    )
    return watched(lambda note: prepare(grid, options, note=note), on_event, on_second_interrupt)


def detach(
    grid: GridSource,
    *,
    store: str | os.PathLike[str] | None = None,
    ray: str | None = None,
    sandbox: Literal["auto", "process", "docker"] = "auto",
    mirror: Path | None = None,
    trust: Sequence[str] = (),
    autoscale: bool = False,
    priority: int = 0,
) -> Detached:
    """Have a Ray cluster run what the store lacks of a grid, and return at once. `Store.runs` says how it stands.

    Args:
        grid: see above; what it names of its own folder travels with it.
        store: a server, which the cluster's nodes reach with the token file of their own; by default as `open_store`.
        ray: address of the cluster's head or dashboard; by default `$RAY_ADDRESS`.
        sandbox: what each trial runs in.
        mirror: a folder of the cluster's nodes that holds data and models in place of their canonical source.
        trust: as for `submit`.
        autoscale: as for `submit`.
        priority: as for `submit`.

    Raises:
        UserError: the grid has faults, no cluster is named or it takes no jobs, or the store is no server.
    """
    from wtsbench.execution.detach import detach as detached
    from wtsbench.execution.session import Options

    address = ray or os.environ.get("RAY_ADDRESS") or None
    options = Options(
        store=_uri(store),
        sandbox=sandbox,
        ray=address,
        mirror=mirror,
        trust=tuple(trust),
        autoscale=autoscale,
        priority=priority,
    )
    return detached(grid, options)


def _uri(place: str | os.PathLike[str] | None) -> str:
    return os.fspath(place) if place else default_store()


def _opened(store: Store | str | os.PathLike[str] | None) -> Store:
    return store if isinstance(store, Store) else open_store(store)


def _table(kind: type, entries: Sequence[Any]) -> pa.Table:
    """Entries as a table of those fields that are plain values or tuples of them."""
    import pyarrow as pa

    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

    def type_of(hint: Any) -> pa.DataType | None:
        if get_origin(hint) in (Union, UnionType):
            return type_of(next(option for option in get_args(hint) if option is not type(None)))
        if get_origin(hint) is Literal:
            return pa.string()
        if get_origin(hint) is tuple:
            inner = plain.get(get_args(hint)[0])
            return None if inner is None else pa.list_(inner)
        return plain.get(hint)

    hints = get_type_hints(kind)
    types: Mapping[str, pa.DataType | None] = {field.name: type_of(hints[field.name]) for field in fields(kind)}
    schema = pa.schema([(name, known_type) for name, known_type in types.items() if known_type is not None])
    return pa.table({name: [getattr(entry, name) for entry in entries] for name in schema.names}, schema=schema)
