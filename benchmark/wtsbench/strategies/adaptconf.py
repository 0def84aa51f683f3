"""`adaptconf`: the weight between weak and own labels follows from each item (adaptive confidence loss).

    a(x) = max_weight * exp(CE(f, o) / T) / (exp(CE(f, o) / T) + exp(CE(f, w) / T))
    loss = (1 - a) CE(f, w) + a CE(f, o)

w is the weak label distribution, f the student's distribution, o its own label: its most probable class (`own: hard`)
or f itself (`own: soft`); a and o are without gradient. As the loss to the weak label grows beyond the loss to the own
one, a falls: on items where student and supervisor clash the weak label keeps more weight, and `T` says how sharply. As
T grows a tends to max_weight / 2 for every item. `max_weight: 0` is `naive`.

Source: Guo et al. 2024, Vision Superalignment: Weak-to-Strong Generalization for Vision Foundation Models (arXiv
2402.03749), with T as their temperature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch


class AdaptConfParameters(base.Parameters):
    """Parameters of `adaptconf`."""

    temperature: Annotated[float, Field(gt=0)] = 0.5
    """T: small values decide sharply between weak and own label, large ones give every item the same weight."""
    own: Literal["hard", "soft"] = "hard"
    """The student's own label: its most probable class, or its distribution."""
    max_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Factor on the weight of own labels; 0 is `naive`."""


class AdaptConf(base.Strategy):
    """Adaptive confidence loss."""

    name = "adaptconf"
    summary = "weak and own labels, weighted item by item by how well the student fits each"
    source = "Guo et al. 2024, arXiv 2402.03749"
    Parameters = AdaptConfParameters

    def loss(self, step: base.Step) -> torch.Tensor:
        """Scalar loss of a batch; logits and targets [B, C]."""
        import torch

        logs = step.logits.detach().log_softmax(dim=-1)
        own = logs.exp()
        if self.parameters.own == "hard":
            own = torch.nn.functional.one_hot(own.argmax(dim=-1), own.shape[1]).to(logs.dtype)
        to_own, to_weak = (-(labels * logs).sum(dim=-1, keepdim=True) for labels in (own, step.targets))
        share = torch.sigmoid((to_own - to_weak) / self.parameters.temperature)  # [B, 1]; the quotient above
        return base.mixed_loss(step, own, self.parameters.max_weight * share)
