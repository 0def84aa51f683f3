"""How far annotators agree, beyond chance.

Shapes: U items, C classes, R annotators. Counts [U, C] say how many annotators gave an item each class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def pairwise_agreement(counts: Counts) -> float | None:
    """Share of equal labels among all pairs of labels of an item; None if no item has two."""
    per_item = counts.sum(axis=1)
    pairs = int((per_item * (per_item - 1)).sum())
    return float((counts * (counts - 1)).sum() / pairs) if pairs else None


def cohen_kappa(first: NDArray[np.int64], second: NDArray[np.int64], classes: int) -> float | None:
    """Cohen's kappa of two annotators' labels [U] of the same items; chance is the product of their own class shares.

        kappa = (p_o - p_e) / (1 - p_e)          Cohen 1960

    None if there is no item, or both annotators gave every item the same class.
    """
    if not len(first):
        return None
    observed = float((first == second).mean())
    shares = [np.bincount(labels, minlength=classes) / len(labels) for labels in (first, second)]
    return _beyond_chance(observed, float(shares[0] @ shares[1]))


def fleiss_kappa(counts: Counts) -> float | None:
    """Fleiss' kappa; chance is the square of the classes' shares among all labels.

        P_u = (sum_c n_uc^2 - n) / (n (n - 1))          Fleiss 1971

    None if items have unequal numbers of labels, or one each, or all labels are of one class.
    """
    per_item = counts.sum(axis=1)
    if not len(counts) or per_item[0] < 2 or (per_item != per_item[0]).any():
        return None
    observed = pairwise_agreement(counts)
    assert observed is not None, "every item has two labels or more"
    shares = counts.sum(axis=0) / counts.sum()
    return _beyond_chance(observed, float(shares @ shares))


def krippendorff_alpha(counts: Counts) -> float | None:
    """Krippendorff's alpha for nominal labels; items may have any number of them, and those with one do not count.

        alpha = 1 - D_o / D_e,   D_o = (1 / n) sum_u sum_{c != k} n_uc n_uk / (m_u - 1),
        D_e = sum_{c != k} n_c n_k / (n (n - 1))          Krippendorff 2011

    m_u is an item's number of labels, n that of all labels. None if no item has two, or all are of one class.
    """
    paired = counts[counts.sum(axis=1) > 1].astype(np.float64)
    if not len(paired):
        return None
    per_item, per_class = paired.sum(axis=1), paired.sum(axis=0)
    size = per_item.sum()
    unequal = per_item**2 - (paired**2).sum(axis=1)
    expected = (size**2 - (per_class**2).sum()) / (size - 1)
    return float(1 - (unequal / (per_item - 1)).sum() / expected) if expected > 0 else None


def _beyond_chance(observed: float, chance: float) -> float | None:
    return (observed - chance) / (1 - chance) if chance < 1 else None
