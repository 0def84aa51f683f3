"""`contrastive_decoding`: the weak model writes what finetuning made more likely, in contrast to its pretrained self.

    s_t = log w_t - alpha log v_t  where w_t >= plausibility * max w_t, else -inf          y_t sampled from softmax(s_t)

w is the finetuned and v the pretrained weak model, both reading the same text; temperature and top-p of the task apply
to s. The student then learns those continuations as `naive` does. With `alpha: 0` and `plausibility: 0` the weak model
samples plainly, and this is `naive`. Sources: contrastive decoding (Li et al. 2022, arXiv 2210.15097) with the weak
model before and after its alignment, as in the supervised stage of ConG (Jiang et al. 2025, arXiv 2510.07884).
"""

from __future__ import annotations

from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.strategies import base
from wtsbench.strategies.decoding import CONTRASTIVE, Alpha, Contrast, Plausibility
from wtsbench.strategies.generative import GenerativeStrategy


class ContrastiveDecodingParameters(base.Parameters):
    """Parameters of `contrastive_decoding`."""

    alpha: Alpha = 0.4
    """Weight of the pretrained model's log-probabilities, which are taken away."""
    plausibility: Plausibility = 0.1
    """Tokens less likely than this share of the likeliest are never written; 0 allows all."""


class ContrastiveDecoding(GenerativeStrategy):
    """Finetuning on what the weak model writes by contrast with its pretrained self."""

    name = "contrastive_decoding"
    summary = "learn what the weak model writes by contrast with its pretrained self"
    source = "Jiang et al. 2025, arXiv 2510.07884; contrastive decoding of Li et al. 2022, arXiv 2210.15097"
    Parameters = ContrastiveDecodingParameters

    def decoding(self) -> StrategyCall | None:
        """The recipe of the weak trial; None for plain sampling."""
        settings = Contrast(alpha=self.parameters.alpha, plausibility=self.parameters.plausibility)
        if not settings.alpha and not settings.plausibility:
            return None
        return StrategyCall(name=CONTRASTIVE, parameters=settings.model_dump(mode="json"))
