"""What a server and the process that computes a question say to each other through pipes: kind, length, content."""

from __future__ import annotations

import struct
from typing import IO

READY, QUESTION, NEEDED, SCHEMA, BATCH, END, REFUSED = b"R", b"Q", b"N", b"S", b"B", b"Z", b"E"
_HEAD = struct.Struct("<cQ")


class TooLarge(Exception):
    """A frame has more bytes than its reader takes."""


def write(pipe: IO[bytes], kind: bytes, content: bytes | memoryview = b"") -> None:
    """Send a frame."""
    pipe.write(_HEAD.pack(kind, len(content)))
    pipe.write(content)
    if kind not in (SCHEMA, BATCH):
        pipe.flush()


def read(pipe: IO[bytes], most: int | None = None) -> tuple[bytes, bytes]:
    """The next frame.

    Args:
        pipe: where it comes from.
        most: bytes that are taken; None takes any.

    Raises:
        EOFError: the other side has ended.
        TooLarge: it is larger.
    """
    kind, size = _HEAD.unpack(_whole(pipe, _HEAD.size))
    if most is not None and size > most:
        raise TooLarge
    return kind, _whole(pipe, size)


def _whole(pipe: IO[bytes], size: int) -> bytes:
    found = pipe.read(size)
    if len(found) != size:
        raise EOFError
    return found
