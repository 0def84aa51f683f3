"""Limits on all requests of a server together: memory for their data, and how many are worked on at once."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from wtsbench.store.lock import StoreBusy

RECEIVED_BYTES = 2**30
"""Memory for all requests that are being received, unpacked or committed."""
MESSAGE_BYTES = 16 * 2**20
"""The largest message that a server accepts; larger requests are sent in several."""
RECEIVING = 64
"""Messages that are received at once: times `MESSAGE_BYTES`, this bounds the memory for incoming messages."""
MESSAGE_SECONDS = 30.0
"""How long receiving a message may take, or sending one to a client that does not read."""
WORKERS = 256
"""Threads that work on requests; waiting streams need none."""
CONNECTIONS = 1024
"""Connections at once, of all clients."""
FILES = 512
"""File handles that a server needs beside those of its connections."""


class Room:
    """Memory for requests, from their first byte until they are answered. A single request is always admitted."""

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
        """Memory of one request; the yielded function reserves a number of further bytes.

        Raises:
            StoreBusy: by that function, if others hold too much. It does not wait, since then all might wait for each
                other.
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


class Stop:
    """Ends the computation for a client that does not wait any more."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._ends: list[Callable[[], None]] = []
        self._stopped = False

    def add(self, end: Callable[[], None]) -> None:
        """Have `end` called on stopping; at once if stopped already."""
        with self._mutex:
            self._ends.append(end)
            if self._stopped:
                end()

    def __call__(self) -> None:
        """Stop."""
        with self._mutex:
            self._stopped = True
            for end in self._ends:
                end()


class Places:
    """A limit on concurrent operations, at most half of them for one token, so that others are never locked out.

    To be used on one event loop.
    """

    def __init__(self, places: int, seconds: float, full: str) -> None:
        """All places are free.

        Args:
            places: how many there are.
            seconds: how long to wait for one.
            full: message of the error after waiting in vain.
        """
        self._places = places
        self._seconds = seconds
        self._full = full
        self._taken: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def one(self, name: str) -> AsyncIterator[None]:
        """A place, until the end of the block.

        Args:
            name: name of the token.

        Raises:
            StoreBusy: no place became free in time.
        """
        most = max(1, self._places // 2)
        async with self._changed:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._changed.wait_for(
                        lambda: self._taken.total() < self._places and self._taken[name] < most
                    )
            except TimeoutError:
                raise StoreBusy(self._full, remedy="try again.") from None
            self._taken[name] += 1
        try:
            yield
        finally:
            self._taken[name] -= 1
            self._taken += Counter()  # removes names without a place
            async with self._changed:
                self._changed.notify_all()


def connections() -> int:
    """The allowed number of connections, after raising the process's limit of open files accordingly."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, soft - FILES))
