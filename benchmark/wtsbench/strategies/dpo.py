"""`dpo`: prefer the better of two weak continuations of a prompt to the worse.

    loss = - log sigmoid(beta [(log f(y+|x) - log r(y+|x)) - (log f(y-|x) - log r(y-|x))])

y+ and y- are the least and the most toxic of a supervisor's continuations of x, where their scores differ by more than
`margin`; log f(y|x) is the sum over the tokens of y, its end included; r are the student's weights when this phase
begins: pretrained ones, or those after finetuning on the preferred continuations (`sft: preferred`, what the source
does where no finetuned model is at hand) or on all (`sft: all`). Each phase takes the epochs of the training settings.
Source: Rafailov et al. 2023 (arXiv 2305.18290), equation 7; pairs from the scores of weak generations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from wtsbench.strategies import base
from wtsbench.strategies.generative import (
    Continuation,
    GenerativeStrategy,
    GenerativeStudent,
    GenerativeSupervision,
    Sequences,
    SequenceStep,
    scores_of,
    sequences_of,
)
from wtsbench.strategies.naive import Naive

if TYPE_CHECKING:
    import torch


class DpoParameters(base.Parameters):
    """Parameters of `dpo`."""

    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    """How closely the student is held to the weights the phase begins with."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A pair's scores differ by more than this."""
    sft: Literal["none", "preferred", "all"] = "preferred"
    """What the student is finetuned on before."""


class Dpo(GenerativeStrategy):
    """Direct preference optimisation on pairs that the weak model wrote."""

    name = "dpo"
    summary = "prefer the weak model's better continuation of a prompt to its worse one"
    source = "Rafailov et al. 2023, arXiv 2305.18290; pairs from the scores of weak generations"
    needs_scores = True
    needs_reference = True
    Parameters = DpoParameters

    def demonstrate(self, supervision: GenerativeSupervision) -> Sequences:
        """The best and the worst continuation of each prompt and supervisor, rows 2k and 2k + 1, as pairs.

        Raises:
            ValueError: a continuation has no score.
        """
        rows: list[tuple[str, str, Continuation]] = []
        for item, prompt, samples in supervision.by_prompt():
            scores = scores_of(samples)
            best, worst = int(scores.argmin()), int(scores.argmax())
            if scores[worst] - scores[best] > self.parameters.margin:
                rows += [(item, prompt, samples[best]), (item, prompt, samples[worst])]
        return replace(sequences_of(rows), pairs=np.arange(len(rows), dtype=np.int64).reshape(-1, 2))

    def sequence_loss(self, step: SequenceStep) -> torch.Tensor:
        """Scalar loss of a batch of pairs, their mean; log-probabilities [B, T], pair k in rows 2k and 2k + 1."""
        from torch.nn.functional import logsigmoid

        assert step.reference is not None, "needs_reference is true"
        gained = ((step.logprobs - step.reference) * step.mask).sum(dim=1)  # [B]
        return -(step.weights[0::2] * logsigmoid(self.parameters.beta * (gained[0::2] - gained[1::2]))).mean()

    def generate_run(self, student: GenerativeStudent, supervision: GenerativeSupervision) -> None:
        """Finetuning, if asked for, then training on the preferences."""
        pairs = self.demonstrate(supervision)
        plain = Naive(Naive.Parameters())
        if self.parameters.sft == "all":
            student.fit_sequences(plain.demonstrate(supervision), plain)
        elif self.parameters.sft == "preferred" and len(pairs.item_ids):
            student.fit_sequences(_preferred(pairs), plain)
        student.fit_sequences(pairs, self)


def _preferred(pairs: Sequences) -> Sequences:
    """The preferred continuation of each pair, as a sequence of its own."""
    return Sequences(
        item_ids=pairs.item_ids[0::2],
        prompts=pairs.prompts[0::2],
        continuations=pairs.continuations[0::2],
        weights=pairs.weights[0::2],
        ended=pairs.ended[0::2],
    )
