"""How well probabilities order the items of two classes: AUROC and average precision.

Neither is a function of sums over items, as other metrics are. Each is computed as the mean of pseudo-values: the
score, plus N times its derivative by the item's weight (the infinitesimal jackknife, Efron 1982). That is exact for the
items themselves, and correct to first order for a resample; for AUROC the variance is that of DeLong et al. 1988.

Shapes: N items, `...` any number of leading axes (trials).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]

Parts = tuple[float, Floats]
"""A score, and its derivative by the weight of each item [N]."""


def auroc(scores: Floats, positive: Integers) -> Parts:
    """The share of pairs of a positive and a negative item of which the positive has the higher score; ties count half.

    Args:
        scores: [N], higher for what is held to be positive.
        positive: [N], 1 or 0, both of which occur.
    """
    truth = positive.astype(bool)
    ordered = {sign: np.sort(scores[truth == sign]) for sign in (True, False)}
    placed = np.empty(scores.size)
    for sign in (True, False):
        below, upto = (np.searchsorted(ordered[not sign], scores[truth == sign], side) for side in ("left", "right"))
        share_below = (below + upto) / 2 / ordered[not sign].size
        placed[truth == sign] = share_below if sign else 1 - share_below
    score = float(placed[truth].mean())
    return score, (placed - score) / np.where(truth, truth.sum(), (~truth).sum())


def average_precision(scores: Floats, positive: Integers) -> Parts:
    """The mean over positive items of the share of positives among all items that are scored as high or higher.

    Args:
        scores: [N], higher for what is held to be positive.
        positive: [N], 1 or 0, both of which occur.
    """
    truth = positive.astype(bool)
    total = int(truth.sum())
    found, made = (each.size - np.searchsorted(np.sort(each), scores, "left") for each in (scores[truth], scores))
    precision = found / made
    score = float(precision[truth].mean())
    # An item counts among those that are scored as high for every positive item at or below it.
    order = np.argsort(scores[truth], kind="stable")
    place = np.searchsorted(scores[truth][order], scores, "right")
    hits, calls = (
        np.concatenate([[0.0], np.cumsum(part[truth][order])])[place] for part in (1 / made, found / made**2)
    )
    return score, (truth * (precision - score + hits) - calls) / total


def pseudo_values(parts: Callable[[Floats, Integers], Parts], scores: Floats, positive: Integers) -> Floats:
    """The pseudo-value of each item; NaN if one of the two classes does not occur.

    Args:
        parts: `auroc` or `average_precision`.
        scores: [..., N].
        positive: [N], 1 or 0.
    """
    if np.unique(positive).size < 2:
        return np.full(scores.shape, np.nan)
    each = [parts(row, positive) for row in scores.reshape(-1, positive.size)]
    return np.stack([score + positive.size * derivative for score, derivative in each]).reshape(scores.shape)
