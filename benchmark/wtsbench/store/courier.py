"""The courier: delivers the records of an outbox to the store, and deletes only those that it acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from wtsbench.contract.outbox import Ack, Batch, pending, read_batch
from wtsbench.errors import StoreError
from wtsbench.files import sync_folder
from wtsbench.settings import patience_seconds
from wtsbench.store.client import Store
from wtsbench.store.lock import persistently

MAX_ROWS = 200_000
"""Rows of one transaction, to bound memory for a large outbox. A larger record gets a transaction of its own."""
KEPT_BYTES = 2**28
"""Size of the records that are kept in memory; further ones are read again."""


class Records:
    """Cache of an outbox's records, each read and checked once while they fit into `KEPT_BYTES`."""

    def __init__(self) -> None:
        self._kept: dict[Path, Batch] = {}
        self._bytes = 0

    def read(self, path: Path) -> Batch:
        """One record; errors are those of `outbox.read_batch`."""
        batch = self._kept.get(path)
        if batch is None:
            batch = read_batch(path)
            if self._bytes + batch.data.nbytes <= KEPT_BYTES:
                self._kept[path] = batch
                self._bytes += batch.data.nbytes
        return batch

    def forget(self, path: Path) -> None:
        """Drop a record whose file is deleted: another file may get its name."""
        batch = self._kept.pop(path, None)
        self._bytes -= 0 if batch is None else batch.data.nbytes


def deliver(folder: Path, store: Store, *, patience: float | None = None, records: Records | None = None) -> list[Ack]:
    """Deliver the records of an outbox, in order of sequence number. Safe to repeat after a crash at any point.

    Records go in one transaction, or in several if they are many; all records of one are checked before it is sent. A
    file is deleted only when its record is acknowledged. If the store is busy or its server does not answer, the
    delivery is retried.

    Args:
        folder: the outbox of one attempt; a missing folder counts as empty.
        store: the destination.
        patience: seconds to go on retrying; None takes `settings.patience_seconds()`.
        records: cache of the outbox's records; their files have not changed since they were read.

    Returns:
        The acknowledgements, by sequence number.

    Raises:
        StoreError: a record is torn or of another attempt, or the store refused it. Records that were not
            acknowledged stay, and the attempt stays invisible without its last record, which is sent last.
    """
    deadline = time.monotonic() + (patience_seconds() if patience is None else patience)
    acks: list[Ack] = []
    for group in _groups(folder, records or Records()):
        acks += _send([batch for _, batch in group], store, deadline)
        for path, _ in group:
            path.unlink(missing_ok=True)
    if acks:
        sync_folder(folder)
    return acks


def _batches(folder: Path, records: Records) -> Iterator[tuple[Path, Batch]]:
    """The records of an outbox, all of one attempt; a record of another attempt is an error."""
    owner: tuple[str, int] | None = None
    for file in pending(folder):
        try:
            batch = records.read(file.path)
        except FileNotFoundError:  # another courier delivered it meanwhile
            continue
        owner = owner or (batch.trial_id, batch.attempt)
        if owner != (batch.trial_id, batch.attempt):
            raise StoreError(
                f"{file.path} is of attempt {batch.attempt} of trial {batch.trial_id[:12]}, the records before it of"
                f" attempt {owner[1]} of trial {owner[0][:12]}",
                remedy="remove the attempt's folder, and the trial will run again.",
            )
        yield file.path, batch


def _groups(folder: Path, records: Records) -> Iterator[list[tuple[Path, Batch]]]:
    group: list[tuple[Path, Batch]] = []
    rows = 0
    for path, batch in _batches(folder, records):
        if group and rows + batch.data.num_rows > MAX_ROWS:
            yield group
            group, rows = [], 0
        group.append((path, batch))
        rows += batch.data.num_rows
    if group:
        yield group


def _send(batches: list[Batch], store: Store, deadline: float) -> list[Ack]:
    return persistently(lambda: store.append(batches), deadline - time.monotonic())
