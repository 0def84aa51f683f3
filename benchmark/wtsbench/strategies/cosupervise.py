"""`cosupervise`: specialised weak supervisors; each item is labelled by the one that agrees best with the student.

    round 0:        loss = CE(f, w_0), w_0 the weak model trained on all of `weak_train` (the generalist)
    round r > 0:    s(x) = argmin_k CE(w_k(x), f(x)) over the generalist and `parts` specialists
                    target w_s(x)(x); of all items the share `keep` with the smallest CE(w_s, f) is learned

A specialist is the weak model trained on one of `parts` parts of `weak_train` (recipe `part`): better on that part,
worse elsewhere. The student improves from round to round, and with it the choice of labels; items on which even the
chosen supervisor contradicts it are left out as noise. f is the student of the round before, and every round starts
from the pretrained weights. `parts: 1` is `naive`.

Source: Co-Supervised Learning (Liu and Alahi 2024, arXiv 2402.15505): assignment by agreement alternating with
training, and teacher-student consistency. Of their hierarchy this has two levels, generalist and specialists; their
consistency with neighbours in feature space is omitted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from wtsbench.strategies import base, recipes
from wtsbench.strategies.base import Floats
from wtsbench.strategies.filtering import largest, share_of


class CosuperviseParameters(base.Parameters):
    """Parameters of `cosupervise`."""

    parts: Annotated[int, Field(ge=1, le=50)] = 4
    """Specialists; 1 is `naive`."""
    by: Literal["content", "hash"] = "content"
    """How `weak_train` is cut: by the weak model's view of the content, or at random."""
    rounds: Annotated[int, Field(ge=1, le=20)] = 2
    """Assignments of items to supervisors."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the items that is learned after an assignment."""


class Cosupervise(base.Strategy):
    """The student chooses among specialised supervisors."""

    name = "cosupervise"
    summary = "specialised weak supervisors, assigned to items by agreement with the student"
    source = "Liu and Alahi 2024, arXiv 2402.15505"
    Parameters = CosuperviseParameters

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The generalist, then the specialists."""
        generalist = context.weak_supervisor()
        if self.parameters.parts == 1:
            return (generalist,)
        parts = (
            recipes.Part(part=part, parts=self.parameters.parts, by=self.parameters.by)
            for part in range(self.parameters.parts)
        )
        return (generalist, *(context.weak_supervisor(recipes.call(part)) for part in parts))

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """A fit on the generalist's labels, then one for every assignment."""
        generalist = replace(supervision, probabilities=supervision.probabilities[:1])
        student.fit(self.prepare(generalist), self)
        if len(supervision.probabilities) == 1:
            return
        for _ in range(self.parameters.rounds):
            labels, distance = assigned(supervision.probabilities, student.predict(supervision.texts))
            items = self.prepare(replace(supervision, probabilities=labels[None]))
            items = items.subset(largest(-distance, share_of(len(distance), self.parameters.keep)))
            student.reset()
            student.fit(items, self)


def assigned(supervisors: Floats, student: Floats) -> tuple[Floats, Floats]:
    """For each item the label of the supervisor that agrees best with the student, and its distance.

    Args:
        supervisors: [S, N, C] distributions; of equally good ones the first is taken.
        student: [N, C].

    Returns:
        Labels [N, C], and CE(w_s, f) = -sum_c w_s log f [N] of the chosen.
    """
    distance = -np.einsum("snc,nc->sn", supervisors, np.log(np.maximum(student, 1e-12)))
    chosen = distance.argmin(axis=0)
    items = np.arange(student.shape[0])
    return supervisors[chosen, items], distance[chosen, items]
