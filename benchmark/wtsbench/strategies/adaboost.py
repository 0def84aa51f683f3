"""`adaboost`: weak supervisors that each focus on the errors of the previous ones, with votes by their accuracy.

    D_1(i) = 1/N over `weak_train`;   for t = 1 .. T:
      h_t is the weak model finetuned with item weights N D_t(i);   e_t = sum_i D_t(i) [h_t(i) is wrong]
      alpha_t = .5 (ln((1 - e_t) / e_t) + ln(C - 1))                which is .5 ln((1 - e) / e) for two classes
      D_{t+1}(i) proportional to D_t(i) exp(+alpha_t if wrong else -alpha_t)
    label w(x) = sum_t alpha_t w_t(x) / sum_t alpha_t;   loss = CE(f, w)

e_t is kept in [1/(2N), 1 - 1/(2N)], so that a supervisor without error on `weak_train` has a finite vote. One no better
than chance (alpha_t <= 0) gets no vote and leaves the weights unchanged; if none is, all votes are equal. Every round
is a trial of its own, and so is the vote, which is the only supervisor of the student: rounds are shared by all
students of the weak model. `rounds: 1` is `naive`.

Source: EnsemW2S (Agrawal et al. 2024, arXiv 2410.04571), with item weights in the place of its resampling; the weight
for more classes is that of SAMME (Zhu et al. 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtsbench.strategies import base, recipes
from wtsbench.strategies.base import Floats


class AdaBoostParameters(base.Parameters):
    """Parameters of `adaboost`."""

    rounds: Annotated[int, Field(ge=1, le=8)] = 3
    """Weak supervisors T; 1 is `naive`."""


class AdaBoost(base.Strategy):
    """The student of a boosted ensemble of weak supervisors."""

    name = "adaboost"
    summary = "the weighted vote of weak supervisors that attend to each other's errors"
    source = "EnsemW2S, arXiv 2410.04571"
    Parameters = AdaBoostParameters

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The vote, whose supervisors are the rounds, each of which uses the previous ones."""
        if self.parameters.rounds == 1:
            return super().supervisors(context)
        rounds: tuple[base.Supervisor, ...] = ()
        for _ in range(self.parameters.rounds):
            rounds = (*rounds, context.weak_supervisor(recipes.call(recipes.Boosted()), rounds))
        return (context.weak_supervisor(recipes.call(recipes.Combined()), rounds),)


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """State of AdaBoost after some rounds."""

    votes: Floats
    """[T] alpha of each round; 0 for one that is no better than chance."""
    weights: Floats
    """[N] of the next round's items, of mean 1."""


def boosting(predictions: Floats, truth: NDArray[np.int64]) -> Boosting:
    """AdaBoost's state, computed from the rounds' predictions on their training items.

    Args:
        predictions: [T, N, C], T may be 0.
        truth: [N] classes.
    """
    _, size, classes = predictions.shape
    weights = np.full(size, 1.0 / size)
    votes = []
    for made in predictions:
        wrong = made.argmax(axis=1) != truth
        error = float(np.clip(weights[wrong].sum(), 1 / (2 * size), 1 - 1 / (2 * size)))
        alpha = 0.5 * (np.log((1 - error) / error) + np.log(classes - 1))
        votes.append(max(0.0, alpha))
        if alpha > 0:
            weights = weights * np.exp(np.where(wrong, alpha, -alpha))
            weights = weights / weights.sum()
    return Boosting(votes=np.array(votes), weights=weights * size)


def vote(predictions: Floats, votes: Floats) -> Floats:
    """[N, C] weighted mean of the rounds' distributions [T, N, C]; with equal weights if all votes are 0."""
    shares = votes / votes.sum() if votes.sum() > 0 else np.full(len(votes), 1 / len(votes))
    return np.asarray(np.einsum("t,tnc->nc", shares, predictions))
