"""What is read: data sets, grids and rows in a fixed order."""

from __future__ import annotations

import json
import random

import pytest

from tests.store.making import batch, item_rows, predictions, rows, seal, trial_id_of, whole_attempt
from tests.store.servers import any_store
from wtsbench.contract.schemas import TABLES
from wtsbench.errors import StoreError
from wtsbench.store.client import Store

store = any_store
IDS = [trial_id_of(name) for name in "abc"]


def _put(store: Store, digest: str, *item_ids: str) -> None:
    store.put_dataset(
        data_digest=digest,
        task="safety",
        labels=["unsafe", "safe"],
        metric="accuracy",
        report={"dropped": 3},
        items=item_rows(digest, item_ids),
    )


def test_a_data_set_is_kept_once_with_its_items(store: Store) -> None:
    """The same digest again changes nothing; digests do not mix."""
    assert not store.has_dataset("d1")
    _put(store, "d1", "b", "a")
    before = store.datasets().to_pylist()
    _put(store, "d1", "b", "a")
    _put(store, "d2", "a")
    assert store.datasets().to_pylist()[:1] == before
    assert before[0]["labels"] == ["unsafe", "safe"]
    assert json.loads(before[0]["report"]) == {"dropped": 3}
    assert store.items("d1")["item_id"].to_pylist() == ["a", "b"]
    assert store.items("d2").num_rows == 1
    assert store.has_dataset("d1")
    assert store.items("d3").schema.equals(TABLES["items"])


def test_a_data_set_with_bad_items_leaves_nothing(store: Store) -> None:
    """Items of another digest, or without a column, are refused, and the data set is not there then."""
    with pytest.raises(ValueError, match="another data set"):
        store.put_dataset(data_digest="d", task="t", labels=[], metric="m", report={}, items=item_rows("e", ["a"]))
    with pytest.raises(KeyError):
        store.put_dataset(
            data_digest="d", task="t", labels=[], metric="m", report={}, items=item_rows("d", ["a"]).drop("text")
        )
    assert not store.has_dataset("d")
    assert store.items("d").num_rows == 0


def test_submissions_of_grids_are_numbered(store: Store) -> None:
    """What equals the newest submission of its name is not submitted again; going back to an older one is."""

    def put(name: str, digest: str, cell: int = 1) -> None:
        store.put_grid(name=name, grid_digest=digest, yaml=f"name: {name}", cells=[{"seed": cell}])

    for name, digest in (("g", "1"), ("g", "1"), ("h", "1"), ("g", "2"), ("h", "1"), ("g", "1")):
        put(name, digest)
    put("g", "1", cell=2)
    table = store.grids()
    assert table["submission"].to_pylist() == [1, 2, 3, 4, 5]
    assert table["name"].to_pylist() == ["g", "h", "g", "g", "g"]
    assert json.loads(table["cells"][4].as_py()) == [{"seed": 2}]
    assert table.schema.equals(TABLES["grids"])


def test_predictions_are_ordered_whatever_the_order_of_arrival(store: Store) -> None:
    """By trial, split and item, byte by byte; only the trials and splits asked for."""
    items = ["item-10", "item-9", "Item", "\u00e9", "z"]
    for trial_id in random.Random(0).sample(IDS, 3):
        shuffled = random.Random(trial_id).sample(items, len(items))
        store.append([predictions(trial_id, 1, 1, *shuffled), predictions(trial_id, 1, 2, *items, split="transfer")])
        store.append([seal(trial_id, 1, 3)])
    read = store.predictions(IDS)
    keys = [(row["trial_id"], row["split"], row["item_id"].encode()) for row in read.to_pylist()]
    assert keys == sorted(keys)
    assert len(set(keys)) == 30
    assert read.schema.equals(TABLES["predictions"])
    part = store.predictions(IDS[:2], splits=["test"])
    assert set(part["trial_id"].to_pylist()) == set(IDS[:2])
    assert part.num_rows == 10
    assert store.predictions([]).num_rows == 0
    assert store.predictions(IDS, splits=[]).num_rows == 0
    assert store.predictions(["'; --"]).num_rows == 0


def test_final_metrics_can_be_read_without_curves(store: Store) -> None:
    """Final values have no step, and come first in their metric."""
    curve = [{"name": "loss", "split": "transfer", "step": step, "value": 1 / step} for step in (20, 10, 1)]
    store.append([batch("metrics", IDS[0], 1, 1, [*curve, {"name": "loss", "split": "transfer", "value": 0.1}])])
    store.append([seal(IDS[0], 1, 2)])
    assert store.metrics(IDS)["step"].to_pylist() == [None, 1, 10, 20]
    assert store.metrics(IDS, final_only=True)["value"].to_pylist() == [0.1]


def test_the_items_of_any_number_of_trials_can_be_asked_for(store: Store) -> None:
    """A question may name thousands of trials."""
    store.append([seal(IDS[0], 1, 1)])
    assert store.trials([*map(trial_id_of, map(str, range(5_000))), IDS[0]]).num_rows == 1
    assert store.attempts([]).num_rows == 0


def test_rows_helper_fills_what_is_required() -> None:
    """The tests' own maker of rows obeys the schemas."""
    for name, schema in TABLES.items():
        assert rows(name, [{}]).schema.equals(schema)


def test_some_columns_of_trials(store: Store) -> None:
    """Only the columns asked for come, in that order, with the same rows; one that is none is refused."""
    for trial_id in IDS:
        store.append(whole_attempt(trial_id, 1))
    columns = ["status", "trial_id", "finished_at"]
    assert store.trials(IDS[:2], columns=columns).equals(store.trials(IDS[:2]).select(columns))
    with pytest.raises((StoreError, KeyError)):
        store.trials(columns=["nonsense"])


def test_trials_of_some_data_sets(store: Store) -> None:
    """Only those on one of the data sets come."""
    for trial_id, digest in zip(IDS[:3], ("a", "b", "c"), strict=True):
        store.append([batch("trials", trial_id, 1, 1, [{"status": "failed", "data_digest": digest}])])
    found = store.trials(data_digests=["c", "a", "none"], columns=["trial_id", "data_digest"]).to_pylist()
    assert {(row["trial_id"], row["data_digest"]) for row in found} == {(IDS[0], "a"), (IDS[2], "c")}
    assert store.trials(data_digests=[]).num_rows == 0
