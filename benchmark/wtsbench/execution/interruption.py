"""Ctrl-C, SIGTERM and a terminal that closes during a submission: the first stops cleanly, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_STDOUT, _STDERR = 1, 2


class Interruption:
    """While entered, SIGINT, SIGTERM and SIGHUP mean the same; under `nohup` SIGHUP stays ignored.

    Before `stop_cleanly` they raise KeyboardInterrupt, as nothing has to be ended yet. After it, the first sets `stop`
    and calls `on_stop`, the second calls `at_once`; but a SIGHUP never counts as the second, since a terminal that
    closes may send several. In any thread but the main one, which gets no signals, nothing changes.

    Args:
        on_stop: called once, at the first signal of a clean stop; it must not print into a live display.
        at_once: called at the second signal, in its handler: to end the process, or to raise.
    """

    def __init__(self, on_stop: Callable[[], None], *, at_once: Callable[[], None]) -> None:
        self.stop = threading.Event()
        self._on_stop = on_stop
        self._at_once = at_once
        self._running = False
        self._hung_up = False
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._before[number] = signal.getsignal(number)
            if self._before[signal.SIGHUP] is signal.SIG_IGN:
                del self._before[signal.SIGHUP]
            self._terminals = [stream for stream in (_STDOUT, _STDERR) if os.isatty(stream)]
        self.claim()
        return self

    def __exit__(self, *_: object) -> None:
        if self._hung_up:
            self._discard_output_to_closed_terminals()  # again: the terminal may have closed after its signal
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_cleanly(self) -> None:
        """From now on a signal asks for a clean stop."""
        self._running = True

    def claim(self) -> None:
        """Install the handlers, again if necessary: Ray installs its own when it starts."""
        for number in self._before:
            if signal.getsignal(number) != self._handle:
                signal.signal(number, self._handle)

    def _discard_output_to_closed_terminals(self) -> None:
        """Send output to a closed terminal to /dev/null, where it would raise an error."""
        for stream in self._terminals:
            if not os.isatty(stream):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream)
                os.close(null)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
            self._discard_output_to_closed_terminals()
        if not self._running:
            raise KeyboardInterrupt
        if self.stop.is_set():
            if number != signal.SIGHUP:
                self._at_once()
            return
        self.stop.set()
        self._on_stop()
