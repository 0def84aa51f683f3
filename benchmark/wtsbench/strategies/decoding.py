"""Recipes of weak trials of generative tasks: how a weak supervisor writes, if not by plain sampling.

A recipe is a name with all of its parameters, and part of the weak trial's identity: trials with one and without are
different trials, each stored once for all strategies that ask for it.

    scored_tokens           plain sampling, with the probabilities of its continuations before and after finetuning
    contrastive_decoding    samples from the contrast of finetuned and pretrained weights
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError

from wtsbench.spec.frozen import Frozen
from wtsbench.spec.strategy_call import StrategyCall

SCORED_TOKENS = "scored_tokens"
CONTRASTIVE = "contrastive_decoding"
Alpha = Annotated[float, Field(ge=0, le=10)]
Plausibility = Annotated[float, Field(ge=0, le=1)]


class ScoredTokens(Frozen):
    """Parameters of `scored_tokens`: none."""


class Contrast(Frozen):
    """Parameters of `contrastive_decoding`: see `strategies.contrastive_decoding`."""

    alpha: Alpha = 0.4
    """Weight of the pretrained model's log-probabilities, which are taken away; 0 is plain sampling."""
    plausibility: Plausibility = 0.1
    """Tokens less likely than this share of the likeliest are never written; 0 allows all."""


Decoding = ScoredTokens | Contrast
RECIPES: dict[str, type[Decoding]] = {SCORED_TOKENS: ScoredTokens, CONTRASTIVE: Contrast}


def decoding_of(recipe: StrategyCall | None) -> Decoding | None:
    """The recipe with its parameters; None for plain sampling.

    Raises:
        ValueError: there is no such recipe, or its parameters are wrong.
    """
    if recipe is None:
        return None
    kind = RECIPES.get(recipe.name)
    if kind is None:
        raise ValueError(f"no weak supervisor writes by recipe {recipe.name!r}; there are {', '.join(RECIPES)}")
    try:
        return kind.model_validate(recipe.parameters)
    except ValidationError as error:
        raise ValueError(f"recipe {recipe.name}: {error}") from error
