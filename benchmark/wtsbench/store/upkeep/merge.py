"""Merging stores: equal contents are kept once, and a contradiction is an error that leaves both unchanged.

A *source* is another store's folder or an export. It provides data sets, submissions, and attempts as their original
records, with keys and digests: so merging again, or in the other direction, changes nothing.

The digest of every record, data set and submission is verified, so one that was changed since, by the disk or by hand,
ends the merge.

An attempt whose number is taken by another one of the same trial gets the next free number. A trial that is done on
both sides is kept once if the predictions agree to the last bit, and is a conflict if they do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from wtsbench.contract.digests import content_digest, grid_digest_of, holds, records_digest
from wtsbench.contract.outbox import Batch, check_batch
from wtsbench.contract.schemas import RECORD_TABLES
from wtsbench.errors import StoreError
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.engine.tables import SAME_RESULTS
from wtsbench.store.engine.transaction import Begun, Engine
from wtsbench.store.folder import DATABASE, FolderStore
from wtsbench.store.lock import StoreBusy, locked
from wtsbench.store.owner import living_owner
from wtsbench.store.upkeep.archive import Archive
from wtsbench.store.upkeep.export import ExportSource
from wtsbench.store.upkeep.manifest import MANIFEST
from wtsbench.store.upkeep.verify import digest_of

RESULTS = tuple(table for table in RECORD_TABLES if table not in ("trials", "logs", "metrics"))
"""Tables in which two runs of one trial must agree; durations and logs may differ."""


class Source(Protocol):
    """The store to merge in."""

    def attempts(self) -> Sequence[Begun]:
        """Every attempt."""

    def records(self, trial_id: str, attempt: int) -> list[Batch]:
        """An attempt's records; empty if it was superseded."""

    def datasets(self) -> Iterator[tuple[dict[str, Any], pa.Table]]:
        """Every data set's row, with its items in their order."""

    def grids(self) -> list[dict[str, Any]]:
        """Submissions, by their number."""


@dataclass(kw_only=True)
class Merged:
    """Counts of a merge."""

    attempts: int = 0
    """New ones."""
    known: int = 0
    """Attempts that were stored before, or whose trial was done before with equal results."""
    renumbered: int = 0
    """New attempts that got another number, because theirs was taken."""
    datasets: int = 0
    grids: int = 0

    def record(self) -> dict[str, int]:
        """As JSON-able values."""
        return asdict(self)


def merge(source: Path, folder: Path) -> Merged:
    """Merge a source into a store's folder that no server owns, in one transaction.

    Args:
        source: another store's folder, a backup, or an export.
        folder: the destination, made if there is none.

    Raises:
        StoreConflict: the same trial has other results, or the same data set other items; nothing is merged.
        StoreError: the store cannot be written, or the source is incomplete, was changed since it was written, or is
            that store itself; nothing is merged.
    """
    FolderStore(folder).open(create=True)
    with (
        opened(source, folder) as opened_source,
        locked(folder, shared=False),
        Engine.open(folder / DATABASE, read_only=False) as engine,
    ):
        return merge_into(opened_source, engine)


@contextmanager
def opened(source: Path, folder: Path) -> Iterator[Source]:
    """Open a source by its path, to be merged into a store's folder.

    Raises:
        StoreError: it is no source, is incomplete, is owned by a server, or is that store itself.
    """
    if (source / MANIFEST).is_file():
        yield ExportSource(source)
        return
    path = source / DATABASE if source.is_dir() else source
    if path.resolve() == (folder / DATABASE).resolve():
        raise StoreError(f"{source} and {folder} are the same store")
    if not path.is_file():
        raise StoreError(f"{source} is no store", remedy="name a store's folder, a backup, or an export.")
    if living_owner(path.parent) is not None:
        raise StoreBusy(f"the store {source} is served", remedy="merge a backup of it: `wtsbench store backup`.")
    with locked(path.parent, shared=True), Engine.open(path, read_only=True, oldest=SAME_RESULTS) as engine:
        yield Archive(engine)


def merge_into(source: Source, engine: Engine) -> Merged:
    """Merge a source into the store of an open transaction; see `merge`."""
    archive = Archive(engine)
    merged = Merged()
    for row, items in source.datasets():
        if digest_of(row, items) != row["data_digest"]:
            raise _altered(f"the items of data set {row['data_digest'][:12]}")
        merged.datasets += _take_dataset(engine, archive, row, items)
    grids = source.grids()
    for row in grids:
        if grid_digest_of(row["name"], row["cells"]) != row["grid_digest"]:
            raise _altered(f"submission {row['submission']} of grid {row['name']}")
    merged.grids = archive.take_grids(grids)
    for begun in source.attempts():
        records = source.records(begun.trial_id, begun.attempt)
        _require_as_sent(begun.trial_id, begun.attempt, records)
        _take_attempt(engine, archive, merged, begun, records)
    return merged


