"""Rows that give several items: choices, preferences and mismatches, checked by code of its own."""

import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import WORDS, MakeManifest, sentences, write_csv
from wtsbench.data import Dataset, prepare
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings

CHOICES = {
    "labels": ["wrong", "right"],
    "label": None,
    "template": "{q}\n{choice}",
    "choices": {"options": ["a", "b", "c"], "number": "answer"},
}
PREFERENCE = {
    "labels": ["first", "second"],
    "label": None,
    "template": "{context}\n1: {first}\n2: {second}",
    "preference": {"better": "good", "worse": "bad", "marker": "Reply:"},
}
MISMATCH = {
    "labels": ["apart", "together"],
    "label": None,
    "template": "{q}\n{doc}",
    "mismatch": {"column": "q", "apart": "doc"},
}


def named(kind: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """A kind of expansion whose items are of the classes no and yes, as `values` says."""
    (part,) = {"choices", "preference", "mismatch"} & kind.keys()
    return {**kind, "labels": ["no", "yes"], part: {**kind[part], "values": values}}


def questions(count: int) -> list[dict[str, str]]:
    """Questions of three choices, the right one at changing places."""
    found = []
    for place, text in enumerate(sentences(count, seed=8)):
        choices = [f"{WORDS[(place + step) % 30]} {place}" for step in (0, 7, 19)]
        found.append(
            {"q": text, **dict(zip("abc", choices, strict=True)), "answer": str(place % 3), "d": choices[place % 3]}
        )
    return found


def items_of(dataset: Dataset) -> list[dict[str, Any]]:
    """The items as dicts, the digest left out."""
    rows: list[dict[str, Any]] = dataset.items.drop_columns(["data_digest"]).to_pylist()
    return rows


def test_each_question_gives_its_right_choice_and_a_wrong_one(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Two items a question, one of either class and one group, which no split parts; every choice is a row's own."""
    rows = questions(120)
    write_csv(tmp_path / "data.csv", rows)
    items = items_of(prepare(make_manifest(**CHOICES), DataSettings(), folder=tmp_path))
    asked = {row["q"]: row for row in rows}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        found[item["text"].split("\n")[0]].append(item)
    assert found.keys() == asked.keys()
    wrong_places = set()
    for text, pair in found.items():
        row = asked[text]
        assert {item["label"] for item in pair} == {0, 1}
        assert len(pair) == 2
        assert len({item["group_id"] for item in pair}) == len({item["split"] for item in pair}) == 1
        for item in pair:
            choice = item["text"].split("\n")[1]
            assert (choice == row["abc"[int(row["answer"])]]) == (item["label"] == 1)
            wrong_places |= {"abc".index(name) for name in "abc" if item["label"] == 0 and row[name] == choice}
    assert wrong_places == {0, 1, 2}


def test_the_right_choice_may_have_a_column_of_its_own(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A column that always holds the right choice says the same as a column of numbers."""
    rows = questions(90)
    for row in rows:
        others = [row[name] for name in "abc" if row[name] != row["d"]]
        row["b"], row["c"] = others
        row["a"] = row["d"]
    write_csv(tmp_path / "data.csv", rows)
    manifest = make_manifest(**{**CHOICES, "choices": {"options": ["a", "b", "c"], "right": "a"}})
    items = items_of(prepare(manifest, DataSettings(), folder=tmp_path))
    right = {f"{row['q']}\n{row['d']}" for row in rows}
    assert {item["text"] for item in items if item["label"] == 1} == right
    assert len(items) == 180


def test_order_and_seed_pick_no_other_choice(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The wrong choice is the same for every order of the rows and every data seed."""
    rows = questions(80)
    texts = set()
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        random.Random(seed).shuffle(rows)
        write_csv(folder / "data.csv", rows)
        items = items_of(prepare(make_manifest(**CHOICES), DataSettings(seed=seed), folder=folder))
        texts.add(frozenset((item["text"], item["label"]) for item in items))
    assert len(texts) == 1


def test_questions_without_two_choices_go(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A question whose other choices are empty or equal to the right one is left out and counted."""
    rows = questions(80)
    rows[0] |= {"a": "Yes.", "b": "yes", "c": " ", "answer": "0"}
    rows[1] |= {"a": "", "answer": "0"}
    write_csv(tmp_path / "data.csv", rows)
    dataset = prepare(make_manifest(**CHOICES), DataSettings(), folder=tmp_path)
    assert dataset.report["rows_without_two_choices"] == 2
    assert dataset.report["rows"] == 80
    assert dataset.report["distinct_items"] == 156


@pytest.mark.parametrize("said", ["3", "-1", "x", ""])
def test_a_number_of_no_choice_is_told(tmp_path: Path, make_manifest: MakeManifest, said: str) -> None:
    """A row whose number names no choice is a fault with its row."""
    rows = questions(30)
    rows[4]["answer"] = said
    write_csv(tmp_path / "data.csv", rows)
    with pytest.raises(DataError, match=f"row 5: answer is '{said}', not a number from 0 to 2"):
        prepare(make_manifest(**CHOICES), DataSettings(), folder=tmp_path)


def pairs(count: int) -> list[dict[str, str]]:
    """Dialogues with a better and a worse reply."""
    replies = list(sentences(2 * count, seed=21))
    return [
        {"good": f"{text} Reply: {replies[2 * place]}", "bad": f"{text} Reply: {replies[2 * place + 1]}"}
        for place, text in enumerate(sentences(count, seed=20))
    ]


def test_a_pair_is_one_item_that_shows_both(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The label says which place the better reply has; both places occur; what they share is shown once."""
    rows = pairs(200)
    write_csv(tmp_path / "data.csv", rows)
    items = items_of(prepare(make_manifest(**PREFERENCE), DataSettings(), folder=tmp_path))
    known = {row["good"].split(" Reply: ")[0]: row for row in rows}
    labels: Counter[int] = Counter()
    for item in items:
        context, first, second = item["text"].split("\n")
        row = known[context.removesuffix(" Reply:")]
        shown = [f"{context} {first.removeprefix('1: ')}", f"{context} {second.removeprefix('2: ')}"]
        assert shown[item["label"]] == row["good"]
        assert shown[1 - item["label"]] == row["bad"]
        labels[item["label"]] += 1
    assert len(items) > 180
    assert abs(labels[0] - labels[1]) < 40


def test_opposite_preferences_contradict_each_other(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The same two replies preferred both ways are one contradictory text; equal replies are no pair."""
    rows = pairs(100)
    rows.append({"good": rows[0]["bad"], "bad": rows[0]["good"]})
    rows.append({"good": rows[1]["good"], "bad": rows[1]["good"].upper().replace("REPLY", "Reply")})
    write_csv(tmp_path / "data.csv", rows)
    report = prepare(make_manifest(**PREFERENCE), DataSettings(), folder=tmp_path).report
    assert report["contradictory_texts"] == 1
    assert report["contradictory_rows_dropped"] == 2
    assert report["indistinct_pairs_dropped"] == 1
    assert report["distinct_items"] == 99


def test_without_a_shared_beginning_the_context_is_empty(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Two texts that share no marker are shown whole, and are in no group for having no context."""
    texts = list(sentences(120, seed=2))
    rows = [{"good": texts[place], "bad": texts[place + 60]} for place in range(60)]
    write_csv(tmp_path / "data.csv", rows)
    manifest = make_manifest(**PREFERENCE, group={"columns": ["context"]})
    dataset = prepare(manifest, DataSettings(), folder=tmp_path)
    assert dataset.report["largest_group"] == 1
    assert {item["text"].split("\n")[0] for item in items_of(dataset)} == {""}


def test_a_mismatch_never_belongs_together(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Every row gives its own pair and one with another document's question; the documents stay in one split."""
    documents = list(sentences(30, seed=1))
    rows = [{"q": text, "doc": documents[place % 30]} for place, text in enumerate(sentences(90, seed=9, length=6))]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = make_manifest(**MISMATCH, group={"columns": ["doc"]}, source={"kind": "path", "path": "data.jsonl"})
    dataset = prepare(manifest, DataSettings(), folder=tmp_path)
    own = {f"{row['q']}\n{row['doc']}" for row in rows}
    items = items_of(dataset)
    assert 160 < len(items) <= 180  # neighbours of one document may be given the same foreign question
    assert {item["text"] for item in items if item["label"] == 1} == own
    assert all(item["text"] not in own for item in items if item["label"] == 0)
    homes = defaultdict(set)
    for item in items:
        homes[item["text"].split("\n")[1]].add(item["split"])
    assert all(len(splits) == 1 for splits in homes.values())


def test_a_document_alone_has_no_mismatch(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Where every row has the same document no other class can be made, and the missing class is told."""
    write_csv(tmp_path / "data.csv", [{"q": text, "doc": "the same"} for text in sentences(40, seed=9)])
    with pytest.raises(DataError, match="none of them apart"):
        prepare(make_manifest(**MISMATCH), DataSettings(), folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**CHOICES, "choices": {"options": ["a", "b"]}}, "give right, a column, or number"),
        ({**CHOICES, "choices": {"options": ["a", "b"], "right": "c"}}, "'c' is not one of the options"),
        ({**CHOICES, "label": {"column": "x"}}, "give one of label, choices, preference and mismatch, not 2"),
        ({"label": None}, "give one of label, choices, preference and mismatch, not 0"),
        ({**CHOICES, "labels": ["a", "b", "c"]}, "choices makes items of two classes"),
        ({**CHOICES, "labels": ["no", "yes"]}, "say which class is which, as values: {right: …, wrong: …}"),
        ({**PREFERENCE, "labels": ["a", "b"]}, "say which class is which, as values: {first: …, second: …}"),
        ({**MISMATCH, "labels": ["no", "yes"]}, "say which class is which, as values: {together: …, apart: …}"),
        (named(CHOICES, {"right": "yes"}), "values gives each of right and wrong one of no, yes"),
        (named(CHOICES, {"right": "yes", "wrong": "yes"}), "values gives each of right and wrong one of no, yes"),
        (named(CHOICES, {"right": "yes", "wrong": "nope"}), "values gives each of right and wrong one of no, yes"),
        (named(CHOICES, {"0": "no", "1": "yes"}), "values gives each of right and wrong one of no, yes"),
    ],
)
def test_faults(make_manifest: MakeManifest, changes: dict[str, Any], said: str) -> None:
    """Each impossible manifest is refused with a message that names what is wrong."""
    with pytest.raises(ValueError, match=re.escape(said)):
        make_manifest(**changes)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (CHOICES, {"right": "yes", "wrong": "no"}),
        (PREFERENCE, {"first": "yes", "second": "no"}),
        (MISMATCH, {"together": "yes", "apart": "no"}),
    ],
    ids=["choices", "preference", "mismatch"],
)
def test_the_order_of_labels_turns_no_meaning_round(
    tmp_path: Path, make_manifest: MakeManifest, kind: dict[str, Any], values: dict[str, str]
) -> None:
    """An item keeps its class by name when labels are listed the other way round, or called something else."""
    if kind is CHOICES:
        write_csv(tmp_path / "data.csv", questions(120))
    elif kind is PREFERENCE:
        write_csv(tmp_path / "data.csv", pairs(200))
    else:
        documents = list(sentences(30, seed=1))
        rows = [{"q": text, "doc": documents[place % 30]} for place, text in enumerate(sentences(90, seed=9, length=6))]
        write_csv(tmp_path / "data.csv", rows)

    def said(**changes: Any) -> dict[str, str]:
        dataset = prepare(make_manifest(**{**kind, **changes}), DataSettings(), folder=tmp_path)
        return {item["text"]: dataset.labels[item["label"]] for item in items_of(dataset)}

    meant = said()
    assert len(set(meant.values())) == 2
    assert said(labels=kind["labels"][::-1]) == meant
    for labels in (["yes", "no"], ["no", "yes"]):
        assert said(**{**named(kind, values), "labels": labels}) == {text: values[name] for text, name in meant.items()}
