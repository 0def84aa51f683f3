"""`window`: learn only where the student is not confident yet (confidence window).

    loss = (1/B) sum over items with max_c f_c <= 1/2 + radius of CE(f, w)

f is the student's distribution, w the weak label distribution, B the size of the batch, items outside the window
included: so the loss is at first that of `naive`, and items on which the student is confident, rightly or wrongly, drop
out of it. `radius: 0.5` is `naive`.

Source: the `window` loss of the EleutherAI `w2s` code (arXiv 2312.09390 is the setting), for two classes. With more the
same bound on the largest probability is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch


class WindowParameters(base.Parameters):
    """Parameters of `window`."""

    radius: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    """An item counts while the student's largest probability is at most 0.5 + radius; 0.5 is `naive`."""


class Window(base.Strategy):
    """Cross-entropy within the confidence window."""

    name = "window"
    summary = "learn only the items on which the student is not sure yet"
    source = "EleutherAI w2s, loss `window`"
    Parameters = WindowParameters

    def loss(self, step: base.Step) -> torch.Tensor:
        """Scalar loss of a batch; logits and targets [B, C]."""
        sure = step.logits.detach().softmax(dim=-1).amax(dim=-1)
        inside = (sure <= 0.5 + self.parameters.radius).to(step.weights.dtype)
        return base.cross_entropy(step.logits, step.targets, step.weights * inside)
