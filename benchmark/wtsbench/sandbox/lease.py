"""The supervisor's end of the lease: while the trial runs, its process holds `DIR/lease` and a thread touches it.

Two things can be told from it, and neither needs clocks that agree: nobody holds it, so its supervisor is dead; or it
is held and stays untouched, so its supervisor is stopped or stalled.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from wtsbench.settings import lease_seconds

RENEWAL_SECONDS = 2.0
_LOOK_SECONDS = 5.0
"""For who looks at a lease to be done with it, on however busy a machine."""


class Renewal:
    """A context in which a lease is held and renewed.

    The file is made first and only touched afterwards, never replaced: a container sees it through a mount of the file.
    The kernel lets go of it when this process dies, however it dies.
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
        with contextlib.suppress(OSError):  # a file system without locks: whoever looks then goes by the renewals
            self._hold()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._handle)

    def _hold(self) -> None:
        """Take the lock; who only looks at the lease has it for a moment (`look_at`)."""
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
                continue  # a lease that stays unrenewed ends the trial, and its exit code tells


@dataclass(frozen=True, kw_only=True)
class LeaseState:
    """What one look at a lease tells."""

    gone: bool = False
    """There is no such file: its trial folder was removed."""
    held: bool | None = None
    """Whether the process of its supervisor lives; None where that cannot be told."""
    renewed: int | None = None
    """When it was last touched by the clock of whoever did, in ns: good for telling one touch from the next only."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody will ever renew it again."""
        return self.gone or self.held is False


def look_at(lease: Path) -> LeaseState:
    """Look at somebody's lease, without keeping them from anything."""
    try:
        handle = os.open(lease, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return LeaseState(gone=True)
    except OSError:  # a folder of somebody else, or a file system that does not answer well: nothing is known
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
