"""About how long a trial takes, from the sizes of its model and data and its training settings alone.

Operations of a trial, with P weights that every token is multiplied by, and tokens taken as a quarter of the
characters, at most `max_length` an item:

    training      6 P a token and epoch: 2 P forward, 4 P backward; 4 P with LoRA; 2 P once where a probe is trained
    predicting    2 P a token; where an untrained model is asked, once for each answer
    writing       2 P a token read and written, and as much of the reference model for its perplexity

P is 12 layers width^2, for embeddings are looked up (Kaplan et al. 2020, arXiv 2001.08361, table 1); where a next token
is predicted, and where only the number of weights is known, it is all of them.

Seconds are operations divided by RATES, at least STEP for each optimisation step on a GPU, and OVERHEAD for each trial.
The rates are assumptions; those of a busy or a fast machine differ much. A strategy that trains more than once is
counted as one that trains once, and fetching models and waiting for a free device are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from wtsbench.models.memory import Shape, shape_of
from wtsbench.spec.trial import TRAIN_SPLIT, Role, Split, TrialSpec

RATES = {"core": 5e10, "GPU": 4e13}
"""Operations per second: of a core in float32, about half of what its matrix products reach (6e10 were measured on an
AMD EPYC that finetuned an encoder of 23 million weights on short texts); of a GPU in bfloat16, an eighth of an A100's
nominal rate, as batches of short texts are small."""
STEP = 0.03
"""Least seconds of an optimisation step on a GPU."""
OVERHEAD = {"core": 1.0, "GPU": 15.0}
"""Seconds in which a trial loads and stores."""
_CHARACTERS = 4
"""Characters of a token of English, about."""
_UNTRAINED = ("zero_shot", "prior", "combined")
"""Recipes of trials that train nothing."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is of a split."""

    items: int
    characters: int

    def tokens(self, longest: int) -> float:
        """Tokens of all its items, each cut at `longest`."""
        return self.items * min(longest, math.ceil(self.characters / self.items / _CHARACTERS)) if self.items else 0.0


def seconds(spec: TrialSpec, sizes: Mapping[Split, Size], *, gpus: float) -> float | None:
    """About how long a trial takes.

    Args:
        spec: the trial.
        sizes: of every split of its data set.
        gpus: that it has; a part of one counts as a whole one.

    Returns:
        None if the size of its model is not known.
    """
    shape = shape_of(spec.model)
    weights = spec.model.parameters if shape is None else _multiplied(shape, predicts_tokens=_predicts_tokens(spec))
    if weights is None:
        return None
    done, steps = _operations(spec, sizes, weights)
    if gpus > 0:
        return OVERHEAD["GPU"] + max(done / RATES["GPU"], STEP * steps)
    return OVERHEAD["core"] + done / RATES["core"]


def _predicts_tokens(spec: TrialSpec) -> bool:
    return spec.generation is not None or (spec.recipe is not None and spec.recipe.name in _UNTRAINED)


def _multiplied(shape: Shape, *, predicts_tokens: bool) -> int:
    """The weights P that every token is multiplied by."""
    return shape.parameters if predicts_tokens else min(shape.parameters, 12 * shape.layers * shape.width**2)


def _operations(spec: TrialSpec, sizes: Mapping[Split, Size], weights: int) -> tuple[float, float]:
    """Operations and optimisation steps of a trial."""
    training, recipe = spec.training, spec.recipe
    longest = training.max_length
    read = sum(sizes[split].tokens(longest) + _written(spec, split, sizes[split]) for split in spec.predicted_splits)
    if recipe is not None and recipe.name in _UNTRAINED:
        return 2.0 * weights * read * len(recipe.parameters.get("answers", " ")), 0.0
    size = sizes[TRAIN_SPLIT[spec.role]]
    learned = size.tokens(longest)
    if spec.generation is not None:
        texts = spec.generation.samples_transfer if spec.role is Role.STUDENT else 1
        learned = texts * (learned + size.items * spec.generation.max_new_tokens)
    passes = 2.0 if spec.finetune == "linear_probe" else training.epochs * (4.0 if spec.finetune == "lora" else 6.0)
    return weights * (passes * learned + 2.0 * read), training.epochs * math.ceil(size.items / training.batch_size)


def _written(spec: TrialSpec, split: Split, size: Size) -> float:
    """For generation: tokens written of a split, and those read again for their perplexity."""
    settings = spec.generation
    if settings is None:
        return 0.0
    judged = 1 if settings.reference is None else 2
    return float(judged * settings.samples_of(split) * size.items * settings.max_new_tokens)