def _require_as_sent(trial_id: str, attempt: int, records: Sequence[Batch]) -> None:
    """Refuse an attempt with a record that was changed, is missing or was added."""
    what = f"attempt {attempt} of trial {trial_id[:12]}"
    if attempt < 1:
        raise _altered(what)
    for batch in records:
        check_batch(batch)
        if (batch.trial_id, batch.attempt) != (trial_id, attempt) or not holds(batch.digest, batch.table, batch.data):
            raise _altered(f"record {batch.sequence} of {what}")
        digest = batch.data.column("records_digest")[0].as_py() if batch.table == "trials" else None
        if digest is not None and digest != records_digest({record.sequence: record.digest for record in records}):
            raise _altered(f"the records of {what}")


def _altered(what: str) -> StoreError:
    return StoreError(
        f"{what} {'are' if what.startswith('the ') else 'is'} not what was stored first: the digest differs",
        remedy="nothing was merged. `wtsbench store verify` looks at a whole store; take a backup of the source, or"
        " export it again.",
    )


def _take_dataset(engine: Engine, archive: Archive, row: dict[str, Any], items: pa.Table) -> bool:
    """Store a data set of the source; whether it is new."""
    digest = row["data_digest"]
    if not archive.has_dataset(digest):
        engine.put_dataset(row, items)
        return True
    _, stored_items = archive.dataset(digest)
    order = [("split", "ascending"), ("item_id", "ascending")]
    if not stored_items.sort_by(order).equals(items.sort_by(order)):
        raise StoreConflict(f"data set {digest[:12]} has other items on the two sides", remedy="verify both.")
    return False


def _take_attempt(engine: Engine, archive: Archive, merged: Merged, begun: Begun, records: list[Batch]) -> None:
    trial_id, attempt = begun.trial_id, begun.attempt
    digests = {batch.sequence: batch.digest for batch in records}
    ledger = archive.ledger(trial_id)
    if not records:  # only begun, or superseded in its store
        if attempt in ledger:
            merged.known += 1
            return
        engine.know(begun)
        merged.attempts += 1
        return
    seal = next((batch for batch in records if batch.table == "trials"), None)
    sealed = seal is not None and seal.records is not None and len(records) >= seal.records
    for stored in ledger.values():
        # The same records under another number: merged before. Or the same attempt, with more records on one side.
        if stored and stored.items() >= digests.items() and stored.keys() == digests.keys():
            merged.known += 1
            return
    content = _content(records)
    for number, stored in ledger.items():
        if stored and len(stored) == len(records) and _content(archive.records(trial_id, number)) == content:
            merged.known += 1
            return
    if seal is not None and sealed and seal.status == "done":
        other = archive.done_attempt(trial_id)
        if other is not None:
            if _results(archive.records(trial_id, other)) != _results(records):
                raise StoreConflict(
                    f"trial {trial_id[:12]} is done on both sides, with different results",
                    remedy="find out which machine computes wrongly; neither store was changed.",
                )
            merged.known += 1
            return
    same = ledger.get(attempt)
    if same is not None and same.items() <= digests.items():
        number = attempt  # begun here, or delivered here in part
    elif same is None:
        number = attempt
    elif not sealed:
        merged.known += 1  # not visible anyway
        return
    else:
        number = max(ledger) + 1
        merged.renumbered += 1
    if number not in ledger:
        engine.know(begun._replace(attempt=number))
    engine.append(records if number == attempt else [_renumbered(batch, number) for batch in records])
    merged.attempts += 1


def _renumbered(batch: Batch, attempt: int) -> Batch:
    """The record with another attempt number."""
    place = batch.data.schema.get_field_index("attempt")
    field = batch.data.schema.field(place)
    numbers = pa.repeat(pa.scalar(attempt, field.type), batch.data.num_rows)
    data = batch.data.set_column(place, field, numbers)
    return replace(batch, attempt=attempt, data=data, digest=content_digest(batch.table, data))


def _content(records: Sequence[Batch]) -> list[tuple[int, str, str]]:
    """An attempt's contents, independent of its number."""
    return [(batch.sequence, batch.table, _renumbered(batch, 0).digest) for batch in records]


def _results(records: Sequence[Batch]) -> dict[str, pa.Table]:
    """An attempt's results by table, in a fixed order."""
    results = {}
    for table in RESULTS:
        parts = [batch.data.drop_columns(["attempt"]) for batch in records if batch.table == table]
        if parts:
            rows = pa.Table.from_batches(parts)
            keys = [name for name in ("scorer", "split", "item_id", "sample") if name in rows.schema.names]
            results[table] = rows.sort_by([(key, "ascending") for key in keys]).combine_chunks()
    return results
