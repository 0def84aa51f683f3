"""One fit of a language model on prompts with continuations; the strategy decides the loss.

Only continuation tokens, and the end where a text is ended, enter the loss: neither prompts nor padding do.

Shapes: M sequences, U units of training (sequences, or pairs of them), B sequences of a batch, T continuation tokens of
its longest continuation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from wtsbench.spec.training import Training
from wtsbench.strategies.generative import GenerativeStrategy, Sequences, SequenceStep
from wtsbench.trial.batching import Rows, endless_batches
from wtsbench.trial.device import Device, derive, seed_all
from wtsbench.trial.language_model import LanguageModel, continuation_logprobs
from wtsbench.trial.text_tokens import Encoded, TextTokenizer
from wtsbench.trial.train import Batch, Curve, optimise, steps_of


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Everything a fit is trained on, as tokens. Rows are aligned."""

    rows: Sequence[Encoded]
    """[M]"""
    units: NDArray[np.int64]
    """[U, 1] rows, or [U, 2] where they come in pairs."""
    weights: torch.Tensor
    """[M] float32."""
    reference: Sequence[NDArray[np.float64]] | None
    """[M] log-probabilities of the continuation tokens before the fit."""
    targets: Sequence[NDArray[np.float64]] | None
    """[M] numbers of the continuation tokens."""

    @property
    def lengths(self) -> list[int]:
        """[U] tokens of the longest sequence of each unit."""
        return [max(len(self.rows[i].ids) for i in unit) for unit in self.units.tolist()]

    def tokens(self) -> int:
        """Tokens of one pass over all units."""
        return sum(len(self.rows[i].ids) for unit in self.units.tolist() for i in unit)


def units_of(sequences: Sequences) -> NDArray[np.int64]:
    """What batches are made of: single rows [U, 1], or the pairs [U, 2]."""
    if sequences.pairs is None:
        return np.arange(len(sequences.item_ids), dtype=np.int64)[:, None]
    return sequences.pairs


def units_a_step(sequences: Sequences, training: Training) -> int:
    """Units of an optimiser step: `training.batch_size` counts continuations, of which a pair has two."""
    return training.batch_size if sequences.pairs is None else max(1, training.batch_size // 2)


def spread(values: Sequence[float], row: Encoded, tokenizer: TextTokenizer) -> NDArray[np.float64]:
    """Numbers of characters, and of the end, as numbers of the row's continuation tokens: sums over what each writes.

    Characters that no token writes count for the last token, so that the sum over the text stays.
    """
    widths = tokenizer.widths(row)
    size = len(values) - row.ended  # a text that was cut for the context has no end, nor all of its characters
    edges = np.minimum(np.cumsum([0, *widths]), size)
    if widths and not row.ended:
        size = min(size, int(edges[-1]))
    elif widths:
        edges[-1] = size
    reached = np.concatenate([[0.0], np.cumsum(np.asarray(values[:size], dtype=np.float64))])
    found = reached[edges[1:]] - reached[edges[:-1]] if widths else np.zeros(0)
    return np.append(found, values[-1]) if row.ended else found


def fit(
    model: LanguageModel,
    lesson: Lesson,
    strategy: GenerativeStrategy,
    *,
    training: Training,
    a_step: int,
    pad_id: int,
    seed: int,
    fit_number: int,
    device: Device,
    curve: Curve,
    advance: Callable[[int], None],
) -> None:
    """Train the model in place.

    Args:
        model: starts from its current weights.
        lesson: what it is trained on.
        strategy: gives the loss of each step.
        training: settings.
        a_step: units of an optimiser step.
        pad_id: token id for padding; masked out.
        seed: of order and dropout.
        fit_number: which fit of the trial this is, from 0; part of the seed.
        device: where, and in what precision.
        curve: points of the training curve are added to it.
        advance: told the number of tokens of each step.

    Raises:
        DivergedError: a loss is NaN or infinite.
    """
    seed_all(seed, "dropout", fit_number)
    order = np.random.default_rng(derive(seed, "order", fit_number))

    def batch_of(units: Rows, progress: float) -> Batch:
        chosen = lesson.units[units].flatten().tolist()
        rows = [lesson.rows[i] for i in chosen]
        size = training.micro_batch_size or len(rows)
        longest = max(len(row.ids) - row.start for row in rows)
        tokens = sum(len(row.ids) for row in rows)
        return Batch(
            pieces=[
                partial(_logprobs, model, rows[at : at + size], longest, pad_id, device)
                for at in range(0, len(rows), size)
            ],
            loss_of=partial(_loss_of, strategy, lesson, chosen, longest, progress, device),
            tokens=tokens,
            padded=len(rows) * max(len(row.ids) for row in rows),
            cost=tokens,
        )

    optimise(
        model,
        batch_of,
        endless_batches(lesson.lengths, a_step, order),
        steps_of(len(lesson.units), training.model_copy(update={"batch_size": a_step})),
        training=training,
        device=device,
        curve=curve,
        advance=advance,
    )


def _logprobs(model: LanguageModel, rows: Sequence[Encoded], longest: int, pad_id: int, device: Device) -> torch.Tensor:
    values = continuation_logprobs(model, rows, pad_id=pad_id, device=device)
    return torch.nn.functional.pad(values, (0, longest - values.shape[1]))


def _loss_of(
    strategy: GenerativeStrategy,
    lesson: Lesson,
    chosen: Sequence[int],
    longest: int,
    progress: float,
    device: Device,
    logprobs: torch.Tensor,
) -> torch.Tensor:
    def table(values: Sequence[NDArray[np.float64]] | None) -> torch.Tensor | None:
        return None if values is None else device.put(_padded([values[i] for i in chosen], longest))

    sizes = [len(lesson.rows[i].ids) - lesson.rows[i].start for i in chosen]
    mask = _padded([np.ones(size) for size in sizes], longest)
    return strategy.sequence_loss(
        SequenceStep(
            logprobs=logprobs,
            mask=device.put(mask),
            reference=table(lesson.reference),
            targets=table(lesson.targets),
            weights=device.put(lesson.weights[list(chosen)]),
            progress=progress,
        )
    )


def _padded(values: Sequence[NDArray[np.float64]], longest: int) -> torch.Tensor:
    """[B, longest] float32 with 0 behind each row's numbers."""
    found = np.zeros((len(values), longest), dtype=np.float32)
    for line, row in zip(found, values, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(found)
