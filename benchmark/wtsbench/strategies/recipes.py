"""Recipes: how weak supervisors differ from plain finetuning, and what controls do. Part of a trial's identity.

A strategy requests one with `Supervisor.recipe`, completed by `call`, so that a trial's spec has every parameter. They
are implemented in `wtsbench.trial.supervisors`. The recipes of classification are:

asked           plain finetuning; `transfer` and `validation` are also predicted under further wordings
part            finetuning on one of several parts of `weak_train`
boosted         finetuning on `weak_train` with the weights of AdaBoost after the parents' rounds
combined        no training: the vote of the parents, weighted as AdaBoost weighs its rounds
reserved        finetuning on `weak_train` without some items; `weak_train` is predicted too
prior           no training: the strong model is asked, and its answers are labels; `weak_train` is predicted too
zero_shot       control, no training: a language model is asked
random_labels   control: finetuning on labels of `transfer` that are wrong at random as often as the parent's

Recipes have no version, and their trials do not include that of the requesting strategy: when the results of a recipe
change, `spec.trial.SCIENCE_VERSION` must be raised.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wtsbench.spec.frozen import Frozen
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.strategy_call import StrategyCall

Frame = Annotated[str, Field(pattern=r"\{text\}")]


class Asked(Frozen):
    """Parameters of `asked`."""

    frames: Annotated[tuple[Frame, ...], Field(min_length=1)]
    """Wordings, with `{text}` where the item's text goes; the k-th makes the splits `transfer~k` and `validation~k`,
    from 1."""


class Part(Frozen):
    """Parameters of `part`."""

    part: Annotated[int, Field(ge=0)]
    """Which, from 0."""
    parts: Annotated[int, Field(ge=2)]
    by: Literal["content", "hash"]
    """`content`: equal slices along the first principal component of the pretrained weak model's activations; `hash`:
    items in order of their id, which is a hash of their content, in turn."""


class Boosted(Frozen):
    """Parameters of `boosted`: none, as its parents are the rounds before, in order."""


class Combined(Frozen):
    """Parameters of `combined`: none, as its parents are the rounds, in order."""


class Reserved(Frozen):
    """Parameters of `reserved`."""

    items: Annotated[int, Field(ge=1)]
    """Items of `weak_train` that are kept out of its training: those that a student with such a budget of ground truth
    sees (`spec.budget`), with what this model says of them."""


class Prior(ZeroShot):
    """Parameters of `prior`: how the model is asked."""


class RandomLabels(Frozen):
    """Parameters of `random_labels`: none, as its parent tells how many labels are wrong."""


Recipe = Asked | Part | Boosted | Combined | Reserved | Prior | ZeroShot | RandomLabels

RECIPES: dict[str, type[Recipe]] = {
    "asked": Asked,
    "part": Part,
    "boosted": Boosted,
    "combined": Combined,
    "reserved": Reserved,
    "prior": Prior,
    "zero_shot": ZeroShot,
    "random_labels": RandomLabels,
}


def call(recipe: Recipe) -> StrategyCall:
    """The recipe with all parameters, for a trial's spec."""
    name = next(name for name, kind in RECIPES.items() if kind is type(recipe))
    return StrategyCall(name=name, parameters=recipe.model_dump(mode="json"))


def parse(given: StrategyCall) -> Recipe:
    """The recipe of a trial's spec.

    Raises:
        ValueError: there is no recipe of this name, or its parameters are wrong.
    """
    if given.name not in RECIPES:
        raise ValueError(f"recipe {given.name} is not known; there are {', '.join(RECIPES)}")
    return RECIPES[given.name].model_validate(given.parameters)
