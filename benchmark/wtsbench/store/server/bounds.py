"""What all requests together may take of a server: memory for what they send, and places to be worked on."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from wtsbench.store.lock import StoreBusy

RECEIVED_BYTES = 2**30
"""What all requests that are being received, unpacked or committed may hold."""
MESSAGE_BYTES = 16 * 2**20
"""The largest message that a server takes; larger requests come in several."""
RECEIVING = 64
"""Messages that are received at once: with `MESSAGE_BYTES`, what may be on its way into the server's memory."""
MESSAGE_SECONDS = 30.0
"""How long a message may take to come or, where a client does not read on, to go."""
WORKERS = 256
"""Threads that work on requests; streams that only wait have none."""
CONNECTIONS = 1024
"""Connections at once, whoever they are of."""
FILES = 512
"""File handles that a server needs beside those of its connections."""


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


class Stop:
    """Ends what is being computed for somebody who does not wait any more."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._ends: list[Callable[[], None]] = []
        self._stopped = False

    def add(self, end: Callable[[], None]) -> None:
        """Call this when it is time; at once, if that has come."""
        with self._mutex:
            self._ends.append(end)
            if self._stopped:
                end()

    def __call__(self) -> None:
        """Now."""
        with self._mutex:
            self._stopped = True
            for end in self._ends:
                end()


class Places:
    """So many of one thing at once, of which no token may have more than half: the others' are never all taken.

    To be used on one event loop.
    """

    def __init__(self, places: int, seconds: float, full: str) -> None:
        """Nobody has a place.

        Args:
            places: how many there are.
            seconds: how long to wait for one.
            full: what whoever waited in vain is told.
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
            name: whose.

        Raises:
            StoreBusy: there is none for too long.
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
            self._taken += Counter()  # forgets names without a place
            async with self._changed:
                self._changed.notify_all()


def connections() -> int:
    """How many connections there may be, after seeing to it that the process may open as many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, soft - FILES))
