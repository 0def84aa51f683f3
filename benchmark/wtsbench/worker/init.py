"""What a fork server does as the first process of a container, beyond forking trials.

It opens the two FIFOs of the container's folder, keeps its own process closed to its children, and reads from the
kernel whether one of them was killed for memory. It is process 1 of its process namespace: when it ends, the kernel
ends everything else there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wtsbench.contract.folder import ANSWERS, REQUESTS

_PR_SET_DUMPABLE = 4
_EVENTS = (
    Path("/sys/fs/cgroup/memory.events"),  # cgroup v2
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # v1
)


def open_fifos(folder: Path) -> tuple[BinaryIO, BinaryIO, bytes | None]:
    """The requests to read, the answers to write, and what has been requested so far.

    The supervisor holds the other ends before the container starts: where it does not any more, that is None.
    """
    requests = os.open(folder / REQUESTS, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        early = os.read(requests, 1 << 16) or None  # a writer that went before this process came wakes nobody later
    except BlockingIOError:
        early = b""
    answers = os.open(folder / ANSWERS, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # ENXIO where nobody reads
    os.set_blocking(answers, True)
    return os.fdopen(requests, "rb", buffering=0), os.fdopen(answers, "wb", buffering=0), early


@contextlib.contextmanager
def ending_with(requests: BinaryIO) -> Iterator[None]:
    """While this process is busy and does not read its requests, it ends as soon as nobody can write them any more.

    The thread that sees to this is gone afterwards: none may be there when the process forks.
    """
    wake_read, wake_write = os.pipe()
    poll = select.poll()
    poll.register(requests.fileno(), 0)  # a hang-up is told in any case
    poll.register(wake_read, select.POLLIN)

    def wait() -> None:
        if any(handle == requests.fileno() for handle, _ in poll.poll()):
            os._exit(0)

    thread = threading.Thread(target=wait, name="requests", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(wake_write, b".")
        thread.join()
        os.close(wake_read)
        os.close(wake_write)


def close_to_children() -> None:
    """Nobody of the same user may trace this process, or reach its memory or its files."""
    _set_dumpable(0)


def open_child() -> None:
    """Undo that for a child, which has nothing to hide, and offer it first where memory runs out."""
    _set_dumpable(1)
    with contextlib.suppress(OSError):  # a kernel that says no kills by size, which is the same process mostly
        Path("/proc/self/oom_score_adj").write_text("1000")


def memory_kills() -> int:
    """Processes of this container that the kernel has killed for memory; 0 where it does not tell."""
    for path in _EVENTS:
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def reap_strangers(own: set[int]) -> None:
    """Collect what has ended of processes whose parents ended before them."""
    with contextlib.suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in own:
                return
            os.waitpid(found.si_pid, 0)


def end_all_others() -> None:
    """Kill every other process of the container, and return when none is left."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        while True:
            os.kill(-1, signal.SIGKILL)  # all that there is but process 1; the kernel lets none slip away by forking
            os.waitpid(-1, 0)


def _set_dumpable(value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, value, 0, 0, 0)
