"""`wspo`: change the strong model as finetuning changed the weak one, token by token.

    loss = mean over tokens t of [beta log(f_t / r_t) - log(w_t / v_t)]^2

on the weak model's own continuations: f is the student, r its pretrained weights, w the finetuned and v the pretrained
weak model, each the probability of token t given all before it. Where w = v nothing is to be changed, and the loss is 0
at the start. The ratio beta says how much of the weak model's change the strong one needs: 0.1 asks for ten times its
log-ratio, as published.

If student and weak model tokenize differently, the weak log-ratio of each token is spread over its characters and
summed over those of the student's tokens, so that the sum over any span with token boundaries of both is preserved.

Source: Zhu et al. 2024, weak-to-strong preference optimisation (arXiv 2410.18640), beta 0.1, with a learning rate of
1e-5 (set it in the grid's training settings).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from wtsbench.strategies import base
from wtsbench.strategies.generative import (
    Continuation,
    GenerativeStrategy,
    GenerativeSupervision,
    Sequences,
    SequenceStep,
)

if TYPE_CHECKING:
    import torch


class WspoParameters(base.Parameters):
    """Parameters of `wspo`."""

    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Scale of the student's log-ratio; smaller asks for a larger change."""


class Wspo(GenerativeStrategy):
    """Weak-to-strong preference optimisation."""

    name = "wspo"
    summary = "change the strong model's token probabilities as finetuning changed the weak model's"
    source = "Zhu et al. 2024, arXiv 2410.18640"
    needs_logprobs = True
    needs_reference = True
    Parameters = WspoParameters

    def demonstrate(self, supervision: GenerativeSupervision) -> Sequences:
        """All of the supervisors' continuations, with the log-ratio of each character.

        Raises:
            ValueError: a supervisor does not say how probable its continuations were.
        """
        sequences = super().demonstrate(supervision)
        ratios = (_log_ratio(sample) for _, _, samples in supervision.by_prompt() for sample in self.choose(samples))
        return replace(sequences, targets=tuple(ratios))

    def sequence_loss(self, step: SequenceStep) -> torch.Tensor:
        """Scalar loss of a batch: the weighted mean over continuation tokens; log-probabilities [B, T]."""
        assert step.reference is not None, "needs_reference is true"
        assert step.targets is not None, "demonstrate gives targets"
        missed = self.parameters.beta * (step.logprobs - step.reference) - step.targets
        total: torch.Tensor = (missed.square() * step.mask * step.weights[:, None]).sum()
        return total / step.mask.sum().clamp(min=1)


def _log_ratio(continuation: Continuation) -> tuple[float, ...]:
    own, base_ = continuation.logprobs, continuation.base_logprobs
    if own is None or base_ is None or len(own) != len(base_):
        raise ValueError("strategy wspo: a supervisor does not say how probable its continuations were")
    return tuple(after - before for after, before in zip(own, base_, strict=True))
