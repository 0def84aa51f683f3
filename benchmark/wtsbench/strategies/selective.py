"""`selective`: the strong model's own answer where it is probably right, the weak label elsewhere.

    z(x) = the untrained strong model's distribution for x
    P(IK)(x) = probability that argmax z(x) is right          ("I know": logistic regression)
    target = 1[argmax z] where P(IK) >= threshold, else w          loss = CE(f, target)

The regression learns on `labelled` items of `weak_train`, with ground truth, whether the strong model's answer is
right; its features are the frozen activations of the pretrained strong model and z. So the student's labels use some
ground truth, but only such as the weak model saw too. `threshold: 1` is almost `naive`. Its control `self_labels` takes
all of the strong model's answers.

Source: Lang et al. 2025, Selective Weak-to-Strong Generalization (arXiv 2511.14166); P(IK) after Kadavath et al. 2022
(arXiv 2207.05221). Their smoothing of weak labels over a graph of items is another step: `probe_relabel` with `knn`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from wtsbench.strategies import base, prior


class SelectiveParameters(base.Parameters):
    """Parameters of `selective`; `labels` is of the weak labels that are taken."""

    labelled: Annotated[int, Field(ge=2, le=1_000_000)] = 100
    """Items of `weak_train` with their ground truth, which P(IK) learns from; all of them where there are fewer."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.75
    """P(IK) from which on the strong model's own answer is taken."""
    penalty: Annotated[float, Field(gt=0)] = 0.1
    """L2 penalty of the regression, on standardised features."""


class Selective(base.Strategy):
    """Weak supervision only where it is needed."""

    name = "selective"
    summary = "the strong model's own untrained answer where a probe says that it knows, the weak label elsewhere"
    source = "Lang et al. 2025, arXiv 2511.14166"
    asks = True
    Parameters = SelectiveParameters

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The weak model, then the untrained strong one."""
        return (*super().supervisors(context), prior.asked(context, self.name))

    def truth_budget(self) -> int:
        """The items that P(IK) learns from."""
        return int(self.parameters.labelled)

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """All items with their weak labels."""
        return super().prepare(prior.only(supervision, 0))

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """P(IK), then one fit."""
        items, truth = self.prepare(supervision), supervision.truth
        if truth is None or supervision.said_of_truth is None:
            raise ValueError("strategy selective: no item came with its truth and the strong model's answer")
        own = supervision.probabilities[1]
        knows = prior.trust(
            student.activations(truth.texts),
            supervision.said_of_truth[1],
            truth.targets,
            student.activations(items.texts),
            own,
            self.parameters.penalty,
        )
        taken = knows[:, None] >= self.parameters.threshold
        student.fit(replace(items, targets=np.where(taken, base.one_hot(own), items.targets)), self)
