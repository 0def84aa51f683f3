"""Files that may go: of writes that were interrupted, and out of a cache that has grown over its budget.

Whatever is written under wtsbench's cache has a name that begins with a dot until it is whole, and is then renamed; a
dot name that has not changed for an hour, and that no process has open, is of a write that was killed.
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
"""A file that changed or was read since is somebody's."""
REMADE = {
    "prepared data": "data/prepared",
    "downloaded data": "data/files",
    "table": "reports",
    "wheels": "wheels",
}
"""Parts of the cache that are made again when they are missed; models and answers of paid services are none of them."""
_WORK = ("wtsbench-image-", "wtsbench-scorer-", "wtsbench-check-")
"""How folders in the system's own folder for temporary files begin."""


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """A file or folder that may go."""

    path: Path
    part: str
    bytes: int
    changed: float
    """Seconds since the epoch at which something in it was last changed; for a cache, read."""

    def remove(self) -> None:
        """Remove it; what another process removed meanwhile is no error.

        Raises:
            OSError: it cannot be removed.
        """
        if self.path.is_dir() and not self.path.is_symlink():
            away = self.path.with_name(f".{self.path.name.lstrip('.')}.{secrets.token_hex(8)}")
            try:
                self.path.rename(away)  # in one step, for a folder that is there counts as whole
            except FileNotFoundError:
                return
            remove(away)
        else:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """What of the cache is over its budget, and how much all of it holds."""

    over: list[OnDisk]
    """Least recently used first."""
    bytes: int


def interrupted() -> list[OnDisk]:
    """What writes that were killed have left in the cache, beside the user's pins and among temporary files."""
    found = [_measured(path, "temporary file") for path in _unfinished()]
    quiet = [one for one in found if one is not None and time.time() - one.changed > QUIET_SECONDS]
    used = _in_use() if quiet else set()
    return [one for one in quiet if not _holds(one.path, used)]


def over_budget(budget: int) -> Cache:
    """What the cache can be rid of to be within its budget, the least recently used first.

    Args:
        budget: bytes, for all parts that are made again when they are missed.
    """
    entries = [
        one
        for part, place in REMADE.items()
        for path in _children(cache_folder() / place)
        if not path.name.startswith(".") and path.suffix != ".lock"
        if (one := _measured(path, part, read=True)) is not None
    ]
    entries.sort(key=lambda one: (one.changed, one.path))
    held = total = sum(one.bytes for one in entries)
    over = []
    used = _in_use() if held > budget else set()
    for one in entries:
        if held <= budget or time.time() - one.changed < QUIET_SECONDS:
            break
        if not _holds(one.path, used):
            over.append(one)
            held -= one.bytes
    return Cache(over=over, bytes=total)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(map(_bytes, _all(path)))


def _unfinished() -> Iterator[Path]:
    spool = spool_of_servers()
    for folder, folders, files in os.walk(cache_folder()):
        # what is in it may be finished work, also under a name with a dot: it is looked through as attempts
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
    except OSError:  # not there, or not ours to read
        return []


def _measured(path: Path, part: str, *, read: bool = False) -> OnDisk | None:
    """Size and last change, or last use; None for what is somebody else's or gone."""
    seen = list(_all(path))
    if not seen or seen[0].st_uid != os.getuid():
        return None
    times = [one.st_mtime for one in seen]
    if read:  # of a folder that would be the time of the last look such as this one
        times += [one.st_atime for one in seen if not stat.S_ISDIR(one.st_mode)]
    return OnDisk(path=path, part=part, bytes=sum(map(_bytes, seen)), changed=max(times))


def _all(path: Path) -> Iterator[os.stat_result]:
    """The state of a file, or of a folder and all that is in it; what vanishes meanwhile is left out."""
    try:
        yield path.lstat()
    except OSError:
        return
    yield from (state for _, _, state in walk(path))


def _bytes(state: os.stat_result) -> int:
    """Of a file with holes what there is of it, and not what it claims."""
    return min(state.st_size, state.st_blocks * 512)


def _in_use() -> set[str]:
    """Every path that a process of this machine has open, mapped or as its working folder, as far as one may know."""
    found = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        links = [process / "cwd"]
        with suppress(OSError):  # ended, or another user's
            links += (process / "fd").iterdir()
        for link in links:
            with suppress(OSError):
                found.add(str(link.readlink()))
        with suppress(OSError):
            maps = (process / "maps").read_text(errors="replace")
            found |= {line.split(maxsplit=5)[-1] for line in maps.splitlines()}
    return found


def _holds(path: Path, used: set[str]) -> bool:
    place = str(path.resolve())
    return any(one == place or one.startswith(f"{place}/") for one in used)
