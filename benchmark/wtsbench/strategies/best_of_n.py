"""`best_of_n`: learn the least toxic of what the weak model wrote for a prompt.

    y(x) = the y_k, k < n, of the lowest score          loss = - mean over tokens t of log f(y_t | x, y_<t)

The first of equally good continuations is taken, so that `n: 1` is `naive` on the first sample. Source: best-of-n as a
policy (Stiennon et al. 2020, arXiv 2009.01325), here as the teacher of the strong model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from wtsbench.strategies import base
from wtsbench.strategies.generative import Continuation, GenerativeStrategy, scores_of


class BestOfNParameters(base.Parameters):
    """Parameters of `best_of_n`."""

    n: Annotated[int, Field(ge=1)] | None = None
    """How many of a prompt's continuations, the first ones, are chosen among; null takes all that the weak model wrote
    (`samples_transfer` of the task)."""


class BestOfN(GenerativeStrategy):
    """One continuation per prompt and supervisor: the one with the lowest score."""

    name = "best_of_n"
    summary = "learn the least toxic of the weak model's continuations of a prompt"
    source = "best-of-n as a teacher; Stiennon et al. 2020, arXiv 2009.01325"
    needs_scores = True
    Parameters = BestOfNParameters

    def choose(self, samples: Sequence[Continuation]) -> Sequence[Continuation]:
        """The best of the first n.

        Raises:
            ValueError: there are fewer, or one has no score.
        """
        size = self.parameters.n or len(samples)
        if size > len(samples):
            raise ValueError(
                f"strategy best_of_n: n is {size}, and the weak model wrote {len(samples)} continuations a prompt; "
                "raise generation.samples_transfer of the task or lower n"
            )
        return [samples[int(scores_of(samples[:size]).argmin())]] if size else []
