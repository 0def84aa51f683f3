"""Text of others as a terminal may get it: what would steer the terminal, or hide in the text, is shown as its code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

Record = TypeVar("Record")
"""A frozen dataclass."""
LINES = "\n\t"
"""What stays of control characters in a text of several lines."""
_HALVES = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: Python has bytes of a file name as such that are no UTF-8."""
_HIDDEN = re.compile(
    "".join(
        (
            "[\x00-\x1f\x7f-\x9f",  # C0, DEL and C1: escape sequences, line breaks, bells
            "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb",  # order and width
            "\ud800-\udfff",  # as in _HALVES
            "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]",
        )
    )
)
"""Control and format characters. Of the format characters those stay that words are spelled with (U+200C, U+200D)."""


def visible(text: str, keep: str = "") -> str:
    r"""The text with every control and format character as its code: `\u001b` for ESC.

    It is how JSON writes them, so a JSON document is the same document afterwards, as long as line breaks are kept.

    Args:
        text: anything, of whomever.
        keep: characters that stay, as the line breaks of a text of several lines.
    """
    return _HIDDEN.sub(lambda match: match[0] if match[0] in keep else _code(match[0]), text)


def storable(text: str) -> str:
    """Text that files and tables can hold: bytes of a name that are no UTF-8 are spelled out, and all else stays."""
    return _HALVES.sub(lambda match: _code(match[0]), text)


def shortened(text: str, most: int = 100) -> str:
    """One visible line of at most about `most` characters, the middle left out: for names in messages."""
    return visible(text if len(text) <= most else f"{text[: most // 2]} ... {text[-(most // 2) :]}")


def first_line(error: BaseException) -> str:
    """What an exception says first, at most 300 characters of it; its class's name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def visible_texts(records: Iterable[Record]) -> list[Record]:
    """Dataclasses with their texts made visible, each on one line, and those of dataclasses in their tuples."""
    return [_visible_record(record) for record in records]


def _visible_record(record: Any) -> Any:
    changed: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, str):
            now: Any = visible(value)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            now = tuple(visible_texts(value))
        else:
            continue
        if now != value:
            changed[field.name] = now
    return replace(record, **changed) if changed else record


def _code(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
