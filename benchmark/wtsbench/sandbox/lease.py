"""The supervisor's side of the lease: while the trial runs, it holds a lock on `DIR/lease`, and a thread touches it.

Two things can be told from the file, neither of which needs clocks that agree: if nobody holds the lock, the supervisor
is dead; if the lock is held and the file stays untouched, the supervisor is stopped or stalled.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from wtsbench.settings import lease_seconds

RENEWAL_SECONDS = 2.0
_LOOK_SECONDS = 5.0
"""How long another process may take to look at a lease, on a busy machine."""


class Renewal:
    """A context in which a lease is held and renewed.

    The file is made once and then only touched, never replaced: a container sees it through a mount of the file. The
    kernel releases the lock when this process dies, in whatever way.
    """

    def __init__(self, lease: Path, *, every: float | None = None) -> None:
        self._lease = lease
        self._every = min(RENEWAL_SECONDS, lease_seconds() / 5) if every is None else every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease renewal", daemon=True)
        self._handle = -1

    def __enter__(self) -> Renewal:
        self._lease.touch()
        self._handle = os.open(self._lease, os.O_RDWR | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a file system without locks: there only the renewals count
            self._hold()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._handle)

    def _hold(self) -> None:
        """Take the lock; a process that looks at the lease holds it for a moment (`look_at`)."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while True:
            try:
                return fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _renew(self) -> None:
        while not self._stop.wait(self._every):
            try:
                os.utime(self._lease)
            except OSError:
                continue  # without renewals the trial ends itself, with an exit code that says why


@dataclass(frozen=True, kw_only=True)
class LeaseState:
    """What one look at a lease tells."""

    gone: bool = False
    """There is no such file: its trial folder was removed."""
    held: bool | None = None
    """Whether the process of its supervisor lives; None where that cannot be told."""
    renewed: int | None = None
    """Time of the last touch in ns, by the clock of that machine: only good to tell two touches apart."""

    @property
    def abandoned(self) -> bool:
        """Whether it is certain that nobody will renew it again."""
        return self.gone or self.held is False


def look_at(lease: Path) -> LeaseState:
    """Look at a lease of another process, without disturbing it."""
    try:
        handle = os.open(lease, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return LeaseState(gone=True)
    except OSError:  # another user's folder, or a file system that fails: nothing can be told
        return LeaseState()
    try:
        renewed = os.fstat(handle).st_mtime_ns
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return LeaseState(held=True, renewed=renewed)
        except OSError:
            return LeaseState(renewed=renewed)
        return LeaseState(held=False, renewed=renewed)
    finally:
        os.close(handle)
