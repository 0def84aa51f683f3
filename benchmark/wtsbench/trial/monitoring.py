"""Early stopping: watches items that are not trained on, keeps the best weights, says when it is enough."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from wtsbench.strategies.base import Monitor


class Watch:
    """What a fit asks after every step."""

    def __init__(self, model: torch.nn.Module, loss: Callable[[], float], monitor: Monitor) -> None:
        self._model = model
        self._loss = loss
        self._monitor = monitor
        self._best = math.inf
        self._kept: dict[str, torch.Tensor] = {}
        self._looks = 0
        self._since_best = 0

    def enough(self, done: int, steps: int) -> bool:
        """Look where one is due; whether `patience` looks in a row were no better than the best before."""
        due = done * self._monitor.checks // steps
        if due <= self._looks:
            return False
        self._looks = due
        loss = self._loss()
        if loss < self._best:  # a NaN never is
            self._best, self._since_best = loss, 0
            trained = {name for name, parameter in self._model.named_parameters() if parameter.requires_grad}
            state = self._model.state_dict()
            self._kept = {name: state[name].detach().to("cpu", copy=True) for name in trained}
        else:
            self._since_best += 1
        return self._since_best >= self._monitor.patience

    def restore(self) -> None:
        """Back to the weights of the best look."""
        self._model.load_state_dict(self._kept, strict=False)
