"""`reverse_kl`: the Kullback-Leibler divergence taken from the student's side, which seeks one mode of the weak label.

    loss = mean over items of u(x) sum_c f_c (log f_c - log v_c)          v = max(w, floor), normalised to sum 1

f is the student's distribution, w the weak label, u the item's weight. Cross-entropy to w, as in `naive`, punishes a
student that gives little probability to any class that the weak model holds possible; this loss punishes one that gives
much to a class that the weak model holds impossible, and lets it be surer than the weak model. It is infinite where w
is 0, so w is kept off 0 by `floor`, which decides how hard labels are learned, and hardly matters for soft ones.

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
