"""The interface of strategies for generative tasks: what a student learns from weak continuations.

It has the methods of `base.Strategy`, with sequences in place of labels:

1. `supervisors` (planning): the same, with a recipe if the weak model has to write in another way;
2. `demonstrate` (before training): which continuations are learned from, with which weights, in which pairs;
3. `sequence_loss` (every step, torch): what the student minimises;
4. `generate_run` (the whole student trial): how often, and on what, the student is trained.

Shapes: S supervisors, N prompts, n samples of a prompt, M sequences, B sequences of a batch, T continuation tokens of
its longest sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Form
from wtsbench.strategies.base import Floats, PlanningContext, Strategy, Supervisor
from wtsbench.strategies.decoding import SCORED_TOKENS, ScoredTokens

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One continuation that a supervisor wrote."""

    text: str
    score: float | None
    """From the task's scorer, such as toxicity in [0, 1]; lower is better. None if it was not scored."""
    finished: bool = True
    """Whether the supervisor ended it; else it was cut off, and the student must not learn to stop there."""
    logprobs: tuple[float, ...] | None = None
    """Log-probability of each *character* under the supervisor, because its tokens may differ from the student's: that
    of a token is spread evenly over its characters. One more number, for the end, if it is finished."""
    base_logprobs: tuple[float, ...] | None = None
    """The same under the supervisor's pretrained weights, before finetuning."""


@dataclass(frozen=True, kw_only=True)
class GenerativeSupervision:
    """The supervisors' continuations of the prompts of one split. No ground truth."""

    item_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    written: tuple[tuple[tuple[Continuation, ...], ...], ...]
    """[S][N][n], in the order of `Strategy.supervisors`, of items, and of samples."""
    validation: GenerativeSupervision | None = None
    """The continuations for `validation`; None within itself."""
    seed: int = 0
    """The trial's seed."""

    def by_prompt(self) -> Iterator[tuple[str, str, tuple[Continuation, ...]]]:
        """Item id, prompt and [n] continuations, of every supervisor and prompt in order."""
        for written in self.written:
            yield from zip(self.item_ids, self.prompts, written, strict=True)


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The training data of a student. Rows are aligned."""

    item_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    """[M]; not part of the loss."""
    continuations: tuple[str, ...]
    """[M]; the tokens that are learned."""
    weights: Floats
    """[M] non-negative."""
    ended: NDArray[np.bool_]
    """[M] whether the end of the text is learned too; false for a text that was cut off."""
    pairs: NDArray[np.int64] | None = None
    """[P, 2] rows of a preferred and a rejected continuation of one prompt; batches then consist of whole pairs."""
    targets: tuple[tuple[float, ...], ...] | None = None
    """[M] for each sequence a number per character of its continuation, and one more for its end if it is ended, such
    as a log-ratio of the supervisor. A token of the student gets the sum over its characters, so that the sum over any
    span with token boundaries of both models is preserved."""


@dataclass(frozen=True, kw_only=True)
class SequenceStep:
    """One optimisation step, as the loss sees it. With pairs, rows 2k and 2k + 1 are pair k."""

    logprobs: torch.Tensor
    """[B, T] float32 log-probability of each continuation token under the student, with gradient; 0 on padding."""
    mask: torch.Tensor
    """[B, T] 1 on continuation tokens, 0 on padding."""
    reference: torch.Tensor | None
    """[B, T] the same under the student's weights at the start of this fit, without gradient and dropout; None unless
    the strategy needs it."""
    targets: torch.Tensor | None
    """[B, T] from `Sequences.targets`."""
    weights: torch.Tensor
    """[B] float32."""
    progress: float
    """Share of the optimisation steps already done, in [0, 1)."""


class GenerativeStudent(Protocol):
    """The strong model as `GenerativeStrategy.generate_run` sees it."""

    def fit_sequences(self, sequences: Sequences, strategy: GenerativeStrategy) -> None:
        """Train the current weights on `sequences`, minimising `strategy.sequence_loss`."""

    def reset(self) -> None:
        """Reset to the pretrained weights."""


class GenerativeStrategy(Strategy):
    """Base of strategies for generative tasks; its defaults are finetuning on everything the supervisors wrote."""

    forms: ClassVar[tuple[Form, ...]] = ("generation",)
    needs_scores: ClassVar[bool] = False
    """Whether it uses the scores of the supervisors' continuations."""
    needs_logprobs: ClassVar[bool] = False
    """Whether it needs the supervisors' log-probabilities of characters, before and after finetuning."""
    needs_reference: ClassVar[bool] = False
    """Whether the loss compares with the weights at the start of the fit."""

    def decoding(self) -> StrategyCall | None:
        """How the weak model writes, as a recipe of `strategies.decoding`; None for plain sampling."""
        if self.needs_logprobs:
            return StrategyCall(name=SCORED_TOKENS, parameters=ScoredTokens().model_dump(mode="json"))
        return None

    def supervisors(self, context: PlanningContext) -> tuple[Supervisor, ...]:
        """The weak model with the student's own seed and the recipe `decoding`."""
        return (context.weak_supervisor(self.decoding() if context.form == "generation" else None),)

    def choose(self, samples: Sequence[Continuation]) -> Sequence[Continuation]:
        """The continuations to learn from, of one supervisor for one prompt: here all."""
        return samples

    def demonstrate(self, supervision: GenerativeSupervision) -> Sequences:
        """The sequences to learn from: here every chosen continuation of every supervisor, all weights 1."""
        return sequences_of(
            (item, prompt, continuation)
            for item, prompt, samples in supervision.by_prompt()
            for continuation in self.choose(samples)
        )

    def sequence_loss(self, step: SequenceStep) -> torch.Tensor:
        """Scalar loss of a batch: here the mean negative log-likelihood of continuation tokens, 0 if there are none.

        - sum_bt w_b log p_bt / sum_bt mask_bt
        """
        return -(step.logprobs * step.mask * step.weights[:, None]).sum() / step.mask.sum().clamp(min=1)

    def generate_run(self, student: GenerativeStudent, supervision: GenerativeSupervision) -> None:
        """The whole training of the student: here one fit on the result of `demonstrate`."""
        student.fit_sequences(self.demonstrate(supervision), self)


def sequences_of(rows: Iterable[tuple[str, str, Continuation]]) -> Sequences:
    """Sequences of item id, prompt and continuation, all weights 1."""
    listed = list(rows)
    return Sequences(
        item_ids=tuple(item for item, _, _ in listed),
        prompts=tuple(prompt for _, prompt, _ in listed),
        continuations=tuple(continuation.text for _, _, continuation in listed),
        weights=np.ones(len(listed)),
        ended=np.array([continuation.finished for _, _, continuation in listed], dtype=bool),
    )


def scores_of(samples: Sequence[Continuation]) -> Floats:
    """[n] scores of continuations.

    Raises:
        ValueError: one of them was not scored.
    """
    scores = [continuation.score for continuation in samples if continuation.score is not None]
    if len(scores) < len(samples):
        raise ValueError(f"{len(samples) - len(scores)} of {len(samples)} continuations of a prompt have no score")
    return np.array(scores, dtype=np.float64)
