"""The reaper: one small process per node, user and engine that removes containers whose supervisor is dead.

`python -m wtsbench.sandbox.reaper` starts it, in a session of its own, so that it outlives whatever started it. It ends
itself when there has been no container for a while. It logs to `wtsbench/reaper/*.log` in the user's cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from wtsbench.errors import SandboxError
from wtsbench.images.docker_engine import address, connect, node, said_by_engine
from wtsbench.sandbox import log
from wtsbench.sandbox.environment import process_environment
from wtsbench.sandbox.leftovers import Patience, remove, trial_containers, why
from wtsbench.settings import cache_folder, lease_seconds
from wtsbench.spec.address import split_address

MODULE = "wtsbench.sandbox.reaper"
LOOKS_PER_LEASE = 10
_LONGEST_PAUSE = 3.0
IDLE_LEASES = 10
"""It ends when there has been no container for this many times the lease's time,"""
SILENT_LEASES = 120
"""or when the engine has not answered for this many times the lease's time."""
_ANSWER_SECONDS = 20.0
_OTHER_STAYS_SECONDS = 5.0
"""A reaper that holds the lock and announces itself for this long is taken to stay."""
_ENDING_SECONDS = 30.0
"""How long a reaper that has withdrawn its announcement may take to end, or to announce itself again."""
_NEEDED = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "WTSBENCH_CACHE", "XDG_CACHE_HOME")

_log = logging.getLogger(__name__)


def ensure() -> None:
    """Start a reaper if none watches the engine. To be called after a container was made.

    A failure to start it is only logged: trials end by themselves when their lease runs out.
    """
    if running() is not None:
        return
    try:
        _place().parent.mkdir(parents=True, exist_ok=True)
        environment = process_environment(1) | {name: os.environ[name] for name in _NEEDED if name in os.environ}
        with log_file().open("ab") as output:
            subprocess.run(  # returns at once: the reaper goes on as a grandchild
                [sys.executable, "-P", "-m", MODULE],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
            )
    except (OSError, subprocess.CalledProcessError) as error:
        _log.warning("no reaper watches the containers of this node: %s", error)


def note(line: str) -> None:
    """Add a line to the log of this node's reaper."""
    with contextlib.suppress(OSError):  # no trial may fail for its log
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def log_file() -> Path:
    """The log of the reaper of this node, user and engine."""
    return _place().with_suffix(".log")


def running() -> int | None:
    """Process id of the reaper of this node, user and engine."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_place().read_text())
        if MODULE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def main() -> int:
    """Fork into the background and watch until there is nothing to watch. Ends if another reaper watches already."""
    if os.fork():
        os._exit(0)
    os.setsid()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    handle = os.open(_place(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if _take_turn(handle):
        Reaper(handle).watch()
    return 0


class Reaper:
    """Looks at the engine's containers again and again, and removes those whose supervisor is dead or stalled."""

    def __init__(self, handle: int) -> None:
        """A reaper with the lease's time of this environment.

        Args:
            handle: the file that says which process watches (`_place`), open for writing.
        """
        self._handle = handle
        self._every = min(_LONGEST_PAUSE, lease_seconds() / LOOKS_PER_LEASE)
        self._patience = Patience(longest=2 * self._every)
        self._looked = time.monotonic()

    def watch(self) -> None:
        """Return when there has been nothing to watch for a while."""
        self._announce(True)
        _log.info("reaper %d watches %s, every %g s", os.getpid(), address(), self._every)
        idle = silent = 0.0
        while True:
            time.sleep(self._every)
            try:
                left = self.look()
            except SandboxError as error:
                if silent == 0.0:
                    _log.info("waiting for the engine: %s", error.message)
                silent += self._every
                if silent > SILENT_LEASES * lease_seconds() or not _may_come_back():
                    self._announce(False)
                    _log.info("reaper %d ends: the engine does not come back", os.getpid())
                    return
                continue
            if silent:
                _log.info("the engine answers again")
            silent, idle = 0.0, 0.0 if left else idle + self._every
            log.bound(log_file())
            if idle > IDLE_LEASES * lease_seconds() and self._may_end():
                _log.info("reaper %d ends: there are no containers", os.getpid())
                return

    def _may_end(self) -> bool:
        """Withdraw the announcement, then look once more: who makes a container looks for a reaper afterwards."""
        self._announce(False)
        with contextlib.suppress(SandboxError):
            if not self.look():
                return True
        self._announce(True)
        return False

    def _announce(self, watching: bool) -> None:
        """Write down that this process watches from now on, or no more."""
        os.ftruncate(self._handle, 0)
        if watching:
            os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def look(self) -> int:
        """Remove containers whose supervisor is dead or stalled; the number of those left.

        Raises:
            SandboxError: the engine does not answer.
        """
        with connect(seconds=_ANSWER_SECONDS) as client, said_by_engine("the engine does not answer"):
            containers = trial_containers(client)
            now = time.monotonic()
            stale = self._patience.stale(containers, now - self._looked)
            self._looked = now
            return len(containers) - sum(remove(container, why(state)) for container, state in stale)


def _place() -> Path:
    """File with the process id of the reaper of this node, user and engine, which it keeps locked while it lives."""
    key = hashlib.sha256(f"{node()}\n{os.getuid()}\n{address()}".encode()).hexdigest()[:16]
    return cache_folder() / "reaper" / f"{key}.pid"


def _may_come_back() -> bool:
    """Whether the folder of the engine's socket still exists: it goes with a temporary engine, as in tests."""
    parts = split_address(address())
    return parts.scheme != "unix" or Path(parts.path).parent.is_dir()


def _take_turn(handle: int) -> bool:
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < _ENDING_SECONDS:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if waited > _OTHER_STAYS_SECONDS and running() is not None:
            return False
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    sys.exit(main())
