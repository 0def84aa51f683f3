"""Small files that a trial wrote, read outside of its walls: its code may have put anything in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wtsbench.files import NOT_GIVEN, open_plain
from wtsbench.json_text import parsed

MOST_BYTES = 16 * 2**20
"""A larger file is none that a trial of ours writes."""
MOST_LEVELS = 100
"""Of lists and objects in each other, so that what was read can be written again from wherever in the program."""


def read_json(path: Path) -> Any:
    """What a plain file says; no link is followed, and nothing is waited for.

    Raises:
        ValueError: there is no such file, or it is no plain one, closed, too large, or no JSON of whole
            characters.
        OSError: the disk does not give it.
    """
    try:
        with open_plain(path, links=False) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        if error.errno not in NOT_GIVEN:
            raise
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES:,} bytes")
    try:
        said = parsed(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    level = [said]
    for _ in range(MOST_LEVELS):
        level = [one for each in level for one in _within(each)]
    if level:
        raise ValueError(f"{path} is nested too deeply")
    return said


def _within(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
