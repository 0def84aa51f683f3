"""How much a trial has on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wtsbench.files import walk

_LEAST = 4096
"""What a file or folder takes at least, whatever is in it."""


def used(places: Iterable[Path], budget: int) -> int:
    """Bytes that folders take on disk, their own entries included; counting stops once a budget is passed.

    Files without a name, deleted while somebody has them open, are not seen; what a trial may write into one file is
    bounded apart from this.
    """
    total = 0
    for place in places:
        for _, _, state in walk(place):
            total += max(_LEAST, state.st_blocks * 512)
            if total > budget:
                return total
    return total
