"""Files that may be removed: of interrupted writes, and of a cache that has grown over its budget.

Files in wtsbench's cache have a name that begins with a dot until they are complete, and are then renamed. One that
has not changed for an hour, and that no process has open, is left from a write that was killed.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wtsbench.files import remove, walk
from wtsbench.settings import cache_folder, spool_of_servers, user_manifests

QUIET_SECONDS = 3600.0
"""A file that was changed or read within this time counts as in use."""
REMADE = {
    "prepared data": "data/prepared",
    "downloaded data": "data/files",
    "table": "reports",
    "wheels": "wheels",
}
"""Parts of the cache that are made again when needed; models and answers of paid services are not among them."""
_WORK = ("wtsbench-image-", "wtsbench-scorer-", "wtsbench-check-")
"""Prefixes of wtsbench's folders in the system's folder for temporary files."""


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """A file or folder that may be removed."""

    path: Path
    part: str
    bytes: int
    changed: float
    """When something in it was last changed, or for a cache read, in seconds since the epoch."""

    def remove(self) -> None:
        """Remove it; if another process removed it meanwhile, that is no error.

        Raises:
            OSError: it cannot be removed.
        """
        if self.path.is_dir() and not self.path.is_symlink():
            away = self.path.with_name(f".{self.path.name.lstrip('.')}.{secrets.token_hex(8)}")
            try:
                self.path.rename(away)  # in one step, since a folder that exists counts as complete
            except FileNotFoundError:
                return
            remove(away)
        else:
            self.path.unlink(missing_ok=True)


def interrupted() -> list[OnDisk]:
    """Leftovers of killed writes: in the cache, beside the user's pins, and among temporary files."""
    found = [_measured(path, "temporary file") for path in _unfinished()]
    quiet = [file for file in found if file is not None and time.time() - file.changed > QUIET_SECONDS]
    used = _in_use() if quiet else set()
    return [file for file in quiet if not _holds(file.path, used)]


def over_budget(budget: int) -> list[OnDisk]:
    """What to remove so that the cache is within its budget, the least recently used first.

    Args:
        budget: bytes, for all parts of `REMADE` together.
    """
    entries = [
        entry
        for part, place in REMADE.items()
        for path in _children(cache_folder() / place)
        if not path.name.startswith(".") and path.suffix != ".lock"
        if (entry := _measured(path, part, read=True)) is not None
    ]
    entries.sort(key=lambda entry: (entry.changed, entry.path))
    held = sum(entry.bytes for entry in entries)
    over = []
    used = _in_use() if held > budget else set()
    for entry in entries:
        if held <= budget or time.time() - entry.changed < QUIET_SECONDS:
            break
        if not _holds(entry.path, used):
            over.append(entry)
            held -= entry.bytes
    return over


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(map(_bytes, _all(path)))


def _unfinished() -> Iterator[Path]:
    spool = spool_of_servers()
    for folder, folders, files in os.walk(cache_folder()):
        # the spool may hold finished work, also under names with a dot: `gc` looks at its attempts
        folders[:] = [name for name in folders if Path(folder, name).resolve() != spool]
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)  # what is inside goes with it
            yield Path(folder, name)
        for name in files:
            if name.startswith(".") and not name.endswith(".lock"):
                yield Path(folder, name)
    yield from (path for path in _children(user_manifests()) if path.name.startswith(".images.yaml."))
    yield from (path for path in _children(Path(tempfile.gettempdir())) if path.name.startswith(_WORK))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # does not exist, or may not be read
        return []


def _measured(path: Path, part: str, *, read: bool = False) -> OnDisk | None:
    """Size and last change, or last use; None if it is another user's or gone."""
    states = list(_all(path))
    if not states or states[0].st_uid != os.getuid():
        return None
    times = [state.st_mtime for state in states]
    if read:  # not of folders: looking at them, as here, sets their access time
        times += [state.st_atime for state in states if not stat.S_ISDIR(state.st_mode)]
    return OnDisk(path=path, part=part, bytes=sum(map(_bytes, states)), changed=max(times))


def _all(path: Path) -> Iterator[os.stat_result]:
    """The state of a file, or of a folder and all that is in it; what vanishes meanwhile is left out."""
    try:
        yield path.lstat()
    except OSError:
        return
    yield from (state for _, _, state in walk(path))


def _bytes(state: os.stat_result) -> int:
    """Bytes on disk, which are fewer than the size of a sparse file."""
    return min(state.st_size, state.st_blocks * 512)


def _in_use() -> set[str]:
    """Every path that a process has open, mapped or as its working folder, as far as this user may see."""
    paths = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        links = [process / "cwd"]
        with suppress(OSError):  # ended, or another user's
            links += (process / "fd").iterdir()
        for link in links:
            with suppress(OSError):
                paths.add(str(link.readlink()))
        with suppress(OSError):
            maps = (process / "maps").read_text(errors="replace")
            paths |= {line.split(maxsplit=5)[-1] for line in maps.splitlines()}
    return paths


def _holds(path: Path, used: set[str]) -> bool:
    resolved = str(path.resolve())
    return any(name == resolved or name.startswith(f"{resolved}/") for name in used)
