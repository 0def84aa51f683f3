"""About how long a grid's trials take. An estimate, from the sizes of models and data and the training settings.

Operations of a trial, with P weights that every token is multiplied by, and tokens taken as a quarter of the
characters, at most `max_length` an item:

    training      6 P a token and epoch: 2 P forward, 4 P backward; 4 P with LoRA; 2 P once where a probe is trained
    predicting    2 P a token; where an untrained model is asked, once for each answer
    writing       2 P a token read and written, and as much of the reference model for its perplexity

P is 12 layers width^2, for embeddings are looked up (Kaplan et al. 2020, arXiv 2001.08361, table 1); where a next token
is predicted, and where only the number of weights is known, it is all of them.

Seconds are operations at RATES, and what cannot be hurried beside: OVERHEAD a trial, STEP an optimisation step of a
GPU. The rates are assumptions that a busy or fast machine is far from. A strategy that trains more than once is counted
as one that trains once, and no time is in it for fetching models or waiting for a free device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wtsbench.models.memory import Shape, shape_of
from wtsbench.spec.trial import TRAIN_SPLIT, Role, Split, TrialSpec

RATES = {"core": 5e10, "GPU": 4e13}
"""Operations a second of one device: of a core in float32, about half of its matrix products at best (6e10 were
measured of an AMD EPYC that finetuned an encoder of 23 million weights on short texts); of a GPU in bfloat16, an eighth
of what an A100 is sold with, as batches of short texts are small."""
STEP = 0.03
"""Seconds that an optimisation step on a GPU takes at least, whatever is computed."""
OVERHEAD = {"core": 1.0, "GPU": 15.0}
"""Seconds of a trial to load and to store."""
_CHARACTERS = 4
"""Of a token of English, about."""
_UNTRAINED = ("zero_shot", "prior", "combined")
"""Recipes of trials that train nothing."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is of a split."""

    items: int
    characters: int

    def tokens(self, longest: int) -> float:
        """Of all its items, none longer than this."""
        return self.items * min(longest, math.ceil(self.characters / self.items / _CHARACTERS)) if self.items else 0.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What trials take, one after the other, on one device."""

    trials: int
    """Those that are counted."""
    unknown: tuple[str, ...]
    """Models whose size nothing here knows; their trials are not counted."""
    operations: float
    seconds: float
    device: str
    """`core` or `GPU`."""

    def __str__(self) -> str:
        hours = self.seconds / 3600
        took = f"{hours:.2g} hours" if hours >= 1 else f"{math.ceil(self.seconds / 60)} min"
        said = (
            f"about {took} of one {self.device}, an estimate: {self.operations:.1e} operations at "
            f"{RATES[self.device]:.0e} a second, one trial after the other"
        )
        return said + (f"; without those of {', '.join(self.unknown)}" if self.unknown else "")


def work(trials: Iterable[TrialSpec], sizes: Mapping[str, Mapping[Split, Size]], *, gpus: float) -> Work:
    """What trials take.

    Args:
        trials: those to run.
        sizes: of every split of each data set, by digest.
        gpus: of one trial; a part of one counts as a whole one, which trials then share.
    """
    device = _device(gpus)
    operations = seconds = 0.0
    counted, unknown = 0, dict[str, None]()
    for spec in trials:
        if not spec.model.trained:
            continue
        taken = _taken(spec, sizes[spec.data_digest], device)
        if taken is None:
            unknown[spec.model.name] = None
            continue
        operations += taken[0]
        seconds += taken[1]
        counted += 1
    return Work(trials=counted, unknown=tuple(unknown), operations=operations, seconds=seconds, device=device)


def expected_seconds(
    trials: Iterable[TrialSpec], sizes: Mapping[str, Mapping[Split, Size]], *, gpus: float
) -> dict[str, float]:
    """About how long each trial takes, by id; none for a model of unknown size. Arguments as of `work`."""
    seconds: dict[str, float] = {}
    for spec in trials:
        taken = _taken(spec, sizes[spec.data_digest], _device(gpus)) if spec.model.trained else None
        if taken is not None:
            seconds[spec.trial_id] = taken[1]
    return seconds


def _device(gpus: float) -> str:
    return "GPU" if gpus > 0 else "core"


def _taken(spec: TrialSpec, sizes: Mapping[Split, Size], device: str) -> tuple[float, float] | None:
    """Operations and seconds of a trial; None if the size of its model is not known."""
    shape = shape_of(spec.model)
    weights = spec.model.parameters if shape is None else _multiplied(shape, predicts_tokens=_predicts_tokens(spec))
    if weights is None:
        return None
    done, steps = _operations(spec, sizes, weights)
    return done, OVERHEAD[device] + max(done / RATES[device], STEP * steps if device == "GPU" else 0.0)


def _predicts_tokens(spec: TrialSpec) -> bool:
    return spec.generation is not None or (spec.recipe is not None and spec.recipe.name in _UNTRAINED)


def _multiplied(shape: Shape, *, predicts_tokens: bool) -> int:
    """The weights P that every token is multiplied by."""
    return shape.parameters if predicts_tokens else min(shape.parameters, 12 * shape.layers * shape.width**2)


def _operations(spec: TrialSpec, sizes: Mapping[Split, Size], weights: int) -> tuple[float, float]:
    """Of one trial, and how many optimisation steps it has."""
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
