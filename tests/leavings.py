"""What a trial's code may leave in its folders: names, depths, links, holes, modes, times, counts."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("WTSBENCH_LEAVINGS", "12"))
"""How many of them a test tries."""
Leaving = Callable[[Path], None]
"""Leaves something in the one folder that it is given."""
_BYTES = st.binary(min_size=1, max_size=255).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
_RECORDS = [b"000001-predictions.arrow", b"900003-trials.arrow", b".000002-metrics.arrow", b"000007-nothing.arrow"]
_OWN = [b"result.json", b"progress.json", b"\xff.arrow", b"\x1b]8;;x.arrow", b"a\nb.arrow", b"-rf", b"~", b"*"]
NAMES = st.one_of(
    st.sampled_from(_RECORDS + _OWN),
    _BYTES.filter(lambda name: name not in (b".", b"..")),
    _BYTES.map(lambda name: name[:248] + b".arrow"),
)
_TIMES = st.sampled_from([-(2**31), 0, 2**31, 2**33, 2**34 - 1])
_SIZES = st.sampled_from([0, 1, 4096, 2**30, 2**30 + 1, 2**43])


def _at(folder: Path, name: bytes) -> bytes:
    return os.path.join(os.fsencode(folder), name)  # noqa: PTH118  # a path of bytes


def file(name: bytes, content: bytes, size: int, mode: int, when: int) -> Leaving:
    """A file, perhaps with a hole behind its content, closed, and of another time."""

    def leave(folder: Path) -> None:
        handle = os.open(_at(folder, name), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        os.write(handle, content)
        os.ftruncate(handle, max(size, len(content)))
        os.fchmod(handle, mode)
        os.utime(handle, (when, when))
        os.close(handle)

    return leave


def nested(name: bytes, depth: int, mode: int) -> Leaving:
    """Folders in each other, the outermost closed at last."""

    def leave(folder: Path) -> None:
        handles = [os.open(folder, os.O_RDONLY)]
        for _ in range(depth):
            os.mkdir(name, dir_fd=handles[-1])
            handles.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=handles[-1]))
            if len(handles) > 2:
                os.close(handles.pop(-2))
        for handle in handles:
            os.close(handle)
        Path(os.fsdecode(_at(folder, name))).chmod(mode)

    return leave


def link(name: bytes, target: bytes) -> Leaving:
    """A link to anywhere or nowhere."""
    return lambda folder: Path(os.fsdecode(_at(folder, name))).symlink_to(os.fsdecode(target))


def node(name: bytes, kind: int) -> Leaving:
    """A pipe or a socket."""
    return lambda folder: os.mknod(_at(folder, name), kind | 0o600)


def many(count: int) -> Leaving:
    """Many small files, some of whom look like records."""

    def leave(folder: Path) -> None:
        for number in range(count):
            (folder / f"{number:06d}-{'metrics' if number % 2 else 'x'}.{'arrow' if number % 3 else 'txt'}").touch()

    return leave


def closed(mode: int) -> Leaving:
    """The folder itself has another mode."""
    return lambda folder: folder.chmod(mode)


_MODES = st.sampled_from([0o000, 0o100, 0o444, 0o600, 0o755, 0o1777, 0o4755])
_TARGETS = st.sampled_from(
    [b"/dev/zero", b"/dev/null", b"/proc/self/mem", b".", b"..", b"../..", b"nowhere", b"x" * 4000, b"/" + b"y/" * 2000]
)
LEAVINGS = st.one_of(
    st.builds(file, NAMES, st.binary(max_size=300), _SIZES, _MODES, _TIMES),
    st.builds(nested, NAMES.map(lambda name: name[:200]), st.sampled_from([1, 3, 40, 1200]), _MODES),
    st.builds(link, NAMES, _TARGETS),
    st.builds(node, NAMES, st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK])),
    st.builds(many, st.sampled_from([3, 300])),
    st.builds(closed, _MODES),
)


def leave(leavings: list[tuple[Path, Leaving]]) -> None:
    """Leave each in its folder; what is in the way of another one, or of the file system, is left out."""
    for folder, leaving in leavings:
        with suppress(OSError):
            leaving(folder)
