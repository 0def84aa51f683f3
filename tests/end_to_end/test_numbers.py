"""Every number of a leaderboard, recomputed from the stored predictions by code that shares nothing with reports."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable

import pytest

from tests.end_to_end import recompute
from tests.end_to_end.conftest import Bench
from wtsbench.store.client import Store, open_store

pytestmark = pytest.mark.slow
PROVENANCE = (
    *("wtsbench_version", "environment_lock", "sandbox", "isolation", "data_digest", "model_revision", "host"),
    *("device", "dtype", "threads", "batch_size", "seed", "data_seed", "started_at", "finished_at", "duration_s"),
)


def hits(store: Store, trial_id: str, truth: dict[str, int]) -> dict[str, int]:
    """1 or 0 for every test item: did the trial name its class?"""
    table = store.predictions([trial_id], splits=["test"])
    found = {}
    for item, probabilities in zip(table["item_id"].to_pylist(), table["probabilities"].to_pylist(), strict=True):
        found[item] = int(probabilities.index(max(probabilities)) == truth[item])
    assert found.keys() == truth.keys()
    return found


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def test_leaderboard_recomputed(undisturbed: tuple[Bench, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The script that recomputes every number from the stored records finds none off and none left out."""
    bench, text = undisturbed
    assert recompute.main([str(bench.store), "small"]) == 0, capsys.readouterr().out
    rows = json.loads(text)
    assert "all numbers of 4 rows and 2 comparisons agree" in capsys.readouterr().out
    assert [(row["split"], row["seeds_done"]) for row in rows] == [("test", 2)] * 2 + [("ood", 2)] * 2


def test_splits_are_disjoint(undisturbed: tuple[Bench, str]) -> None:
    """No item, no group and no text stands in two splits; student and ceiling train on the same items."""
    bench, _ = undisturbed
    store = open_store(str(bench.store))
    (digest,) = store.datasets()["data_digest"].to_pylist()
    for column in ("item_id", "group_id", "text"):
        places = defaultdict(set)
        for item in store.items(digest).to_pylist():
            places[item[column]].add(item["split"])
        assert all(len(splits) == 1 for splits in places.values()), column


def test_stored_metrics_agree_with_predictions(undisturbed: tuple[Bench, str]) -> None:
    """The accuracy in the metrics table is that of the stored predictions."""
    bench, _ = undisturbed
    store = open_store(str(bench.store))
    (digest,) = store.datasets()["data_digest"].to_pylist()
    truth = {i["item_id"]: i["label"] for i in store.items(digest).to_pylist() if i["split"] == "test"}
    done = store.trials()["trial_id"].to_pylist()
    metrics = store.metrics(done, final_only=True).to_pylist()
    stored = {m["trial_id"]: m["value"] for m in metrics if (m["name"], m["split"]) == ("accuracy", "test")}
    assert stored.keys() == set(done)
    for trial_id in done:
        assert stored[trial_id] == pytest.approx(mean(hits(store, trial_id, truth).values()), abs=1e-12)


def test_every_record_says_where_it_comes_from(undisturbed: tuple[Bench, str]) -> None:
    """Provenance is complete, and a student names the exact trials it is compared with."""
    bench, _ = undisturbed
    for row in open_store(str(bench.store)).trials().to_pylist():
        for name in PROVENANCE:
            assert row[name] is not None, name
        measured = json.loads(row["measurements"])
        assert measured["seconds"].keys() >= {"load", "train", "predict"}
        if row["role"] == "student":
            assert json.loads(row["baselines"]).keys() == {"weak", "ceiling"}
            assert json.loads(row["baselines"])["weak"] in row["parents"]
