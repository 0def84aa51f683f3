"""Scoring, outside the sandbox: only here are predictions compared with ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract.schemas import METRICS as METRICS_SCHEMA
from wtsbench.metrics.classification import Predicted, classification_metrics
from wtsbench.metrics.generation import GENERATION_METRICS
from wtsbench.metrics.samples import samples
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.trial import PREDICTED_SPLITS, Split


class ScoringError(Exception):
    """The predictions are invalid: items missing, doubled or unknown, or not distributions."""

    def __init__(self, message: str, *, diverged: bool = False) -> None:
        super().__init__(message)
        self.diverged = diverged
        """Whether the numbers themselves are invalid, such as NaN."""


def score(
    trial_id: str,
    attempt: int,
    predictions: pa.Table,
    items: pa.Table,
    labels: Sequence[str],
    supervision: pa.Table | None = None,
    *,
    splits: Sequence[Split] = PREDICTED_SPLITS,
    further: Sequence[str] = (),
) -> pa.Table:
    """Final metrics of a trial at classification on every predicted split, as rows of the `metrics` table.

    Args:
        trial_id: the trial.
        attempt: its attempt.
        predictions: columns split, item_id, probabilities.
        items: columns split, item_id, label; the ground truth.
        labels: names of the classes.
        supervision: for students, columns item_id and probabilities: the mean weak label of `transfer` items. Adds
            `agreement`, the share of items on which student and supervisors name the same class.
        splits: those the trial owes, as far as the task has them.
        further: splits that the trial owes besides, `weak_train` or further opinions such as `transfer~1`. They are
            checked, for others learn from them, and have no metrics.

    Raises:
        ScoringError: a predicted split lacks items, has some twice or others, or a row is no distribution.
    """
    rows: list[dict[str, object]] = []
    _refuse_others(predictions, "predictions", further)
    for name in further:
        _checked(predictions, items, name, len(labels))
    for split in splits:
        truth, made, probabilities = _checked(predictions, items, split.value, len(labels))
        if truth.num_rows == 0:
            continue
        predicted = Predicted.of(truth["label"].to_numpy(), probabilities)
        for name, metric in classification_metrics(labels).items():
            rows.append(_row(trial_id, attempt, name, split.value, metric.of(predicted)))
        if supervision is not None and split is Split.TRANSFER:
            weak = supervision.sort_by("item_id")
            if weak["item_id"].to_pylist() == made["item_id"].to_pylist():
                same = _matrix(weak["probabilities"], len(labels), "supervision").argmax(1) == probabilities.argmax(1)
                rows.append(_row(trial_id, attempt, "agreement", split.value, float(same.mean())))
    return pa.Table.from_pylist(rows, schema=METRICS_SCHEMA)


def score_generations(
    trial_id: str,
    attempt: int,
    generations: pa.Table,
    scores: pa.Table,
    items: pa.Table,
    settings: GenerationSettings,
    splits: Sequence[Split] = PREDICTED_SPLITS,
) -> pa.Table:
    """Final metrics of a trial at generation on every predicted split, as rows of the `metrics` table.

    Args:
        trial_id: the trial.
        attempt: its attempt.
        generations: rows of the `generations` table.
        scores: rows of the `scores` table, all of one scorer.
        items: columns split, item_id, text; the prompts.
        settings: how many samples each split owes.
        splits: those the trial owes, as far as the task has them.

    Raises:
        ScoringError: a predicted split lacks prompts or samples, has some twice or others; a generation has no score or
            several; scores are of several scorers, or out of [0, 1].
    """
    rows: list[dict[str, object]] = []
    if len(scores["scorer"].unique()) > 1:
        raise ScoringError(f"generations are scored by {len(scores['scorer'].unique())} scorers, not by one")
    _refuse_others(generations, "generations")
    _refuse_others(scores, "scores")
    for split in splits:
        prompts = _of(items, split.value)
        drawn, scored = _of(generations, split.value), _of(scores, split.value)
        owed = settings.samples_of(split)
        if drawn.num_rows != prompts.num_rows * owed:
            raise ScoringError(
                f"{drawn.num_rows} generations on {split.value}, not {owed} for each of its {prompts.num_rows} prompts"
            )
        if prompts.num_rows == 0:
            continue
        try:
            made = samples(drawn, scored, prompts, settings.threshold)
        except ValueError as error:
            raise ScoringError(f"on {split.value}, {error}") from None
        for name, metric in GENERATION_METRICS.items():
            rows.append(_row(trial_id, attempt, name, split.value, metric.of(made)))
    return pa.Table.from_pylist(rows, schema=METRICS_SCHEMA)


def _checked(
    predictions: pa.Table, items: pa.Table, split: str, classes: int
) -> tuple[pa.Table, pa.Table, np.ndarray[Any, Any]]:
    """A split's items and predictions by item id, and the latter's numbers [N, C]; `split` may be a further opinion."""
    truth = _of(items, split.partition("~")[0]).select(["item_id", "label"]).sort_by("item_id")
    made = _of(predictions, split).sort_by("item_id")
    if made["item_id"].to_pylist() != truth["item_id"].to_pylist():
        raise ScoringError(f"predictions on {split} cover {made.num_rows} rows, not its {truth.num_rows} items")
    numbers = _matrix(made["probabilities"], classes, split) if truth.num_rows else np.empty((0, classes))
    return truth, made, numbers


def _of(table: pa.Table, split: str) -> pa.Table:
    return table.filter(pc.field("split") == split)


def _refuse_others(table: pa.Table, name: str, further: Sequence[str] = ()) -> None:
    known = {*(split.value for split in PREDICTED_SPLITS), *further}
    others = sorted({*table["split"].unique().to_pylist()} - known)
    if others:
        raise ScoringError(f"{name} on {', '.join(others)}, which no trial predicts")


def mean_supervision(predictions: pa.Table) -> pa.Table:
    """The mean distribution per item over several supervisors: columns item_id, probabilities.

    Args:
        predictions: columns trial_id, item_id, probabilities; every supervisor has every item.
    """
    ordered = predictions.sort_by([("item_id", "ascending"), ("trial_id", "ascending")])
    ids = ordered["item_id"].unique()
    supervisors = len(ordered["trial_id"].unique())
    values = np.array(ordered["probabilities"].to_pylist(), dtype=np.float64)
    mean = values.reshape(len(ids), supervisors, -1).mean(axis=1)
    return pa.table({"item_id": ids, "probabilities": mean.tolist()})


def _matrix(column: pa.ChunkedArray, classes: int, where: str) -> np.ndarray:
    values = np.array(column.to_pylist(), dtype=np.float64)
    if values.shape != (len(column), classes):
        raise ScoringError(f"predictions on {where} are not {classes} probabilities per item")
    if not np.isfinite(values).all():
        raise ScoringError(f"predictions on {where} have NaN or infinite probabilities", diverged=True)
    if (values < 0).any() or not np.allclose(values.sum(1), 1, atol=1e-3):
        raise ScoringError(f"predictions on {where} are not distributions: negative, or not of sum 1")
    return values


def _row(trial_id: str, attempt: int, name: str, split: str, value: float) -> dict[str, object]:
    finite = value if math.isfinite(value) else None  # measured, and no number
    return {"trial_id": trial_id, "attempt": attempt, "name": name, "split": split, "step": None, "value": finite}
