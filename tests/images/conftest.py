"""The engine that tests of this room share with those of the sandbox."""

from tests.sandbox.conftest import client

__all__ = ["client"]
