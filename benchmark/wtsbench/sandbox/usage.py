"""How much memory and disk a trial uses, and whether the kernel has killed for memory (Linux)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from wtsbench.files import walk

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_MINIMUM = 4096
"""Bytes that an entry of a folder counts for at least: one block, even if it is empty."""


def memory_used(group: int) -> int:
    """Bytes a process group holds that the kernel cannot drop: anonymous and shared memory, but no mapped files.

    A page that several processes share counts for each, as do pages a forked child still shares with its parent.
    """
    return sum(
        _memory_of(process) for process in _PROC.iterdir() if process.name.isdigit() and _group_of(process) == group
    )


def disk_used(places: Iterable[Path], budget: int) -> int:
    """Bytes that folders take on disk, their own entries included; counting stops once a budget is passed.

    Files that were deleted while open have no name and are not counted; the size of each single file is limited
    separately (`file_bytes`).
    """
    total = 0
    for place in places:
        for _, _, state in walk(place):
            total += max(_MINIMUM, state.st_blocks * 512)
            if total > budget:
                return total
    return total


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
