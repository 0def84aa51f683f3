"""Files: those that others made, touched without a surprise, and our own, written whole and locked.

A name may be any bytes but "/" and NUL: Python keeps those that are no UTF-8 as lone surrogates, which no text file,
table or message can hold (`visible.storable`). A path may be longer than the kernel takes in one call, so folders are
walked from one to the next and never by their whole path, with two of them open at most.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError from writing there name the place: the system names a file that cannot be opened, and no other."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def replace(path: Path, content: str | bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write a file whole or not at all: under another name first, then renamed.

    Args:
        path: of the file; what was there before stays until the new content is complete.
        content: text is written as UTF-8.
        mode: permissions, which the umask does not change.
        durable: whether it must outlive a power failure: content and name are flushed to the disk.

    Raises:
        OSError: it cannot be written; it names the path, and nothing is left beside it.
    """
    data = content.encode() if isinstance(content, str) else content
    # The name cannot be guessed: where others may write to the folder, a link in its place would lead anywhere.
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        hidden.rename(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive(path: Path, *, mode: int = 0o644) -> Iterator[None]:
    """Hold the lock of a file, made where it is missing, or of a folder that is there; wait while another has it.

    The kernel lets go of it when the holder ends, however it ends.
    """
    kind = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, kind | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
