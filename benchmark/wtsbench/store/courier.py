"""The courier: carries the records of an outbox to the store, and forgets only what the store acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from wtsbench.contract.outbox import Ack, Batch, pending, read_batch
from wtsbench.errors import StoreError
from wtsbench.files import sync_folder
from wtsbench.store.client import Store
from wtsbench.store.lock import patience as default_patience
from wtsbench.store.lock import persistently

MAX_ROWS = 200_000
"""Rows of one transaction, so that a large outbox needs no large memory. A larger record goes alone."""


def deliver(folder: Path, store: Store, *, patience: float | None = None) -> list[Ack]:
    """Send what waits in an outbox, in order of sequence number. Safe to repeat after a crash at any point.

    Everything is read and checked before anything is sent. Records go in one transaction, or in several if they are
    many. A file is deleted only when its record is acknowledged. Where others hold the store, or its server does not
    answer, it is tried again.

    Args:
        folder: the outbox of one attempt; one that is not there is empty.
        store: where to.
        patience: seconds after which trying again ends; None takes `lock.patience()`.

    Returns:
        The acknowledgements, by sequence number.

    Raises:
        StoreError: a record is torn or foreign, or the store did not take it. What was not acknowledged stays.
    """
    deadline = time.monotonic() + (default_patience() if patience is None else patience)
    acks: list[Ack] = []
    _check(folder)
    for group in _groups(folder):
        acks += _send([batch for _, batch in group], store, deadline)
        for path, _ in group:
            path.unlink(missing_ok=True)
    if acks:
        sync_folder(folder)
    return acks


def _check(folder: Path) -> None:
    """An outbox is of one attempt: what names another was not put there by us."""
    owner: tuple[str, int] | None = None
    for path, batch in _batches(folder):
        owner = owner or (batch.trial_id, batch.attempt)
        if owner != (batch.trial_id, batch.attempt):
            raise StoreError(
                f"{path} is of attempt {batch.attempt} of trial {batch.trial_id[:12]}, the records before it of attempt"
                f" {owner[1]} of trial {owner[0][:12]}",
                remedy="remove the attempt's folder, and the trial will run again.",
            )


def _batches(folder: Path) -> Iterator[tuple[Path, Batch]]:
    for file in pending(folder):
        try:
            yield file.path, read_batch(file.path)
        except FileNotFoundError:  # another courier delivered it meanwhile
            continue


def _groups(folder: Path) -> Iterator[list[tuple[Path, Batch]]]:
    group: list[tuple[Path, Batch]] = []
    rows = 0
    for path, batch in _batches(folder):
        if group and rows + batch.data.num_rows > MAX_ROWS:
            yield group
            group, rows = [], 0
        group.append((path, batch))
        rows += batch.data.num_rows
    if group:
        yield group


def _send(batches: list[Batch], store: Store, deadline: float) -> list[Ack]:
    return persistently(lambda: store.append(batches), deadline - time.monotonic())
