"""`product`: the target is the product of the weak labels and the student's own predictions.

    target_c = f_c^beta w_c^alpha / sum_k f_k^beta w_k^alpha          loss = CE(f, target)

w is the weak label distribution, f the student's own, without gradient in the target. Where both lean to one class the
target is more confident than either; where they disagree it is less so. A class of weak probability 0 stays at 0: with
hard labels the target is the weak label itself, for any f, alpha and beta. `alpha: 1, beta: 0` is `naive`.

Source: the product loss of the code released with Burns et al. 2023 (arXiv 2312.09390). Its warm-up parameter is never
used there, and is left out here. Computed from logarithms, so that no product vanishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch


class ProductParameters(base.Parameters):
    """Parameters of `product`."""

    alpha: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Exponent of the weak labels."""
    beta: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Exponent of the student's own predictions; 0 leaves them out."""


class Product(base.Strategy):
    """Product of experts as the target."""

    name = "product"
    summary = "the normalised product of weak labels and the student's own predictions"
    source = "code released with Burns et al. 2023, arXiv 2312.09390"
    Parameters = ProductParameters

    def loss(self, step: base.Step) -> torch.Tensor:
        """Scalar loss of a batch; logits and targets [B, C]."""
        alpha, beta = self.parameters.alpha, self.parameters.beta
        targets = step.targets
        if (alpha, beta) != (1.0, 0.0):  # else the target is the weak label, without rounding
            own = step.logits.detach().log_softmax(dim=-1)
            targets = (beta * own + alpha * step.targets.log()).softmax(dim=-1)
        return base.cross_entropy(step.logits, targets, step.weights)
