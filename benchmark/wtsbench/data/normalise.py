"""Which texts count as the same, and which item is which. Never used for the text a model sees."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

_APOSTROPHES = re.compile("['\u2018\u2019\u02bc\uff07`]")
_SEPARATOR = "\x1f"


class _PunctuationToBlanks(dict[int, str]):
    """A table for `str.translate` that learns every character when it is first asked for."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if unicodedata.category(character).startswith("P") else character
        return self[code]


_PUNCTUATION = _PunctuationToBlanks()


def comparable(text: str) -> str:
    """`text` for comparison: compatibility forms, case, punctuation and white space evened out.

    Apostrophes vanish (`don't` is `dont`), other punctuation parts words; symbols stay (`C++` is not `C`). A text of
    nothing but punctuation keeps it, or all such texts would be one.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _APOSTROPHES.sub("", folded).translate(_PUNCTUATION)
    return " ".join(words.split()) or " ".join(folded.split())


def content_key(values: Sequence[str]) -> str:
    """One comparable text for the text columns of an item, which keeps the columns apart."""
    return _SEPARATOR.join(comparable(value) for value in values)


def item_id(key: str) -> str:
    """The item's id, from its content alone: 128 bits of SHA-256 over its `content_key`, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
