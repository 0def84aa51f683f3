"""Attempt folders: a trial folder, the files its supervisor keeps beside it, and the lock of its owner.

SPOOL/<trial id, 16 digits>-<attempt>/
    owner          locked (flock) by the supervisor while it lives
    claimed        made when the supervisor begins to end the attempt: later records are its own
    verdict        what is wrong with the trial's records, if something is
    attempt.json   what a later sweep needs to end the attempt (AttemptNote)
    trial/         the trial folder (spec.json, inputs/, model, outbox/, scratch/, lease, log.txt)

SPOOL/.sandbox/    folders that sandboxes need on the same file system, and folders that are being deleted
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wtsbench.contract.folder import FolderLayout
from wtsbench.errors import StoreError
from wtsbench.execution.judging import ScorerPlace
from wtsbench.execution.space import size_of
from wtsbench.files import remove_tree
from wtsbench.settings import spool_bytes
from wtsbench.spec.frozen import Frozen
from wtsbench.spec.trial import TrialJob

_REMOVALS = 10


class AttemptNote(Frozen):
    """Written before the sandbox starts. With it and the outbox, any process can seal the attempt."""

    job: TrialJob
    run: str
    baselines: dict[str, str]
    scorer: ScorerPlace | None = None
    sandbox: str
    isolation: str
    image_digest: str | None
    environment_lock: str
    host: str
    started_at: float
    """Seconds since the epoch."""


class AttemptFolder:
    """One attempt's folder in the spool, with the names of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, spool: Path, trial_id: str, attempt: int) -> AttemptFolder:
        """The folder of an attempt, whether it exists or not."""
        return cls(spool / f"{trial_id[:16]}-{attempt}")

    @property
    def trial(self) -> FolderLayout:
        """The trial folder."""
        return FolderLayout(self.path / "trial")

    @property
    def claimed(self) -> Path:
        """Exists once the trial has ended and its supervisor writes the last records."""
        return self.path / "claimed"

    @property
    def verdict(self) -> Path:
        """Why the trial's records make the attempt fail; exists only if they do."""
        return self.path / "verdict"

    def create(self, note: AttemptNote) -> None:
        """Create the trial folder, its specification and the note."""
        for folder in (self.trial.inputs, self.trial.outbox, self.trial.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        self.trial.spec.write_text(note.job.model_dump_json(indent=2))
        (self.path / "attempt.json").write_text(note.model_dump_json(indent=2))

    def note(self) -> AttemptNote | None:
        """The note; None if the supervisor died before it was complete."""
        try:
            return AttemptNote.model_validate_json((self.path / "attempt.json").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def last_activity(self, note: AttemptNote) -> float:
        """When the trial last wrote, or its supervisor last renewed the lease, by the times of files."""
        latest = note.started_at
        for path in (self.trial.lease, self.trial.log, self.trial.progress, self.trial.result):
            with suppress(OSError):
                latest = max(latest, path.lstat().st_mtime)
        return min(latest, time.time())

    @contextmanager
    def owned(self, *, wait: float = 0.0) -> Iterator[bool]:
        """Hold the folder's lock, and create the folder if necessary.

        Args:
            wait: seconds to wait for a process that only looks, or that takes an empty folder for a leftover.

        Yields:
            whether the lock is held here; False if another living process holds it.
        """
        deadline = time.monotonic() + wait
        while (handle := self._lock()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                os.close(handle)

    def _lock(self) -> int | None:
        while True:
            with suppress(FileExistsError):  # with `exist_ok`, a sweep at that moment would raise an error
                self.path.mkdir(parents=True)
            owner = self.path / "owner"
            try:
                handle = os.open(owner, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # a sweep removed the folder before it could be locked
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(handle), owner.stat()):
                    return handle
            except BlockingIOError:
                os.close(handle)
                return None
            except FileNotFoundError:
                pass
            os.close(handle)  # a sweep removed the locked file, so the lock protects nothing

    def remove(self) -> None:
        """Delete the folder; what could not be deleted is left for the next sweep.

        It is renamed first, since a process that waits for its lock creates a new folder of this name once it is gone.
        A container may outlive its supervisor for a moment, and write into what is being deleted.
        """
        away = sandbox_folder(self.path.parent) / secrets.token_hex(8)
        try:
            away.parent.mkdir(mode=0o700, exist_ok=True)
            self.path.rename(away)
        except FileNotFoundError:
            return
        except OSError:  # the disk is full: delete it in place
            away = self.path
        for _ in range(_REMOVALS):
            remove_tree(away)
            if not away.exists():
                return
            time.sleep(0.1)


def attempt_folders(spool: Path) -> list[AttemptFolder]:
    """Every attempt folder in the spool."""
    if not spool.is_dir():
        return []
    own = sandbox_folder(spool)
    return [AttemptFolder(path) for path in sorted(spool.iterdir()) if path.is_dir() and path != own]


def is_dead(folder: AttemptFolder) -> bool:
    """Whether a folder belongs to this user and nobody holds its lock. Changes nothing."""
    try:
        if folder.path.stat().st_uid != os.getuid():
            return False
        handle = os.open(folder.path / "owner", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return folder.path.exists()
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # locked, or on a file system without locks
        return False
    finally:
        os.close(handle)
    return True


def sandbox_folder(spool: Path) -> Path:
    """Parent of the folders that sandboxes need on the file system of the trial folders."""
    return spool / ".sandbox"


def require_room(spool: Path) -> None:
    """Refuse to begin an attempt if undelivered attempts have reached the spool's budget.

    Raises:
        StoreError: there is no room.
    """
    budget = spool_bytes()
    waiting = [path for path in spool.iterdir() if path != sandbox_folder(spool)] if spool.is_dir() else []
    held = sum(size_of(path) for path in waiting)  # other attempts may be removed meanwhile
    if held > budget:
        raise StoreError(
            f"the spool {spool} holds {held:,} undelivered bytes; its budget is {budget:,}",
            remedy="submit again once the store answers, which delivers them; or raise WTSBENCH_SPOOL_BYTES.",
        )
