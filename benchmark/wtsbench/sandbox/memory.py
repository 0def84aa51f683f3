"""How much memory a process group holds, and whether the kernel has killed for memory (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def group_memory(group: int) -> int:
    """Bytes a process group holds that the kernel cannot drop: anonymous and shared memory, but no mapped files.

    A page that several processes share counts for each, as do pages a forked child still shares with its parent.
    """
    return sum(
        _memory_of(process) for process in _PROC.iterdir() if process.name.isdigit() and _group_of(process) == group
    )


def kernel_kills() -> int:
    """Processes of this process's control group that the kernel has killed for memory; 0 if it does not tell.

    Without a count for the group, that of the whole machine is taken, which includes containers.
    """
    for path in (*_kill_counters(), _PROC / "vmstat"):
        with suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _kill_counters() -> Iterator[Path]:
    """Files in which version 1 or 2 of the kernel's control groups counts kills in this process's group."""
    with suppress(OSError):
        for line in (_PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                yield _GROUPS / "memory" / group[1:] / "memory.oom_control"
            elif not controllers:
                yield _GROUPS / group[1:] / "memory.events"


def _group_of(process: Path) -> int | None:
    try:
        # the command's name is in brackets and may itself hold brackets: state, parent and group follow the last one
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[2])
    except (OSError, IndexError, ValueError):  # it has just ended
        return None


def _memory_of(process: Path) -> int:
    total = 0
    try:
        for line in (process / "status").read_text(errors="replace").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    except OSError:
        return 0
    return total
