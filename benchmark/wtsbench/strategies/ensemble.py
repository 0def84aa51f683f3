"""`ensemble`: the mean of several weak supervisors.

    target = (1/S) sum_s w_s          loss = CE(f, target)

w_s are the distributions of S weak supervisors: the weak model trained with `members` seeds (the student's own seed,
then seed + 1000 k), and each of the further weak models in `models`. With `labels: hard` the mean is hardened, so that
supervisors vote with their confidence. One member and no further model is `naive`. Source: plain averaging of
predictive distributions (deep ensembles, Lakshminarayanan et al. 2017, arXiv 1612.01474), applied to the weak labels.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wtsbench.errors import SpecError
from wtsbench.spec.trial import Role
from wtsbench.strategies import base

SEED_STRIDE = 1000
"""Larger than any grid seed, so that a further member's seed is never that of another cell."""


class EnsembleParameters(base.Parameters):
    """Parameters of `ensemble`."""

    members: Annotated[int, Field(ge=1, le=100)] = 3
    """How many seeds of the pair's weak model supervise the student."""
    models: tuple[str, ...] = ()
    """Further weak models, each with the student's seed."""


class Ensemble(base.Strategy):
    """Mean label distribution of several supervisors; `Strategy.prepare` takes the mean."""

    name = "ensemble"
    summary = "the mean of several weak supervisors"
    source = "averaging as in deep ensembles, arXiv 1612.01474"
    Parameters = EnsembleParameters

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The weak model with each seed, then the further models.

        Raises SpecError if a further model is the strong or the weak one, or is named twice.
        """
        models = self.parameters.models
        for name, reason in ((context.weak, "the pair's weak model already"), (context.strong, "the student itself")):
            if name in models:
                raise SpecError(
                    f"strategy ensemble: {name} in `models` is {reason}",
                    remedy="`models` names further weak models; `members` says how many seeds of the pair's own.",
                )
        if len(set(models)) < len(models):
            raise SpecError(
                f"strategy ensemble: a model is named twice in {', '.join(models)}", remedy="name each once."
            )
        seeds = tuple(context.seed + SEED_STRIDE * k for k in range(self.parameters.members))
        return (
            *(base.Supervisor(role=Role.WEAK, model=context.weak, seed=seed) for seed in seeds),
            *(base.Supervisor(role=Role.WEAK, model=model, seed=context.seed) for model in models),
        )
