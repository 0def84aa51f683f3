"""Prepares standard output for every verb: open, tolerant of any text, and safe for the terminal."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from wtsbench.errors import ExitCode, UserError
from wtsbench.visible import LINES, visible


class OutputError(UserError):
    """Standard output cannot be written."""

    exit_code = ExitCode.UNREACHABLE


class Output(io.TextIOWrapper):
    """Standard output that explains why it cannot be written."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        """Take the place of `stream`."""
        # Where Python does not buffer (PYTHONUNBUFFERED), what is below may write a part alone, as when the process is
        # stopped and goes on, and nobody would write the rest.
        self._at_once = isinstance(stream.buffer, io.RawIOBase)
        super().__init__(
            io.BufferedWriter(stream.buffer) if isinstance(stream.buffer, io.RawIOBase) else stream.buffer,
            encoding=stream.encoding,
            errors="replace",  # a terminal that cannot show a character gets a question mark
            line_buffering=stream.line_buffering,
            write_through=True,  # several streams share one buffer, in the order of calls
        )

    def write(self, text: str) -> int:
        """Write a text unchanged."""
        with _explained():
            written = super().write(text)
            if self._at_once:
                super().flush()
            return written

    def flush(self) -> None:
        """Send what is buffered."""
        with _explained():
            super().flush()


class Shown(Output):
    """Standard output that displays control characters in place of sending them to the terminal.

    Everything that is printed passes here, including texts of trials, manifests and file names. Text with our own
    colours goes to `styled(sys.stdout)`, where `terminal.console` makes other control characters visible.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        """Take the place of `stream`."""
        super().__init__(stream)
        self.unguarded = Output(stream)

    def write(self, text: str) -> int:
        """Write a text with its control characters made visible."""
        super().write(visible(text, LINES))
        return len(text)


def styled(stream: TextIO) -> TextIO:
    """The stream for text whose escape sequences are all our own."""
    return stream.unguarded if isinstance(stream, Shown) else stream


def prepare() -> None:
    """Make the standard streams usable; called once, before anything else.

    Raises:
        OutputError: standard output is closed.
    """
    closed = sys.stdout is None
    for descriptor in range(3):  # else the next opened file would get a closed stream's number, and its output
        try:
            os.fstat(descriptor)
        except OSError:
            spare = os.open(os.devnull, os.O_RDWR)
            if spare != descriptor:
                os.dup2(spare, descriptor)
                os.close(spare)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # as long as the process
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")
    if closed:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # as long as the process
        error = OutputError(
            "standard output is closed", remedy="send it to a file, or to /dev/null to see nothing (> /dev/null)."
        )
        error.exit_code = ExitCode.USAGE
        raise error
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, Shown):
        sys.stdout = Shown(sys.stdout)


def discard() -> None:
    """Discard buffered output that nobody can read; the interpreter would report an error at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


@contextmanager
def _explained() -> Iterator[None]:
    """Turns a full disk or a closed terminal into an error with a remedy. A broken pipe is handled in `faults`.

    Raises:
        OutputError: in place of the OSError.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputError(
            f"standard output cannot be written: {error.strerror}",
            remedy=f"{'free some space where it goes' if full else 'send it elsewhere'} and run the same again.",
        ) from None
