"""The interface of strategies for generative tasks: what a student learns from weak continuations.

It has the points of `base.Strategy`, with sequences in the place of labels:

1. `supervisors` (planning): the same, and a recipe where the weak model has to write in another way;
2. `demonstrate` (before training): which continuations are learned from, with which weights, in which pairs;
3. `sequence_loss` (every step, torch): what the student minimises;
4. `generate_run` (the whole student trial): how often, and on what, the student is trained.

Shapes: S supervisors, N prompts, n samples of a prompt, M sequences, B sequences of a batch, T continuation tokens of
its longest sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wtsbench.spec.trial import Form
from wtsbench.strategies.base import Floats, Strategy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One continuation that a supervisor wrote."""

    text: str
    score: float
    """The task's scorer's, such as toxicity in [0, 1]; lower is better."""
    logprobs: tuple[float, ...] | None = None
    """Log-probability of each of its tokens under the supervisor, in the supervisor's own tokens."""
    base_logprobs: tuple[float, ...] | None = None
    """The same under the supervisor's pretrained weights, before it was finetuned."""


@dataclass(frozen=True, kw_only=True)
class GenerativeSupervision:
    """What supervisors wrote for the prompts of one split. No ground truth."""

    item_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    written: tuple[tuple[tuple[Continuation, ...], ...], ...]
    """[S][N][n], in the order of `Strategy.supervisors`, of items, and of samples."""
    validation: GenerativeSupervision | None = None
    """That of `validation`; None within itself."""
    seed: int = 0
    """The trial's."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """What a student is trained on. Rows are aligned."""

    item_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    """[M]; never enter the loss."""
    continuations: tuple[str, ...]
    """[M]; the tokens that are learned."""
    weights: Floats
    """[M] non-negative."""
    pairs: NDArray[np.int64] | None = None
    """[P, 2] rows of a preferred and a rejected continuation of one prompt; batches are of whole pairs then."""
    targets: tuple[tuple[float, ...], ...] | None = None
    """[M] for each sequence a number for each of the *supervisor's* tokens, such as a log-ratio. Where the student cuts
    the text otherwise, they are spread over its tokens by characters, so that their sum over any common span stays."""


@dataclass(frozen=True, kw_only=True)
class SequenceStep:
    """One optimisation step, as the loss sees it. Rows 2k and 2k + 1 are pair k where there are pairs."""

    logprobs: torch.Tensor
    """[B, T] float32 log-probability of each continuation token under the student, with gradient; 0 on padding."""
    mask: torch.Tensor
    """[B, T] 1 on continuation tokens, 0 on padding."""
    reference: torch.Tensor | None
    """[B, T] the same under the student's pretrained weights, without gradient; where the strategy asks for it."""
    targets: torch.Tensor | None
    """[B, T] from `Sequences.targets`."""
    weights: torch.Tensor
    """[B] float32."""
    progress: float
    """Share of the optimisation steps already done, in [0, 1)."""


class GenerativeStudent(Protocol):
    """The strong model as `GenerativeStrategy.generate_run` handles it."""

    def fit_sequences(self, sequences: Sequences, strategy: GenerativeStrategy) -> None:
        """Train the current weights on `sequences`, minimising `strategy.sequence_loss`."""

    def reset(self) -> None:
        """Back to the pretrained weights."""


class GenerativeStrategy(Strategy):
    """Base of strategies for generative tasks; as it stands it is finetuning on everything the supervisors wrote."""

    forms: ClassVar[tuple[Form, ...]] = ("generation",)
    needs_reference: bool = False
    """Whether the loss compares with the student's pretrained weights."""
    needs_logprobs: bool = False
    """Whether supervisors have to say how probable their tokens were, before and after finetuning."""

    def demonstrate(self, supervision: GenerativeSupervision) -> Sequences:
        """The sequences to learn from: here every continuation of every supervisor, all weights 1."""
        rows = [
            (item, prompt, continuation.text)
            for written in supervision.written
            for item, prompt, samples in zip(supervision.item_ids, supervision.prompts, written, strict=True)
            for continuation in samples
        ]
        return Sequences(
            item_ids=tuple(row[0] for row in rows),
            prompts=tuple(row[1] for row in rows),
            continuations=tuple(row[2] for row in rows),
            weights=np.ones(len(rows)),
        )

    def sequence_loss(self, step: SequenceStep) -> torch.Tensor:
        """Scalar loss of a batch: here the weighted mean negative log-likelihood of continuation tokens."""
        return negative_log_likelihood(step)

    def generate_run(self, student: GenerativeStudent, supervision: GenerativeSupervision) -> None:
        """The student's training from first to last: here one fit on what `demonstrate` gives."""
        student.fit_sequences(self.demonstrate(supervision), self)


def negative_log_likelihood(step: SequenceStep) -> torch.Tensor:
    """- sum_bt w_b log p_bt / sum_bt mask_bt: the mean over continuation tokens; 0 where there is none."""
    return -(step.logprobs * step.mask * step.weights[:, None]).sum() / step.mask.sum().clamp(min=1)
