"""Fixtures that the tests of this room share with those of the store."""

from tests.store.conftest import child, disk, store

__all__ = ["child", "disk", "store"]
