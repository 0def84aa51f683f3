"""The one way to a store: the same methods for a folder and for a central server. Arrow in, Arrow out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa

from wtsbench.contract.outbox import Ack, Batch
from wtsbench.errors import StoreError
from wtsbench.settings import user_path
from wtsbench.store.folder import FolderStore
from wtsbench.store.lock import patience

__all__ = ["Store", "absolute", "is_server", "open_store", "patience"]


class Store(Protocol):
    """What courier, supervisors, CLI and reports see of a store.

    Every method raises StoreError where the store cannot be read or written. Tables are in the schemas of `schemas` and
    in a fixed order, named with each method; text is ordered byte by byte.
    """

    @property
    def uri(self) -> str:
        """Where it is; `open_store` of it gives the same store."""

    @property
    def only_grid(self) -> str | None:
        """The only grid that may be submitted, where the token is for one; then trials have ids within it."""

    def begin_attempt(self, trial_id: str, *, run: str, shared_id: str | None = None) -> int:
        """Take the next attempt number of a trial; two callers never get the same.

        Args:
            trial_id: the trial.
            run: name of the submission that the attempt belongs to, for people.
            shared_id: the trial's id if its result counted for every grid; needed where there is an `only_grid`.
        """

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Make records durable in one transaction: all of them or none.

        Returns:
            One acknowledgement a batch, in the same order. The rows are on the disk.

        Raises:
            StoreConflict: a record's key is known with other content, or its attempt has ended.
        """

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended: its rows are visible, or another attempt was done before it."""

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
        """Keep a prepared data set with all its items, or none of it; the same digest twice is a no-op."""

    def has_dataset(self, data_digest: str) -> bool:
        """Whether a prepared data set is there."""

    def put_grid(self, *, name: str, grid_digest: str, yaml: str, cells: Sequence[dict[str, Any]]) -> None:
        """Keep what was asked for under the store's next submission number.

        A no-op where it equals the newest submission of that name.
        """

    def grids(self) -> pa.Table:
        """All submissions of grids, by submission number."""

    def datasets(self) -> pa.Table:
        """All prepared data sets, by digest."""

    def items(self, data_digest: str) -> pa.Table:
        """The items of a data set, by split and item id."""

    def attempts(self, trial_ids: Sequence[str] | None = None) -> pa.Table:
        """Attempts begun, by trial id and attempt; of all trials where no ids are given."""

    def trials(self, trial_ids: Sequence[str] | None = None, *, columns: Sequence[str] = ()) -> pa.Table:
        """Sealed attempts, by trial id and attempt; of all trials, and all columns, where none are given."""

    def predictions(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Predictions of the attempts that succeeded, by trial id, split and item id."""

    def generations(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Generations of the attempts that succeeded, by trial id, split, item id and sample."""

    def scores(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Scores of those generations, by trial id, scorer, split, item id and sample."""

    @property
    def state(self) -> str | None:
        """Another whenever what is stored is; None where that cannot be told without reading it."""

    def contents(self, trial_ids: Sequence[str]) -> dict[str, str]:
        """Fingerprints of the rows that results of trials are made of, by trial id and by digest of their data sets."""

    def metrics(self, trial_ids: Sequence[str], *, final_only: bool = False) -> pa.Table:
        """Metrics of sealed attempts, by trial id, attempt, split, name, step (final ones first) and value.

        Args:
            trial_ids: the trials.
            final_only: leave out the points of training curves.
        """

    def logs(self, trial_id: str, attempt: int | None = None) -> pa.Table:
        """Log lines of a trial's sealed attempts, by attempt, line, stream and text."""

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to one SELECT over the published tables, in the order that it asks for; it changes nothing.

        Args:
            statement: DuckDB's SQL. A server has limits, which `docs/store.md` names.
            parameters: for its `?`.

        Raises:
            StoreError: it is something else than one SELECT over these tables, or the answer is beyond the limits.
        """


def open_store(uri: str, *, create: bool = False, wait: float = 0.0) -> Store:
    """The store at an address.

    Args:
        uri: a folder, or a server's address: `grpc+tls://HOST:PORT`, or `grpc://HOST:PORT` on one machine.
        create: make the store where there is none. A server's is there.
        wait: seconds to go on trying where a server does not answer.

    Raises:
        StoreError: there is none, it cannot be reached, read or written, or the address is of no kind known here.
    """
    if "://" in uri:
        from wtsbench.store.remote import SCHEMES, ServerStore

        if not uri.startswith(SCHEMES):
            raise StoreError(f"{uri} is no store's address", remedy=_ADDRESSES)
        return ServerStore(uri, wait=wait)
    store = FolderStore(user_path(uri).absolute())
    store.open(create=create)
    return store


def require_writable(uri: str) -> None:
    """Raise StoreError where a folder's store is there and cannot be written; a server says so itself."""
    folder = None if is_server(uri) else user_path(uri)
    if folder is not None and folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"the store {folder} can only be read", remedy="make the folder writable, or choose another with --store."
        )


def absolute(uri: str) -> str:
    """The same address from any working folder."""
    return uri if is_server(uri) else str(user_path(uri).resolve())


def is_server(uri: str) -> bool:
    """Whether an address is a server's."""
    return "://" in uri


_ADDRESSES = "name a folder, or grpc+tls://HOST:PORT, with --store."
