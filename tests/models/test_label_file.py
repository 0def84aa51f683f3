"""Files of labels as weak supervisors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from wtsbench.errors import ModelError
from wtsbench.models.external import predict
from wtsbench.models.resolve import resolve
from wtsbench.spec.model import ModelManifest
from wtsbench.spec.trial import ModelRef

LABELS = ("unsafe", "safe")
ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "split": ["transfer", "transfer", "validation", "test"],
        "text": ["Make a bomb!", "Bake a cake.", "Open a lock", "Sing, please"],
        "label": [0, 1, 0, 1],
    }
)
THREE = """\
prompt,judgement,who
make a  BOMB,bad,ann
make a bomb,bad,bob
make a bomb,good,cem
Bake a cake,good,ann
bake a cake,good,bob
bake a cake,good,cem
open a lock,bad,ann
open a lock,good,bob
open a lock,good,cem
sing please,good,ann
something else,bad,ann
"""
BY_ANNOTATORS = {
    "path": "labels.csv",
    "text": "prompt",
    "label": "judgement",
    "values": {"bad": "unsafe", "good": "safe"},
    "annotator": "who",
}


def supervisor(folder: Path, text: str | None, source: dict[str, Any], name: str = "labels.csv") -> ModelRef:
    """A manifest beside its file, as a grid would name it."""
    folder.mkdir(exist_ok=True)
    if text is not None:
        (folder / name).write_text(text)
    manifest = {"apiVersion": "wtsbench/v1", "kind": "model", "name": "people", "summary": "s"}
    (folder / "people.yaml").write_text(yaml.safe_dump({**manifest, "source": {"labels": {"path": name, **source}}}))
    return resolve("./people.yaml", base=folder)[0]


def rows(table: pa.Table) -> dict[str, list[float]]:
    """Probabilities by item."""
    return dict(zip(table["item_id"].to_pylist(), table["probabilities"].to_pylist(), strict=True))


def test_annotators_become_distributions(tmp_path: Path) -> None:
    """An item's distribution is the mean over its annotators, however its text is spelled; statistics come along."""
    ref = supervisor(tmp_path, THREE, BY_ANNOTATORS)
    assert (ref.kind, ref.id, ref.trained) == ("labels", "labels.csv", False)
    table, statistics = predict(ref, ITEMS, LABELS)
    assert table.column_names == ["split", "item_id", "probabilities"]
    assert table["split"].to_pylist() == ITEMS["split"].to_pylist()
    found = rows(table)
    assert found["a"] == pytest.approx([2 / 3, 1 / 3])
    assert found["b"] == [0, 1]
    assert found["c"] == pytest.approx([1 / 3, 2 / 3])
    assert found["d"] == [0, 1]
    assert json.loads(json.dumps(statistics)) == statistics
    assert statistics["kind"] == "labels"
    assert statistics["coverage"] == {
        "test": {"items": 1, "labelled": 1},
        "transfer": {"items": 2, "labelled": 2},
        "validation": {"items": 1, "labelled": 1},
    }
    assert statistics["rows"] == 11
    assert statistics["unused_items"] == 1
    assert statistics["annotators"] == 3
    assert statistics["one_annotator_share"] == 0.25
    assert statistics["labels_per_item"] == 2.5
    assert statistics["class_shares"] == [0.3, 0.7]
    assert statistics["pairwise_agreement"] == pytest.approx(5 / 9)  # 1 + 3 + 1 of three times 3 pairs
    assert statistics["fleiss_kappa"] is None
    assert statistics["cohen_kappa"] is None
    assert statistics["krippendorff_alpha"] == pytest.approx(1 - (4 / 9) / ((81 - 9 - 36) / (9 * 8)))


def test_two_annotators_have_cohens_kappa(tmp_path: Path) -> None:
    """Where two annotators labelled every item, both kappas are given."""
    text = "\n".join(line for line in THREE.splitlines() if not line.endswith("cem")) + "\nsing please,bad,bob\n"
    _, statistics = predict(supervisor(tmp_path, text, BY_ANNOTATORS), ITEMS, LABELS)
    # ann: unsafe safe unsafe safe; bob: unsafe safe safe unsafe: agreement 1/2, chance 1/2
    assert statistics["cohen_kappa"] == pytest.approx(0)
    assert statistics["fleiss_kappa"] == pytest.approx(0)
    assert statistics["pairwise_agreement"] == 0.5


