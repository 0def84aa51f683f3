"""The trial's side of the lease: it ends when nobody renews the lease file, so that no trial is ever orphaned."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from wtsbench.contract.folder import ExitCode
from wtsbench.settings import lease_seconds


class Lease:
    """A lease file, looked at from time to time.

    Its age is measured on this process's monotonic clock, from one change of the file to the next, as wall clocks jump.
    A lease whose file was removed has expired.
    """

    def __init__(self, path: Path) -> None:
        self._seconds = lease_seconds()
        self._path = path
        self._seen = _renewed(path)
        self._since = time.monotonic()

    @property
    def pause(self) -> float:
        """Seconds from one look to the next."""
        return min(1.0, self._seconds / 4)

    def expired(self) -> bool:
        """Look at the file: whether it was not renewed for too long. Reports that on standard error."""
        renewed = _renewed(self._path)
        if renewed is not None and renewed != self._seen:
            self._seen, self._since = renewed, time.monotonic()
        elif renewed is None or time.monotonic() - self._since > self._seconds:
            message = f"wtsbench: the lease was not renewed for {self._seconds:g} s; the trial ends itself"
            print(message, file=sys.stderr, flush=True)
            return True
        return False


def watch(path: Path) -> None:
    """Watch a lease in a thread, and end the process when it has expired.

    A supervisor creates the file before it starts the trial. Without it the trial was started by hand, or the fork
    server watches the lease, and nothing is watched here.
    """
    if path.exists():
        threading.Thread(target=_watch, args=(Lease(path),), name="lease", daemon=True).start()


def _watch(lease: Lease) -> None:
    while not lease.expired():
        time.sleep(lease.pause)
    os._exit(ExitCode.NO_RESULT)


def _renewed(lease: Path) -> int | None:
    try:
        return lease.stat().st_mtime_ns
    except OSError:
        return None
