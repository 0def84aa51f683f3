"""Frames that a server and the process of an SQL query exchange through pipes: kind, length, content."""

from __future__ import annotations

import struct
from typing import IO

READY, QUESTION, NEEDED, SCHEMA, BATCH, END, REFUSED = b"R", b"Q", b"N", b"S", b"B", b"Z", b"E"
_HEAD = struct.Struct("<cQ")


class TooLarge(Exception):
    """A frame exceeds its reader's limit."""


def write(pipe: IO[bytes], kind: bytes, content: bytes | memoryview = b"") -> None:
    """Send a frame."""
    pipe.write(_HEAD.pack(kind, len(content)))
    pipe.write(content)
    if kind not in (SCHEMA, BATCH):
        pipe.flush()


def read(pipe: IO[bytes], most: int | None = None) -> tuple[bytes, bytes]:
    """The next frame.

    Args:
        pipe: to read from.
        most: limit in bytes; None for no limit.

    Raises:
        EOFError: the other side has ended.
        TooLarge: it exceeds the limit.
    """
    kind, size = _HEAD.unpack(_whole(pipe, _HEAD.size))
    if most is not None and size > most:
        raise TooLarge
    return kind, _whole(pipe, size)


def _whole(pipe: IO[bytes], size: int) -> bytes:
    content = pipe.read(size)
    if len(content) != size:
        raise EOFError
    return content
