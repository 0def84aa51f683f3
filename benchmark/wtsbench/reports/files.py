"""What reports write into files."""

from __future__ import annotations

import os
from pathlib import Path

from wtsbench.errors import SpecError
from wtsbench.spec.files import require_replaceable


def write(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that it is there whole or not at all; folders are made.

    Raises:
        SpecError: it cannot be written.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}") if path.name else path
    try:
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_bytes(content)
        hidden.rename(path)
    except OSError as error:
        if hidden != path:
            hidden.unlink(missing_ok=True)
        raise SpecError(f"{path} cannot be written: {error.strerror}", remedy="name another place.") from None
