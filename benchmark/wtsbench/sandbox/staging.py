"""How trial folders get into a container that runs already, and their outboxes back out of it.

The mounts of a container are fixed when it is made, before it is known which trial it will run. So a container has a
folder of its own on the host, on the file system of the trial folders, and two parts of it are mounted:

    FOLDER/in/            read-only: lease, and for each trial in/N/ with spec.json, inputs/ and the model
    FOLDER/out/           writable: for each trial out/N/ with outbox/, scratch/ and log.txt
    FOLDER/home-N         link to the trial folder, while its outbox is here

What a trial reads is hard-linked into `in/N`, which needs no copy and is mounted read-only. Its `outbox` and `scratch`
are moved to `out/N`, with symbolic links left in the trial folder, and moved back at the end. Each move is one atomic
rename; if a process is killed between two of them, `reclaim` finds out where everything is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wtsbench.contract.folder import INPUTS, LEASE, LOG, MODEL, OUTBOX, REFERENCE, SCRATCH, SPEC
from wtsbench.files import remove_tree, unlock_folder
from wtsbench.sandbox.container import INSIDE, User, model_mounts, require_readable

MOVED = (OUTBOX, SCRATCH)
_MODELS = (MODEL, REFERENCE)
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
"""No hard link can be made: another file system, another user's file, or one with too many links."""


class ContainerFolder:
    """The folder of one container on the host."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, place: Path) -> ContainerFolder:
        """Make one in `place`, which is made private to this user.

        Raises:
            OSError: it cannot be written.
        """
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = cls(place / uuid.uuid4().hex[:16])
        folder.path.mkdir(mode=0o700)
        _folder(folder.inside)
        _folder(folder.outside)
        folder.lease.touch()
        folder.lease.chmod(0o644)
        return folder

    @property
    def inside(self) -> Path:
        """What is mounted read-only."""
        return self.path / "in"

    @property
    def outside(self) -> Path:
        """What is mounted writable."""
        return self.path / "out"

    @property
    def lease(self) -> Path:
        """Renewed while the container has a supervisor."""
        return self.inside / LEASE

    def remove(self) -> None:
        """Delete it, unless it holds an outbox that has not been moved back to its trial folder."""
        try:
            homes = list(self.path.glob("home-*"))
        except FileNotFoundError:  # deleted by somebody else
            return
        if not any(map(_outbox_is_here, homes)):
            remove_tree(self.path)


class Staged:
    """A trial folder that is moved into a container, and back out of it."""

    def __init__(self, folder: Path, place: Path, user: User) -> None:
        """Link what the trial reads into a folder; what cannot be linked has to be mounted, see `mounts`.

        Raises:
            PermissionError: the container's user may not read a file of the model.
            OSError: something cannot be linked or written.
        """
        self.home = folder
        """The trial folder."""
        self._user = user
        self._name = uuid.uuid4().hex[:8]
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reads = place / f"reads-{self._name}"
        self._container: ContainerFolder | None = None
        self.mounts: dict[str, Path] = {}
        """Mounts that this trial needs: path in the container to path on the host."""
        try:
            _folder(self._reads)
            _link(folder / SPEC, self._reads / SPEC, user)
            _folder(self._reads / INPUTS)
            for path in sorted((folder / INPUTS).iterdir()):
                _link(path, self._reads / INPUTS / path.name, user)
            for name in _MODELS:
                if (folder / name).exists():
                    self._take_model((folder / name).resolve(strict=True), name)
            for name in MOVED:
                (self._reads / name).symlink_to(f"{INSIDE}/out/{self._name}/{name}")
        except BaseException:
            remove_tree(self._reads)
            raise

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def _take_model(self, model: Path, name: str) -> None:
        files = [path for path in sorted(model.rglob("*")) if path.is_file()]
        for path in files:
            require_readable(path, self._user)
        target = self._reads / name
        try:
            _folder(target)
            for path in files:
                into = target / path.relative_to(model)
                for parent in reversed(into.relative_to(target).parents[:-1]):
                    if not (target / parent).is_dir():
                        _folder(target / parent)
                os.link(path.resolve(), into)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            remove_tree(target)
            target.symlink_to(f"{INSIDE}/{name}")
            self.mounts |= model_mounts(model, f"{INSIDE}/{name}", self._user)

    @property
    def inside(self) -> Path:
        """The trial folder as the container sees it."""
        return Path(INSIDE) / "in" / self._name

    @property
    def log(self) -> Path:
        """The trial's log as the container sees it."""
        return Path(INSIDE) / "out" / self._name / LOG

    def enter(self, container: ContainerFolder) -> None:
        """Put the trial into a container.

        Raises:
            OSError: something cannot be moved or written.
        """
        self._container = container
        (container.path / f"home-{self._name}").symlink_to(self.home)
        out = container.outside / self._name
        _folder(out)
        log = self.home / LOG
        log.touch()
        _link(log, out / LOG, self._user)  # a second name of the same file: the trial folder has the output at once
        for name in MOVED:
            _give(self.home / name, self._user)
            (self.home / name).rename(out / name)
            (self.home / name).symlink_to(out / name)
        self._reads.rename(container.inside / self._name)

    def leave(self) -> None:
        """Move everything back; later calls do nothing. No process of the trial may run any more."""
        remove_tree(self._reads)  # still here if the trial was never put into a container
        if self._container is None:
            return
        reclaim(self.home)
        remove_tree(self._container.inside / self._name)
        remove_tree(self._container.outside / self._name)
        (self._container.path / f"home-{self._name}").unlink(missing_ok=True)
        self._container = None


