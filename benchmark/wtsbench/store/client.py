"""`open_store`: every kind of store, by its address."""

from __future__ import annotations

import os

from wtsbench.errors import StoreError
from wtsbench.settings import user_path
from wtsbench.store.base import Store
from wtsbench.store.folder import FolderStore

__all__ = ["Store", "absolute", "is_server", "open_store"]


def open_store(uri: str, *, create: bool = False, wait: float = 0.0) -> Store:
    """The store at an address.

    Args:
        uri: a folder, or a server's address: `grpc+tls://HOST:PORT`, or `grpc://HOST:PORT` on one machine.
        create: make the store if the folder has none. A server always has one.
        wait: seconds to go on trying if a server does not answer.

    Raises:
        StoreError: there is no store, it cannot be reached, read or written, or the kind of address is unknown.
    """
    if "://" in uri:
        from wtsbench.store.remote import SCHEMES, ServerStore

        if not uri.startswith(SCHEMES):
            raise StoreError(f"{uri} is no store's address", remedy=_ADDRESSES)
        return ServerStore(uri, wait=wait)
    store = FolderStore(user_path(uri).absolute())
    store.open(create=create)
    return store


def require_writable(uri: str) -> None:
    """Raise StoreError if a folder has a store that cannot be written; a server reports that itself."""
    folder = None if is_server(uri) else user_path(uri)
    if folder is not None and folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"the store {folder} can only be read", remedy="make the folder writable, or choose another with --store."
        )


def absolute(uri: str) -> str:
    """The same address from any working folder."""
    return uri if is_server(uri) else str(user_path(uri).resolve())


def is_server(uri: str) -> bool:
    """Whether an address is a server's."""
    return "://" in uri


_ADDRESSES = "name a folder, or grpc+tls://HOST:PORT, with --store."
