"""Backups: copying a store's database while it is in use, and restoring a store from a copy."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtsbench.errors import StoreError
from wtsbench.files import sync_folder
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.folder import DATABASE, FolderStore
from wtsbench.store.lock import locked
from wtsbench.store.upkeep.archive import Archive
from wtsbench.store.upkeep.verify import Verdict, verify_engine

if TYPE_CHECKING:
    from wtsbench.store.server.live import LiveStore

SUFFIX = ".duckdb"


def back_up(folder: Path, out: Path) -> dict[str, Any]:
    """Copy a store that no server owns. Writers wait meanwhile; readers do not.

    Args:
        folder: the store's folder.
        out: the file to write; its folder exists.

    Raises:
        StoreError: the file exists, or cannot be written.
    """
    with locked(folder, shared=True):
        _require_new(out)
        database = folder / DATABASE
        files = [path for path in (database, _log(database)) if path.exists()]
        return _copy(files, out)


def back_up_live(live: LiveStore, folder: Path, name: str) -> dict[str, Any]:
    """Copy a server's store into its folder of backups. Writers wait meanwhile; readers do not."""
    out = folder / f"{name}{SUFFIX}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with live.still() as files:
        _require_new(out)
        return _copy(files, out)


def restore(backup: Path, folder: Path) -> Verdict:
    """Make a store from a backup, after verifying its contents.

    Args:
        backup: a file that `back_up` wrote.
        folder: the new store's folder; it has no store yet.

    Returns:
        The result of the check; if it found faults, no store is made.

    Raises:
        StoreError: the folder has a store or part of one, or the file is no backup.
    """
    target = folder.absolute() / DATABASE
    _require_no_store(target)  # before the folder is made or its lock waited for
    if not backup.is_file():
        raise StoreError(f"{backup} is no backup", remedy="name a file that `wtsbench store backup` wrote.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, shared=False):
        _require_no_store(target)
        hidden = target.with_name(f".{target.name}.new")
        _copy_file(backup, hidden)
        try:
            with Engine.open(hidden, read_only=False) as engine:
                verdict = verify_engine(engine)
        except StoreError as error:
            hidden.unlink(missing_ok=True)
            reason = error.message.replace(str(hidden), str(backup))
            raise StoreError(f"nothing was restored: {reason}", remedy="name another backup.") from error
        if verdict.wrong:
            hidden.unlink()
            return verdict
        hidden.rename(target)
        sync_folder(folder)
    FolderStore(folder).open(create=False)
    return verdict


def _copy(files: Sequence[Path], out: Path) -> dict[str, Any]:
    """Copy a database with its log, then checkpoint the copy: one complete file, or none."""
    hidden = out.with_name(f".{out.name}.{secrets.token_hex(8)}")  # of two backups of one name the first is kept
    try:
        for file in files:
            _copy_file(file, hidden.with_name(hidden.name + file.name.removeprefix(DATABASE)))
        with Engine.open(hidden, read_only=False) as engine:
            attempts = len(Archive(engine).attempt_keys())
        _log(hidden).unlink(missing_ok=True)
        _name(hidden, out)
        sync_folder(out.parent)
    except OSError as error:
        raise StoreError(f"the backup {out} cannot be written: {error.strerror}") from error
    finally:
        for left_over in (hidden, _log(hidden)):
            left_over.unlink(missing_ok=True)
    return {"backup": out.name, "attempts": attempts, "bytes": out.stat().st_size}


def _name(hidden: Path, out: Path) -> None:
    """Give a complete file its name, unless that is taken by now."""
    try:
        os.link(hidden, out)
    except FileExistsError:
        raise _taken(out) from None
    except OSError:  # a file system without hard links
        _require_new(out)
        hidden.rename(out)


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    handle = os.open(target, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _require_no_store(target: Path) -> None:
    if target.exists():
        raise StoreError(f"there is a store in {target.parent} already", remedy="restore into another folder.")
    if _log(target).exists():  # of a deleted store: the engine would replay it into the restored one
        raise StoreError(f"{_log(target)} is left over from another store", remedy="restore into another folder.")


def _require_new(out: Path) -> None:
    if out.exists():
        raise _taken(out)


def _taken(out: Path) -> StoreError:
    return StoreError(f"{out} is there already", remedy="choose another name.")


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")
