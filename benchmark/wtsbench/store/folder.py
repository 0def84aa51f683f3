"""The store in a folder: lock, open, one transaction, close."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.errors import NoStore, StoreError
from wtsbench.store import queries
from wtsbench.store.explain import OTHER_FOLDER, not_ours
from wtsbench.store.lock import LOCK_NAME, TURN_NAME, locked
from wtsbench.store.outbox import Ack, Batch
from wtsbench.store.queries import Query

if TYPE_CHECKING:
    from wtsbench.store.engine import Engine

DATABASE = "store.duckdb"
_OWN_NAMES = frozenset({DATABASE, LOCK_NAME, TURN_NAME, "spool", "lost+found"})


@dataclass(frozen=True)
class FolderStore:
    """A store in a folder, shared by the processes of one machine. Its methods are those of `client.Store`.

    Every operation takes the folder's lock, opens the database for one transaction and lets go of both. So commands can
    read while a submission writes, and a killed process holds nothing.
    """

    folder: Path

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self.folder)

    def open(self, *, create: bool) -> None:
        """See that the store is there and ours, and bring one of an older schema version up to date.

        Args:
            create: make it where there is none; several may try at once.

        Raises:
            StoreError: it is not there, not ours, of a newer schema version, or cannot be read or made.
        """
        from wtsbench.store.engine import OlderSchema

        try:
            if not (self.folder / DATABASE).exists():
                if not create or not self._may_become_store():
                    raise self._absent()
                self._make()
        except OSError as error:
            raise StoreError(
                f"the store {self.folder} cannot be used: {error.strerror}", remedy=OTHER_FOLDER
            ) from error
        try:
            with self._engine(read_only=True):
                pass
        except OlderSchema:
            with self._engine():
                pass

    def _make(self) -> None:
        from wtsbench.store.engine import Engine

        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, shared=False):
            if not (self.folder / DATABASE).exists():
                Engine.create(self.folder / DATABASE)

    def _may_become_store(self) -> bool:
        return not self.folder.exists() or (self.folder.is_dir() and not self._strangers())

    def _strangers(self) -> list[str]:
        names = (path.name for path in self.folder.iterdir())
        return sorted(name for name in names if name not in _OWN_NAMES and not name.startswith("."))

    def _absent(self) -> StoreError:
        if self.folder.exists() and not self.folder.is_dir():
            return StoreError(f"{self.folder} is a file, not a folder", remedy=OTHER_FOLDER)
        if self.folder.is_dir() and self._strangers():
            return not_ours(self.folder, f"it holds {self._strangers()[0]} and no {DATABASE}")
        return NoStore(
            f"there is no store in {self.folder}", remedy="`wtsbench submit` makes one; --store names another folder."
        )

    @contextmanager
    def _engine(self, *, read_only: bool = False) -> Iterator[Engine]:
        from wtsbench.store.engine import Engine

        with locked(self.folder, shared=read_only), Engine.open(self.folder / DATABASE, read_only=read_only) as engine:
            yield engine

    def _read(self, query: Query) -> pa.Table:
        with self._engine(read_only=True) as engine:
            return engine.read(query)

    def begin_attempt(self, trial_id: str, *, run: str) -> int:
        """Take the next attempt number of a trial."""
        with self._engine() as engine:
            return engine.begin_attempt(trial_id, run)

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Make records durable in one transaction."""
        if not batches:
            return []
        with self._engine() as engine:
            return engine.append(batches)

    def sealed(self, trial_id: str, attempt: int) -> bool:
        """Whether an attempt has ended."""
        with self._engine(read_only=True) as engine:
            return engine.sealed(trial_id, attempt)

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
        if pc.any(pc.not_equal(items["data_digest"], data_digest)).as_py():
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
        with self._engine() as engine:
            engine.put_dataset(row, items)

    def has_dataset(self, data_digest: str) -> bool:
        """Whether a prepared data set is there."""
        found: int = self._read(queries.datasets(data_digest)).num_rows
        return found > 0

    def put_grid(self, *, name: str, grid_digest: str, yaml: str, cells: Sequence[dict[str, Any]]) -> None:
        """Keep what was asked for."""
        with self._engine() as engine:
            engine.put_grid(name, grid_digest, yaml, json.dumps(list(cells), sort_keys=True))

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

    def trials(self, trial_ids: Sequence[str] | None = None) -> pa.Table:
        """Sealed attempts."""
        return self._read(queries.trials(trial_ids))

    def predictions(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Predictions of the attempts that succeeded."""
        return self._read(queries.predictions(trial_ids, splits=splits))

    def generations(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Generations of the attempts that succeeded."""
        return self._read(queries.generations(trial_ids, splits=splits))

    def scores(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Scores of those generations."""
        return self._read(queries.scores(trial_ids, splits=splits))

    def metrics(self, trial_ids: Sequence[str], *, final_only: bool = False) -> pa.Table:
        """Metrics of sealed attempts."""
        return self._read(queries.metrics(trial_ids, final_only=final_only))

    def logs(self, trial_id: str, attempt: int | None = None) -> pa.Table:
        """Log lines of a trial's sealed attempts."""
        return self._read(queries.logs(trial_id, attempt))
