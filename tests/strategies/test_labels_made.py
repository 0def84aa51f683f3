"""Labels, weights and supervisors that strategies make, against numpy code that shares nothing with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.students import Recorder, supervision, texts_of
from tests.strategies.test_formulas import SEEDS
from tests.strategies.test_losses import made
from wtsbench.errors import SpecError
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.trial import Role
from wtsbench.strategies import recipes
from wtsbench.strategies.adaboost import boosting, vote
from wtsbench.strategies.base import Monitor, PlanningContext, Supervision, Supervisor
from wtsbench.strategies.cosupervise import assigned
from wtsbench.strategies.probe_relabel import neighbour_means, softmax_regression
from wtsbench.strategies.reliability import GENERAL_FRAMES
from wtsbench.trial.monitoring import Watch

CONTEXT = PlanningContext(weak="small", strong="large", ladder=(), seed=4)
PLAIN = Supervisor(role=Role.WEAK, model="small", seed=4)


@settings(max_examples=25)
@given(seed=SEEDS, rounds=st.integers(0, 4), classes=st.integers(2, 4))
def test_boosting(seed: int, rounds: int, classes: int) -> None:
    """Votes and weights are those of the algorithm, item by item."""
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=30)
    said = random.dirichlet(np.ones(classes), size=(rounds, 30)) + 0.6 * np.eye(classes)[truth]
    weights, votes = [1 / 30] * 30, []
    for made_by in said:
        hits = [int(np.argmax(row)) == label for row, label in zip(made_by, truth, strict=True)]
        error = min(max(sum(w for w, hit in zip(weights, hits, strict=True) if not hit), 1 / 60), 59 / 60)
        alpha = 0.5 * (np.log((1 - error) / error) + np.log(classes - 1))
        votes.append(max(alpha, 0))
        if alpha > 0:
            raised = [w * np.exp(-alpha if hit else alpha) for w, hit in zip(weights, hits, strict=True)]
            weights = [w / sum(raised) for w in raised]
    found = boosting(said, truth)
    assert found.votes == pytest.approx(votes)
    assert found.weights == pytest.approx(np.array(weights) * 30)


def test_a_round_after_boosting_finds_the_last_one_useless() -> None:
    """With the new weights, the round just made is right on half of the weight: there is something left to learn."""
    truth = np.array([0] * 10)
    said = np.tile([0.9, 0.1], (1, 10, 1))
    said[0, :3] = [0.1, 0.9]
    weights = boosting(said, truth).weights
    assert weights[:3].sum() == pytest.approx(weights[3:].sum())


def test_a_round_no_better_than_chance_has_no_vote() -> None:
    """It changes no weight; where all are so, all vote alike."""
    truth = np.array([0, 0, 0, 1])
    wrong = np.eye(2)[1 - truth]
    found = boosting(np.stack([wrong, wrong]), truth)
    assert found.votes.tolist() == [0, 0]
    assert found.weights.tolist() == [1, 1, 1, 1]
    assert vote(np.stack([wrong, np.eye(2)[truth]]), found.votes) == pytest.approx(np.full((4, 2), 0.5))
    assert vote(np.stack([wrong, np.eye(2)[truth]]), np.array([0.0, 2.0])).tolist() == np.eye(2)[truth].tolist()


def test_the_rounds_of_boosting() -> None:
    """The student has one supervisor, the vote; each round builds on all before it."""
    assert made("adaboost", rounds=1).supervisors(CONTEXT) == (PLAIN,)
    (last,) = made("adaboost", rounds=3).supervisors(CONTEXT)
    assert last.recipe is not None
    assert last.recipe.name == "combined"
    assert [len(round_.supervisors) for round_ in last.supervisors] == [0, 1, 2]
    assert {round_.recipe.name for round_ in last.supervisors if round_.recipe} == {"boosted"}
    assert last.supervisors[2].supervisors == last.supervisors[:2]


@settings(max_examples=20)
@given(seed=SEEDS, size=st.integers(1, 30), k=st.integers(1, 12))
def test_neighbours(seed: int, size: int, k: int) -> None:
    """The label of an item is the mean over its k nearest, of which it is one."""
    random = np.random.default_rng(seed)
    points, labels = random.normal(size=(size, 5)), random.dirichlet((1, 1, 1), size=size)
    found = neighbour_means(points, labels, k)
    for row in range(size):
        order = sorted(range(size), key=lambda other: (other != row, np.linalg.norm(points[row] - points[other])))
        assert found[row] == pytest.approx(labels[order[:k]].mean(axis=0))


def test_softmax_regression_is_at_its_optimum() -> None:
    """No column's gradient is left: inputs are uncorrelated with the residual but for the penalty's pull."""
    random = np.random.default_rng(1)
    points = random.normal(size=(200, 4)) * [1, 5, 0.2, 0]
    labels = random.dirichlet((1, 1, 1), size=200)
    found = softmax_regression(points, labels, 1e-9)
    assert np.abs((found - labels).mean(axis=0)).max() < 1e-6
    standard = (points - points.mean(axis=0))[:, :3] / points.std(axis=0)[:3]
    assert np.abs(standard.T @ (found - labels) / 200).max() < 1e-5
    flat = softmax_regression(points, labels, 1e3)
    assert np.abs(flat - labels.mean(axis=0)).max() < 1e-3


def test_relabelled_and_dropped_items() -> None:
    """Relabelling learns the probe's labels; dropping leaves out those farthest from them, and no others."""
    points = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    weak = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9], [0.2, 0.8]])
    student = Recorder(1)
    given_labels = supervision(texts_of(points), weak)
    made("probe_relabel", k=3, labels="hard").run(student, given_labels)
    assert student.items.targets.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1]
    strategy = made("probe_relabel", k=3, action="drop", drop=0.2)
    strategy.run(student, given_labels)
    assert student.items.item_ids == ("i0", "i1", "i3", "i4", "i5")
    assert strategy.kept(given_labels) == 5
    assert strategy.filters
    assert not made("probe_relabel").filters
    hundred = supervision(texts_of(np.zeros((100, 1))), np.full((100, 2), 0.5))
    assert made("probe_relabel", action="drop", drop=0.29).kept(hundred) == 71  # .29 * 100 is a little less than 29


