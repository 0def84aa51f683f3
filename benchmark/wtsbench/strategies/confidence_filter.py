"""`confidence_filter`: learn only from the items with confident weak labels.

    keep x where max_c w_c(x) >= threshold          loss = CE(f, w) over the kept items

or, with `top`, the share of the items with the largest max_c w_c; with `balanced`, that share of the items of each weak
class (argmax of w), so that the class shares stay the same. Fewer items mean fewer steps. `threshold: 0` and `top: 1`
are `naive`. The control `random_filter` shows whether the choice helps or only the number of items.

Source: selection by the supervisor's confidence, common in learning with noisy labels; in weak-to-strong learning as in
Guo and Yang 2024 (arXiv 2406.19032) and the filters of the EleutherAI `w2s` code.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wtsbench.strategies import base
from wtsbench.strategies.filtering import Filter, largest, share_of


class ConfidenceFilterParameters(base.Parameters):
    """Parameters of `confidence_filter`."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Weak confidence from which on an item is kept."""
    top: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the items to keep, the surest, in place of the threshold."""
    balanced: bool = False
    """With `top`: the share is taken of each weak class, so that a class of less confidence is not thinned out."""

    @model_validator(mode="after")
    def _share_for_balance(self) -> ConfidenceFilterParameters:
        if self.balanced and self.top is None:
            raise ValueError("balanced: is for a share of the items; give `top` as well")
        return self


class ConfidenceFilter(Filter):
    """Selection by the supervisor's confidence; of several supervisors, by that of their mean."""

    name = "confidence_filter"
    summary = "learn only from the items of which the weak model is sure"
    source = "selection by confidence, as in arXiv 2406.19032 and EleutherAI w2s"
    Parameters = ConfidenceFilterParameters

    def keep(self, supervision: base.Supervision) -> NDArray[np.bool_]:
        """[N] whether each item is confident."""
        weak = supervision.probabilities.mean(axis=0)
        confidence = weak.max(axis=1)
        top = self.parameters.top
        if top is None:
            return np.asarray(confidence >= self.parameters.threshold)
        if not self.parameters.balanced:
            return largest(confidence, share_of(len(confidence), top))
        kept = np.zeros(len(confidence), dtype=bool)
        for rows in (np.flatnonzero(weak.argmax(axis=1) == c) for c in range(weak.shape[1])):
            kept[rows[largest(confidence[rows], share_of(len(rows), top))]] = True
        return kept

    def why_none(self, supervision: base.Supervision) -> str:
        """The largest confidence of any item."""
        most = supervision.probabilities.mean(axis=0).max()
        return f"the weak model's largest confidence is {most:.4g}, the threshold {self.parameters.threshold:g}"
