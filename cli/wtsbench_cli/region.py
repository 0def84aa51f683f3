"""The last lines of a terminal, drawn again and again; what is printed meanwhile scrolls by above them."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SECONDS = 0.25
"""From one drawing to the next."""
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_ERASE_ROW, _ROW_UP = "\x1b[2K", "\x1b[1A"


class Region:
    """While entered, what `drawn` returns stands at the bottom, up to date. Safe to print into from any thread.

    Not `rich.live.Live`: that lets a print and a drawing cross each other, so that lines land inside what is printed,
    and it counts lines as they were drawn. Terminals fold the lines that they show when their window is made narrower,
    so here the rows to erase are counted by the width of the moment.

    Args:
        console: of the terminal.
        drawn: what to show, for a width in columns and a height in rows that are not to be exceeded.
    """

    def __init__(self, console: Console, drawn: Callable[[int, int], RenderableType]) -> None:
        self._console = console
        self._drawn = drawn
        self._lock = threading.RLock()
        self._lengths: list[int] = []
        """Columns of each line that is drawn now."""
        self._seen = os.terminal_size((80, 24))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="live view", daemon=True)

    def __enter__(self) -> Self:
        self._write(_HIDE_CURSOR)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with self._lock:
            self._write(self._erasing() + _SHOW_CURSOR)

    def print(self, what: RenderableType) -> None:
        """Print above the region."""
        with self._lock:
            self._draw(above=self._rendered(what, self._size().columns))

    def _refresh(self) -> None:
        before = self._size()
        while not self._ended.wait(_SECONDS):
            now = self._size()
            if now == before:  # while a window is pulled, terminals fold at once and tell the size a little later
                with self._lock:
                    self._draw()
            before = now

    def _draw(self, above: str = "") -> None:
        from rich.text import Text

        width, height = self._size()
        # The last column stays free: a cursor behind it is in one row for some terminals, in the next for others.
        lines = self._rendered(self._drawn(width - 1, height), width - 1).splitlines()
        self._write(self._erasing() + above + "\n".join(lines))
        self._lengths = [Text.from_ansi(line).cell_len for line in lines]

    def _erasing(self) -> str:
        """What clears the rows of the region and puts the cursor to where it begins.

        Row by row: terminals keep in their history what one order clears, where the region is all that they show.
        """
        if not self._lengths:
            return ""
        width = self._size().columns
        rows = sum(max(1, math.ceil(length / width)) for length in self._lengths)
        return "\r" + _ERASE_ROW + (_ROW_UP + _ERASE_ROW) * (rows - 1)

    def _size(self) -> os.terminal_size:
        """Of the window itself, which folds lines whatever COLUMNS says; as last seen where it was closed."""
        with suppress(OSError):
            self._seen = os.get_terminal_size(self._console.file.fileno())
        return self._seen

    def _rendered(self, what: RenderableType, width: int) -> str:
        with self._console.capture() as captured:
            self._console.print(what, width=width)
        return captured.get()

    def _write(self, text: str) -> None:
        with _unless_closed():
            self._console.file.write(text)
            self._console.file.flush()


@contextmanager
def _unless_closed() -> Iterator[None]:
    """A terminal that was closed takes nothing any more; its signal says what to do about that."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
