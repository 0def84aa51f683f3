"""A trial of a classification task: to be read from top to bottom.

Weak supervisors and ceilings take the same path as students: one-hot targets and plain cross-entropy. Weak supervisors
with a recipe, and controls, are in `supervisors.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wtsbench.spec.trial import TRAIN_SPLIT, Role, Split
from wtsbench.strategies import registry
from wtsbench.strategies.base import Floats
from wtsbench.strategies.naive import Naive
from wtsbench.trial import records, supervisors
from wtsbench.trial.attempt import Trial
from wtsbench.trial.folder import Progress
from wtsbench.trial.labels import ground_truth, supervision_of
from wtsbench.trial.student import TrialModel
from wtsbench.trial.supervisors import Made


def run(trial: Trial) -> None:
    """Load, train, predict, and write the records."""
    progress = Progress(trial.folder.progress)
    made = taught(trial, progress) if trial.spec.recipe is None else supervisors.make(trial, progress)
    model = made.model
    if model is not None:
        trial.measured.update(
            parameters=model.parameters,
            trained_parameters=model.trained_parameters,
            max_length=model.tokenizer.max_length,
            **model.curve.measured(model.trained_items),
        )

    for split in trial.predicted:
        values = made.predict(split, trial.items[split])
        records.write_predictions(trial.outbox, trial.job, split.value, trial.items[split].item_ids, values)
        if split is Split.VALIDATION:
            trial.measured["validation_accuracy"] = _agreement(values, made.known)
    for name, item_ids, further in made.further:
        records.write_predictions(trial.outbox, trial.job, name, item_ids, further())

    if model is not None:
        records.write_curve(trial.outbox, trial.job, TRAIN_SPLIT[trial.spec.role], model.curve)
    trial.measured["seconds"] = {name: round(value, 4) for name, value in made.seconds.items()}


def taught(trial: Trial, progress: Progress) -> Made:
    """A student after its strategy, or a model after plain finetuning on ground truth."""
    spec, classes = trial.spec, len(trial.job.labels)
    model = TrialModel(trial.folder.model, spec, classes, trial.device, progress)
    if spec.role is Role.STUDENT:
        assert spec.strategy is not None, "a student has a strategy"
        supervision = supervision_of(trial, classes)
        assert supervision.validation is not None, "a student's parents predict validation"
        known: np.ndarray[Any, Any] | None = supervision.validation.probabilities.mean(axis=0).argmax(axis=1)
        registry.resolve(spec.strategy).run(model, supervision)
    else:
        train_split = TRAIN_SPLIT[spec.role]
        model.fit(ground_truth(trial.items[train_split], train_split, classes), Naive(Naive.Parameters()))
        known = trial.items[Split.VALIDATION].labels
    return supervisors.made_by(model, known)


def _agreement(values: Floats, labels: np.ndarray[Any, Any] | None) -> float | None:
    """Share of items whose most probable class is the label the role may see."""
    return None if labels is None else float((values.argmax(axis=1) == labels).mean())
