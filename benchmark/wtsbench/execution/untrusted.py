"""Reads small files that a trial wrote, outside the sandbox: its code may have put anything in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wtsbench.files import NOT_GIVEN, open_plain
from wtsbench.json_text import parsed

MOST_BYTES = 16 * 2**20
"""No trial writes a larger file."""
MOST_LEVELS = 100
"""Depth of nested lists and objects, so that writing them again cannot exceed Python's recursion limit."""


def read_json(path: Path) -> Any:
    """The JSON in a regular file. No link is followed, and reading never blocks.

    Raises:
        ValueError: the file does not exist, is not a regular file, may not be read, is too large, or is not JSON of
            complete characters.
        OSError: the disk fails.
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
