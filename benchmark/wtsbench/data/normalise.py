"""Normalising texts for comparison, and items' ids. Never used for the text a model sees."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence

import regex

from wtsbench.spec.control_tokens import unmarked

_APOSTROPHES = re.compile("['\u2018\u2019\u02bc\uff07`]")
_SEPARATOR = "\x1f"
_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")
_INKLESS = "\u2800\u3164\uffa0"
"""The blank braille pattern and the Hangul fillers: not white space in Unicode, but invisible."""


class _Table(dict[int, str]):
    """A table for `str.translate` that computes each character's entry when first used."""

    def __init__(self, translated: Callable[[str], str]) -> None:
        super().__init__()
        self._translated = translated

    def __missing__(self, code: int) -> str:
        self[code] = self._translated(chr(code))
        return self[code]


def _visible(character: str) -> str:
    if character in _INKLESS:
        return " "
    control = unicodedata.category(character) == "Cc" and not character.isspace()
    return "" if control or _IGNORABLE.match(character) else unmarked(character)


_VISIBLE = _Table(_visible)
_PUNCTUATION = _Table(lambda character: " " if unicodedata.category(character).startswith("P") else character)


def comparable(text: str) -> str:
    """`text` normalised for comparison: invisible characters, compatibility forms, case, punctuation, white space.

    Removed are control characters and those that Unicode lets a renderer ignore: zero-width characters, soft hyphens,
    marks of direction, variation selectors, tags. Apostrophes are removed too (`don't` is `dont`), other punctuation
    separates words, and symbols stay (`C++` is not `C`). A text of punctuation only is kept, or all such texts would be
    equal; an invisible text gives "". Letters of different scripts that look alike stay different.
    """
    folded = unicodedata.normalize("NFKC", text.translate(_VISIBLE)).casefold()
    words = _APOSTROPHES.sub("", folded).translate(_PUNCTUATION)
    return " ".join(words.split()) or " ".join(folded.split())


def is_blank(text: str) -> bool:
    """Whether a text has no visible character."""
    return not text.translate(_VISIBLE).strip()


def content_key(values: Sequence[str]) -> str:
    """One comparable text for the text columns of an item, with the columns separated."""
    return _SEPARATOR.join(comparable(value) for value in values)


def item_id(key: str) -> str:
    """The item's id, from its content alone: 128 bits of SHA-256 over its `content_key`, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
