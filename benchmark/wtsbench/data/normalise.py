"""Which texts count as the same, and which item is which. Never used for the text a model sees."""

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
"""The braille pattern without dots and the Hangul fillers: no white space to Unicode, and white space to the eye."""


class _Table(dict[int, str]):
    """A table for `str.translate` that learns every character when it is first asked for."""

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
    """`text` for comparison: invisible characters, compatibility forms, case, punctuation and white space evened out.

    Control characters vanish, and what Unicode lets a renderer ignore: zero-width characters, soft hyphens, marks of
    direction, variation selectors, tags. So do apostrophes (`don't` is `dont`), while other punctuation parts words and
    symbols stay (`C++` is not `C`). A text of nothing but punctuation keeps it, or all such texts would be one; a text
    in which nothing can be seen gives "". Letters of different scripts that look alike stay apart.
    """
    folded = unicodedata.normalize("NFKC", text.translate(_VISIBLE)).casefold()
    words = _APOSTROPHES.sub("", folded).translate(_PUNCTUATION)
    return " ".join(words.split()) or " ".join(folded.split())


def is_blank(text: str) -> bool:
    """Whether nothing in a text can be seen."""
    return not text.translate(_VISIBLE).strip()


def content_key(values: Sequence[str]) -> str:
    """One comparable text for the text columns of an item, which keeps the columns apart."""
    return _SEPARATOR.join(comparable(value) for value in values)


def item_id(key: str) -> str:
    """The item's id, from its content alone: 128 bits of SHA-256 over its `content_key`, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
