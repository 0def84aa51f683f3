"""Text of others: what would steer a terminal or hide is shown, and everything else stays."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from wtsbench.visible import LINES, shortened, storable, visible, visible_texts

SPELLED = "\u200c\u200d"
"""Format characters that words of some scripts, and emoji, are spelled with."""


def test_every_control_and_format_character_is_shown() -> None:
    """None of categories Cc, Cs, Zl and Zp is left, nor any of Cf that has no shape, and none of another is touched."""
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        kind = unicodedata.category(character)
        shown = visible(character)
        if kind in ("Cc", "Cs", "Zl", "Zp"):
            assert shown.isascii(), hex(number)
        elif kind == "Cf" and character not in SPELLED:
            assert shown.isascii() or unicodedata.bidirectional(character) in ("AN", "AL", "L", "ON"), hex(number)
        elif kind != "Cn":
            assert shown == character, hex(number)


@given(st.text(st.characters(), max_size=50))
def test_json_stays_the_same_document(text: str) -> None:
    """A JSON document that was made visible, its line breaks kept, says what it said."""
    document = json.dumps({"text": text}, ensure_ascii=False, indent=1)
    assert json.loads(visible(document, LINES)) == {"text": text}


def test_a_name_that_is_no_text_can_be_stored() -> None:
    """Its bytes are spelled out, as a terminal shows them; other text is as it was."""
    assert storable(os.fsdecode(b"a\xffb")) == visible(os.fsdecode(b"a\xffb")) == "a\\udcffb"
    assert storable("naïve\n\x1b ☃") == "naïve\n\x1b ☃"


def test_lines_of_a_log_stay() -> None:
    """What is kept stays, and nothing else."""
    assert visible("a\tb\n\x1b[2J\r\x9b", LINES) == "a\tb\n\\u001b[2J\\u000d\\u009b"


def test_a_record_is_shown_to_its_last_text() -> None:
    """Texts of records in records are shown; a record that needs nothing is the same object."""

    @dataclass(frozen=True)
    class Failure:
        message: str

    @dataclass(frozen=True)
    class Row:
        name: str
        failures: tuple[Failure, ...] = ()
        count: int = 3

    clean = Row("a", (Failure("b"),))
    steering, same = visible_texts([Row("a\n", (Failure("\x1b"),)), clean])
    assert steering == Row("a\\u000a", (Failure("\\u001b"),))
    assert same is clean


def test_a_long_name_is_cut_in_its_middle() -> None:
    """A message holds the beginning and the end of a name, however long that is."""
    assert shortened("x" * 5000 + "\x1b").startswith("xxx")
    assert len(shortened("x" * 5000 + "\x1b")) < 130
