"""Scores of a trial on a split: every metric is a function of sums over items.

This makes resampling cheap: the features of an item are computed once, and a resample of the items is a weighted sum of
them. Accuracy sums one feature, balanced accuracy and F1 sum per-class counts, and the mean of any per-item number fits
as well. If the sums define no score (no item of a class, no word to count) it is NaN, which reports show as NA, not 0.

This module has the common parts and the metrics of classification; `generation` has those of generation, `inheritance`
those of what a student takes over from its weak supervisor.

Shapes: N items, C classes, F features of a metric, `...` any number of leading axes (trials, resamples).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wtsbench.metrics.ordering import Parts, auroc, average_precision, pseudo_values

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
Features = NDArray[np.generic]
"""[N, F] or [..., N, F]; whole numbers keep their sums exact."""
E = TypeVar("E")
"""Evidence: a trial's outputs for the items of a split."""


@dataclass(frozen=True, kw_only=True)
class Metric(Generic[E]):
    """A score of trials' outputs."""

    name: str
    summary: str
    """One line for display."""
    higher_is_better: bool
    features: Callable[[E], Features]
    """Computes what is summed over items. Metrics with equal sums share one function."""
    value: Callable[[Floats], Floats]
    """The score [...] from sums [..., F] over items, each as often as it was drawn; NaN if undefined."""
    lowest: float = 0.0
    """Smallest possible score."""
    highest: float = 1.0
    """Largest possible score."""
    effective: Callable[[Integers], float] | None = None
    """Effective number of items, from the number of items of each class [C]; None if all items count equally."""
    descriptive: bool = False
    """Whether it only describes outputs: neither direction is better, so nothing is ranked by it."""

    @property
    def direction(self) -> int:
        """1 where higher is better, -1 where lower is better."""
        return 1 if self.higher_is_better else -1

    def of(self, evidence: E) -> float:
        """The score of one trial."""
        sums = self.features(evidence).sum(axis=-2, dtype=np.float64)
        return float(self.value(sums))


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A classifier's answers to the items of a split, with the truth."""

    labels: Integers
    """[N] true classes."""
    classes: Integers
    """[..., N] predicted classes."""
    probabilities: Floats | None = None
    """[..., N, C], where they are known."""
    count: int
    """C."""

    @classmethod
    def of(cls, labels: ArrayLike, predictions: ArrayLike, *, classes: int | None = None) -> Predicted:
        """Check and hold answers.

        Args:
            labels: true classes [N].
            predictions: probabilities [N, C], whose first maximum counts, or predicted classes [N].
            classes: C, if predicted classes are given; by default the largest class seen plus 1, at least 2.

        Raises:
            ValueError: no items, unequal lengths, NaN among the probabilities, or a class out of range.
        """
        truth, made = np.asarray(labels), np.asarray(predictions)
        probabilities = None
        if made.ndim == 2:
            probabilities = made.astype(np.float64)
            predicted, classes = predicted_classes(probabilities), made.shape[1]
        else:
            predicted, classes = made, classes or max(2, 1 + int(max(truth.max(initial=0), made.max(initial=0))))
        if truth.shape != predicted.shape:
            raise ValueError(f"{truth.size} labels and {predicted.size} predictions do not belong together")
        if truth.size == 0:
            raise ValueError("no items: there is nothing to score")
        if min(truth.min(), predicted.min()) < 0 or max(truth.max(), predicted.max()) >= classes:
            raise ValueError(f"classes must lie between 0 and {classes - 1}")
        return cls(
            labels=truth.astype(np.int64),
            classes=predicted.astype(np.int64),
            probabilities=probabilities,
            count=classes,
        )


