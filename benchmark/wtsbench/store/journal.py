"""The journal: records that a server has acknowledged and not put into the tables yet, on the disk.

Putting a record into the tables costs the engine several milliseconds, or a fraction of one where many go together. So
a server flushes what it acknowledges to this file, one *frame* for all requests that waited, and puts many frames into
the tables at once. Whoever opens the database of a server that was killed does so first; what was there already is
known by its key. An empty journal, or none, is the rule: it lives for as long as a server has something under way.

The file begins with the journal's *mark*, made by chance for each, so that nothing in a record can pass for a frame. A
frame is the mark, its length, the CRC-32 of the rest, and records as they travel (`wire.encode`). The beginning is
flushed before the first frame and each frame before the next, so only the last of them can be torn, and it was never
acknowledged. A frame without records, a *seal*, is written behind each when it is flushed and before it is
acknowledged, and the next frame takes its place: it tells a frame that was cut off from one that was damaged later.
What is not whole before a frame or a seal that is, or before anything at all in the place of the beginning, is damage.

Behind the frames the file keeps room, so that what is acknowledged can be put into the tables of a full disk as well.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from wtsbench.contract.outbox import Batch
from wtsbench.errors import StoreError
from wtsbench.files import read_plain, sync_folder
from wtsbench.store import wire

_BEGINNING = struct.Struct("<8s8sI")
"""The name of the format, the mark, and the CRC-32 of both."""
_FRAME = struct.Struct("<8sQI")
_NAME = b"wtsbench"
_MARK_BYTES = 8
ROOM = 2**20
"""Bytes that are reserved behind the frames, beside as many as the frames take."""


def journal_of(database: Path) -> Path:
    """The journal of a database."""
    return database.with_name(f"{database.name}.journal")


class Journal:
    """A journal that is written; one process does."""

    def __init__(self, database: Path) -> None:
        """Begin an empty one.

        Raises:
            OSError: it cannot be made.
        """
        self.path = journal_of(database)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._mark = os.urandom(_MARK_BYTES)
        self._end, self._reserved = _BEGINNING.size, 0
        self._left_over = False
        """Something stands behind the frames that may not stay there."""
        self._begun = False
        """The beginning is on the disk; it is written late, so that a store on a full disk can be opened."""
        sync_folder(self.path.parent)

    def write(self, batches: Sequence[Batch]) -> None:
        """Make records durable: all of them or, where this raises, none.

        Raises:
            OSError: the disk is full, or fails.
        """
        payload = b"".join([batch.encoded or wire.encode(batch) for batch in batches])
        frame = _FRAME.pack(self._mark, len(payload), zlib.crc32(payload)) + payload
        end = self._end + len(frame)
        try:
            if self._left_over:
                self._cut()
            if not self._begun:
                self._put(_BEGINNING.pack(_NAME, self._mark, zlib.crc32(_NAME + self._mark)), 0)
                self._begun = True
            if 2 * end + ROOM > self._reserved:
                reserve = 2 * (end + ROOM)
                os.posix_fallocate(self._handle, 0, reserve)
                self._reserved = reserve
            self._put(frame, self._end)
        except OSError:
            self._left_over = True
            self.give_room()
            raise
        self._end = end
        self._seal()

    def _seal(self) -> None:
        """What is before the end is flushed; that it is need not be flushed as well before it is acknowledged."""
        with suppress(OSError):
            os.pwrite(self._handle, _FRAME.pack(self._mark, 0, 0), self._end)

    def _put(self, content: bytes, start: int) -> None:
        written = 0
        while written < len(content):
            written += os.pwrite(self._handle, memoryview(content)[written:], start + written)
        os.fdatasync(self._handle)

    def give_room(self) -> None:
        """Let go of the room that is kept, and of what is no whole frame."""
        with suppress(OSError):
            self._cut()

    def _cut(self) -> None:
        self._reserved = 0
        os.ftruncate(self._handle, self._end)
        self._left_over = False
        if self._end > _BEGINNING.size:
            self._seal()

    def clear(self) -> None:
        """Forget all frames: they are in the tables, durably. It is no harm if they come back."""
        self._left_over = self._end > _BEGINNING.size
        self._end = _BEGINNING.size
        self.give_room()

    def close(self, *, empty: bool) -> None:
        """Let go of the file, and remove it where all that it held is in the tables."""
        os.close(self._handle)
        if empty:
            remove(self.path)


def remove(path: Path) -> None:
    """Remove a journal all of which is in the tables, durably."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def read(path: Path) -> Iterator[Batch]:
    """The records of a journal, in the order in which they were acknowledged.

    Raises:
        StoreError: it is damaged.
    """
    content = read_plain(path)
    frames, end = _frames(content)
    if not end and any(content[_BEGINNING.size :]):
        raise _damaged(path, 0)
    place = end
    while end and (place := content.find(_mark(content), place + 1)) >= 0:
        if _whole(content, place) is not None or _sealed(content, place):
            raise _damaged(path, end)
    for frame in frames:
        yield from wire.decode(bytes(frame))


def give_room(path: Path) -> None:
    """Let go of the room behind the frames of a journal that was read whole: what stands there is not acknowledged."""
    content = read_plain(path)
    _, end = _frames(content)
    with suppress(OSError):
        os.truncate(path, min(len(content), end + _FRAME.size))  # with the seal


def _damaged(path: Path, place: int) -> StoreError:
    return StoreError(
        f"{path} is damaged at byte {place}: acknowledged records follow what cannot be read",
        remedy="copy the folder, then move this file away: trials that miss records run again.",
    )


def _frames(content: bytes) -> tuple[list[memoryview], int]:
    """The payloads of the whole frames, and where they end; 0 where the beginning is not whole."""
    frames: list[memoryview] = []
    if len(content) < _BEGINNING.size:
        return frames, 0
    name, mark, checksum = _BEGINNING.unpack_from(content)
    if name != _NAME or zlib.crc32(name + mark) != checksum:
        return frames, 0
    end = _BEGINNING.size
    while (frame := _whole(content, end)) is not None:
        frames.append(frame)
        end += _FRAME.size + len(frame)
    return frames, end


def _mark(content: bytes) -> bytes:
    return content[len(_NAME) : len(_NAME) + _MARK_BYTES]


def _sealed(content: bytes, start: int) -> bool:
    """Whether a seal is there: what is before it was acknowledged."""
    return content[start : start + _FRAME.size] == _FRAME.pack(_mark(content), 0, 0)


def _whole(content: bytes, start: int) -> memoryview | None:
    """The payload of the frame that begins there; None where there is no whole one."""
    if len(content) < start + _FRAME.size:
        return None
    found, length, checksum = _FRAME.unpack_from(content, start)
    payload = memoryview(content)[start + _FRAME.size : start + _FRAME.size + length]
    whole = found == _mark(content) and 0 < length == len(payload) and zlib.crc32(payload) == checksum
    return payload if whole else None
