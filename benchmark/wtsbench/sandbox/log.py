"""`log.txt` of a trial folder: kept short while the trial writes to it; its last lines go into the record."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wtsbench.files import NOT_GIVEN, open_plain

LOG_BYTES = 8 * 2**20
"""A log that grows past this is cut."""
KEPT_BYTES = 2 * 2**20
"""How much of its end a cut keeps."""
TAIL_BYTES = 4_000
CUT = b"[wtsbench: the log grew too long; what came before this line is gone]\n"


def tail(log: Path) -> str:
    """The end of what a trial printed; empty where it printed nothing."""
    return _end(log, TAIL_BYTES).decode(errors="replace")


def lines(log: Path) -> list[str]:
    """What a trial printed, as far as it is kept; empty if the trial has replaced the log with something else.

    Raises:
        OSError: it cannot be read from the disk.
    """
    return _end(log, LOG_BYTES).decode(errors="replace").splitlines()


def further(log: Path, offset: int) -> tuple[list[str], int]:
    """Whole lines that a trial has printed since, and where to go on.

    Args:
        log: the log of a trial that may be running.
        offset: 0, or what the last call returned. A log that was cut meanwhile is read from its new beginning.
    """
    try:
        with open_plain(log, links=False) as file:
            size = file.seek(0, os.SEEK_END)
            start = offset if offset <= size else 0
            file.seek(start)
            printed = file.read(KEPT_BYTES)
    except OSError as error:
        if error.errno not in NOT_GIVEN:
            raise
        return [], offset
    whole = printed[: printed.rfind(b"\n") + 1]
    if len(printed) == KEPT_BYTES:
        whole = whole or printed  # a longer line is told in parts, or nothing after it would ever be read
    return whole.decode(errors="replace").splitlines(), start + len(whole)


def bound(log: Path) -> None:
    """Cut a log that has grown too long. The trial opened it for appending, so it goes on writing at the new end."""
    try:
        state = log.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_size <= LOG_BYTES:
            return
        kept = _end(log, KEPT_BYTES)
        os.truncate(log, 0)
    except (FileNotFoundError, PermissionError):  # the process sandbox lets a trial remove its log, or its permissions
        return
    with log.open("ab") as file:
        file.write(CUT + kept.partition(b"\n")[2])


def _end(log: Path, count: int) -> bytes:
    try:
        with open_plain(log, links=False) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count))
            return file.read(count)
    except OSError as error:
        if error.errno not in NOT_GIVEN:
            raise
        return b""
