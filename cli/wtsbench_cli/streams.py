"""Standard output as every verb finds it: open, able to take the text, and safe for the terminal behind it."""

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
    """Standard output does not take what is written to it."""

    exit_code = ExitCode.UNREACHABLE


class Output(io.TextIOWrapper):
    """Standard output that says in words why it does not take what is written."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        """Take the place of `stream`."""
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="replace",  # a terminal that cannot show a character gets a question mark
            line_buffering=stream.line_buffering,
            write_through=True,  # several write to one buffer, in the order of the calls
        )

    def write(self, text: str) -> int:
        """Write it as it is."""
        with _told():
            return super().write(text)

    def flush(self) -> None:
        """Send what is buffered."""
        with _told():
            super().flush()


class Shown(Output):
    """Standard output that shows control characters in place of sending them to the terminal.

    Whatever is printed passes here: texts of trials, manifests, file names and stores. What may hold colours of our own
    goes to `styled(sys.stdout)`; `terminal.console` sees to it that the rest of that is shown as well.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        """Take the place of `stream`."""
        super().__init__(stream)
        self.unguarded = Output(stream)

    def write(self, text: str) -> int:
        """Write it as it may be seen."""
        super().write(visible(text, LINES))
        return len(text)


def styled(stream: TextIO) -> TextIO:
    """Where text goes that has escape sequences of our own in it, and none of anybody else."""
    return stream.unguarded if isinstance(stream, Shown) else stream


def prepare() -> None:
    """Make the standard streams fit to be used; called once, before anything else.

    Raises:
        OutputError: standard output is closed.
    """
    closed = sys.stdout is None
    for descriptor in range(3):  # else the next file that is opened would take what is printed, ours or a library's
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
    """Let what is still buffered go nowhere: nobody takes it, and the interpreter would complain at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


@contextmanager
def _told() -> Iterator[None]:
    """Say in words that a disk is full or a terminal gone; a reader who is gone ends the program quietly elsewhere.

    Raises:
        OutputError: in place of the fault.
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
