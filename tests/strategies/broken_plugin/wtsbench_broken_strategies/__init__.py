"""Strategies that each break one promise."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ConfigDict

from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role
from wtsbench.strategies import base
from wtsbench.strategies.generative import GenerativeStrategy

if TYPE_CHECKING:
    import torch


class Unsteady(base.Strategy):
    """Draws weights from the global generator."""

    name = "unsteady"
    summary = source = "broken"

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """Other weights each time."""
        items = super().prepare(supervision)
        return replace(items, weights=np.random.rand(len(items.weights)))


class Misshapen(base.Strategy):
    """Gives one weight too few."""

    name = "misshapen"
    summary = source = "broken"

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """Weights that do not fit."""
        items = super().prepare(supervision)
        return replace(items, weights=items.weights[1:])


class Leaning(base.Strategy):
    """Weighs the first item of a batch more."""

    name = "leaning"
    summary = source = "broken"

    def loss(self, step: base.Step) -> torch.Tensor:
        """Depends on the order within the batch."""
        import torch

        falling = torch.linspace(2, 0, len(step.weights))
        return base.cross_entropy(step.logits, step.targets, step.weights * falling)


class Forgetful(base.Strategy):
    """Trains on something of its process."""

    name = "forgetful"
    summary = source = "broken"

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """Weights that follow from the process id."""
        items = self.prepare(supervision)
        student.fit(replace(items, weights=items.weights * (1 + os.getpid() % 97)), self)


class Chained(GenerativeStrategy):
    """Learns from a student's texts."""

    name = "chained"
    summary = source = "broken"

    def supervisors(self, context: base.PlanningContext) -> tuple[base.Supervisor, ...]:
        """A student of the weak model, which writes nothing for others."""
        naive = StrategyCall(name="naive")
        weak = context.weak_supervisor()
        return (replace(weak, role=Role.STUDENT, model=context.strong, strategy=naive, supervisors=(weak,)),)


class SloppyParameters(base.Parameters):
    """Takes any parameter, and does not describe its own."""

    model_config = ConfigDict(extra="ignore")

    anything: Any = None


class Sloppy(base.Strategy):
    """Has parameters that nobody checks."""

    name = "sloppy"
    summary = source = "broken"
    Parameters = SloppyParameters
