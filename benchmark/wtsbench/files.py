"""Files: opening and deleting those that others made without surprises, and writing our own atomically, with locks.

A name may be any bytes but "/" and NUL. Python represents bytes that are not UTF-8 as lone surrogates, which no text
file, table or message can hold (`visible.storable`). A path may be longer than the kernel accepts in one call, so
folders are walked one step at a time, with at most two of them open.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

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
"""Errors of opening a file that anybody who may write to its folder can cause. Others are errors of the disk."""
_ABSENT = {errno.ENXIO, errno.ENODEV}
"""Errors of opening a socket, or a device that does not exist."""


def open_plain(path: str | os.PathLike[str], *, links: bool = True) -> BufferedReader:
    """Open a regular file for reading, and nothing else: opening a pipe in its place could block for ever.

    Args:
        path: the file.
        links: whether a link at the end of the path is followed.

    Raises:
        OSError: it is not a regular file, does not exist, or cannot be read.
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


def read_plain(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as for `open_plain`.
    """
    with open_plain(path) as file:
        return file.read()


def read_small(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file that should be small, such as a key, a token or a certificate.

    Raises:
        OSError: as for `open_plain`, or it is larger than a mebibyte.
    """
    with open_plain(path) as file:
        content = file.read(_SMALL + 1)
    if len(content) > _SMALL:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return content


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file's content, in hexadecimal.

    Raises:
        OSError: as for `open_plain`.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_plain(path: str | os.PathLike[str]) -> None:
    """Refuse anything but a regular file, for libraries that open files themselves and would block.

    Raises:
        OSError: as for `open_plain`.
    """
    open_plain(path).close()


def require_replaceable(path: Path) -> None:
    """Refuse to replace a folder, a pipe or a device by a file: others may use it.

    Raises:
        OSError: something other than a regular file is there.
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

    No link is followed. Folders that cannot be read, or disappear meanwhile, count as empty; if a folder is moved while
    the walk is inside it, the walk ends.

    Args:
        top: the folder; anything else counts as empty.
        unlock: whether to add missing permissions to folders that this user owns.

    Yields:
        The descriptor of an open folder, the name of an entry in it, and the entry's state.
    """
    try:
        current = _enter(os.fspath(top), None, unlock)
    except OSError:
        return
    above: list[tuple[str, list[str], tuple[int, int]]] = []
    """The folders above: name of the subfolder that was entered, those to enter next, and the folder's identity."""
    try:
        folders = yield from _files(current)
        while True:
            if folders:
                name = folders.pop()
                try:
                    below = _enter(name, current, unlock)
                except OSError:
                    with suppress(OSError):
                        yield current, name, os.stat(name, dir_fd=current, follow_symlinks=False)
                    continue
                above.append((name, folders, _identity(os.fstat(current))))
                os.close(current)
                current = below
                folders = yield from _files(current)
            elif above:
                state = os.fstat(current)
                name, folders, identity = above.pop()
                try:
                    parent = os.open("..", _FOLDER, dir_fd=current)
                except OSError:  # its permissions were changed meanwhile
                    return
                os.close(current)
                current = parent
                if _identity(os.fstat(current)) != identity:
                    return
                yield current, name, state
            else:
                return
    finally:
        os.close(current)


def _files(folder: int) -> Generator[tuple[int, str, os.stat_result], None, list[str]]:
    """Everything in a folder except subfolders; returns the names of those."""
    entries: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as scan:
        entries += scan
    folders = []
    for entry in entries:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                yield folder, entry.name, entry.stat(follow_symlinks=False)
    return folders


def _enter(name: str, folder: int | None, unlock: bool) -> int:
    """Open a folder from which the walk can return to its parent."""
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
    """Give the owner all permissions on a folder, if this user owns it; a link in its place is not followed.

    Args:
        name: the folder.
        folder: descriptor of the folder that it is in; None if the name is a path.
    """
    with suppress(OSError):
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if os.fstat(handle).st_mode & 0o700 != 0o700:
                Path(f"/proc/self/fd/{handle}").chmod(0o700)
        finally:
            os.close(handle)


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def remove(path: Path) -> None:
    """Delete a file, or a folder with everything in it, to any depth and whatever the permissions.

    Raises:
        OSError: something cannot be deleted; everything else is.
    """
    for folder, name, state in walk(path, unlock=True):
        with suppress(OSError):  # the folder of an entry that stays cannot be deleted, so the last step fails
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
    """Delete as `remove` does, but without an error: what cannot be deleted is left for the next sweep."""
    with suppress(OSError):
        remove(path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to an OSError from writing to it: the system names only files that cannot be opened."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to be written completely or not at all: under a temporary name, which is renamed at the end.

    Args:
        path: the file; an existing one stays until the new content is complete.
        mode: permissions, regardless of the umask.
        durable: whether it must survive a power failure: content and name are flushed to the disk.

    Raises:
        OSError: it cannot be written; the error names the path, and no temporary file is left.
    """
    # The name cannot be guessed: others who may write to the folder could put a link in its place.
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        hidden.rename(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def replace(path: Path, content: str | bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write a whole file as `replacing` does; text is written as UTF-8."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive(path: Path, *, mode: int = 0o644) -> Iterator[None]:
    """Hold the lock of a file, which is created if missing, or of an existing folder; waits while another holds it.

    The kernel releases it when the holder ends, in whatever way.
    """
    kind = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, kind | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def made_once(folder: Path, make: Callable[[Path], None]) -> None:
    """See to it that a folder of the cache is there: one process makes it, completely or not at all; others wait.

    Args:
        folder: where it is in the end. One that is there is taken as it is.
        make: makes it under a temporary name beside that.

    Raises:
        OSError: it cannot be written; or whatever `make` raises.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():  # another process has just made it
            return
        for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.unfinished"):  # of a process that was killed
            remove_tree(left)
        # A name of its own, as what the killed process had started may still write.
        unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.unfinished")
        try:
            make(unfinished)
            unfinished.replace(folder)
        finally:
            remove_tree(unfinished)
