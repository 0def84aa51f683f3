"""`logconf`: weak labels mixed with the student's own hardened predictions (auxiliary confidence loss).

    target = (1 - c) w + c h          loss = CE(f, target)          c = max_weight * ramp(progress)

w is the weak label distribution, f the student's distribution, h = 1[f >= t] its hardened form, without gradient. The
threshold t is taken from the batch, so that the shares of the classes in h match their shares in w.

`as_published`, two classes: t is the quantile of f_1 over the batch at level 1 - mean(w_1), and h is class 1 where
f_1 >= t, else class 0. More classes: t_c is the quantile of f_c at level 1 - mean(w_c), and h is the class with the
largest f_c - t_c. With two classes this is the same rule (f_0 = 1 - f_1 makes the margins opposite); with more the
shares match approximately. A class without any probability in the batch's weak labels is never predicted, to match its
share of 0, although the quantile at level 1 is the largest f_c itself.

`as_released`, two classes: h is class 0 where f_0 >= the quantile of f_0 at level mean(w_1), else class 1. That differs
for single items only, but if all weak labels of a batch are class 1, one item still becomes class 0. The released code
supports two classes only; for more the rule above is used.

Ramp, p being the share of the optimisation steps already done:

    as_published    min(1, p / 0.2): linear over the first 20%, as the paper describes
    as_released     p while p <= 0.1, then 1: the released code starts a ramp over 10% and then jumps

Source: Burns et al. 2023 (arXiv 2312.09390), section 4.3.2 and appendix A.4, and their released code. They use a
`max_weight` of 0.75 for their largest students and 0.5 for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from wtsbench.strategies import base

if TYPE_CHECKING:
    import torch

_PUBLISHED_RAMP = 0.2
_RELEASED_RAMP = 0.1


class LogConfParameters(base.Parameters):
    """Parameters of `logconf`."""

    max_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the student's own predictions after the ramp; 0 is `naive`, 0.75 suits the largest students."""
    variant: Literal["as_published", "as_released"] = "as_published"
    """Ramp of the weight and threshold: as the paper describes them, or as the authors' code computes them."""


class LogConf(base.Strategy):
    """Auxiliary confidence loss."""

    name = "logconf"
    summary = "weak labels mixed with the student's own hardened predictions"
    source = "Burns et al. 2023, arXiv 2312.09390, appendix A.4"
    version = 2
    Parameters = LogConfParameters

    def loss(self, step: base.Step) -> torch.Tensor:
        """Scalar loss of a batch; logits and targets [B, C]."""
        own = step.logits.detach().softmax(dim=-1)
        if self.parameters.variant == "as_released" and own.shape[1] == 2:
            own = hardened_as_released(own, step.targets)
        else:
            own = hardened(own, step.targets)
        return base.mixed_loss(step, own, self.weight(step.progress))

    def weight(self, progress: float) -> float:
        """Share c of the student's own predictions in the target; `progress` in [0, 1)."""
        if self.parameters.variant == "as_published":
            ramp = min(1.0, progress / _PUBLISHED_RAMP)
        else:
            ramp = progress if progress <= _RELEASED_RAMP else 1.0
        return float(self.parameters.max_weight * ramp)


def hardened(own: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """One-hot [B, C] of the student's probabilities [B, C], with the class shares of `targets` [B, C]."""
    import torch

    shares = targets.mean(dim=0).clamp(0, 1)
    classes = own.shape[1]
    if classes == 2:
        threshold = torch.quantile(own[:, 1], 1 - shares[1])
        chosen = ((own[:, 1] >= threshold) & (shares[1] > 0)).long()
    else:
        thresholds = torch.stack([torch.quantile(own[:, c], 1 - shares[c]) for c in range(classes)])
        chosen = (own - thresholds).masked_fill(shares == 0, -torch.inf).argmax(dim=1)
    return torch.nn.functional.one_hot(chosen, classes).to(targets.dtype)


def hardened_as_released(own: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The same for two classes as the authors' code computes it: at least one item becomes class 0."""
    import torch

    threshold = torch.quantile(own[:, 0], targets[:, 1].mean().clamp(0, 1))
    return torch.nn.functional.one_hot((own[:, 0] < threshold).long(), 2).to(targets.dtype)
