"""What all requests together may take of a server: memory for what they send, and places to be worked on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from wtsbench.store.lock import StoreBusy
from wtsbench.store.server.guard import Refused

RECEIVED_BYTES = 2**30
"""What all requests that are being received, unpacked or committed may hold."""


class Room:
    """Memory for requests, from their first byte until they are answered. One alone always has room."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._requests = 0
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that requests hold now."""
        return self._held

    @contextmanager
    def request(self) -> Iterator[Callable[[int], None]]:
        """A request's share: the yielded function takes so many bytes more of it.

        Raises:
            StoreBusy: by that function: others hold too much. Waiting for them would not do, for all might.
        """
        own = 0
        with self._mutex:
            self._requests += 1

        def take(size: int) -> None:
            nonlocal own
            with self._mutex:
                if self._requests > 1 and self._held + size > RECEIVED_BYTES:
                    raise StoreBusy(
                        f"the server receives more than {RECEIVED_BYTES // 2**20} MiB at once",
                        remedy="try again; nothing was lost.",
                    )
                self._held += size
                own += size

        try:
            yield take
        finally:
            with self._mutex:
                self._requests -= 1
                self._held -= own


def counted(batches: Iterable[pa.RecordBatch], take: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    """What comes in, each batch after room was taken for it."""
    for batch in batches:
        take(batch.nbytes)
        yield batch


def no_more(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """An answer, up to so many bytes.

    Raises:
        Refused: it is larger.
    """
    given = 0
    try:
        for batch in batches:
            given += batch.nbytes
            if given > size:
                raise Refused(
                    f"the answer is larger than {size / 2**20:g} MiB",
                    remedy="narrow it with WHERE or LIMIT, or export the store.",
                )
            yield batch
    finally:
        batches.close()  # type: ignore[attr-defined]  # it is a generator, and holds a reader's place