def reclaim(folder: Path) -> bool:
    """Move outbox and scratch of a trial folder back from its container; safe to call, and to repeat, at any time.

    A trial that still runs in the container does not find them any more, but may write to a folder that it holds open.
    Anything else that the trial has put in the place of its outbox is deleted, and the outbox is then empty.

    Returns:
        Whether the trial had put something in the place of its outbox.

    Raises:
        OSError: something cannot be moved.
    """
    unlock_folder(folder)
    replaced = False
    for name in MOVED if folder.is_dir() else ():
        path, back = folder / name, folder / f".{name}.back"
        if path.is_symlink() and not back.is_dir():
            away = path.readlink()
            # a trial may have put a link to anywhere in the place of its outbox
            if _belongs_to(folder, away) and not away.is_symlink() and away.is_dir():
                unlock_folder(away)  # a folder without write permission cannot be moved
                with contextlib.suppress(FileNotFoundError):  # a sweep deletes scratch once the outbox is home
                    away.rename(back)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            replaced |= name == OUTBOX and not back.is_dir()
            path.unlink()
        if back.is_dir() and not back.is_symlink():
            remove_tree(path)  # one that was made anew meanwhile
            back.rename(path)
        path.mkdir(exist_ok=True)
        unlock_folder(path)
    return replaced


def _belongs_to(folder: Path, away: Path) -> bool:
    """Whether a path in a container's folder was made for the trial of this folder."""
    home = away.parents[2] / f"home-{away.parent.name}" if len(away.parents) > 3 else away
    try:
        return home.is_symlink() and home.samefile(folder)
    except OSError:  # the trial folder or the link is gone, or the trial has made up an impossible path
        return False


def _outbox_is_here(home: Path) -> bool:
    """Whether the trial folder that a link names still has its outbox in this container's folder."""
    try:
        outbox = home.readlink() / OUTBOX
        return outbox.is_symlink() and outbox.readlink().is_relative_to(home.parent)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return False  # moved back meanwhile by the process that ends the attempt: not a link any more


@contextmanager
def locked(place: Path, *, sweeping: bool) -> Iterator[None]:
    """Keep sweeping the folders in `place` and making one from happening at the same time."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(
            OSError
        ):  # a file system without locks, where no lease is ever taken for abandoned either
            fcntl.flock(handle, fcntl.LOCK_EX if sweeping else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)  # whatever the umask: the container's user may be another than the owner


def _link(path: Path, into: Path, user: User) -> None:
    _give(path, user)
    os.link(path, into)


def _give(path: Path, user: User) -> None:
    """If this process runs as root, give a file to the container's user, who is not root."""
    if os.getuid() == 0:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
