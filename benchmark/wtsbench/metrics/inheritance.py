"""What a strong model, a student or for comparison the ceiling, has in common with the weak supervisor of its seed.

All are functions of sums over items, so that they have intervals like any other metric. p is the probability that a
model gives, 1 stands for the weak supervisor and 2 for the strong model, N items of C classes.

error_inheritance   of the items that the weak supervisor gets wrong, the share to which the student gives the same
                    wrong class; with two classes this and the next add up to 1
error_correction    of those, the share that it gets right
misfit              share of items to which the two give different classes. The gain in accuracy is never larger, and
                    theory has it about as large where the weak labels are not fitted too well (Charikar et al. 2024,
                    arXiv 2405.15116, who measure it as a loss between probabilities)
capa                chance-adjusted probabilistic agreement, of the mean true-class probabilities a_1, a_2:

                        (o - e) / (1 - e)     o = (1/N) sum_x sum_c p_1c p_2c
                                              e = a_1 a_2 + (1 - a_1) (1 - a_2) / (C - 1)

                    0 where errors are as alike as chance makes them, 1 where the models are the same. Between weak
                    model and ceiling, low values go with large gains (Goel et al. 2025, arXiv 2502.04313)
blind_spot          of the items of which the weak supervisor is unsure (no p_1c of 0.75 or more), the share that the
                    student gets wrong and is sure of (p_2c of 0.75 or more): what a weak supervisor can least notice
                    (after Yang et al. 2024, arXiv 2406.11431, with their threshold)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wtsbench.metrics.classification import Features, Floats, Integers, Metric, ratio, share

SURE = 0.75
"""Largest probability from which a model counts as sure."""


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """A strong model's answers with those of its weak supervisor."""

    labels: Integers
    """[N] true classes."""
    weak: Integers
    """[..., N] classes that the weak supervisor predicts."""
    student: Integers
    """[..., N] classes that the student predicts."""
    weak_probabilities: Floats | None = None
    """[..., N, C], if known."""
    student_probabilities: Floats | None = None
    """[..., N, C]."""


def repeated(made: Supervised) -> Features:
    """For each item: a weak error that the student repeats, a weak error. F = 2."""
    wrong = made.weak != made.labels
    return np.stack([wrong & (made.student == made.weak), wrong], axis=-1)


def corrected(made: Supervised) -> Features:
    """For each item: a weak error that the student has right, a weak error. F = 2."""
    wrong = made.weak != made.labels
    return np.stack([wrong & (made.student == made.labels), wrong], axis=-1)


def differing(made: Supervised) -> Features:
    """For each item: whether the two predict different classes, 1. F = 2."""
    other = made.student != made.weak
    return np.stack([other, np.ones_like(other)], axis=-1)


def agreement(made: Supervised) -> Features:
    """For each item: sum_c p_1c p_2c, p_1 and p_2 of the true class, 1, 1 / (C - 1). F = 5; NaN without p."""
    weak, student = made.weak_probabilities, made.student_probabilities
    if weak is None or student is None:
        return np.full((*made.student.shape, 5), np.nan)
    place = np.broadcast_to(made.labels, made.student.shape)[..., None]
    of_true_class = [np.take_along_axis(each, place, axis=-1)[..., 0] for each in (weak, student)]
    ones = np.ones(made.student.shape)
    return np.stack([(weak * student).sum(axis=-1), *of_true_class, ones, ones / (weak.shape[-1] - 1)], axis=-1)


def blindness(made: Supervised) -> Features:
    """For each item: weak supervisor unsure and student surely wrong, weak supervisor unsure. F = 2."""
    weak, student = made.weak_probabilities, made.student_probabilities
    if weak is None or student is None:
        return np.full((*made.student.shape, 2), np.nan)
    unsure = weak.max(axis=-1) < SURE
    return np.stack([unsure & (student.max(axis=-1) >= SURE) & (made.student != made.labels), unsure], axis=-1)


def _chance_adjusted(sums: Floats) -> Floats:
    seen, weak, student, count, others = (sums[..., place] for place in range(5))
    observed, first, second = (ratio(part, count) for part in (seen, weak, student))
    chance = first * second + ratio(others, count) * (1 - first) * (1 - second)
    return ratio(observed - chance, 1 - chance)


INHERITANCE: dict[str, Metric[Supervised]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="error_inheritance",
            summary="share of the weak supervisor's errors that the student repeats",
            higher_is_better=False,
            features=repeated,
            value=share,
        ),
        Metric(
            name="error_correction",
            summary="share of the weak supervisor's errors that the student has right",
            higher_is_better=True,
            features=corrected,
            value=share,
        ),
        Metric(
            name="misfit",
            summary="share of items on which student and weak supervisor differ; no gain in accuracy is larger",
            higher_is_better=True,
            features=differing,
            value=share,
            descriptive=True,
        ),
        Metric(
            name="capa",
            summary="agreement with the weak supervisor beyond chance, by probabilities: 0 chance, 1 the same model",
            higher_is_better=False,
            features=agreement,
            value=_chance_adjusted,
            lowest=-1.0,
            descriptive=True,
        ),
        Metric(
            name="blind_spot",
            summary="share of the items of which the weak supervisor is unsure that the student is surely wrong on",
            higher_is_better=False,
            features=blindness,
            value=share,
        ),
    )
}
"""Metrics of inheritance by name."""
