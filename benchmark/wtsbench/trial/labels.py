"""What a trial of a classification task learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wtsbench.spec.trial import Split
from wtsbench.strategies.base import Labelled, Supervision
from wtsbench.trial.attempt import Trial
from wtsbench.trial.folder import Items, TrialInputError


def supervision_of(trial: Trial, classes: int) -> Supervision:
    """What a student learns from: the weak labels of `transfer`, with those of `validation` and its budget of truth."""
    spec, items = trial.spec, trial.items

    def read(split: Split) -> Supervision:
        return trial.folder.supervision(items[split], split, spec.parents, classes, seed=spec.seed)

    budget = items.get(Split.WEAK_TRAIN)
    truth = None if budget is None else ground_truth(budget, Split.WEAK_TRAIN, classes)
    said = None if budget is None else trial.folder.said_of_truth(budget, spec.parents, classes)
    return replace(read(Split.TRANSFER), validation=read(Split.VALIDATION), truth=truth, said_of_truth=said)


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
