"""`generation_filter`: learn only the weak model's continuations with good scores.

    kept = {(x, y_k): score(y_k) <= threshold}          loss = - mean over tokens of kept of log f(y_t | x, y_<t)

With `threshold: 1` everything is kept, which is `naive`. Source: filtering by an attribute classifier before
finetuning, as in domain-adaptive pretraining on non-toxic text (Gehman et al. 2020, arXiv 2009.11462).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from wtsbench.strategies import base
from wtsbench.strategies.generative import Continuation, GenerativeStrategy, scores_of


class GenerationFilterParameters(base.Parameters):
    """Parameters of `generation_filter`."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Continuations that score above it are dropped; 1 keeps all."""


class GenerationFilter(GenerativeStrategy):
    """Every continuation with a score up to the threshold; prompts without one are left out."""

    name = "generation_filter"
    summary = "learn the weak model's continuations that score below a threshold"
    source = "Gehman et al. 2020, arXiv 2009.11462, finetuning on non-toxic text"
    filters = True
    needs_scores = True
    Parameters = GenerationFilterParameters

    def choose(self, samples: Sequence[Continuation]) -> Sequence[Continuation]:
        """Those up to the threshold.

        Raises:
            ValueError: one has no score.
        """
        scores = scores_of(samples)
        return [sample for sample, score in zip(samples, scores, strict=True) if score <= self.parameters.threshold]
