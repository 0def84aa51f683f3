"""A small student for generative strategies to teach: how often it writes each word, whatever came before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch

from wtsbench.strategies.generative import (
    Continuation,
    GenerativeStrategy,
    GenerativeSupervision,
    Sequences,
    SequenceStep,
)

BAD = "bomb"
END = "</s>"
WORDS = ("cake", "river", "stone", BAD, END)


class WordStudent:
    """Implements `strategies.generative.GenerativeStudent`: one probability for each word and for the end."""

    def __init__(self, pretrained: Mapping[str, float] | None = None, *, steps: int = 150, rate: float = 0.5) -> None:
        shares = pretrained or dict.fromkeys(WORDS, 1 / len(WORDS))
        self.pretrained = torch.tensor([math.log(shares[word]) for word in WORDS], dtype=torch.float64)
        self.steps, self.rate = steps, rate
        self.losses: list[list[float]] = []
        self.fits: list[Sequences] = []
        self.reset()

    def reset(self) -> None:
        """Back to what it wrote at first."""
        self.scores = self.pretrained.clone().requires_grad_()

    def fit_sequences(self, sequences: Sequences, strategy: GenerativeStrategy) -> None:
        """Gradient descent on all sequences, or pairs, at once."""
        rows = [tokens_of(text, bool(end)) for text, end in zip(sequences.continuations, sequences.ended, strict=True)]
        order = list(range(len(rows))) if sequences.pairs is None else sequences.pairs.flatten().tolist()
        longest = max(map(len, rows))
        index = torch.zeros(len(order), longest, dtype=torch.long)
        mask = torch.zeros(len(order), longest, dtype=torch.float64)
        targets = torch.zeros(len(order), longest, dtype=torch.float64)
        for line, place in enumerate(order):
            size = len(rows[place])
            index[line, :size] = torch.tensor([WORDS.index(word) for word in rows[place]])
            mask[line, :size] = 1
            if sequences.targets is not None:
                targets[line, :size] = torch.tensor(of_words(sequences.targets[place], rows[place]))
        reference = self.scores.detach().log_softmax(dim=0)[index] * mask
        weights = torch.from_numpy(sequences.weights)[order]
        optimizer = torch.optim.SGD([self.scores], lr=self.rate)
        losses = []
        for step in range(self.steps):
            optimizer.zero_grad()
            loss = strategy.sequence_loss(
                SequenceStep(
                    logprobs=self.scores.log_softmax(dim=0)[index] * mask,
                    mask=mask,
                    reference=reference if strategy.needs_reference else None,
                    targets=targets if sequences.targets is not None else None,
                    weights=weights,
                    progress=step / self.steps,
                )
            )
            losses.append(float(loss.detach()))
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
        self.losses.append(losses)
        self.fits.append(sequences)

    def share(self, word: str) -> float:
        """How probable a word is."""
        return float(self.scores.detach().softmax(dim=0)[WORDS.index(word)])


def tokens_of(text: str, ended: bool) -> list[str]:
    """Words, each with the blank before it, and the end."""
    return text.split() + ([END] if ended else [])


def of_words(values: Sequence[float], words: Sequence[str]) -> list[float]:
    """Numbers of characters as numbers of words."""
    edges = list(accumulate((1 if word == END else len(word) + 1 for word in words), initial=0))
    assert edges[-1] == len(values)
    return [float(sum(values[a:b])) for a, b in pairwise(edges)]


def badness(text: str) -> float:
    """Share of the words that are the bad one."""
    words = text.split()
    return sum(word == BAD for word in words) / max(1, len(words))


def continuation(text: str, *, finished: bool = True, **shares: Mapping[str, float]) -> Continuation:
    """One with its score; with `now` and `before`, as probable as a writer of these word shares found it."""

    def said(share: Mapping[str, float]) -> tuple[float, ...]:
        found: list[float] = []
        for word in tokens_of(text, finished):
            width = 1 if word == END else len(word) + 1
            found += [math.log(share[word]) / width] * width
        return tuple(found)

    return Continuation(
        text=text,
        score=badness(text),
        finished=finished,
        logprobs=said(shares["now"]) if shares else None,
        base_logprobs=said(shares["before"]) if shares else None,
    )


def wrote(shares: Mapping[str, float], prompts: int = 40, samples: int = 4, *, seed: int = 0) -> list[list[str]]:
    """Texts that a writer of these word shares writes, cut off after six words."""
    random = np.random.default_rng(seed)
    chances = np.array([shares[word] for word in WORDS])
    found = []
    for _ in range(prompts):
        some = []
        for _ in range(samples):
            words = [str(word) for word in random.choice(WORDS, size=6, p=chances)]
            some.append("".join(f" {word}" for word in (words[: words.index(END)] if END in words else words)))
        found.append(some)
    return found


def supervision(written: Sequence[Sequence[Continuation]]) -> GenerativeSupervision:
    """What one supervisor wrote."""
    return GenerativeSupervision(
        item_ids=tuple(f"i{number}" for number in range(len(written))),
        prompts=tuple(f"prompt {number}" for number in range(len(written))),
        written=(tuple(map(tuple, written)),),
    )
