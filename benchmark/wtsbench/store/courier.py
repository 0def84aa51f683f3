"""The courier: carries the records of an outbox to the store, and forgets only what the store acknowledged."""

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
"""Rows of one transaction, so that a large outbox needs no large memory. A larger record goes alone."""
KEPT_BYTES = 2**28
"""Of records that are kept from one use to the next; more are read again."""


class Records:
    """Records of an outbox, each read and checked once, as long as they are not too many to be kept."""

    def __init__(self) -> None:
        self._kept: dict[Path, Batch] = {}
        self._bytes = 0

    def read(self, path: Path) -> Batch:
        """One of them; errors are those of `outbox.read_batch`."""
        batch = self._kept.get(path)
        if batch is None:
            batch = read_batch(path)
            if self._bytes + batch.data.nbytes <= KEPT_BYTES:
                self._kept[path] = batch
                self._bytes += batch.data.nbytes
        return batch

    def forget(self, path: Path) -> None:
        """Let go of one whose file goes away: another may get its name."""
        batch = self._kept.pop(path, None)
        self._bytes -= 0 if batch is None else batch.data.nbytes


def deliver(folder: Path, store: Store, *, patience: float | None = None, records: Records | None = None) -> list[Ack]:
    """Send what waits in an outbox, in order of sequence number. Safe to repeat after a crash at any point.

    Records go in one transaction, or in several if they are many; all of one are checked before it is sent. A file is
    deleted only when its record is acknowledged. Where others hold the store, or its server does not answer, it is
    tried again.

    Args:
        folder: the outbox of one attempt; one that is not there is empty.
        store: where to.
        patience: seconds after which trying again ends; None takes `settings.patience_seconds()`.
        records: those of the outbox that were read already; nobody has written to their files since.

    Returns:
        The acknowledgements, by sequence number.

    Raises:
        StoreError: a record is torn or foreign, or the store did not take it. What was not acknowledged stays, and
            without its last record, which goes last, nobody sees the attempt.
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
    """The records of an outbox, which are all of one attempt: what names another was not put there by us."""
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
