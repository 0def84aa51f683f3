"""`smoothed`: weak labels with some of the probability spread over all classes.

    target_c = (1 - share) w_c + share / C          loss = CE(f, target)

`share: 0` is `naive`. Source: label smoothing, Szegedy et al. 2016 (arXiv 1512.00567), section 7.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from wtsbench.strategies import base


class SmoothedParameters(base.Parameters):
    """Parameters of `smoothed`."""

    share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """How much of the probability is spread; 0 is `naive`."""


class Smoothed(base.Strategy):
    """Naive finetuning on smoothed labels."""

    name = "smoothed"
    summary = "weak labels with some of the probability spread over all classes"
    source = "label smoothing, arXiv 1512.00567"
    Parameters = SmoothedParameters

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """The targets of `naive`, smoothed."""
        items = super().prepare(supervision)
        share, classes = self.parameters.share, items.targets.shape[1]
        return replace(items, targets=(1 - share) * items.targets + share / classes)
