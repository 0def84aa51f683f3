"""`noisy_channel`: the weak label as a noisy message about the class, decoded with the strong model's prior.

    z(x) = the untrained strong model's distribution, M[y, l] = probability that the weak model answers l for class y
    E:  r(y, l | x) is proportional to z_y(x)^prior_weight M[y, l] w_l(x),   q(y | x) = sum_l r(y, l | x)
    M:  M[y, l] = (smoothing + sum_x r(y, l | x)) / (C smoothing + sum_x q(y | x))
    loss = CE(f, q)

from r = w_l (w_y + z_y) / 2, until q changes by less than 1e-6 or `iterations` are done. The weak answer l enters with
its probability w_l. M depends on the class only, not on the item: it corrects a weak model that often confuses one
class with another, and the strong model's prior decides where the weak label is uncertain. With `labels: hard` the
argmax of q is learned. `prior_weight: 0` leaves the prior out of the decoding. Its control is `self_labels`: the prior
alone.

Source: the weak supervisors as noisy annotators of Bayesian WeakS-to-Strong (Cui et al. 2025, ICLR, arXiv 2406.03199);
the estimate of confusion matrices by expectation-maximisation is Dawid and Skene's (1979).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from wtsbench.strategies import base, prior
from wtsbench.strategies.base import Floats

_LEAST = 1e-12
"""Lower bound of probabilities, for their logarithms."""
_ENOUGH = 1e-6


class NoisyChannelParameters(base.Parameters):
    """Parameters of `noisy_channel`; `labels` is of q."""

    prior_weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Exponent of the strong model's probabilities, which are closer to each other than they should be, or farther
    apart."""
    smoothing: Annotated[float, Field(gt=0)] = 1.0
    """Items that every entry of the confusion matrix has beforehand."""
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Rounds of expectation-maximisation at most."""


class NoisyChannel(base.Strategy):
    """Labels by expectation-maximisation."""

    name = "noisy_channel"
    summary = "weak labels decoded by a confusion matrix of the weak model and the strong model's untrained answers"
    source = "Bayesian WeakS-to-Strong, arXiv 2406.03199; Dawid and Skene 1979"
    asks = True
    Parameters = NoisyChannelParameters

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The weak model, then the untrained strong one."""
        return (*super().supervisors(context), prior.asked(context, self.name))

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """All items with q, or its argmax."""
        weak, own = supervision.probabilities
        return super().prepare(replace(supervision, probabilities=self.decoded(weak, own)[None]))

    def decoded(self, weak: Floats, own: Floats) -> Floats:
        """[N, C] q from weak labels w [N, C] and the strong model's own z [N, C]."""
        own_share = np.maximum(own, _LEAST) ** self.parameters.prior_weight
        posterior = (weak + own) / 2
        joint = posterior.T @ weak  # [C, C] summed over items; rows are true classes
        for _ in range(self.parameters.iterations):
            channel = joint + self.parameters.smoothing
            channel /= channel.sum(axis=1, keepdims=True)
            scale = own_share / (own_share * (weak @ channel.T)).sum(axis=1, keepdims=True)  # [N, C]
            before, posterior = posterior, scale * (weak @ channel.T)
            joint = channel * (scale.T @ weak)
            if np.abs(posterior - before).max() < _ENOUGH:
                break
        return np.asarray(posterior)
