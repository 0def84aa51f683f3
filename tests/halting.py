"""The command line, to be killed in the middle: it goes on no further than so many files, however late the kill is."""

from __future__ import annotations

import sys
from pathlib import Path

_PROGRAM = """
import glob, os, sys, time
pattern, count = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
fsync = os.fsync

def halting(handle):  # each file is synced under another name before it gets its own
    if len(glob.glob(pattern)) >= count:
        time.sleep(600)
    fsync(handle)

os.fsync = halting
from wtsbench_cli.main import main
main()
"""


def halting(pattern: Path, count: int, *arguments: str | Path) -> list[str]:
    """The command that runs `wtsbench ARGUMENTS` until so many files match a pattern, and then waits to be killed."""
    return [sys.executable, "-c", _PROGRAM, str(pattern), str(count), *map(str, arguments)]
