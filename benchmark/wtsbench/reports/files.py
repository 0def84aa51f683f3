"""What reports write into files."""

from __future__ import annotations

from pathlib import Path

from wtsbench.errors import SpecError
from wtsbench.files import replace, require_replaceable


def write(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that it is there whole or not at all; folders are made.

    Raises:
        SpecError: it cannot be written.
    """
    try:
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content, durable=False)
    except OSError as error:
        raise SpecError(f"{path} cannot be written: {error.strerror}", remedy="name another place.") from None
