"""What weak supervisors with a recipe do, and controls: the functions behind the names in `strategies.recipes`.

Shapes: P parents, N items, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtsbench.contract.measurements import Measurements
from wtsbench.spec.budget import budget
from wtsbench.spec.control_tokens import marked
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.trial import Split
from wtsbench.strategies import recipes
from wtsbench.strategies.adaboost import Boosting, boosting, vote
from wtsbench.strategies.base import Floats, Labelled
from wtsbench.strategies.naive import Naive
from wtsbench.trial import zero_shot
from wtsbench.trial.attempt import Trial
from wtsbench.trial.device import derive
from wtsbench.trial.folder import Items, Progress, TrialInputError
from wtsbench.trial.labels import ground_truth
from wtsbench.trial.student import TrialModel

Further = tuple[str, tuple[str, ...], Callable[[], Floats]]
"""Name of a split beside the usual ones, its item ids, and what gives its predictions [N, C]."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a trial predicts with when it is done learning."""

    predict: Callable[[Split, Items], Floats]
    """Probabilities [N, C] of the items of a split."""
    known: np.ndarray[Any, Any] | None
    """[N] labels of validation that the role may see, ground truth or weak."""
    seconds: Mapping[str, float]
    """Filled until the end of the trial."""
    model: TrialModel | None = None
    """What was trained, where something was."""
    further: Sequence[Further] = ()
    """Predictions beside the usual splits."""


def make(trial: Trial, progress: Progress) -> Made:
    """Do what the trial's recipe says.

    Raises:
        TrialInputError: the recipe is not known, or its parents do not fit.
        UnusableModelError: the model cannot do it.
    """
    assert trial.spec.recipe is not None, "a trial without a recipe is plainly finetuned"
    try:
        recipe = recipes.parse(trial.spec.recipe)
    except ValueError as error:
        raise TrialInputError(str(error)) from error
    if isinstance(recipe, recipes.Combined):
        return _combined(trial)
    if isinstance(recipe, ZeroShot):
        return _zero_shot(trial, recipe)
    model = TrialModel(trial.folder.model, trial.spec, len(trial.job.labels), trial.device, progress)
    further: Sequence[Further] = ()
    match recipe:
        case recipes.Asked():
            items = _truth(trial, Split.WEAK_TRAIN)
            further = _wordings(trial, model, recipe)
        case recipes.Part():
            items = _part(_truth(trial, Split.WEAK_TRAIN), model, recipe)
        case recipes.Boosted():
            items = replace(_truth(trial, Split.WEAK_TRAIN), weights=_boosting(trial).weights)
            further = _of_weak_train(trial, model.predict)
        case recipes.Reserved():
            items, further = _reserved(trial, recipe), _of_weak_train(trial, model.predict)
        case recipes.RandomLabels():
            items = _random_labels(trial)
    model.fit(items, Naive(Naive.Parameters()))
    return made_by(model, trial.items[Split.VALIDATION].labels, further)


def made_by(model: TrialModel, known: np.ndarray[Any, Any] | None, further: Sequence[Further] = ()) -> Made:
    """A trained model that predicts."""
    return Made(
        predict=lambda _, items: model.predict(items.texts),
        known=known,
        seconds=model.seconds,
        model=model,
        further=further,
    )


def _wordings(trial: Trial, model: TrialModel, recipe: recipes.Asked) -> list[Further]:
    found: list[Further] = []
    for number, frame in enumerate(recipe.frames, start=1):
        for split in (Split.TRANSFER, Split.VALIDATION):
            items = trial.items[split]
            texts = tuple(marked(frame).replace("{text}", text) for text in items.texts)
            found.append((f"{split.value}~{number}", items.item_ids, partial(model.predict, texts)))
    return found


def _part(items: Labelled, model: TrialModel, recipe: recipes.Part) -> Labelled:
    order = np.arange(len(items.item_ids))
    if recipe.by == "content":
        order = np.argsort(first_component(model.activations(items.texts)), kind="stable")
        rows = np.array_split(order, recipe.parts)[recipe.part]
    else:  # items come in order of id, which is a hash of their content
        rows = order[recipe.part :: recipe.parts]
    if not len(rows):
        raise TrialInputError(f"part {recipe.part + 1} of {recipe.parts} of weak_train holds no item")
    return items.subset(np.sort(rows))


