"""Texts that look alike are one text to deduplication, contradictions and groups, whatever characters they hide."""

from __future__ import annotations

import json
import unicodedata
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.conftest import MakeManifest, balanced_rows, sentences, write_csv
from tests.data.test_protocol import likeness, rows_of
from wtsbench.data import prepare
from wtsbench.data.normalise import comparable, is_blank
from wtsbench.data.overlap import warnings
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings

INVISIBLE = [
    *("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u034f", "\u061c", "\u180e", "\u202e", "\u2066"),
    *("\ufe0f", "\U000e0041", "\U000e0100", "\u2064", "\ufff0", "\x00", "\x07", "\x1b", "\x7f", "\x9b"),
]
"""Zero-width characters, marks of direction, variation selectors, tags, unassigned ignorable ones, and controls."""
BLANKS = ["\u00a0", "\u2009", "\u3000", "\u2028", "\u0085", "\x1f", "\u2800", "\u3164"]


@pytest.mark.parametrize("hidden", INVISIBLE, ids=ascii)
def test_an_invisible_character_makes_no_other_text(hidden: str) -> None:
    """Wherever it stands, even between a letter and its accent, the text compares as without it."""
    for text in ("kind warm", "e\u0301tude", "Don't!", "\u212b"):
        for place in range(len(text) + 1):
            assert comparable(text[:place] + hidden + text[place:]) == comparable(text)
    assert is_blank(hidden)
    assert comparable(hidden) == ""


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_what_shows_as_a_blank_is_one(blank: str) -> None:
    """Every kind of white space compares as a blank, and several as one."""
    assert comparable(f"kind{blank}{blank}warm{blank}") == "kind warm"
    assert is_blank(blank)


def test_what_is_seen_still_tells_texts_apart() -> None:
    """Symbols, other scripts, signs in front of Arabic numbers and private characters keep texts apart."""
    texts = ["c", "c++", "\u0441", "1", "\u06001", "\ue000", "\U0001f469", "\U0001f468", "-", "--"]
    assert len({comparable(text) for text in texts}) == len(texts)
    assert not any(map(is_blank, texts))


@given(st.text())
def test_comparing_what_was_compared_changes_nothing(text: str) -> None:
    """The comparable form of a comparable form is itself, and equal in every normal form of the text."""
    found = comparable(text)
    assert comparable(found) == found
    assert comparable(unicodedata.normalize("NFD", text)) == comparable(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("threshold", [1.0, 0.6])
def test_hidden_copies_with_other_labels_contradict(
    tmp_path: Path, make_manifest: MakeManifest, threshold: float
) -> None:
    """A copy with a hidden character and the opposite label is the same text with two labels: both rows go."""
    rows: list[dict[str, str]] = []
    for place, row in enumerate(balanced_rows(200)):
        hidden = INVISIBLE[place % len(INVISIBLE)]
        changed = row["text"][: place % 20] + hidden + row["text"][place % 20 :]
        other = row["label"] if place % 2 else {"no": "yes", "yes": "no"}[row["label"]]
        rows += [row, {"text": changed, "label": other}]
    rows += balanced_rows(200, seed=1)
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = make_manifest(source={"kind": "path", "path": "data.jsonl"}, group={"threshold": threshold})
    report = prepare(manifest, DataSettings(), folder=tmp_path).report
    assert report["contradictory_texts"] == 100
    assert report["duplicate_rows_dropped"] == 100
    assert report["distinct_items"] == 300


def test_hidden_characters_stay_in_the_text_of_an_item(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Models see an item's text as the source has it; a text in which nothing can be seen is none."""
    rows = balanced_rows(60)
    rows[0]["text"] = f"soft\u00adly \x00 {rows[0]['text']}"
    rows.append({"text": "\u200b\ufeff", "label": "no"})
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = prepare(make_manifest(source={"kind": "path", "path": "data.jsonl"}), DataSettings(), folder=tmp_path)
    assert rows[0]["text"] in dataset.items["text"].to_pylist()
    assert dataset.report["empty_rows_dropped"] == 1


def test_group_columns_do_not_hide_near_identical_texts(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Rows of different books whose texts differ in one word lie in one split, and so do all rows of a book."""
    rows = []
    for place, text in enumerate(sentences(150, seed=6)):
        for book, word in ((place, "seldom"), (place + 1000, "often")):
            rows.append({"text": f"{text} {word}", "label": ("no", "yes")[place % 2], "book": f"book {book // 2}"})
    write_csv(tmp_path / "data.csv", rows)
    manifest = make_manifest(group={"columns": ["book"]})
    items = rows_of(prepare(manifest, DataSettings(), folder=tmp_path))
    crossing = [pair for pair in combinations(items, 2) if pair[0]["split"] != pair[1]["split"]]
    assert len(crossing) > 1000
    assert all(likeness(str(one["text"]), str(two["text"])) < 0.6 for one, two in crossing)
    book_of = {row["text"]: row["book"] for row in rows}
    assert all(book_of[str(one["text"])] != book_of[str(two["text"])] for one, two in crossing)


def test_near_identical_texts_that_a_manifest_parts_are_told(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Where `group.similar` looks at less than the text, the report counts the test items concerned, and shows two."""
    clauses = list(sentences(3, seed=7, length=30))
    rows = [
        {"q": text, "clause": clauses[max(0, place % 20 - 17)], "label": ("no", "yes")[place % 2]}
        for place, text in enumerate(sentences(240, seed=8, length=4))
    ]
    write_csv(tmp_path / "data.csv", rows)
    given = {"template": "{q}\n{clause}", "group": {"columns": ["q"]}}
    with pytest.raises(DataError, match="too few items") as caught:
        prepare(make_manifest(**given), DataSettings(), folder=tmp_path)
    dataset = prepare(
        make_manifest(**{**given, "group": {"columns": ["q"], "similar": ["q"]}}), DataSettings(), folder=tmp_path
    )
    found = dataset.report["near_identical_across_splits"]
    assert found["test_items"] == dataset.report["splits"]["test"]["items"]
    assert likeness(*found["example"]) >= 0.6
    told = str(caught.value)
    assert "the largest of 216, each nearly the same as another of them, such as" in told
    assert sum(row["q"] in told for row in rows) >= 2
    assert "group.similar" in (caught.value.remedy or "")
    (warning,) = warnings("little", dataset.report)
    assert f"{found['test_items']} of {found['test_items']} test items are nearly the same" in warning
