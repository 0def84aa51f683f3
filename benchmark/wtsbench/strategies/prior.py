"""What strategies share that go beyond the weak labels: the strong model's untrained answers, and whom to believe.

The strong model is asked once for a task, in a trial of its own with the recipe `prior`, whose predictions are labels
as those of the weak model are. It has to be a language model, and the task has to say how it is asked.
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
    """The pair's strong model, asked and not trained. One trial serves all seeds.

    Raises SpecError where the task does not say how it is asked.
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


def one_hot(said: Floats) -> Floats:
    """[N, C] the likeliest class of distributions [N, C], the lower one of equals, as a sure label."""
    return np.asarray(np.eye(said.shape[1])[said.argmax(axis=1)])


def features(activations: Floats, said: Floats) -> Floats:
    """[N, H + C + 1] activations [N, H] of items, their labels [N, C], and the largest probability of each label."""
    return np.concatenate([activations, said, said.max(axis=1, keepdims=True)], axis=1)


def probability_right(known: Floats, right: NDArray[np.bool_], wanted: Floats, penalty: float) -> Floats:
    """[N] how probably a label is right, by logistic regression on labels of which that is known.

    Args:
        known: [T, F] features of these.
        right: [T] whether they are right.
        wanted: [N, F] features of the labels in question.
        penalty: L2 penalty on the mean loss, on standardised features.

    Returns:
        Where all known labels are right, or none is, there is nothing to tell apart, and the last feature counts: the
        label's largest probability.
    """
    if right.all() or not right.any():
        return wanted[:, -1]
    return softmax_regression(known, np.eye(2)[right.astype(int)], penalty, others=wanted)[:, 1]