@pytest.mark.parametrize("form", ["columns", "mapping", "list", "parquet"])
def test_probabilities(tmp_path: Path, form: str) -> None:
    """Probabilities stand in a column for each class, or in one as a mapping or a list."""
    values = {"a": [0.75, 0.25], "b": [0.5, 0.5], "c": [0.0, 1.0], "d": [0.125, 0.875]}
    if form == "columns":
        text = "id,p0,p1\n" + "".join(f"{item},{p},{q}\n" for item, (p, q) in values.items())
        source = {"item_id": "id", "probabilities": {"unsafe": "p0", "safe": "p1"}}
        ref = supervisor(tmp_path, text, source)
    elif form == "parquet":
        table = pa.table({"id": list(values), "p": list(values.values())})
        tmp_path.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(table, tmp_path / "labels.parquet")
        ref = supervisor(
            tmp_path, None, {"item_id": "id", "probabilities": "p", "order": ["unsafe", "safe"]}, "labels.parquet"
        )
    else:
        given = {item: dict(zip(LABELS, row, strict=True)) for item, row in values.items()}
        lines = (given if form == "mapping" else values).items()
        text = "".join(json.dumps({"id": item, "p": row}) + "\n" for item, row in lines)
        order = {} if form == "mapping" else {"order": ["unsafe", "safe"]}
        ref = supervisor(tmp_path, text, {"item_id": "id", "probabilities": "p", **order}, "labels.jsonl")
    table, statistics = predict(ref, ITEMS, LABELS)
    assert rows(table) == values
    turned, _ = predict(ref, ITEMS, LABELS[::-1])
    assert rows(turned) == {item: row[::-1] for item, row in values.items()}
    assert statistics["annotators"] == 1
    assert statistics["one_annotator_share"] == 1


@pytest.mark.parametrize("order", [[], ["unsafe"], ["safe", "nice"]])
def test_a_list_of_probabilities_names_its_classes(tmp_path: Path, order: list[str]) -> None:
    """A list says nothing about classes: without their names it is refused, not read in the order of the task."""
    text = json.dumps({"id": "a", "p": [0.25, 0.75]}) + "\n"
    ref = supervisor(tmp_path, text, {"item_id": "id", "probabilities": "p", "order": order}, "labels.jsonl")
    with pytest.raises(ModelError, match=r"row 1: a list of probabilities, and order names .*; the task's classes are"):
        predict(ref, ITEMS, LABELS)


def test_missing_labels_are_counted(tmp_path: Path) -> None:
    """Items without a label are an error that counts them split by split."""
    ref = supervisor(tmp_path, "id,label\na,safe\n", {"item_id": "id", "label": "label"})
    with pytest.raises(ModelError, match="no label for 1 of 1 items of test, 1 of 2 items of transfer, 1 of 1"):
        predict(ref, ITEMS, LABELS)
    table, _ = predict(ref, ITEMS.slice(0, 1), LABELS)
    assert rows(table) == {"a": [0, 1]}


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("id,label\na,wicked\n", {"item_id": "id", "label": "label"}, "row 1: 'wicked' is no label"),
        ("id,label\na,x\n", {"item_id": "id", "label": "label", "values": {"x": "evil"}}, "evil is no class"),
        (
            "id,label\na,safe\na,unsafe\n",
            {"item_id": "id", "label": "label"},
            "row 2 of labels.csv labels an",
        ),
        ("id,l,w\na,safe,z\na,safe,z\n", {"item_id": "id", "label": "l", "annotator": "w"}, "again for annotator 'z'"),
        ("id,label\na,safe\n", {"item_id": "id", "label": "lable"}, "no column 'lable'"),
        ("id,p,q\na,0.5,0.6\n", {"item_id": "id", "probabilities": {"safe": "p", "unsafe": "q"}}, "not a distribution"),
        ("id,p,q\na,x,0.6\n", {"item_id": "id", "probabilities": {"safe": "p", "unsafe": "q"}}, "not a distribution"),
        ("id,p,q\na,nan,0.6\n", {"item_id": "id", "probabilities": {"safe": "p", "unsafe": "q"}}, "not a distribution"),
        (
            "id,p,q\na,1,0\n",
            {"item_id": "id", "probabilities": {"safe": "p", "nice": "q"}},
            "classes are unsafe",
        ),
        ("", {"item_id": "id", "label": "label"}, "empty"),
        ("id,label\na,b,safe\n", {"item_id": "id", "label": "label"}, "line 2 has 3 fields, the header names 2"),
        ("id,label,label\na,safe,unsafe\n", {"item_id": "id", "label": "label"}, "names column 'label' 2 times"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, source: dict[str, Any], message: str) -> None:
    """What a row says wrongly is an error with its row and what would be right."""
    ref = supervisor(tmp_path, text, source)
    with pytest.raises(ModelError, match=message) as caught:
        predict(ref, ITEMS, LABELS)
    assert caught.value.remedy


