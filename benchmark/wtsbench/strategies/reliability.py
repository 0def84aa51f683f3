"""`reliability`: ask the weak model in several wordings, and prefer the items on which its answers agree.

    p(c | x) = share of the K wordings in which the weak model's answer is c
    keep:    the items with entropy H(p(. | x)) at most the median over all items; weight 1
    weight:  all items, with weight N exp(r(x) / temperature) / sum_x' exp(r(x') / temperature), r(x) = max_c p(c | x)

The label is the mean distribution over the wordings; with `labels: hard` the most frequent answer, of equally frequent
ones that of the larger mean. The first wording is the plain text, on which the weak model is finetuned; the others come
from the task's manifest, then from a list of general ones, or from `frames`. With many ties at the median
more than half of the items are kept. `wordings: 1` is `naive`.

Source: Guo and Yang 2024, Improving Weak-to-Strong Generalization with Reliability-Aware Alignment (arXiv 2406.19032),
who prompt the weak model; here it is a finetuned classifier with differently worded inputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtsbench.errors import SpecError
from wtsbench.strategies import base, recipes
from wtsbench.strategies.base import Floats
from wtsbench.strategies.filtering import Filter

GENERAL_FRAMES = (
    "Text: {text}",
    "{text}\nAnswer:",
    "Please judge the following. {text}",
    "Consider this: {text}",
    "Question: {text}\nAnswer:",
    "Here is an item to classify.\n{text}",
    "{text}\nWhat is your judgement?",
)
"""General wordings, for any task."""


class ReliabilityParameters(base.Parameters):
    """Parameters of `reliability`."""

    wordings: Annotated[int, Field(ge=1, le=50)] = 5
    """K, the plain text included; 1 is `naive`."""
    use: Literal["keep", "weight"] = "keep"
    """Keep the items of small entropy, or weight all by their most frequent answer's share."""
    temperature: Annotated[float, Field(gt=0)] = 0.2
    """For `weight`: of the softmax over items."""
    frames: tuple[recipes.Frame, ...] = ()
    """Wordings with `{text}` in them, in place of the task's and the general ones."""


class Reliability(Filter):
    """Selection or weighting by the weak model's consistency over wordings."""

    name = "reliability"
    summary = "trust the items on which the weak model answers alike in several wordings"
    source = "Guo and Yang 2024, arXiv 2406.19032"
    Parameters = ReliabilityParameters

    def __init__(self, parameters: ReliabilityParameters) -> None:
        super().__init__(parameters)
        self.filters = parameters.use == "keep" and parameters.wordings > 1

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The weak model, asked in further wordings.

        Raises SpecError if there are fewer wordings than are asked for.
        """
        further = self.parameters.wordings - 1
        if not further:
            return super().supervisors(context)
        known = self.parameters.frames or tuple(dict.fromkeys((*context.frames, *GENERAL_FRAMES)))
        frames = tuple(frame for frame in known if frame != "{text}")[:further]
        if len(frames) < further:
            raise SpecError(
                f"strategy reliability: {further} further wordings are asked for, {len(frames)} are known",
                remedy="ask for fewer `wordings`, or give more `frames`.",
            )
        return (context.weak_supervisor(recipes.call(recipes.Asked(frames=frames))),)

    def label(self, supervision: base.Supervision) -> base.Labelled:
        """All items with labels from all wordings, all weights 1."""
        items = base.Strategy.prepare(self, supervision)
        if self.parameters.wordings == 1:
            return items
        answers = self.answers(supervision)
        targets = answers.mean(axis=0)
        if self.parameters.labels == "hard":
            targets = base.one_hot(_counts(answers) + targets / 2)
        return replace(items, targets=targets)

    def keep(self, supervision: base.Supervision) -> NDArray[np.bool_]:
        """[N] the items of small entropy."""
        shares = self.shares(supervision)
        entropy = -np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-300)), 0.0).sum(axis=1)
        return np.asarray(entropy <= np.median(entropy) + 1e-12)

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """The kept items, or all with their weights."""
        if self.filters:
            return super().prepare(supervision)
        items = self.label(supervision)
        if self.parameters.use == "keep":
            return items
        agreed = self.shares(supervision).max(axis=1)
        raised = np.exp((agreed - agreed.max()) / self.parameters.temperature)
        return replace(items, weights=raised / raised.mean())

    def shares(self, supervision: base.Supervision) -> Floats:
        """[N, C] share of the wordings in which each class is the answer."""
        answers = self.answers(supervision)
        return _counts(answers) / len(answers)

    def answers(self, supervision: base.Supervision) -> Floats:
        """[K, N, C] distributions, the plain wording first.

        Raises:
            ValueError: the supervisors were not asked in further wordings.
        """
        plain = supervision.probabilities
        if self.parameters.wordings == 1:
            return plain
        if supervision.asked is None:
            raise ValueError("strategy reliability: the weak model was not asked in further wordings")
        supervisors, wordings, *rest = supervision.asked.shape
        return np.concatenate([plain, supervision.asked.reshape(supervisors * wordings, *rest)])


def _counts(answers: Floats) -> Floats:
    """[N, C] how often each class is the answer in [K, N, C]."""
    return np.asarray(base.one_hot(answers).sum(axis=0))
