"""The loss of strategies that mix weak labels with the student's own predictions.

    target = (1 - c) w + c o          loss = CE(f, target)

w is the weak label distribution, o the student's own label without gradient, c the weight of the own label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch


def mixed_loss(step: base.Step, own: torch.Tensor, weight: float | torch.Tensor) -> torch.Tensor:
    """Scalar loss of a batch with the mixture of weak and own labels as target.

    Args:
        step: logits and weak labels [B, C].
        own: [B, C] without gradient.
        weight: c, one number or [B, 1]; 0 gives exactly the loss of `naive`.
    """
    return base.cross_entropy(step.logits, (1 - weight) * step.targets + weight * own, step.weights)
