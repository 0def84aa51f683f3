"""Shared by strategies that combine weak labels with the untrained strong model's answers.

The strong model is asked once per task, in a trial of its own with the recipe `prior`, whose predictions serve as
labels like the weak model's. It must be a language model, and the task must define how to ask it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wtsbench.errors import SpecError
from wtsbench.spec.trial import Role
from wtsbench.strategies import base, recipes
from wtsbench.strategies.base import Floats
from wtsbench.strategies.probe_relabel import softmax_regression


def asked(context: base.PlanningContext, strategy: str) -> base.Supervisor:
    """The pair's untrained strong model as a supervisor. One trial serves all seeds.

    Raises SpecError if the task does not define how to ask it.
    """
    if context.zero_shot is None:
        raise SpecError(
            f"strategy {strategy}: the task does not say how an untrained model is asked",
            remedy="give its manifest `zero_shot: {prompt, answers}`, or exclude the task for this strategy.",
        )
    recipe = recipes.call(recipes.Prior(**context.zero_shot.model_dump()))
    return base.Supervisor(role=Role.WEAK, model=context.strong, seed=0, recipe=recipe)


def only(supervision: base.Supervision, supervisor: int) -> base.Supervision:
    """The labels of one supervisor."""
    return replace(supervision, probabilities=supervision.probabilities[[supervisor]])


def trust(seen: Floats, answered: Floats, truth: Floats, activations: Floats, said: Floats, penalty: float) -> Floats:
    """[N] probability that the most probable class of each label is right.

    Args:
        seen: [T, H] activations of items with known truth.
        answered: [T, C] labels of these items.
        truth: [T, C] of these items.
        activations: [N, H] of the items in question.
        said: [N, C] labels of these items.
        penalty: as for `probability_right`.
    """
    right = answered.argmax(axis=1) == truth.argmax(axis=1)
    return probability_right(_features(seen, answered), right, _features(activations, said), penalty)


def _features(activations: Floats, said: Floats) -> Floats:
    """[N, H + C + 1] activations [N, H] of items, their labels [N, C], and the largest probability of each label."""
    return np.concatenate([activations, said, said.max(axis=1, keepdims=True)], axis=1)


def probability_right(known: Floats, right: NDArray[np.bool_], wanted: Floats, penalty: float) -> Floats:
    """[N] probability that each label is right, by logistic regression on labels whose correctness is known.

    Args:
        known: [T, F] features of the labels with known correctness.
        right: [T] whether they are right.
        wanted: [N, F] features of the labels in question.
        penalty: L2 penalty on the mean loss, on standardised features.

    Returns:
        If all known labels are right, or none is, there is nothing to learn, and the last feature is returned: the
        label's largest probability.
    """
    if right.all() or not right.any():
        return wanted[:, -1]
    return softmax_regression(known, np.eye(2)[right.astype(int)], penalty, others=wanted)[:, 1]
