"""The store in a folder: lock, open, one transaction, close."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wtsbench.errors import NoStore, StoreError
from wtsbench.settings import patience_seconds
from wtsbench.store.base import Store
from wtsbench.store.engine.explain import OTHER_FOLDER, not_ours
from wtsbench.store.lock import LOCK_NAME, TURN_NAME, StoreBusy, locked, persistently
from wtsbench.store.owner import FILE as OWNER_FILE
from wtsbench.store.owner import living_owner
from wtsbench.store.state import state_kept, state_of

if TYPE_CHECKING:
    from wtsbench.store.engine.transaction import Engine
    from wtsbench.store.remote import RemoteEngine

DATABASE = "store.duckdb"
SERVER = "server"
"""Folder of the server's tokens and certificates."""
BACKUPS = "backups"
EXPORTS = "exports"
_OWN_NAMES = frozenset({DATABASE, LOCK_NAME, TURN_NAME, OWNER_FILE, SERVER, BACKUPS, EXPORTS, "spool", "lost+found"})

_T = TypeVar("_T")


class _Stopping(StoreBusy):
    """The server that owns the folder does not answer, or is stopping."""


@dataclass(frozen=True)
class FolderStore(Store):
    """A store in a folder, shared by the processes of one machine.

    Every operation takes the folder's lock, opens the database for one transaction and releases both. So commands can
    read while a submission writes, and a killed process holds nothing. If a server owns the folder, every operation
    goes to the server's local socket.
    """

    folder: Path

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def state(self) -> str | None:
        """The name of what the database holds, which a change by hand changes as well; None while a server owns it."""
        return None if living_owner(self.folder) is not None else state_of(self.folder / DATABASE)

    def open(self, *, create: bool) -> None:
        """Check that the folder holds a store of wtsbench, and migrate one of an older schema version.

        Args:
            create: make the store if there is none; several processes may try at once.

        Raises:
            StoreError: there is none, it is of another program or of a newer schema version, or cannot be read or made.
        """
        from wtsbench.store.engine.database import Behind

        try:
            if not (self.folder / DATABASE).exists():
                if create and self._may_become_store():
                    self._make()
                elif not (self.folder / DATABASE).exists():  # or another process has made it meanwhile
                    raise self._absent()
        except OSError as error:
            raise StoreError(
                f"the store {self.folder} cannot be used: {error.strerror}", remedy=OTHER_FOLDER
            ) from error
        try:
            with self._engine(read_only=True):
                pass
        except Behind:
            with self._engine():
                pass

    def _make(self) -> None:
        from wtsbench.store.engine.database import create

        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, shared=False):
            if not (self.folder / DATABASE).exists():
                create(self.folder / DATABASE)

    def _may_become_store(self) -> bool:
        return not self.folder.exists() or (self.folder.is_dir() and not self._strangers())

    def _strangers(self) -> list[str]:
        names = (path.name for path in self.folder.iterdir())
        return sorted(name for name in names if name not in _OWN_NAMES and not name.startswith("."))

    def _absent(self) -> StoreError:
        if self.folder.exists() and not self.folder.is_dir():
            return StoreError(f"{self.folder} is a file, not a folder", remedy=OTHER_FOLDER)
        if self.folder.is_dir() and self._strangers():
            return not_ours(self.folder, f"it holds {self._strangers()[0]} and no {DATABASE}")
        return NoStore(
            f"there is no store in {self.folder}", remedy="`wtsbench submit` makes one; --store names another folder."
        )

    @contextmanager
    def _engine(self, *, read_only: bool = False, same_state: bool = False) -> Iterator[Engine | RemoteEngine]:
        from wtsbench.store.engine.transaction import Engine

        served = partial(living_owner, self.folder)
        with ExitStack() as stack:
            if served() is None:
                try:  # a server may take the folder while we wait: then the request goes to it
                    stack.enter_context(locked(self.folder, shared=read_only, unless=lambda: served() is not None))
                except StoreBusy:
                    if served() is None:
                        raise
                else:
                    if same_state:
                        stack.enter_context(state_kept(self.folder / DATABASE))
                    yield stack.enter_context(Engine.open(self.folder / DATABASE, read_only=read_only))
                    return
            owner = served()
            if owner is None:
                raise _Stopping(f"the server of the store {self.folder} is stopping", remedy="try again.")
            from wtsbench.store.remote import RemoteEngine

            try:
                with RemoteEngine.open(owner.address, patience=0) as engine:
                    yield engine
            except StoreBusy as error:
                raise _Stopping(error.message, remedy=error.remedy) from error

    def _ask(self, question: Callable[[Engine | RemoteEngine], _T], *, read_only: bool = False) -> _T:
        """As `Store._ask`, retried with the folder's next owner if its server stops meanwhile."""
        ask = partial(super()._ask, question, read_only=read_only)
        return persistently(ask, patience_seconds(), fault=_Stopping)

    def _operate(self, question: Callable[[Engine | RemoteEngine], _T]) -> _T:
        def ask() -> _T:
            with self._engine(same_state=True) as engine:
                return question(engine)

        return persistently(ask, patience_seconds(), fault=_Stopping)
