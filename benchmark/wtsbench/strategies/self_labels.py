"""`self_labels`: the strong model trained on its own answers, given before any training. No weak label is seen.

    z(x) = the untrained strong model's distribution for x          loss = CE(f, 1[argmax z])

A control: a strategy that does not beat it gains nothing from its weak labels. The answers are those
of the control `zero_shot`, a softmax over the length-normalised likelihood of each answer; with `labels: soft` that
distribution is the label.

Source: self-training on zero-shot labels, the simplest form of eliciting what a pretrained model knows without
supervision; after Internal Coherence Maximization (arXiv 2506.10139), which makes the labels consistent with each other
first.
"""

from __future__ import annotations

from typing import Literal

from wtsbench.strategies import base, prior


class SelfLabelsParameters(base.Parameters):
    """Parameters of `self_labels`."""

    labels: Literal["soft", "hard"] = "hard"
    """Learn from the answer, or from the probabilities of all answers, which are close to each other."""


class SelfLabels(base.Strategy):
    """Control: no supervision at all."""

    name = "self_labels"
    summary = "control: the strong model learns what it answers untrained; no weak label is seen"
    source = "self-training on zero-shot labels; after arXiv 2506.10139"
    control = True
    asks = True
    Parameters = SelfLabelsParameters

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """The strong model itself, untrained."""
        return (prior.asked(context, self.name),)
