"""How good the scores of held-out texts are: ranking and calibration.

Shapes: N held-out texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Number of bins of equal width in the reliability table and the calibration error."""


def evaluate(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    """The measures on held-out texts that a scorer's card reports.

    Args:
        scores: [N] in [0, 1].
        truth: [N] labelled toxicity in [0, 1]; .5 or more counts as toxic.

    Returns:
        `texts`, `toxic_share`; `auroc`, `average_precision`, null if there is one class only; `brier`; `ece`, the
        mean of |share toxic - mean score| over the bins of `reliability`, weighted by their texts (Naeini et al. 2015);
        `accuracy` of score >= .5; `spearman` of scores and labels, null if one of them is constant.
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    toxic = truth >= 0.5
    both = bool(toxic.any()) and not bool(toxic.all())
    varied = len(np.unique(scores)) > 1 and len(np.unique(truth)) > 1
    table = reliability(scores, toxic)
    gaps = [row["texts"] * abs(row["toxic_share"] - row["mean_score"]) for row in table]
    return {
        "texts": len(scores),
        "toxic_share": _rounded(toxic.mean()),
        "auroc": _rounded(roc_auc_score(toxic, scores)) if both else None,
        "average_precision": _rounded(average_precision_score(toxic, scores)) if both else None,
        "brier": _rounded(brier_score_loss(toxic, scores)),
        "ece": _rounded(sum(gaps) / len(scores)),
        "accuracy": _rounded(np.mean((scores >= 0.5) == toxic)),
        "spearman": _rounded(spearmanr(scores, truth).statistic) if varied else None,
        "reliability": [{name: _rounded(value) for name, value in row.items()} for row in table],
    }


def _rounded(value: Any) -> Any:
    """To six decimals, beyond which sums depend on the machine; counts stay counts."""
    return value if isinstance(value, int) else round(float(value), 6)


def reliability(scores: NDArray[np.float64], toxic: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """One row for each bin with texts: from, to, texts, mean_score, toxic_share. A score of 1 is in the last bin."""
    bin_of = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    rows = []
    for number in range(BINS):
        in_bin = bin_of == number
        if in_bin.any():
            row = {"from": number / BINS, "to": (number + 1) / BINS, "texts": int(in_bin.sum())}
            rows.append({**row, "mean_score": float(scores[in_bin].mean()), "toxic_share": float(toxic[in_bin].mean())})
    return rows
