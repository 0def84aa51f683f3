"""`self_refine`: the student labels the transfer items anew, and learns from its own labels; n rounds.

    f_0 = fit(pretrained, w)          f_k = fit(pretrained, f_{k-1}(transfer)),  k = 1 .. rounds

Every round starts from the pretrained weights with a head drawn anew, so that only labels pass from round to round, and
has the trial's whole number of steps. With `labels: hard` the argmax is passed on. `rounds: 0` is `naive`.

Source: the strong-to-strong rounds (`s2s`) of the EleutherAI `w2s` code; self-training as in Xie et al. 2020 (arXiv
1911.04252).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from wtsbench.strategies import base


class SelfRefineParameters(base.Parameters):
    """Parameters of `self_refine`."""

    rounds: Annotated[int, Field(ge=0, le=20)] = 1
    """How often the student learns from its own labels after the first training; 0 is `naive`."""


class SelfRefine(base.Strategy):
    """Self-training from the pretrained weights."""

    name = "self_refine"
    summary = "the student relabels the items and learns again from its own labels"
    source = "EleutherAI w2s, `s2s`; self-training, arXiv 1911.04252"
    Parameters = SelfRefineParameters

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """One fit on the weak labels, then one for every round."""
        student.fit(self.prepare(supervision), self)
        for _ in range(self.parameters.rounds):
            own = student.predict(supervision.texts)
            student.reset()
            student.fit(self.prepare(replace(supervision, probabilities=own[None])), self)
