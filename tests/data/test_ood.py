"""The out-of-distribution set: what it may hold, and that it is no part of what a task learns from."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import MakeManifest, balanced_rows, write_csv
from wtsbench.data import Dataset, prepare
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings

OOD = {"name": "else", "summary": "s", "source": {"kind": "path", "path": "else.csv"}}


def items_of(dataset: Dataset, *splits: str) -> list[dict[str, Any]]:
    """The items of some splits."""
    return [item for item in dataset.items.to_pylist() if item["split"] in splits]


def test_nothing_that_is_known_is_in_it(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Texts of the task's own data, in other writing or nearly the same, go, with their groups; the report counts."""
    own = balanced_rows(200)
    foreign = balanced_rows(120, seed=77)
    near = foreign[0]["text"].split()
    near[0] = "Seldom"
    own.append({"text": " ".join(near), "label": foreign[0]["label"]})
    third = foreign[0]["text"].replace(".", " today.")  # like the foreign text, and of its group
    write_csv(tmp_path / "data.csv", own)
    same = {"text": own[5]["text"].upper(), "label": own[5]["label"]}
    write_csv(tmp_path / "else.csv", [*foreign, same, {"text": third, "label": foreign[0]["label"]}])
    dataset = prepare(make_manifest(ood=OOD), DataSettings(), folder=tmp_path)
    inside = items_of(dataset, "ood")
    texts = {item["text"] for item in inside}
    assert texts == {row["text"] for row in foreign[1:]}
    assert not {item["group_id"] for item in inside} & {
        item["group_id"] for item in items_of(dataset, "weak_train", "transfer", "validation", "test")
    }
    report = dataset.report["ood"]
    assert report["rows"] == 122
    assert report["same_text_dropped"] == 1
    assert report["near_identical_dropped"] + report["of_their_groups_dropped"] == 2
    assert report["unseen_items"] == 119
    assert report["source"]["path"] == "else.csv"
    assert dataset.report["splits"]["ood"]["items"] == len(inside) == 119


def test_it_changes_nothing_else(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The other splits hold the same items with and without it, and it is the same under every cap of them."""
    write_csv(tmp_path / "data.csv", balanced_rows(200))
    write_csv(tmp_path / "else.csv", balanced_rows(60, seed=3) + balanced_rows(40))
    without = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    with_it = prepare(make_manifest(ood=OOD), DataSettings(), folder=tmp_path)
    capped = prepare(make_manifest(ood=OOD), DataSettings(transfer=10, test=4), folder=tmp_path)
    own = ("weak_train", "transfer", "validation", "test")
    assert [i["item_id"] for i in items_of(with_it, *own)] == [i["item_id"] for i in items_of(without, *own)]
    assert [i["item_id"] for i in items_of(with_it, "ood")] == [i["item_id"] for i in items_of(capped, "ood")]
    assert len(items_of(with_it, "ood")) == 60
    assert with_it.data_digest != without.data_digest


def test_it_is_balanced_and_capped(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """With `balance: all` it is cut as the other splits are; then its cap, or the grid's, applies at equal shares."""
    rows = balanced_rows(90, seed=5)
    for place, row in enumerate(rows):
        row["label"] = "yes" if place % 3 == 0 else "no"
    write_csv(tmp_path / "data.csv", balanced_rows(100))
    write_csv(tmp_path / "else.csv", rows)
    natural = prepare(make_manifest(ood=OOD), DataSettings(), folder=tmp_path)
    whole = prepare(make_manifest(ood=OOD, balance="all"), DataSettings(), folder=tmp_path)
    assert Counter(item["label"] for item in items_of(natural, "ood")) == {0: 60, 1: 30}
    assert Counter(item["label"] for item in items_of(whole, "ood")) == {0: 30, 1: 30}
    manifest = make_manifest(ood={**OOD, "items": 20}, balance="all")
    capped = prepare(manifest, DataSettings(), folder=tmp_path)
    assert Counter(item["label"] for item in items_of(capped, "ood")) == {0: 10, 1: 10}
    assert len(items_of(prepare(manifest, DataSettings(ood=30), folder=tmp_path), "ood")) == 30


def test_its_own_template_and_labels(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Another template and other label values serve where the set's columns are others."""
    write_csv(tmp_path / "data.csv", balanced_rows(100))
    renamed = [{"q": row["text"], "verdict": str(row["label"] == "yes")} for row in balanced_rows(40, seed=6)]
    write_csv(tmp_path / "else.csv", renamed)
    ood = {**OOD, "template": "Read: {q}", "label": {"column": "verdict", "values": {"True": "yes", "False": "no"}}}
    inside = items_of(prepare(make_manifest(ood=ood), DataSettings(), folder=tmp_path), "ood")
    truth = {f"Read: {row['q']}": row["verdict"] == "True" for row in renamed}
    assert {item["text"]: item["label"] == 1 for item in inside} == truth


def test_a_set_of_one_class_is_told(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A set that lacks a class is a fault that names the split and says what to do."""
    write_csv(tmp_path / "data.csv", balanced_rows(100))
    write_csv(tmp_path / "else.csv", [{**row, "label": "yes"} for row in balanced_rows(20, seed=6)])
    with pytest.raises(DataError, match=r"split ood has 20, none of them no, of 20 distinct items") as caught:
        prepare(make_manifest(ood=OOD), DataSettings(), folder=tmp_path)
    assert "ood" in (caught.value.remedy or "")


def test_a_change_of_its_file_is_seen(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Prepared items are not taken from the cache once the set's file is another."""
    write_csv(tmp_path / "data.csv", balanced_rows(100))
    write_csv(tmp_path / "else.csv", balanced_rows(20, seed=6))
    first = prepare(make_manifest(ood=OOD), DataSettings(), folder=tmp_path)
    write_csv(tmp_path / "else.csv", balanced_rows(22, seed=6))
    assert prepare(make_manifest(ood=OOD), DataSettings(), folder=tmp_path).data_digest != first.data_digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"template": "none"}, "ood: template: no column"),
        ({"label": {"column": "label", "values": {"0": "nope"}}}, "ood: label: nope is not one of the labels"),
        ({"mirror": {"path": "x.csv", "format": "csv"}}, "ood: mirror: a path source needs none"),
    ],
)
def test_faults(make_manifest: MakeManifest, changes: dict[str, Any], said: str) -> None:
    """What is wrong with the set is told as the set's."""
    with pytest.raises(ValueError, match=said):
        make_manifest(ood={**OOD, **changes})