def predicted_classes(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """The most probable class [...] of probabilities [..., C]; the lower one of equals.

    Raises:
        ValueError: a probability is NaN, so that there is no most probable class.
    """
    if np.isnan(probabilities).any():
        raise ValueError("probabilities hold NaN")
    best: NDArray[np.int64] = probabilities.argmax(axis=-1)
    return best


def ratio(part: Floats, whole: Floats) -> Floats:
    """Part / whole, NaN where the whole is 0."""
    nothing = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    quotient: Floats = np.divide(part, whole, out=nothing, where=whole != 0)
    return quotient


def share(sums: Floats) -> Floats:
    """The first of two sums over the second."""
    return ratio(sums[..., 0], sums[..., 1])


def hits(made: Predicted) -> Features:
    """For each item: whether predicted correctly, and 1. F = 2."""
    hit = made.classes == made.labels
    return np.stack([hit, np.ones_like(hit)], axis=-1)


def per_class(made: Predicted) -> Features:
    """For each item and class: hit, true, predicted. F = 3 C, class by class."""
    each = np.arange(made.count)
    true = np.broadcast_to(made.labels[..., None] == each, (*made.classes.shape, made.count))
    called = made.classes[..., None] == each
    stacked = np.stack([true & called, true, called], axis=-1)
    return stacked.reshape(*made.classes.shape, 3 * made.count)


def squared_errors(made: Predicted) -> Features:
    """For each item: the sum over classes of (probability - truth)^2 (Brier 1950), and 1; NaN without probabilities."""
    if made.probabilities is None:
        return np.full((*made.classes.shape, 2), np.nan)
    truth = np.eye(made.count)[made.labels]
    error = ((made.probabilities - truth) ** 2).sum(axis=-1)
    return np.stack([error, np.ones_like(error)], axis=-1)


def ordered(parts: Callable[[Floats, Integers], Parts], made: Predicted) -> Features:
    """For each item of two classes: its part of a score of their order, and 1; NaN without probabilities."""
    if made.probabilities is None:
        return np.full((*made.classes.shape, 2), np.nan)
    values = pseudo_values(parts, made.probabilities[..., 1], made.labels)
    return np.stack([values, np.ones_like(values)], axis=-1)


def _columns(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, items and predictions of each class, [..., C] each."""
    table = sums.reshape(*sums.shape[:-1], -1, 3)
    return table[..., 0], table[..., 1], table[..., 2]


def _mean_recall(sums: Floats) -> Floats:
    found, true, _ = _columns(sums)
    return _mean_where(true > 0, found, true)


def _f1(sums: Floats) -> Floats:
    found, true, made = _columns(sums)
    if found.shape[-1] == 2:
        found, true, made = found[..., 1:], true[..., 1:], made[..., 1:]
    return _mean_where(true + made > 0, 2 * found, true + made)


def _mean_where(defined: NDArray[np.bool_], part: Floats, whole: Floats) -> Floats:
    """Mean of part / whole over the classes for which it is defined; 0 if there are none."""
    shares = np.divide(part, whole, out=np.zeros_like(part), where=defined)
    mean: Floats = shares.sum(axis=-1) / np.maximum(defined.sum(axis=-1), 1)
    return mean


def _recall(sums: Floats, index: int) -> Floats:
    found, true, _ = _columns(sums)
    return ratio(found[..., index], true[..., index])


def _evenly(counts: Integers) -> float:
    """Effective number of items for a mean over classes, from the sum of the variances of the classes' means."""
    present = counts[counts > 0]
    return float(present.size**2 / (1 / present).sum()) if present.size else 0.0


def _of_class(counts: Integers, index: int) -> float:
    return float(counts[index])


METRICS: dict[str, Metric[Predicted]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy",
            summary="share of items whose class is named",
            higher_is_better=True,
            features=hits,
            value=share,
        ),
        Metric(
            name="balanced_accuracy",
            summary="mean over the classes present of the share of their items that is named",
            higher_is_better=True,
            features=per_class,
            value=_mean_recall,
            effective=_evenly,
        ),
        Metric(
            name="f1",
            summary="F1 of class 1 of two, else the mean F1 of the classes; 0 where no item is or is called so",
            higher_is_better=True,
            features=per_class,
            value=_f1,
            effective=_evenly,
        ),
    )
}
"""The metrics that a classification task can be ranked by, by name."""


_ORDERING: dict[str, Metric[Predicted]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="auroc",
            summary="share of pairs of items of both classes that the probability of class 1 puts in order",
            higher_is_better=True,
            features=partial(ordered, auroc),
            value=share,
            effective=_evenly,
        ),
        Metric(
            name="average_precision",
            summary="mean precision at the items of class 1, by falling probability",
            higher_is_better=True,
            features=partial(ordered, average_precision),
            value=share,
            effective=_evenly,
        ),
    )
}
"""Metrics for two classes; class 1 is the positive one, as for F1."""


def classification_metrics(labels: Sequence[str]) -> dict[str, Metric[Predicted]]:
    """All metrics that are reported for a classifier of these classes, by name."""
    recalls: list[Metric[Any]] = [
        Metric(
            name=f"recall[{label}]",
            summary=f"share of the items of class {label} that is named",
            higher_is_better=True,
            features=per_class,
            value=partial(_recall, index=index),
            effective=partial(_of_class, index=index),
        )
        for index, label in enumerate(labels)
    ]
    brier: Metric[Predicted] = Metric(
        name="brier",
        summary="mean squared distance of the probabilities from the truth, summed over classes",
        higher_is_better=False,
        features=squared_errors,
        value=share,
        highest=2.0,
    )
    ordering = _ORDERING if len(labels) == 2 else {}
    return {**METRICS, **ordering, **{metric.name: metric for metric in recalls}, "brier": brier}
