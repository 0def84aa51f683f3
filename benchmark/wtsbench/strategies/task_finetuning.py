"""`task_finetuning`: the strong model first reads the task's texts as a language model, without any label.

    minimise - mean over tokens t of log p(x_t | x_<t) over the transfer texts, `epochs` times; then CE(f, w)

The second part is `naive`, starting from the body of the first part and a head of the trial's seed: the task becomes
salient to the model before it sees weak labels. It is for causal language models only; others fail with a clear
message. The learning rate, schedule and batch size are those of the trial. `epochs: 0` is `naive`.

Source: generative supervision on unlabelled task data in Burns et al. 2023 (arXiv 2312.09390), section 5.2.2.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wtsbench.strategies import base


class TaskFinetuningParameters(base.Parameters):
    """Parameters of `task_finetuning`."""

    epochs: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Passes over the unlabelled texts; 0 is `naive`."""


class TaskFinetuning(base.Strategy):
    """Generative finetuning on the task's texts before supervision."""

    name = "task_finetuning"
    summary = "the strong model first reads the task's texts as a language model"
    source = "Burns et al. 2023, arXiv 2312.09390, section 5.2.2"
    Parameters = TaskFinetuningParameters

    @property
    def language(self) -> bool:  # type: ignore[override]  # depends on the parameters
        """True unless `epochs` is 0."""
        return bool(self.parameters.epochs > 0)

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """Language modelling, then one fit."""
        if self.parameters.epochs:
            student.fit_language(supervision.texts, self.parameters.epochs)
        student.fit(self.prepare(supervision), self)
