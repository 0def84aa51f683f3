"""A trial folder shows each role only the ground truth it may see."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.planning.grids import plan_of
from tests.strategies.test_knowledge import UNTRAINED
from wtsbench.data import prepare
from wtsbench.execution.inputs import items_of, predictions_of, visible_items
from wtsbench.execution.session import put_datasets
from wtsbench.spec import manifests
from wtsbench.spec.budget import budget
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.trial import Role, TrialSpec
from wtsbench.store.client import open_store
from wtsbench.store.folder import FolderStore

SPLITS = ["weak_train", "transfer", "validation", "test"]
ITEMS = pa.table(
    {
        "data_digest": ["d"] * 8,
        "item_id": [f"i{n}" for n in range(8)],
        "group_id": [f"g{n}" for n in range(8)],
        "split": SPLITS * 2,
        "text": [f"text {n}" for n in range(8)],
        "label": pa.array([0, 1, 0, 1, 1, 0, 1, 0], pa.int32()),
        "target": pa.array([f"target {n}" for n in range(10)][:8], pa.string()),
    }
)


def _spec(role: Role) -> TrialSpec:
    trials = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"], controls=["random_labels"]).trials.values()
    return next(spec for spec in trials if spec.role is role)


@pytest.mark.parametrize(
    ("role", "seen"),
    [
        (Role.WEAK, {"weak_train": True, "transfer": False, "validation": True, "test": False}),
        (Role.CEILING, {"transfer": True, "validation": True, "test": False}),
        (Role.STUDENT, {"transfer": False, "validation": False, "test": False}),
    ],
)
def test_labels_by_role(role: Role, seen: dict[str, bool]) -> None:
    """Test labels never enter a trial folder, and a student gets no label at all."""
    rows = visible_items(ITEMS, _spec(role)).to_pylist()
    assert {row["split"]: row["label"] is not None for row in rows} == seen
    truth = dict(zip(ITEMS["item_id"].to_pylist(), ITEMS["label"].to_pylist(), strict=True))
    assert all((row["label"] is None) == (row["target"] is None) for row in rows)
    assert all(row["label"] in (None, truth[row["item_id"]]) for row in rows)


def test_a_budget_of_truth_comes_with_what_the_parents_say_of_it() -> None:
    """A student sees the first items of `weak_train`, classes in turn, and its parents' predictions of no more."""
    trials = plan_of(tasks=["t1"], seeds=[0], strategies=[{"name": "trust", "labelled": 2}]).trials.values()
    student, weak = (next(spec for spec in trials if spec.role is role) for role in (Role.STUDENT, Role.WEAK))
    train = pa.table({**ITEMS.to_pydict(), "split": ["weak_train"] * 7 + ["transfer"]}).cast(ITEMS.schema)
    items = visible_items(train, student)
    assert {row["item_id"] for row in items.to_pylist() if row["split"] == "weak_train"} == {"i0", "i1"}
    made = train.select(["item_id", "split"]).append_column("trial_id", pa.array(["p"] * 8))
    made = made.append_column("probabilities", pa.array([[0.5, 0.5]] * 8))
    assert predictions_of(student, made, items)["item_id"].to_pylist() == ["i7", "i0", "i1"]
    naive = next(iter(plan_of(tasks=["t1"], seeds=[0], strategies=["naive"]).trials.values()))
    plain = naive.model_copy(update={"role": Role.STUDENT})
    assert predictions_of(plain, made, visible_items(train, plain))["item_id"].to_pylist() == ["i7"]
    assert predictions_of(weak, made, visible_items(train, weak)).num_rows == 8


@pytest.mark.parametrize("size", [0, 1, 3, 5, 99])
def test_a_budget_takes_classes_in_turn(size: int) -> None:
    """As if the items of each class, by id, were dealt out one class after the other; a larger one holds a smaller."""
    ids, labels = ["c", "a", "f", "b", "e", "d"], [0, 0, 1, 1, 0, 0]
    dealt = ["a", "b", "c", "f", "d", "e"]  # a b: first of each class; c f: second; d, e: left over of class 0
    assert [ids[place] for place in budget(ids, labels, size)] == dealt[:size]


def test_an_untrained_model_sees_no_truth() -> None:
    """A strong model that is only asked gets no label, though its predictions count as a weak supervisor's."""
    spec = next(iter(plan_of(tasks=["t1"], seeds=[0], strategies=["naive"]).trials.values()))
    asked = spec.model_copy(update={"recipe": UNTRAINED.recipe})
    assert spec.role is Role.WEAK
    assert visible_items(ITEMS, asked)["label"].null_count == 8


def test_items_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many trials a process supervises on them; not kept where they are none yet, or too many."""
    store, other = (open_store(str(tmp_path / name), create=True) for name in ("one", "two"))
    read: list[str] = []
    real = FolderStore.items

    def items(self: FolderStore, data_digest: str) -> pa.Table:
        read.append(self.uri)
        return real(self, data_digest)

    monkeypatch.setattr(FolderStore, "items", items)
    manifest, _ = manifests.load_task("safety-mini")
    dataset = prepare(manifest, DataSettings(weak_train=20, transfer=20, validation=20, test=20))
    assert items_of(store, dataset.data_digest).num_rows == 0
    put_datasets(store, [dataset])
    put_datasets(other, [dataset])
    for _ in range(2):
        found = [items_of(one, dataset.data_digest) for one in (store, other)]
        assert all(table.sort_by("item_id").equals(dataset.items.sort_by("item_id")) for table in found)
    assert read == [store.uri, store.uri, other.uri]
    monkeypatch.setattr("wtsbench.execution.inputs._KEPT_BYTES", 0)
    items_of(store, "absent")
    assert items_of(store, dataset.data_digest).num_rows == dataset.items.num_rows
    assert read[3:] == [store.uri, store.uri]
