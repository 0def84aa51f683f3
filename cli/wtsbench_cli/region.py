"""The last lines of a terminal, redrawn regularly; what is printed meanwhile scrolls by above them."""

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
"""Between two drawings."""
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_ERASE_ROW, _ROW_UP = "\x1b[2K", "\x1b[1A"


class Region:
    """While entered, shows what `drawn` returns at the bottom, up to date. Safe to print into from any thread.

    Not `rich.live.Live`: that does not lock printing against drawing, so that lines get mixed; and it counts rows as
    they were drawn, though terminals fold lines when their window gets narrower. Here the rows to erase are counted by
    the current width.

    Args:
        console: of the terminal.
        drawn: returns what to show, within a width in columns and a height in rows.
    """

    def __init__(self, console: Console, drawn: Callable[[int, int], RenderableType]) -> None:
        self._console = console
        self._drawn = drawn
        self._lock = threading.RLock()
        self._lengths: list[int] = []
        """Width in columns of each line on the screen."""
        self._last_size = os.terminal_size((80, 24))
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
            if now == before:  # while a window is resized, terminals fold at once but report the size later
                with self._lock:
                    self._draw()
            before = now

    def _draw(self, above: str = "") -> None:
        from rich.text import Text

        width, height = self._size()
        # The last column stays free: after it, some terminals put the cursor into the next row, others do not.
        lines = self._rendered(self._drawn(width - 1, height), width - 1).splitlines()
        self._write(self._erasing() + above + "\n".join(lines))
        self._lengths = [Text.from_ansi(line).cell_len for line in lines]

    def _erasing(self) -> str:
        """Escape sequences that clear the rows of the region and put the cursor where it begins.

        Clears row by row: if the region fills the screen, terminals keep what a single command clears in their history.
        """
        if not self._lengths:
            return ""
        width = self._size().columns
        rows = sum(max(1, math.ceil(length / width)) for length in self._lengths)
        return "\r" + _ERASE_ROW + (_ROW_UP + _ERASE_ROW) * (rows - 1)

    def _size(self) -> os.terminal_size:
        """Size of the window itself, whatever COLUMNS says; the last known one if it was closed."""
        with suppress(OSError):
            self._last_size = os.get_terminal_size(self._console.file.fileno())
        return self._last_size

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
    """Ignores that a terminal was closed: SIGHUP is handled elsewhere."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
