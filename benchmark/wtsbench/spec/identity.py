"""Content addresses: SHA-256 over canonical JSON, which is that of RFC 8785.

Keys are sorted by UTF-16 code units, there is no white space, the text is UTF-8, and numbers are as ECMAScript writes
them (so `1.0` is `1`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import rfc8785

from wtsbench.errors import SpecError

IDENTITY_VERSION = 1
"""Raised when the computation of identities changes; then no trial of an older store counts as a newer one."""


def canonical_json(value: Any) -> bytes:
    """The one byte string that stands for `value` (dicts, lists, strings, numbers, booleans and None).

    Raises:
        ValueError: it has no canonical JSON form: a number that is not finite, a text that is no Unicode, a key that is
            no text, or something of another type.
        SpecError: it holds a whole number beyond 2^53, which JSON's readers round: only a user's settings can.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.IntegerDomainError as error:
        raise SpecError(f"a setting is too large: {error}", remedy="give a number below 2^53.") from None


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hexadecimal digits; raises as `canonical_json` does."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class Alike:
    """Digests of many objects that differ in a few members: what they share is written and hashed once.

    Args:
        shared: the members that all have, by name.
        differing: names of the other members.
    """

    def __init__(self, shared: Mapping[str, Any], differing: Collection[str]) -> None:
        self.differing = tuple(sorted(differing, key=_place))
        """Their names in the order in which `digest` takes the values."""
        texts: list[bytes] = []
        text = b"{"
        for name in sorted({*shared, *differing}, key=_place):
            text += (b"" if text == b"{" and not texts else b",") + canonical_json(name) + b":"
            if name in self.differing:
                texts.append(text)
                text = b""
            else:
                text += canonical_json(shared[name])
        self._begun = hashlib.sha256(texts[0])
        self._between = [*texts[1:], text + b"}"]

    def digest(self, *values: Any) -> str:
        """The digest of the object whose differing members have these values, as `digest` would give it."""
        hasher = self._begun.copy()
        for value, text in zip(values, self._between, strict=True):
            hasher.update(canonical_json(value) + text)
        return hasher.hexdigest()


def _place(name: str) -> bytes:
    """Sort key of an object's members."""
    return name.encode("utf-16-be")
