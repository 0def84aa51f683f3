"""Pydantic's messages about a value, reworded for somebody who wrote a YAML file."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from wtsbench.spec.faults import nearest

FORMS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "a name of up to 100 letters, digits, dots, dashes and underscores",
    r"^[0-9a-f]{64}$": "a SHA-256: 64 digits of 0-9 and a-f",
    r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$": "a label: up to 63 letters, digits, dots, dashes, slashes",
    r"^https?://": "an address that begins with https:// or http://",
    r"^[\w.-]+(/[\w.-]+)?$": "a name on the hub, as owner/name",
}
"""The patterns of specs, described for users."""

_MAPPING = "a mapping of `key: value` lines"
_KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("string_type", "string_sub_type", "string_unicode"), "a text"),
    (("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    (("float_type", "float_parsing"), "a number"),
    (("bool_type", "bool_parsing"), "true or false"),
    (("tuple_type", "list_type", "set_type", "frozen_set_type", "iterable_type"), "a list"),
    (("dict_type", "model_type", "model_attributes_type", "mapping_type", "dataclass_type"), _MAPPING),
)
_EXPECTED = {kind: words for kinds, words in _KINDS for kind in kinds}

_BOUNDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than": lambda c: f"must be greater than {_number(c['gt'])}",
    "greater_than_equal": lambda c: f"must be at least {_number(c['ge'])}",
    "less_than": lambda c: f"must be less than {_number(c['lt'])}",
    "less_than_equal": lambda c: f"must be at most {_number(c['le'])}",
    "multiple_of": lambda c: f"must be a multiple of {_number(c['multiple_of'])}",
    "too_short": lambda c: _length("at least", c["min_length"], "entry", "entries"),
    "too_long": lambda c: _length("at most", c["max_length"], "entry", "entries"),
    "string_too_short": lambda c: _length("at least", c["min_length"], "character", "characters"),
    "string_too_long": lambda c: _length("at most", c["max_length"], "character", "characters"),
}


def worded(entry: dict[str, Any]) -> tuple[str, str | None]:
    """Message and nearest valid name for one entry of `ValidationError.errors()`."""
    kind, value, context = entry["type"], entry.get("input"), entry.get("ctx") or {}
    if kind in _EXPECTED:
        return _wrong_kind(_EXPECTED[kind], value), None
    if kind in _BOUNDS:
        actual = f", not {said(value)}" if isinstance(value, int | float) or (isinstance(value, str) and value) else ""
        return _BOUNDS[kind](context) + actual, None
    if kind in ("literal_error", "enum"):
        return _choice(re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]], value)
    if kind == "union_tag_invalid":
        message, hint = _choice(re.findall(r"'([^']*)'", context["expected_tags"]), context["tag"])
        return f"{context['discriminator'].strip(chr(39))}: {message}", hint
    if kind == "string_pattern_mismatch":
        form = FORMS.get(context["pattern"], f"a text of the form {context['pattern']}")
        return f"must be {form}; not {said(value)}", None
    if kind in ("value_error", "assertion_error"):
        return str(context["error"]), None
    message = str(entry["msg"])
    return message[:1].lower() + message[1:].replace("Input should be", "must be"), None


def said(value: Any) -> str:
    """A value of the file as it may stand in a message: short, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def _wrong_kind(expected: str, value: Any) -> str:
    if expected == "a text" and isinstance(value, int | float):
        return f"must be a text; write it in quotes, as '{said(value)}'"
    if expected == "a list" and isinstance(value, str | int | float):
        return f"must be a list; write it in brackets, as [{value if len(str(value)) <= 40 else '...'}]"
    return f"must be {expected}, not {said(value)}"


def _choice(allowed: list[str], value: Any) -> tuple[str, str | None]:
    hint = nearest(value, allowed) if isinstance(value, str) else None
    if len(allowed) == 1:
        return f"must be {allowed[0]}, not {said(value)}", None
    return f"must be {', '.join(allowed[:-1])} or {allowed[-1]}, not {said(value)}", hint


def _length(bound: str, size: int, singular: str, plural: str) -> str:
    if (bound, size) == ("at least", 1):
        return "must not be empty"
    return f"must have {bound} {size} {singular if size == 1 else plural}"


def _number(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
