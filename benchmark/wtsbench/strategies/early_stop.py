"""`early_stop`: stop when the loss on weakly labelled validation items no longer falls.

    stop when mean CE(f(x), w(x)) over `validation` has had no new best for `patience` checks;
    keep the weights of the best check

w are the weak labels of `validation`, never its ground truth: a student that imitates its supervisor's errors fits
those on its training items sooner than others. The learning rate follows the schedule of the whole training.
`patience: null` never checks and is `naive`.

Source: overfitting to weak errors, and early stopping against it, in Burns et al. 2023 (arXiv 2312.09390), section
5.1.1; they stop by ground truth, to measure the loss, which is not allowed here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wtsbench.strategies import base


class EarlyStopParameters(base.Parameters):
    """Parameters of `early_stop`."""

    patience: Annotated[int, Field(ge=1, le=1000)] | None = 3
    """Checks without a new best after which training stops; null is `naive`."""
    checks: Annotated[int, Field(ge=1, le=1000)] = 12
    """Checks in the whole training, evenly spaced: with 3 epochs, 12 are four an epoch."""


class EarlyStop(base.Strategy):
    """Early stopping by the weak labels of validation."""

    name = "early_stop"
    summary = "stop when the fit to weak labels of validation items gets no better"
    source = "Burns et al. 2023, arXiv 2312.09390, section 5.1.1"
    Parameters = EarlyStopParameters

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """One fit with early stopping.

        Raises:
            ValueError: there are no weak labels of validation.
        """
        items = self.prepare(supervision)
        if self.parameters.patience is None:
            student.fit(items, self)
            return
        if supervision.validation is None:
            raise ValueError("strategy early_stop: there are no weak labels of validation to stop by")
        monitor = base.Monitor(
            held_out=self.prepare(supervision.validation),
            checks=self.parameters.checks,
            patience=self.parameters.patience,
        )
        student.fit_monitored(items, self, monitor)
