"""How much memory a process group holds, and whether the kernel has killed for memory (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def group_memory(group: int) -> int:
    """Bytes a process group holds that the kernel cannot drop: anonymous and shared memory, but no mapped files.

    A page that several of them share counts for each, as do pages a forked child still shares with its parent.
    """
    return sum(_held(process) for process in _PROC.iterdir() if process.name.isdigit() and _group(process) == group)


def kernel_kills() -> int:
    """Processes of this one's control group that the kernel has killed for memory; 0 where it does not tell.

    Where no group is told of, those of the machine: a container's may be among them.
    """
    for path in (*_events(), _PROC / "vmstat"):
        with suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _events() -> Iterator[Path]:
    """Where version 1 and version 2 of the kernel's control groups count for the group of this process."""
    with suppress(OSError):
        for line in (_PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                yield _GROUPS / "memory" / group[1:] / "memory.oom_control"
            elif not controllers:
                yield _GROUPS / group[1:] / "memory.events"


def _group(process: Path) -> int | None:
    try:
        # the command's name is in brackets and may hold anything: state, parent and group follow the last bracket
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[2])
    except (OSError, IndexError, ValueError):  # it has just ended
        return None


def _held(process: Path) -> int:
    total = 0
    try:
        for line in (process / "status").read_text(errors="replace").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    except OSError:
        return 0
    return total