ASKED = np.array(  # answers of items in three wordings: 000, 011, 111, 101
    [
        [[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.45, 0.55]],
        [[0.8, 0.2], [0.3, 0.7], [0.2, 0.8], [0.9, 0.1]],
        [[0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.4, 0.6]],
    ]
)


def asked() -> Supervision:
    """Plain predictions and two further wordings of one supervisor."""
    return replace(supervision(tuple("abcd"), ASKED[0]), asked=ASKED[None, 1:])


def test_reliable_items() -> None:
    """Items answered alike in every wording are kept, with the mean label, or the one given most often."""
    kept = made("reliability", wordings=3).prepare(asked())
    assert kept.item_ids == ("i0", "i2")
    assert kept.targets == pytest.approx(ASKED.mean(axis=0)[[0, 2]])
    hard = made("reliability", wordings=3, labels="hard", use="weight").prepare(asked())
    assert hard.targets.argmax(axis=1).tolist() == [0, 1, 1, 1]
    assert ASKED.mean(axis=0)[3].argmax() == 0  # so the most frequent answer is not that of the mean
    weights = made("reliability", wordings=3, use="weight", temperature=0.5).prepare(asked()).weights
    raised = np.exp(np.array([1, 2 / 3, 1, 2 / 3]) / 0.5)
    assert weights == pytest.approx(raised / raised.sum() * 4)


def test_wordings_are_found() -> None:
    """The task's own come first, then general ones; those asked for in the strategy stand alone."""
    context = replace(CONTEXT, frames=("Is this safe? {text}", "{text}"))
    (found,) = made("reliability", wordings=4).supervisors(context)
    frames = ("Is this safe? {text}", *GENERAL_FRAMES[:2])
    assert found == replace(PLAIN, recipe=recipes.call(recipes.Asked(frames=frames)))
    assert made("reliability", wordings=1).supervisors(context) == (PLAIN,)
    with pytest.raises(SpecError, match="2 further wordings are asked for, 1 are known"):
        made("reliability", wordings=3, frames=["> {text}"]).supervisors(context)
    with pytest.raises(SpecError, match="frames"):
        made("reliability", frames=["no place for the item"])


def test_reliability_needs_the_wordings() -> None:
    """A supervisor that was asked once cannot be judged."""
    with pytest.raises(ValueError, match="not asked in further wordings"):
        made("reliability").prepare(supervision(tuple("abcd"), ASKED[0]))


def test_the_supervisor_that_agrees_is_assigned() -> None:
    """Each item gets the label that is nearest to the student's, the generalist's where all are alike."""
    weak = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [0.6, 0.4]]])
    labels, distance = assigned(weak, np.array([[0.3, 0.7], [0.5, 0.5]]))
    assert labels.tolist() == [[0.2, 0.8], [0.6, 0.4]]
    assert distance == pytest.approx([-(0.2 * np.log(0.3) + 0.8 * np.log(0.7)), np.log(2)])


def test_specialists() -> None:
    """The generalist is the plain weak model; a specialist for each part."""
    found = made("cosupervise", parts=2, by="hash").supervisors(CONTEXT)
    assert found[0] == PLAIN
    assert [one.recipe and one.recipe.parameters for one in found[1:]] == [
        {"part": 0, "parts": 2, "by": "hash"},
        {"part": 1, "parts": 2, "by": "hash"},
    ]
    assert made("cosupervise", parts=1).supervisors(CONTEXT) == (PLAIN,)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_a_recipe_comes_back_from_its_call(name: str) -> None:
    """What a trial's spec holds gives the same recipe again; an unknown name is refused."""
    examples: dict[str, recipes.Recipe] = {
        "asked": recipes.Asked(frames=("a {text}",)),
        "part": recipes.Part(part=0, parts=2, by="hash"),
        "boosted": recipes.Boosted(),
        "combined": recipes.Combined(),
        "reserved": recipes.Reserved(items=3),
        "prior": recipes.Prior(answers={"a": "b", "c": "d"}),
        "zero_shot": ZeroShot(answers={"a": "b", "c": "d"}),
        "random_labels": recipes.RandomLabels(),
    }
    assert recipes.parse(recipes.call(examples[name])) == examples[name]
    assert recipes.call(examples[name]).name == name


@pytest.mark.parametrize(
    ("losses", "patience", "stopped", "best"), [([3, 2, 1], 9, 12, 12), ([1, 2, 3], 1, 8, 4), ([3, 1, 2], 2, 12, 8)]
)
def test_a_watch_keeps_the_best(losses: list[float], patience: int, stopped: int, best: int) -> None:
    """It looks at even distances, says when it is enough, and puts the weights of the best look back."""
    model = torch.nn.Linear(1, 1)
    given_losses = iter(losses)
    items = supervision(("x",), np.array([[1.0, 0.0]]))
    held_out = made("naive").prepare(items)
    watch = Watch(model, lambda: next(given_losses), Monitor(held_out=held_out, checks=3, patience=patience))
    done = 0
    for done in range(1, 13):
        with torch.no_grad():
            model.weight.fill_(done)
        if watch.enough(done, 12):
            break
    watch.restore()
    assert done == stopped
    assert model.weight.item() == best