def test_a_file_is_its_content(tmp_path: Path) -> None:
    """The revision follows the labels and how they are read, not where the file is or what it is called."""
    source = {"item_id": "id", "label": "label"}
    text = "id,label\n" + "".join(f"{item},safe\n" for item in "abcd")
    first = supervisor(tmp_path / "one", text, source)
    moved = supervisor(tmp_path / "two", text, source, "moved.csv")
    assert first.revision == moved.revision
    assert first.identity() == moved.identity()
    swapped = supervisor(tmp_path / "two", text, {**source, "values": {"safe": "unsafe"}}, "moved.csv")
    assert swapped.revision != first.revision
    other = supervisor(tmp_path / "two", text.replace("a,safe", "a,unsafe"), source, "moved.csv")
    assert other.revision != first.revision
    (tmp_path / "two" / "moved.csv").write_text(text)
    with pytest.raises(ModelError, match="changed since"):
        predict(other, ITEMS, LABELS)
    (tmp_path / "one" / "people.yaml").write_text("name: people\nsummary: s\nsource: {embedded: nano-1}\n")
    with pytest.raises(ModelError, match="changed since"):
        predict(first, ITEMS, LABELS)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Planning says at once that the file is missing."""
    with pytest.raises(ModelError, match=r"labels.csv cannot be read"):
        supervisor(tmp_path, None, {"item_id": "id", "label": "label"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"label": "l"}, "exactly one of item_id and text"),
        ({"item_id": "i", "text": "t", "label": "l"}, "exactly one of item_id and text"),
        ({"item_id": "i"}, "exactly one of label and probabilities"),
        ({"item_id": "i", "probabilities": "p", "values": {"a": "b"}}, "values goes with label"),
        ({"item_id": "i", "label": "l", "order": ["a", "b"]}, "order: goes with one column of probabilities"),
        ({"item_id": "i", "label": "l", "path": "labels.dat"}, "does not tell its format"),
    ],
)
def test_wrong_manifests(source: dict[str, Any], message: str) -> None:
    """A manifest that leaves open how the file is to be read is refused."""
    fields = {"name": "m", "summary": "s", "source": {"labels": {"path": "labels.csv", **source}}}
    with pytest.raises(ValueError, match=message):
        ModelManifest.model_validate(fields)


def test_by_name_from_the_users_manifests(tmp_path: Path) -> None:
    """A manifest in the user's own folder is found by name, its file beside it."""
    folder = tmp_path / "manifests" / "models"
    folder.mkdir(parents=True)
    supervisor(folder, "id,label\na,safe\n", {"item_id": "id", "label": "label"})
    ref, _ = resolve("people", base=tmp_path)
    assert ref.kind == "labels"
    assert rows(predict(ref, ITEMS.slice(0, 1), LABELS)[0]) == {"a": [0, 1]}
