"""`mix`: a small budget of ground truth in addition to the weak labels.

    loss = mean over the transfer items and the budget of u(x) CE(f, label)

The label is the weak distribution (u = 1) on transfer items and the truth (u = `truth_weight`) on `budget` items of
`weak_train`, chosen by content hash with alternating classes, so that a larger budget contains a smaller one. It
measures the worth of weak supervision in true labels, and is not weak-to-strong learning in the strict sense: the
student sees some ground truth. `budget: 0` is `naive`.

Source: semi-supervised practice; the comparison with a few strong labels is discussed in Burns et al. 2023 (arXiv
2312.09390).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from wtsbench.strategies import base


class MixParameters(base.Parameters):
    """Parameters of `mix`."""

    budget: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Items of `weak_train` whose ground truth the student sees; all of them where there are fewer. 0 is `naive`."""
    truth_weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Weight of an item of the budget, in transfer items."""


class Mix(base.Strategy):
    """Weak labels and a budget of ground truth."""

    name = "mix"
    summary = "a small budget of ground truth beside the weak labels"
    source = "semi-supervised practice; compare Burns et al. 2023, arXiv 2312.09390"
    Parameters = MixParameters

    def truth_budget(self) -> int:
        """The budget."""
        return int(self.parameters.budget)

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """The weakly labelled items, then the budget.

        Raises:
            ValueError: there is a budget, but the trial was given no ground truth.
        """
        weak = super().prepare(supervision)
        truth = supervision.truth
        if not self.parameters.budget:
            return weak
        if truth is None:
            raise ValueError(f"strategy mix: {self.parameters.budget} items of ground truth are asked for, none came")
        return base.Labelled(
            item_ids=(*weak.item_ids, *truth.item_ids),
            texts=(*weak.texts, *truth.texts),
            targets=np.concatenate([weak.targets, truth.targets]),
            weights=np.concatenate([weak.weights, self.parameters.truth_weight * truth.weights]),
        )
