"""`trust`: learn only from the weak labels that a classifier trusts; optionally then from the student's own, and so on.

    t(x, w) = probability that argmax w(x) is right          (logistic regression)
    keep the share `keep` of the items with the largest t          loss = CE(f, w) over them

In each further round w are the last student's predictions, and the student starts from the pretrained weights again.
The classifier learns on `labelled` items of `weak_train` whether the label of the round is right. The weak model must
not be trained on these items, so that its labels for them resemble those for `transfer`: the weak supervisor is the
pair's weak model with the recipe `reserved`, with less ground truth than the one for PGR. In all, no more ground truth
is used than by other strategies. The features are the frozen activations of the pretrained strong model, the label's
probabilities and the largest of them. `keep: 1` is `naive` with that supervisor. The control `random_filter` has the
size and the supervisor of the first round.

Source: Uzunoglu et al. 2026, Trust Functions: Near-Lossless Weak-to-Strong Generalization (arXiv 2606.01000). There the
classifier is a small network on the weak teacher's hidden states; here only labels pass from trial to trial, not
weights, so that it uses the strong model's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtsbench.strategies import base, prior, recipes
from wtsbench.strategies.base import Floats
from wtsbench.strategies.filtering import largest, share_of


class TrustParameters(base.Parameters):
    """Parameters of `trust`."""

    labelled: Annotated[int, Field(ge=2, le=1_000_000)] = 100
    """Items of `weak_train` that are kept out of the weak model's training, for the classifier to learn from."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the items to keep, the most trusted."""
    rounds: Annotated[int, Field(ge=1, le=20)] = 1
    """Students in a row, each supervised by the one before; the first by the weak model."""
    penalty: Annotated[float, Field(gt=0)] = 0.1
    """L2 penalty of the regression, on standardised features."""


class Trust(base.Strategy):
    """Selection by learned trust in each label."""

    name = "trust"
    summary = "learn only from the weak labels that a classifier, taught on a few known ones, holds for right"
    source = "Uzunoglu et al. 2026, arXiv 2606.01000"
    Parameters = TrustParameters

    def __init__(self, parameters: TrustParameters) -> None:
        super().__init__(parameters)
        self.filters = parameters.keep < 1

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The weak model, finetuned without the labelled items."""
        return (context.weak_supervisor(recipes.call(recipes.Reserved(items=self.parameters.labelled))),)

    def truth_budget(self) -> int:
        """The items that the classifier learns from."""
        return int(self.parameters.labelled)

    def kept(self, supervision: base.Supervision) -> int:
        """Number of items that a round learns from."""
        return share_of(len(supervision.item_ids), self.parameters.keep)

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """A classifier and a fit for every round."""
        truth = supervision.truth
        if truth is None or supervision.said_of_truth is None:
            raise ValueError("strategy trust: no item came with its truth and the weak model's label")
        seen, activations = student.activations(truth.texts), student.activations(supervision.texts)
        of_truth, labels = supervision.said_of_truth.mean(axis=0), supervision.probabilities.mean(axis=0)
        for round_ in range(self.parameters.rounds):
            if round_:
                of_truth, labels = student.predict(truth.texts), student.predict(supervision.texts)
                student.reset()
            trusted = self.trusted(seen, of_truth, truth.targets, activations, labels)
            student.fit(self.prepare(replace(supervision, probabilities=labels[None])).subset(trusted), self)

    def trusted(
        self, seen: Floats, of_truth: Floats, truth: Floats, activations: Floats, labels: Floats
    ) -> NDArray[np.bool_]:
        """[N] which labels [N, C] of items with activations [N, H] are kept.

        Trust is learned from activations [T, H] and labels [T, C] of items with known truth [T, C].
        """
        trust = prior.trust(seen, of_truth, truth, activations, labels, self.parameters.penalty)
        return largest(trust, share_of(len(trust), self.parameters.keep))
