"""Continuations that a trial has written, and what is measured of them before they become records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wtsbench.trial.device import Device
from wtsbench.trial.folder import Progress
from wtsbench.trial.language_model import LanguageModel
from wtsbench.trial.reading import score_shared
from wtsbench.trial.text_tokens import Encoded, TextTokenizer


@dataclass(kw_only=True)
class Draft:
    """One continuation; the optional numbers are filled in where they are asked for."""

    item_id: str
    sample: int
    """From 0."""
    prompt: str
    row: Encoded
    """Prompt and continuation in the tokens of its writer."""
    finished: bool
    """Whether the writer ended it; else it was cut off."""
    text: str
    logprobs: list[float] | None = None
    """See `strategies.generative.Continuation`."""
    base_logprobs: list[float] | None = None
    reference_nll: float | None = None
    """Negative log-likelihood under the reference model, summed over the continuation; None where it has no token."""
    reference_tokens: int | None = None
    """How many tokens the reference model cuts the continuation into; its perplexity is exp(nll / tokens)."""


def by_character(values: NDArray[np.float64], row: Encoded, tokenizer: TextTokenizer) -> list[float]:
    """Numbers of the row's tokens, and of its end token, as numbers of the characters they write, and of the end.

    A token's number is spread evenly over its characters, so that sums over what tokens write stay what they are. The
    number of a token that writes none (part of a character) goes to the next that does, else to the one before.
    """
    found: list[float] = []
    waiting = 0.0
    for value, width in zip(values.tolist(), tokenizer.widths(row), strict=False):
        waiting += value
        if width:
            found += [waiting / width] * width
            waiting = 0.0
    if found:
        found[-1] += waiting
    return [*found, float(values[-1])] if row.ended else found


def reference_likelihood(
    drafts: Sequence[Draft],
    model: LanguageModel,
    tokenizer: TextTokenizer,
    *,
    batch_size: int,
    device: Device,
    progress: Progress,
) -> None:
    """Fill in what a fixed model thinks of each continuation, given its prompt, in that model's own tokens.

    The end of a text does not count. An empty continuation has 0 tokens and no likelihood. Equal continuations of one
    prompt are measured once.
    """
    places: dict[tuple[str, str], list[Draft]] = {}
    for draft in drafts:
        places.setdefault((draft.prompt, draft.text), []).append(draft)
    prompts, texts = [prompt for prompt, _ in places], [text for _, text in places]
    rows = tokenizer.sequences(prompts, texts, [False] * len(texts))
    progress.expect(sum(len(row.ids) for row in rows))
    found = score_shared(
        model, rows, pad_id=tokenizer.pad_id, batch_size=batch_size, device=device, advance=progress.advance
    )
    for same, values in zip(places.values(), found, strict=True):
        for draft in same:
            draft.reference_tokens = len(values)
            draft.reference_nll = -float(values.sum()) if len(values) else None
