"""Ctrl-C and SIGTERM during a submission: the first stops cleanly, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Interruption:
    """While entered, SIGINT and SIGTERM mean the same.

    Before `stop_cleanly` they raise KeyboardInterrupt: nothing was begun that must be ended. After it, the first sets
    `stop` and tells so, the second calls `at_once`. In a thread that is not the main one, which gets no signals,
    nothing changes.

    Args:
        told: called once, at the first signal of a clean stop; it must not print into a live display.
        at_once: called at the second one, in the signal's handler: to end the process, or to raise.
    """

    def __init__(self, told: Callable[[], None], *, at_once: Callable[[], None]) -> None:
        self.stop = threading.Event()
        self._told = told
        self._at_once = at_once
        self._running = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.claim()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_cleanly(self) -> None:
        """From now on a signal asks for a clean stop."""
        self._running = True

    def claim(self) -> None:
        """Take the signals (back): Ray puts a handler of its own in place when it starts."""
        for number in self._before:
            if signal.getsignal(number) != self._handle:
                signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if not self._running:
            raise KeyboardInterrupt
        if self.stop.is_set():
            self._at_once()
            return
        self.stop.set()
        self._told()
