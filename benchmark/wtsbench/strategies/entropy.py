"""`entropy`: weak labels mixed with the student's own soft predictions.

    target = (1 - c) w + c f          loss = CE(f, target)          c = max_weight * min(1, progress / ramp)

w is the weak label distribution and f the student's own, without gradient in the target. It is `logconf` without the
hardening: as -sum f log f is the student's entropy, the second term makes it more confident in its own predictions, and
unlike `logconf` it needs no threshold over the batch. `max_weight: 0` is `naive`.

Source: the `entropy` loss of the EleutherAI `w2s` code. There the ramp is counted in steps (100 or 200); here it is a
share of all steps, so that it means the same for any size of data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch


class EntropyParameters(base.Parameters):
    """Parameters of `entropy`."""

    max_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the student's own predictions after the ramp; 0 is `naive`."""
    ramp: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the steps over which the weight rises linearly from 0; 0 has it whole from the first step."""


class Entropy(base.Strategy):
    """Confidence loss with the student's soft predictions."""

    name = "entropy"
    summary = "weak labels mixed with the student's own soft predictions"
    source = "EleutherAI w2s, loss `entropy`; after Burns et al. 2023, arXiv 2312.09390"
    Parameters = EntropyParameters

    def loss(self, step: base.Step) -> torch.Tensor:
        """Scalar loss of a batch; logits and targets [B, C]."""
        return base.mixed_loss(step, step.logits.detach().softmax(dim=-1), self.weight(step.progress))

    def weight(self, progress: float) -> float:
        """Share c of the student's own predictions in the target; `progress` in [0, 1)."""
        ramp = self.parameters.ramp
        return float(self.parameters.max_weight * (min(1.0, progress / ramp) if ramp else 1.0))
