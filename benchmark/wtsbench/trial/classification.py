"""A trial of a classification task: to be read from top to bottom.

Weak supervisors and ceilings take the same path as students: one-hot targets and plain cross-entropy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from wtsbench.spec.trial import TRAIN_SPLIT, Role, Split
from wtsbench.strategies import registry
from wtsbench.strategies.base import Floats, Labelled, Supervision
from wtsbench.strategies.naive import Naive
from wtsbench.trial import records
from wtsbench.trial.attempt import Trial
from wtsbench.trial.folder import Items, Progress, TrialInputError
from wtsbench.trial.models import weights_sha256
from wtsbench.trial.student import TrialModel


def run(trial: Trial) -> None:
    """Load, train, predict, and write the records."""
    spec, classes = trial.spec, len(trial.job.labels)
    train_split = TRAIN_SPLIT[spec.role]
    progress = Progress(trial.folder.scratch / "progress.json")
    model = TrialModel(trial.folder.model, spec, classes, trial.device, progress)
    trial.measured.update(
        parameters=model.parameters,
        trained_parameters=model.trained_parameters,
        weights_sha256=weights_sha256(trial.folder.model),
        max_length=model.tokenizer.max_length,
    )
    if spec.role is Role.STUDENT:
        assert spec.strategy is not None, "a student has a strategy"
        supervision = supervision_of(trial, classes)
        assert supervision.validation is not None, "a student's parents predict validation"
        known = supervision.validation.probabilities.mean(axis=0).argmax(axis=1)
        registry.resolve(spec.strategy).run(model, supervision)
    else:
        model.fit(ground_truth(trial.items[train_split], train_split, classes), Naive(Naive.Parameters()))
        known = trial.items[Split.VALIDATION].labels
    _note_training(trial.measured, model)

    for split in trial.predicted:
        values = model.predict(trial.items[split].texts)
        records.write_predictions(trial.outbox, trial.job, split.value, trial.items[split].item_ids, values)
        if split is Split.VALIDATION:
            trial.measured["validation_accuracy"] = _agreement(values, known)
    records.write_curve(trial.outbox, trial.job, train_split, model.curve)

    if trial.job.keep_checkpoint:
        model.save(trial.folder.scratch / "checkpoint")
    trial.measured["seconds"] = {name: round(value, 4) for name, value in model.seconds.items()}


def supervision_of(trial: Trial, classes: int) -> Supervision:
    """What a student learns from: the weak labels of `transfer`, with those of `validation` and its budget of truth."""
    spec, items = trial.spec, trial.items

    def read(split: Split) -> Supervision:
        return trial.folder.supervision(items[split], split, spec.parents, classes, seed=spec.seed)

    budget = items.get(Split.WEAK_TRAIN)
    truth = None if budget is None else ground_truth(budget, Split.WEAK_TRAIN, classes)
    return replace(read(Split.TRANSFER), validation=read(Split.VALIDATION), truth=truth)


def ground_truth(items: Items, split: Split, classes: int) -> Labelled:
    """One-hot targets of a split whose labels the role sees."""
    if items.labels is None:
        raise TrialInputError(f"the labels of split {split.value} are missing")
    if items.labels.min() < 0 or items.labels.max() >= classes:
        raise TrialInputError(f"a label of split {split.value} is none of the {classes} classes")
    size = len(items.item_ids)
    return Labelled(
        item_ids=items.item_ids, texts=items.texts, targets=np.eye(classes)[items.labels], weights=np.ones(size)
    )


def _agreement(values: Floats, labels: np.ndarray[Any, Any] | None) -> float | None:
    """Share of items whose most probable class is the label the role may see."""
    return None if labels is None else float((values.argmax(axis=1) == labels).mean())


def _note_training(measured: dict[str, Any], model: TrialModel) -> None:
    curve = model.curve
    measured.update(
        steps=curve.done,
        train_items=model.trained_items,
        train_tokens=curve.tokens,
        padding_share=round(1 - curve.tokens / curve.padded, 6) if curve.padded else None,
        initial_loss=curve.losses[0] if curve.losses else None,
        final_loss=curve.losses[-1] if curve.losses else None,
    )