def first_component(activations: Floats) -> Floats:
    """[N] coordinates of activations [N, H] along their first principal component, the largest in size positive."""
    centred = activations - activations.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    along = np.asarray(centred @ directions[0])
    return along if along[np.abs(along).argmax()] >= 0 else -along


def _of_weak_train(trial: Trial, predict: Callable[[Sequence[str]], Floats]) -> list[Further]:
    train = trial.items[Split.WEAK_TRAIN]
    return [(Split.WEAK_TRAIN.value, train.item_ids, partial(predict, train.texts))]


def _reserved(trial: Trial, recipe: recipes.Reserved) -> Labelled:
    known = trial.items[Split.WEAK_TRAIN]
    assert known.labels is not None, "weak supervisors see the labels of weak_train"
    kept_out = np.zeros(len(known.item_ids), dtype=bool)
    kept_out[budget(known.item_ids, known.labels.tolist(), recipe.items)] = True
    if kept_out.all():
        raise TrialInputError(
            f"{recipe.items} items of weak_train are to be kept out of training, and there are {len(kept_out)}"
        )
    return _truth(trial, Split.WEAK_TRAIN).subset(~kept_out)


def _boosting(trial: Trial) -> Boosting:
    """Where AdaBoost stands after the parents' rounds."""
    truth = trial.items[Split.WEAK_TRAIN].labels
    assert truth is not None, "weak supervisors see the labels of weak_train"
    classes = len(trial.job.labels)
    if not trial.spec.parents:
        return boosting(np.empty((0, len(truth), classes)), truth)
    return boosting(_of_parents(trial, Split.WEAK_TRAIN, trial.items[Split.WEAK_TRAIN]), truth)


def _combined(trial: Trial) -> Made:
    if not trial.spec.parents:
        raise TrialInputError("the vote of no rounds is asked for")
    votes = _boosting(trial).votes
    trial.measured.append(Measurements(votes=[round(float(alpha), 6) for alpha in votes]))
    return Made(
        predict=lambda split, items: vote(_of_parents(trial, split, items), votes),
        known=trial.items[Split.VALIDATION].labels,
        seconds={},
    )


def _of_parents(trial: Trial, split: Split, items: Items) -> Floats:
    """[P, N, C] what the parents predict."""
    return trial.folder.supervision(items, split, trial.spec.parents, len(trial.job.labels)).probabilities


def _random_labels(trial: Trial) -> Labelled:
    """The truth of transfer, wrong at random on exactly as many items as the parent is."""
    items, classes = trial.items[Split.TRANSFER], len(trial.job.labels)
    truth = ground_truth(items, Split.TRANSFER, classes)
    assert items.labels is not None, "their one-hot form was just made"
    said = _of_parents(trial, Split.TRANSFER, items).mean(axis=0).argmax(axis=1)
    errors = int((said != items.labels).sum())
    trial.measured.append(Measurements(wrong_labels=errors))
    random = np.random.default_rng(derive(trial.spec.seed, "random_labels"))
    return replace(truth, targets=np.eye(classes)[flipped(items.labels, errors, classes, random)])


def flipped(labels: NDArray[np.int64], errors: int, classes: int, random: np.random.Generator) -> NDArray[np.int64]:
    """[N] labels of which so many, drawn at random, are another class, each other class as likely."""
    found = labels.copy()
    rows = random.choice(len(labels), size=errors, replace=False)
    found[rows] = (labels[rows] + random.integers(1, classes, size=errors)) % classes
    return found


def _zero_shot(trial: Trial, asked: ZeroShot) -> Made:
    missing = [label for label in trial.job.labels if label not in asked.answers]
    if missing:
        raise TrialInputError(f"zero_shot: no answer stands for {', '.join(missing)}")
    asker = zero_shot.Asker(
        trial.folder.model,
        prompt=asked.prompt,
        answers=tuple(asked.answers[label] for label in trial.job.labels),
        training=trial.spec.training,
        device=trial.device,
    )
    trial.measured.append(Measurements(parameters=asker.parameters, max_length=asker.tokenizer.max_length))
    further = _of_weak_train(trial, asker.predict) if isinstance(asked, recipes.Prior) else ()
    return Made(predict=lambda _, items: asker.predict(items.texts), known=None, seconds=asker.seconds, further=further)


def _truth(trial: Trial, split: Split) -> Labelled:
    return ground_truth(trial.items[split], split, len(trial.job.labels))
