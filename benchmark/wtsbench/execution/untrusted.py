"""Small files that a trial wrote, read outside of its walls: its code may have put anything in their place."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 2**20
"""A larger file is none that a trial of ours writes."""
_NO_FILE = {
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV,
}  # fmt: skip
"""What a trial can bring about. Other errors are the disk's, and say nothing of the trial."""


def read_json(path: Path) -> Any:
    """What a plain file says; no link is followed, and nothing is waited for.

    Raises:
        ValueError: there is no such file, or it is no plain one, closed, too large, or no JSON of whole
            characters.
        OSError: the disk does not give it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{path} is no plain file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(MOST_BYTES + 1)
    finally:
        os.close(handle)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES:,} bytes")
    try:
        said = json.loads(content)
        json.dumps(said, ensure_ascii=False).encode()  # half a character cannot be stored: a ValueError too
        return said
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
