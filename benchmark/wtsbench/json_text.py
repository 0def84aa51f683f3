"""JSON that somebody else wrote, read into values that can be stored and written again."""

from __future__ import annotations

import json
from typing import Any


def parsed(content: bytes | str, *, finite: bool = False) -> Any:
    """The values of a JSON text.

    Args:
        content: the text.
        finite: refuse the numbers NaN and Infinity, which Python reads and JSON does not know.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds text that is no text.
    """
    try:
        values = json.loads(content, parse_constant=_refuse if finite else None)
        json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is valid JSON, and no text
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
