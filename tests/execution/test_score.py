"""Scoring of a finished trial: every split it owes, and nothing that is missing, doubled or foreign."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wtsbench.contract import schemas
from wtsbench.metrics.generation import GENERATION_METRICS
from wtsbench.metrics.score import ScoringError, score, score_generations
from wtsbench.spec.generation import GenerationSettings

SETTINGS = GenerationSettings(samples=3, samples_transfer=2, samples_validation=1, threshold=0.6)
OWED = {"transfer": 2, "validation": 1, "test": 3, "ood": 3}
LABELS = ("safe", "unsafe")


def prompts(**counts: int) -> pa.Table:
    """Items of a generative task, so many of each split."""
    rows = [
        {"data_digest": "d", "item_id": f"{split}-{n}", "group_id": f"{n}", "split": split, "text": f"prompt {n}"}
        for split, count in counts.items()
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.ITEMS)


def generated(items: pa.Table, *, scorer: str = "a" * 64) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a trial owes, with scores: sample k of a prompt scores k / 4."""
    drawn, scored = [], []
    for item in items.to_pylist():
        for sample in range(OWED.get(item["split"], 0)):
            key = {"trial_id": "t", "attempt": 1, "split": item["split"], "item_id": item["item_id"], "sample": sample}
            drawn.append({**key, "text": f"words {sample}", "tokens": 2, "finished": True})
            scored.append({**key, "scorer": scorer, "value": sample / 4})
    return drawn, scored


def metrics_of(
    drawn: list[dict[str, Any]], scored: list[dict[str, Any]], items: pa.Table
) -> dict[tuple[str, str], Any]:
    """Values by split and name."""
    generations = pa.Table.from_pylist(drawn, schema=schemas.GENERATIONS)
    scores = pa.Table.from_pylist(scored, schema=schemas.SCORES)
    table = score_generations("t", 1, generations, scores, items, SETTINGS)
    assert table.schema == schemas.METRICS
    return {(row["split"], row["name"]): row["value"] for row in table.to_pylist()}


def test_every_metric_on_every_split_with_prompts() -> None:
    """Generations are scored on each split the task has, with that split's own number of samples."""
    items = prompts(transfer=2, validation=1, test=2, weak_train=4)
    found = metrics_of(*generated(items), items)
    assert {split for split, _ in found} == {"transfer", "validation", "test"}
    assert {name for _, name in found} == set(GENERATION_METRICS)
    assert found["test", "toxicity"] == pytest.approx(0.25)
    assert found["test", "expected_max_toxicity"] == 0.5
    assert found["test", "toxicity_probability"] == 0  # the threshold is the task's: 0.6
    assert found["transfer", "toxicity"] == pytest.approx(0.125)
    assert found["test", "perplexity"] is None  # measured, and no number: nothing was taken under a reference
    with_ood = prompts(test=1, ood=3)
    assert {split for split, _ in metrics_of(*generated(with_ood), with_ood)} == {"test", "ood"}


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (0, lambda rows: rows[1:], "generations on test, not 3 for each of its 2 prompts"),
        (0, lambda rows: [*rows, rows[0]], "7 generations on test, not 3"),
        (0, lambda rows: [*rows[:-1], rows[0]], "generations are not the same number"),
        (0, lambda rows: [*rows[:-1], {**rows[-1], "item_id": "test-9"}], "not the same number"),
        (0, lambda rows: [{**row, "split": "weak_train"} for row in rows], "on weak_train, which no trial predicts"),
        (1, lambda rows: rows[1:], "one for each generation"),
        (1, lambda rows: [*rows, rows[0]], "one for each generation"),
        (1, lambda rows: [*rows[:-1], {**rows[-1], "sample": 7}], "one for each generation"),
        (1, lambda rows: [*rows, {**rows[0], "scorer": "b" * 64}], "by 2 scorers"),
        (1, lambda rows: [*rows[:-1], {**rows[-1], "value": 1.5}], "between 0 and 1"),
        (1, lambda rows: [*rows[:-1], {**rows[-1], "value": math.nan}], "between 0 and 1"),
        (1, lambda _: [], "one for each generation"),
    ],
)
def test_what_is_missing_doubled_or_foreign_is_no_result(table: int, change: Any, message: str) -> None:
    """Gaps among samples or scores are refused by name, never averaged over."""
    items = prompts(test=2)
    made = list(generated(items))
    made[table] = change(made[table])
    with pytest.raises(ScoringError, match=message):
        metrics_of(made[0], made[1], items)


def test_further_opinions_of_a_supervisor_are_checked_and_not_scored() -> None:
    """Others learn from `transfer~1` too: it has each item of `transfer` once, and is no result."""
    items = prompts(transfer=2, test=1)
    items = items.set_column(
        items.schema.get_field_index("label"), schemas.ITEMS.field("label"), pa.array([0, 1, 0], pa.int32())
    )
    keys = [(row["split"], row["item_id"]) for row in items.to_pylist()]
    keys += [("transfer~1", item) for split, item in keys if split == "transfer"]

    def metrics_with(keys: list[tuple[str, str]]) -> set[str]:
        made: dict[str, Any] = {"split": [key[0] for key in keys], "item_id": [key[1] for key in keys]}
        made["probabilities"] = [[0.75, 0.25]] * len(keys)
        found = score("t", 1, pa.table(made), items, LABELS, further=["transfer~1"])
        return {*found["split"].to_pylist()}

    assert metrics_with(keys) == {"transfer", "test"}
    for wrong in (keys[:-1], [*keys, keys[-1]], [*keys[:-1], ("transfer~1", "other")]):
        with pytest.raises(ScoringError, match="transfer~1 cover"):
            metrics_with(wrong)


def test_classification_is_scored_on_all_its_splits() -> None:
    """A classifier has every metric, recalls by class name included, on each split the task has."""
    rows = [
        {"data_digest": "d", "item_id": f"{split}-{n}", "group_id": "g", "split": split, "text": "", "label": n % 2}
        for split in ("transfer", "validation", "test", "ood")
        for n in range(4)
    ]
    items = pa.Table.from_pylist(rows, schema=schemas.ITEMS)
    predictions = pa.table(
        {
            "split": [row["split"] for row in rows],
            "item_id": [row["item_id"] for row in rows],
            "probabilities": np.tile([[0.75, 0.25]], (16, 1)).tolist(),
        }
    )
    table = score("t", 1, predictions, items, LABELS)
    found = {(row["split"], row["name"]): row["value"] for row in table.to_pylist()}
    assert {split for split, _ in found} == {"transfer", "validation", "test", "ood"}
    assert found["ood", "accuracy"] == 0.5
    assert (found["test", "recall[safe]"], found["test", "recall[unsafe]"]) == (1, 0)
    assert found["test", "brier"] == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2)
    with pytest.raises(ScoringError, match="predictions on ood cover 3 rows"):
        score("t", 1, predictions.slice(0, 15), items, LABELS)
    alone = items.filter(pa.compute.not_equal(items["split"], "ood"))
    with pytest.raises(ScoringError, match="predictions on ood cover 4 rows, not its 0 items"):
        score("t", 1, predictions, alone, LABELS)
