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
    """The FIFO of requests, that of answers, and what has been requested so far.

    The supervisor opens the other ends before the container starts; if it has closed them, the third is None.
    """
    requests = os.open(folder / REQUESTS, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        early = os.read(requests, 1 << 16) or None  # empty if the writer is gone, of which poll would not tell
    except BlockingIOError:
        early = b""
    answers = os.open(folder / ANSWERS, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # ENXIO where nobody reads
    os.set_blocking(answers, True)
    return os.fdopen(requests, "rb", buffering=0), os.fdopen(answers, "wb", buffering=0), early


@contextlib.contextmanager
def ending_with(requests: BinaryIO) -> Iterator[None]:
    """While this process does not read its requests, it ends as soon as nobody can write any more.

    The thread that watches for this ends with the context, since a process that forks must have no threads.
    """
    wake_read, wake_write = os.pipe()
    poll = select.poll()
    poll.register(requests.fileno(), 0)  # a hang-up is reported in any case
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
    """Keep other processes of the same user from tracing this one, and from its memory and open files."""
    _set_dumpable(0)


def open_child() -> None:
    """Undo `close_to_children` in a child, and have the kernel kill it first when memory runs out."""
    _set_dumpable(1)
    with contextlib.suppress(OSError):  # otherwise the kernel kills the largest process, mostly the same
        Path("/proc/self/oom_score_adj").write_text("1000")


def memory_kills() -> int:
    """Processes of this container that the kernel has killed for memory; 0 if it does not tell."""
    for path in _EVENTS:
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def reap_strangers(own: set[int]) -> None:
    """Reap orphaned processes that have ended, but not the server's own children."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, 0)


def end_all_others() -> None:
    """Kill every other process of the container, and return when none is left."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        while True:
            os.kill(-1, signal.SIGKILL)  # every process but this one; none escapes by forking
            os.waitpid(-1, 0)


def _set_dumpable(value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, value, 0, 0, 0)
