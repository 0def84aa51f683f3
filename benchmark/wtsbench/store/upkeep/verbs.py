"""Maintenance commands, for a folder, a folder that a server owns, or a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from wtsbench.errors import StoreError
from wtsbench.settings import user_path
from wtsbench.store.client import is_server
from wtsbench.store.folder import DATABASE, FolderStore
from wtsbench.store.lock import locked
from wtsbench.store.owner import living_owner

Form = Literal["parquet", "arrow"]


def status(uri: str) -> dict[str, Any]:
    """Rows by table, bytes on the disk, waiting requests.

    Raises:
        StoreError: the store cannot be reached or read.
    """
    from wtsbench.store.engine.transaction import Engine

    address = _address(uri)
    if address is not None:
        return _ask(address, "status")
    folder = _folder(uri)
    path = folder / DATABASE
    with locked(folder, shared=True), Engine.open(path, read_only=True) as engine:
        return {"tables": engine.counts(), "bytes": path.stat().st_size, "waiting_requests": 0, "waiting_bytes": 0}


def verify(uri: str) -> dict[str, Any]:
    """Check every invariant; see `verify.Verdict`."""
    from wtsbench.store.engine.transaction import Engine
    from wtsbench.store.upkeep.verify import verify_engine

    address = _address(uri)
    if address is not None:
        return _ask(address, "verify")
    folder = _folder(uri)
    with locked(folder, shared=True), Engine.open(folder / DATABASE, read_only=True) as engine:
        return verify_engine(engine).record()


def compact(uri: str) -> dict[str, Any]:
    """Write the engine's log into the database; its bytes before and after."""
    from wtsbench.store.engine.transaction import Engine

    address = _address(uri)
    if address is not None:
        return _ask(address, "compact")
    folder = _folder(uri)
    path = folder / DATABASE
    with locked(folder, shared=False):
        before = path.stat().st_size
        with Engine.open(path, read_only=False):  # closing it writes the log into the file
            pass
        return {"bytes_before": before, "bytes_after": path.stat().st_size}


def backup(uri: str, out: str) -> dict[str, Any]:
    """Copy a store: a folder's to the file `out`; a server's to its folder of backups, under the name `out`."""
    from wtsbench.store.upkeep.backup import back_up

    address = _address(uri)
    if address is None:
        return back_up(_folder(uri), user_path(out))
    return _ask(address, "backup", {"name": out})


def export(uri: str, out: Path, form: Form) -> dict[str, Any]:
    """Export a store to files; see `export.export`."""
    from wtsbench.store.engine.transaction import Engine
    from wtsbench.store.remote import RemoteEngine
    from wtsbench.store.upkeep.archive import Archive
    from wtsbench.store.upkeep.export import export as write

    address = _address(uri)
    if address is not None:
        with RemoteEngine.open(address) as remote:
            return write(remote, out, form)
    folder = _folder(uri)
    with locked(folder, shared=True), Engine.open(folder / DATABASE, read_only=True) as engine:
        return write(Archive(engine), out, form)


def export_at_server(uri: str, name: str, form: Form) -> dict[str, Any]:
    """Have a server export its store to `exports/NAME` in the store's folder; a repeated call updates that."""
    address = _address(uri)
    if address is None:
        raise StoreError(f"no server owns {uri}", remedy="export it to a folder of your own.")
    return _ask(address, "export", {"name": name, "form": form})


def merge(source: Path, folder: Path) -> dict[str, Any]:
    """Merge another store's folder, a backup or an export into a store's folder; see `merge.merge`.

    If a server owns the folder, the server merges; its clients wait meanwhile.
    """
    from wtsbench.store.upkeep.merge import merge as bring

    address = _address(str(folder))
    if address is not None:
        return _ask(address, "merge", {"source": str(user_path(source).absolute())})
    return bring(source, folder).record()


def _address(uri: str) -> str | None:
    """The server of a store; None for a folder without one."""
    if is_server(uri):
        return uri
    owner = living_owner(user_path(uri))
    return None if owner is None else owner.address


def _folder(uri: str) -> Path:
    store = FolderStore(user_path(uri).absolute())
    store.open(create=False)
    return store.folder


def _ask(address: str, action: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
    from wtsbench.store.remote import RemoteEngine

    with RemoteEngine.open(address) as engine:
        answer = engine.action(action, asked, seconds=3600)
    if not isinstance(answer, dict):
        raise StoreError(f"the server at {address} gave no answer to {action}")
    return answer
