"""`generalised`: a loss that gives up on labels which the student finds very unlikely.

    loss = mean over items of u sum_c w_c (1 - f_c^q) / q

f is the student's distribution, w the weak label, u the item's weight. Near q = 0 it is cross-entropy, at q = 1 the
probability of being wrong. Source: generalised cross-entropy, Zhang and Sabuncu 2018 (arXiv 1805.07836).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch


class GeneralisedParameters(base.Parameters):
    """Parameters of `generalised`."""

    q: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Between cross-entropy, near 0, and the probability of being wrong, 1."""


class Generalised(base.Strategy):
    """Generalised cross-entropy to the weak labels."""

    name = "generalised"
    summary = "a loss that gives up on labels which the student finds very unlikely"
    source = "Zhang and Sabuncu 2018, arXiv 1805.07836"
    Parameters = GeneralisedParameters

    def loss(self, step: base.Step) -> torch.Tensor:
        """Scalar loss of a batch; logits and targets [B, C], weights [B]."""
        q = self.parameters.q
        student = step.logits.softmax(dim=-1)
        return ((step.targets * (1 - student**q) / q).sum(dim=-1) * step.weights).mean()
