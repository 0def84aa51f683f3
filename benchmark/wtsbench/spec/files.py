"""Files and folders that others made, touched without a surprise: nothing hangs, and no name or depth is too much.

A name may be any bytes but "/" and NUL: Python keeps those that are no UTF-8 as lone surrogates, which no text file,
table or message can hold (`visible.storable`). A path may be longer than the kernel takes in one call, so folders are
walked from one to the next and never by their whole path, with two of them open at most.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

_SMALL = 2**20
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOT_GIVEN = {
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EINVAL,
}  # fmt: skip
"""What whoever may write to a folder can make of the opening of a file in it. Other errors are the disk's."""
_ABSENT = {errno.ENXIO, errno.ENODEV}
"""How the kernel refuses to open a socket, or a device that is not there."""


def open_plain(path: str | os.PathLike[str], *, links: bool = True) -> BufferedReader:
    """Open a regular file for reading, and nothing else: a pipe in its place would be waited for, perhaps for ever.

    Args:
        path: the file.
        links: whether a link at the end of the path is followed.

    Raises:
        OSError: it is no regular file, is not there, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        raise _not_plain(Path(path).stat(), path) from error
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise _not_plain(state, path)
        os.set_blocking(handle, True)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_plain(path: str | os.PathLike[str], *, links: bool = True) -> bytes:
    """All of a regular file.

    Raises:
        OSError: as for `open_plain`.
    """
    with open_plain(path, links=links) as file:
        return file.read()


def read_small(path: str | os.PathLike[str]) -> bytes:
    """A regular file that is small where it is the right one, as a key, a token or a certificate.

    Raises:
        OSError: as for `open_plain`, or it is larger than a mebibyte.
    """
    with open_plain(path) as file:
        content = file.read(_SMALL + 1)
    if len(content) > _SMALL:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return content


def require_plain(path: str | os.PathLike[str]) -> None:
    """Refuse what a library would wait for, which opens files by their names itself.

    Raises:
        OSError: as for `open_plain`.
    """
    open_plain(path).close()


def require_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a folder, a pipe or a device: who renames over one takes it from others.

    Raises:
        OSError: something stands there that is no regular file.
    """
    if path.exists() and not path.is_file():
        raise _not_plain(path.stat(), path)


def _not_plain(state: os.stat_result, path: str | os.PathLike[str]) -> OSError:
    if stat.S_ISDIR(state.st_mode):
        return IsADirectoryError(errno.EISDIR, "it is a folder, not a file", os.fspath(path))
    what = _KINDS.get(stat.S_IFMT(state.st_mode), "something else")
    return OSError(errno.EINVAL, f"it is {what}, not a regular file", os.fspath(path))


def walk(top: Path, *, unlock: bool = False) -> Iterator[tuple[int, str, os.stat_result]]:
    """Everything below a folder, to any depth, what is in a folder before the folder itself.

    No link is followed. What cannot be looked into, or is gone meanwhile, counts as empty; where a folder is moved
    while somebody is in it, the walk ends.

    Args:
        top: the folder; one that is none is empty.
        unlock: whether folders of ours that are closed to us are opened.

    Yields:
        A folder that is open, the name of an entry of it, and the entry's state.
    """
    try:
        here = _enter(os.fspath(top), None, unlock)
    except OSError:
        return
    above: list[tuple[str, list[str], tuple[int, int]]] = []
    """The folders on the way here: name of the one entered from there, those to enter after it, and which it is."""
    try:
        folders = yield from _files(here)
        while True:
            if folders:
                name = folders.pop()
                try:
                    below = _enter(name, here, unlock)
                except OSError:
                    with suppress(OSError):
                        yield here, name, os.stat(name, dir_fd=here, follow_symlinks=False)
                    continue
                above.append((name, folders, _which(os.fstat(here))))
                os.close(here)
                here = below
                folders = yield from _files(here)
            elif above:
                state = os.fstat(here)
                name, folders, which = above.pop()
                try:
                    out = os.open("..", _FOLDER, dir_fd=here)
                except OSError:  # closed to us since we came in
                    return
                os.close(here)
                here = out
                if _which(os.fstat(here)) != which:
                    return
                yield here, name, state
            else:
                return
    finally:
        os.close(here)


def _files(folder: int) -> Generator[tuple[int, str, os.stat_result], None, list[str]]:
    """What is in a folder but folders; returns the names of those."""
    entries: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as found:
        entries += found
    folders = []
    for entry in entries:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                yield folder, entry.name, entry.stat(follow_symlinks=False)
    return folders


def _enter(name: str, folder: int | None, unlock: bool) -> int:
    """Open a folder that can be left again."""
    if unlock:
        unlock_folder(name, folder)
    handle = os.open(name, _FOLDER, dir_fd=folder)
    try:
        os.stat("..", dir_fd=handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def unlock_folder(name: str | os.PathLike[str], folder: int | None = None) -> None:
    """Open a folder to its owner, where that is us; a link in its place is not followed.

    Args:
        name: the folder.
        folder: the open folder that it is in; None where the name is a path.
    """
    with suppress(OSError):
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if os.fstat(handle).st_mode & 0o700 != 0o700:
                Path(f"/proc/self/fd/{handle}").chmod(0o700)
        finally:
            os.close(handle)


def _which(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, to any depth and whatever is closed in it.

    Raises:
        OSError: something cannot be deleted; everything else is.
    """
    for folder, name, state in walk(path, unlock=True):
        with suppress(OSError):  # what is left keeps its folder, and the last step from succeeding
            if stat.S_ISDIR(state.st_mode):
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            path.rmdir()
        else:
            path.unlink()


def remove_tree(path: Path) -> None:
    """Delete as `remove` does; what cannot be deleted is left for whoever sweeps next."""
    with suppress(OSError):
        remove(path)
