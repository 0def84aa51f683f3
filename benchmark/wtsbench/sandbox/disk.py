"""How much a trial has on disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_LEAST = 4096
"""What a file or folder takes at least, whatever is in it."""


def used(places: Iterable[Path], budget: int) -> int:
    """Bytes that folders take on disk, their own entries included; counting stops once a budget is passed.

    Files without a name, deleted while somebody has them open, are not seen; what a trial may write into one file is
    bounded apart from this.
    """
    total = 0
    left = [str(place) for place in places]
    while left and total <= budget:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:  # closed to us, or gone meanwhile
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += max(_LEAST, entry.stat(follow_symlinks=False).st_blocks * 512)
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                if total > budget:
                    break
    return total
