"""How much disk space a trial takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wtsbench.files import walk

_MINIMUM = 4096
"""Bytes that an entry counts for at least: one block, even if it is empty."""


def used(places: Iterable[Path], budget: int) -> int:
    """Bytes that folders take on disk, their own entries included; counting stops once a budget is passed.

    Files that were deleted while open have no name and are not counted; the size of each single file is limited
    separately (`file_bytes`).
    """
    total = 0
    for place in places:
        for _, _, state in walk(place):
            total += max(_MINIMUM, state.st_blocks * 512)
            if total > budget:
                return total
    return total
