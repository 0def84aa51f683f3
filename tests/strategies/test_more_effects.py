"""More constructed cases in which a strategy must help, in the world of `test_effects`, or hold still.

There the class is the sign of an item's first number, the supervisor errs on a fifth of the items, and a mark that the
student sees makes its errors learnable: quickly where the mark is strong, late where it is weak.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.strategies.students import LinearStudent, Recorder, accuracy, supervision
from tests.strategies.test_effects import SUPERVISORS, World
from tests.strategies.test_losses import made
from wtsbench.strategies.adaboost import boosting, vote
from wtsbench.strategies.base import Floats, Labelled, Supervision

WEAK_MARK = (World(0, mark=0.15, size=500), World(1, mark=0.15, size=500))


def score(name: str, given: Supervision, fresh: World, *, features: int = 1 + SUPERVISORS, **parameters: Any) -> float:
    """Accuracy on fresh items after the strategy."""
    student = LinearStudent(features, steps=150)
    made(name, **parameters).run(student, given)
    return accuracy(student, fresh.texts, fresh.truth)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("entropy", {"max_weight": 0.75}),
        ("product", {}),
        ("adaptconf", {}),
        ("window", {}),
        ("self_refine", {"rounds": 3}),
        ("early_stop", {"patience": 1, "checks": 15}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_learned_first_is_kept(name: str, parameters: dict[str, Any]) -> None:
    """Where truth is learned early and error late, a strategy that trusts the student's first steps is more right."""
    world, fresh = WEAK_MARK
    held_out = World(2, mark=0, size=500)
    validation = supervision(held_out.texts, held_out.labels[0])  # errors that no mark gives away
    given = replace(supervision(world.texts, world.labels[0]), validation=validation)
    assert score(name, given, fresh, **parameters) > score("naive", given, fresh) + 0.015


def unsure_where_wrong(world: World) -> Floats:
    """A supervisor whose errors are less sure than the rest."""
    wrong = world.labels[0].argmax(axis=1) != world.truth
    return np.where(wrong[:, None], 0.5 + (world.labels[0] - 0.5) / 4, world.labels[0])


def test_a_filter_leaves_unsure_errors_out() -> None:
    """Where the supervisor is unsure of its errors, the sure items teach better than as many drawn at random."""
    world, fresh = World(0, mark=3, size=500), World(1, mark=3, size=500)
    given = supervision(world.texts, unsure_where_wrong(world))
    filtered = score("confidence_filter", given, fresh, labels="hard")
    at_random = score("random_filter", given, fresh, like={"name": "confidence_filter", "labels": "hard"})
    assert filtered > 0.95
    assert at_random < 0.87


def test_wordings_give_errors_away() -> None:
    """Where errors change with the wording and truth does not, the items answered alike teach better."""
    world, fresh = World(0, mark=0.5, size=500), World(1, mark=0.5, size=500)
    given = replace(supervision(world.texts, world.labels[0]), asked=world.labels[1][None, None])
    assert score("reliability", given, fresh, wordings=2) > score("naive", given, fresh) + 0.05
    assert score("reliability", given, fresh, wordings=2, use="weight") > score("naive", given, fresh) + 0.05


@pytest.mark.parametrize("parameters", [{"k": 30}, {"probe": "logistic"}, {"k": 30, "action": "drop", "drop": 0.2}])
def test_a_probe_sees_what_does_not_fit(parameters: dict[str, Any]) -> None:
    """Errors without pattern in the student's representation are corrected before they are learned by heart."""
    world = World(0, mark=0, size=500)
    given = supervision(world.texts, world.labels[0])
    student = Recorder(1)
    made("probe_relabel", labels="hard", **parameters).run(student, given)
    truth = dict(zip(given.item_ids, world.truth, strict=True))
    taught = dict(zip(student.items.item_ids, student.items.targets.argmax(axis=1), strict=True))
    assert np.mean([truth[item] == label for item, label in taught.items()]) > 0.93
    assert np.mean(given.probabilities[0].argmax(axis=1) == world.truth) < 0.82


def test_a_little_truth_helps() -> None:
    """A budget of truth pulls a student off its supervisor's errors, the more the greater its weight."""
    world, fresh = World(0, mark=3, size=500), World(1, mark=3, size=500)
    more = World(2, mark=3, size=60)
    truth = Labelled(
        item_ids=tuple(f"t{n}" for n in range(60)),
        texts=more.texts,
        targets=np.eye(2)[more.truth],
        weights=np.ones(60),
    )
    given = replace(supervision(world.texts, world.labels[0]), truth=truth)
    assert score("mix", given, fresh, budget=60, truth_weight=30) > score("naive", given, fresh) + 0.05


def test_specialists_are_used_where_they_are_right() -> None:
    """Two specialists, each right on its half and guessing on the other, beat a generalist with learnable errors."""
    world, fresh = World(0, mark=0.3, size=600), World(1, mark=0.3, size=600)
    random = np.random.default_rng(3)
    home = random.random(600) < 0.5
    guess = np.eye(2)[random.integers(2, size=600)] * 0.8 + 0.1
    right = np.eye(2)[world.truth] * 0.8 + 0.1
    specialists = [np.where(where[:, None], right, guess) for where in (home, ~home)]
    given = supervision(world.texts, world.labels[0], *specialists)
    alone = supervision(world.texts, world.labels[0])
    assert score("cosupervise", given, fresh, parts=2) > score("naive", alone, fresh) + 0.03


def stump(points: Floats, truth: np.ndarray, weights: Floats) -> tuple[int, float, int]:
    """The best threshold on one number: column, threshold, class above it."""
    best = (np.inf, (0, 0.0, 1))
    for column in range(points.shape[1]):
        for threshold in np.quantile(points[:, column], np.linspace(0.05, 0.95, 19)):
            for above in (0, 1):
                said = np.where(points[:, column] > threshold, above, 1 - above)
                error = float(weights[said != truth].sum())
                if error < best[0]:
                    best = (error, (column, float(threshold), above))
    return best[1]


def test_boosted_supervisors_outvote_a_single_one() -> None:
    """Supervisors that see one number each, boosted, label a sum of numbers better than the best one alone."""
    random = np.random.default_rng(0)
    points = random.normal(size=(1200, 3))
    truth = (points.sum(axis=1) > 0).astype(int)
    train, rest = slice(0, 600), slice(600, 1200)
    said: list[Floats] = []
    for _ in range(7):
        weights = boosting(np.array(said).reshape(len(said), 1200, 2)[:, train], truth[train]).weights
        column, threshold, above = stump(points[train], truth[train], weights)
        said.append(np.eye(2)[np.where(points[:, column] > threshold, above, 1 - above)])
    labels = vote(np.array(said), boosting(np.array(said)[:, train], truth[train]).votes)
    voted, alone = ((row.argmax(axis=1) == truth)[rest].mean() for row in (labels, said[0]))
    assert voted > alone + 0.1
