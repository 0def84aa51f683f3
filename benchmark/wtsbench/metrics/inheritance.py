"""What a student takes over from the weak supervisor of its seed: errors repeated, and errors put right.

Both are ratios of sums over items, so that they have intervals like any other metric. Of the items that the weak
supervisor gets wrong: the share to which the student gives the same wrong class (inheritance), and the share that it
gets right (correction). With two classes the two add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wtsbench.metrics.classification import Features, Integers, Metric, share


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """A student's answers beside those of its weak supervisor."""

    labels: Integers
    """[N] true classes."""
    weak: Integers
    """[..., N] classes that the weak supervisor predicts."""
    student: Integers
    """[..., N] classes that the student predicts."""


def repeated(made: Supervised) -> Features:
    """For each item: a weak error that the student repeats, a weak error. F = 2."""
    wrong = made.weak != made.labels
    return np.stack([wrong & (made.student == made.weak), wrong], axis=-1)


def corrected(made: Supervised) -> Features:
    """For each item: a weak error that the student has right, a weak error. F = 2."""
    wrong = made.weak != made.labels
    return np.stack([wrong & (made.student == made.labels), wrong], axis=-1)


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
    )
}
"""By name."""
