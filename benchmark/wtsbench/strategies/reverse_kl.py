"""`reverse_kl`: the reverse Kullback-Leibler divergence, which seeks one mode of the weak label.

    loss = mean over items of u(x) sum_c f_c (log f_c - log v_c)          v = max(w, floor), normalised to sum 1

f is the student's distribution, w the weak label, u the item's weight. Cross-entropy to w, as in `naive`, penalises low
probability for any class that the weak model considers possible; this loss penalises high probability for a class that
it considers impossible, and allows the student to be more confident. It is infinite where w is 0, so `floor` bounds w
from below; it matters for hard labels, and hardly for soft ones.

Source: Yao et al. 2025, Revisiting Weak-to-Strong Generalization in Theory and Practice: Reverse KL vs. Forward KL
(arXiv 2502.11107), who finetune GPT-2, Pythia and Qwen2.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch


class ReverseKlParameters(base.Parameters):
    """Parameters of `reverse_kl`."""

    floor: Annotated[float, Field(gt=0, le=0.1)] = 1e-4
    """Smallest probability that a weak label gives a class."""


class ReverseKl(base.Strategy):
    """KL(f || w) in place of CE(f, w)."""

    name = "reverse_kl"
    summary = "the reverse Kullback-Leibler divergence as the loss: surer than the weak model where it leans one way"
    source = "Yao et al. 2025, arXiv 2502.11107"
    Parameters = ReverseKlParameters

    def loss(self, step: base.Step) -> torch.Tensor:
        """Scalar loss of a batch; logits and targets [B, C]."""
        own = step.logits.log_softmax(dim=-1)
        raised = step.targets.clamp(min=self.parameters.floor)
        weak = (raised / raised.sum(dim=-1, keepdim=True)).log()
        return ((own.exp() * (own - weak)).sum(dim=-1) * step.weights).mean()
