"""How trial folders get into a container that runs already, and their outboxes back out of it.

What a container sees is fixed when it is made; which trial it will run need not be. So a container has a folder of its
own on the host, on the file system of the trial folders, and two parts of it are mounted:

    FOLDER/in/            read-only: lease, and for each trial in/N/ with spec.json, inputs/ and the model
    FOLDER/out/           writable: for each trial out/N/ with outbox/, scratch/ and log.txt
    FOLDER/home-N         link to the trial folder, as long as it has something here

What a trial reads is linked into `in/N` (hard links: no copy, and a mount that is read-only). Its `outbox` and
`scratch` are moved to `out/N` with links left behind in the trial folder, and moved back at the end. Moving a folder
is one step of the kernel, and whatever is killed between two of them, `reclaim` finds out where everything is.
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
from types import TracebackType

from wtsbench.contract.folder import INPUTS, LEASE, MODEL, OUTBOX, REFERENCE, SCRATCH, SPEC
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
        """Make one; `place` is a folder that nobody else looks into.

        Raises:
            OSError: it cannot be written.
        """
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = cls(place / uuid.uuid4().hex[:16])
        made.path.mkdir(mode=0o700)
        for part in (made.inside, made.outside):
            part.mkdir()
            part.chmod(0o755)  # whatever the umask is: the container's user is another one than root
        made.lease.touch()
        made.lease.chmod(0o644)
        return made

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
        """Renewed while the container has somebody."""
        return self.inside / LEASE

    def remove(self) -> None:
        """Delete it, unless an outbox is in it that is still to be brought home."""
        try:
            homes = list(self.path.glob("home-*"))
        except FileNotFoundError:  # somebody else was faster
            return
        if not any(map(_is_here, homes)):
            remove_tree(self.path)


class Staged:
    """A trial folder on its way into a container."""

    def __init__(self, folder: Path, place: Path, user: User) -> None:
        """Lay out what the trial reads; `mounts` says what could not be linked and has to be mounted.

        Raises:
            PermissionError: a file of the model is closed to the container's user.
            OSError: something cannot be linked or written.
        """
        self._home = folder
        self._user = user
        self._name = uuid.uuid4().hex[:8]
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reads = place / f"reads-{self._name}"
        self._container: ContainerFolder | None = None
        self.mounts: dict[str, Path] = {}
        """Where in a container what of the host has to be, for this trial."""
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Where in the container the trial's output goes."""
        return Path(INSIDE) / "out" / self._name / "log.txt"

    def enter(self, container: ContainerFolder) -> None:
        """Put the trial into a container.

        Raises:
            OSError: something cannot be moved or written.
        """
        self._container = container
        (container.path / f"home-{self._name}").symlink_to(self._home)
        out = container.outside / self._name
        _folder(out)
        log = self._home / "log.txt"
        log.touch()
        _link(log, out / "log.txt", self._user)  # one file of two names: what the trial prints is there at once
        for name in MOVED:
            _give(self._home / name, self._user)
            (self._home / name).rename(out / name)
            (self._home / name).symlink_to(out / name)
        self._reads.rename(container.inside / self._name)

    def leave(self) -> None:
        """Take everything back, once. Nothing of the trial may run any more."""
        remove_tree(self._reads)  # where it did not come into a container
        if self._container is None:
            return
        reclaim(self._home)
        remove_tree(self._container.inside / self._name)
        remove_tree(self._container.outside / self._name)
        (self._container.path / f"home-{self._name}").unlink(missing_ok=True)
        self._container = None


def reclaim(folder: Path) -> bool:
    """Bring back what a container has of a trial folder; safe to call, and to repeat, at any time.

    A trial that still runs in the container finds it no more; one that holds the folder open may still write there.
    Whatever the trial has put in the place of its outbox goes, and is an empty folder then.

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
            if _given_by(folder, away) and not away.is_symlink() and away.is_dir():
                unlock_folder(away)  # the kernel lets nobody move a folder that is closed to them
                with contextlib.suppress(
                    FileNotFoundError
                ):  # scratch alone may be swept: who sweeps looks for the outbox
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


def _given_by(folder: Path, away: Path) -> bool:
    """Whether a place in a container's folder was given to the trial of this folder."""
    home = away.parents[2] / f"home-{away.parent.name}" if len(away.parents) > 3 else away
    try:
        return home.is_symlink() and home.samefile(folder)
    except OSError:  # the trial folder, or the link, is gone; or the trial has made up a place that cannot be
        return False


def _is_here(home: Path) -> bool:
    """Whether the trial folder that a link names still has its outbox in this container's folder."""
    try:
        outbox = home.readlink() / OUTBOX
        return outbox.is_symlink() and outbox.readlink().is_relative_to(home.parent)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return False  # brought home meanwhile, by who ends the attempt: a link no more


@contextmanager
def locked(place: Path, *, sweeping: bool) -> Iterator[None]:
    """Keep a sweep of the folders in `place` and the making of one apart."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks, where no lease counts as let go either
            fcntl.flock(handle, fcntl.LOCK_EX if sweeping else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)  # whatever the umask is: the container's user may be another one


def _link(path: Path, into: Path, user: User) -> None:
    _give(path, user)
    os.link(path, into)


def _give(path: Path, user: User) -> None:
    """Root's files are given to the user of the container, who is not root."""
    if os.getuid() == 0:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
