"""The lock of a store's folder: many readers or one writer, across the processes of a machine.

The kernel holds it (`flock`), so a process that dies releases it. `store.lock` is the lock itself and names its writer;
`store.turn` is the queue before it: the process next in line holds it, so that neither readers nor a busy writer can
starve the others.
"""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from wtsbench.errors import StoreError
from wtsbench.settings import lock_seconds

LOCK_NAME = "store.lock"
TURN_NAME = "store.turn"
_UNKNOWN = "other processes that read it"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_T = TypeVar("_T")
_LOOK = 0.5
"""Seconds between two checks whether to go on waiting."""


class StoreBusy(StoreError):
    """Others held the store for too long: the one store error that is worth a retry."""


def persistently(call: Callable[[], _T], seconds: float, *, fault: type[StoreBusy] = StoreBusy) -> _T:
    """Call until it succeeds, with longer and longer pauses.

    Args:
        call: may be repeated.
        seconds: how long to retry; then the error is raised.
        fault: the error to retry after; any other is raised at once.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            return call()
        except fault:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


@contextmanager
def locked(folder: Path, *, shared: bool, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the lock of a store's folder.

    Args:
        folder: the store's folder; it exists.
        shared: for reading. A folder without a lock file that cannot get one is read without a lock.
        unless: called repeatedly while waiting; true ends the wait.

    Raises:
        StoreBusy: others held it for `lock_seconds()`, or `unless` ended the wait.
        StoreError: the lock cannot be made.
    """
    limit = lock_seconds()
    deadline = time.monotonic() + limit
    lock = _open(folder / LOCK_NAME, shared=shared)
    if lock is None:
        yield
        return
    try:
        turn = _open(folder / TURN_NAME, shared=shared)
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            acquired = (turn is None or _wait(turn, fcntl.LOCK_EX, deadline, unless)) and _wait(
                lock, kind, deadline, unless
            )
        finally:
            if turn is not None:
                _release(turn)
        if not acquired:
            raise StoreBusy(
                f"the store {folder} was in use for {limit:g} s by {_holder(lock)}",
                remedy="try again when that has ended; what waits to be delivered is kept.",
            )
        if not shared:
            _write(lock, _signature())
        try:
            yield
        finally:
            if not shared:
                _write(lock, "")
    finally:
        _release(lock)


def _open(path: Path, *, shared: bool) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if not shared:
            raise StoreError(
                f"the store {path.parent} cannot be written: {error.strerror}",
                remedy="make the folder writable, or choose another with --store.",
            ) from None
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the store {path.parent} cannot be read: {error.strerror}") from None


def _wait(handle: int, kind: int, deadline: float, unless: Callable[[], bool]) -> bool:
    """Wait for a lock until the deadline; whether it was acquired.

    A thread waits: only blocking calls are served first come, first served, and only a thread can be abandoned in one.
    """
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        pass
    except OSError as error:
        raise StoreError(
            f"the file system of the store does not lock files: {error.strerror}", remedy="keep it on a local disk."
        ) from error
    waiting = _Waiting(os.dup(handle), kind)
    waiting.start()
    try:
        while waiting.is_alive() and time.monotonic() < deadline and not unless():
            waiting.join(min(_LOOK, max(0.0, deadline - time.monotonic())))
    finally:
        acquired = waiting.leave()
    return acquired


class _Waiting(threading.Thread):
    """Acquires a lock on a handle of its own, and releases it if the wait was given up meanwhile."""

    def __init__(self, handle: int, kind: int) -> None:
        super().__init__(daemon=True, name="wtsbench-store-lock")
        self._handle = handle
        self._kind = kind
        self._mutex = threading.Lock()
        self._had = False
        self._left = False

    def run(self) -> None:
        """Block until the lock is acquired."""
        try:
            fcntl.flock(self._handle, self._kind)
            with self._mutex:
                self._had = True
                if self._left:
                    fcntl.flock(self._handle, fcntl.LOCK_UN)
        finally:
            os.close(self._handle)

    def leave(self) -> bool:
        """Stop waiting; whether the lock was acquired. If it is acquired later, it is released at once."""
        with self._mutex:
            self._left = True
            return self._had


def _release(handle: int) -> None:
    # Closing alone does not release it if a process was forked meanwhile: that holds the same open file.
    try:
        fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def _signature() -> str:
    words = [Path(sys.argv[0]).name or "python", *sys.argv[1:2]]
    since = datetime.now(UTC).strftime("%H:%M:%S UTC")
    return f"{os.getpid()}\n{platform.node()}\nprocess {os.getpid()} ({' '.join(words)[:80]}) since {since}"


def _write(handle: int, text: str) -> None:
    # Only information for waiting processes: a full disk must not make it an error.
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def _holder(handle: int) -> str:
    """The process that signed the lock; if it is dead, its signature is a leftover and ignored."""
    pid, host, words = (*os.pread(handle, 400, 0).decode(errors="replace").split("\n"), "", "", "")[:3]
    if not pid.isdecimal():
        return _UNKNOWN
    if host != platform.node():
        return f"{words} on {host}"
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return _UNKNOWN
    except PermissionError:
        return words
    return words
