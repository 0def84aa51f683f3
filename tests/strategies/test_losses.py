"""The losses and choices of items of each strategy against numpy code that shares nothing with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.students import LinearStudent, supervision
from tests.strategies.test_formulas import SEEDS, batch, numpy_loss, numpy_softmax, step
from wtsbench.errors import SpecError
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.strategies import registry
from wtsbench.strategies.base import Floats, Labelled, Strategy, Supervision
from wtsbench.strategies.filtering import NothingKept


def made(name: str, **parameters: object) -> Strategy:
    """A strategy by name."""
    return registry.resolve(StrategyCall(name=name, parameters=parameters))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 20), classes=st.integers(2, 4), progress=st.floats(0, 0.999))
def test_entropy(seed: int, size: int, classes: int, progress: float) -> None:
    """The weak labels give way to the student's own distribution, linearly over the ramp."""
    logits, targets, weights = batch(seed, size, classes)
    c = 0.6 * min(1, progress / 0.25)
    expected = numpy_loss(logits, (1 - c) * targets + c * numpy_softmax(logits), weights)
    found = made("entropy", max_weight=0.6, ramp=0.25).loss(step(logits, targets, weights, progress))
    assert found.item() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 20), classes=st.integers(2, 4))
def test_product(seed: int, size: int, classes: int) -> None:
    """The target is f^beta w^alpha, normalised."""
    logits, targets, weights = batch(seed, size, classes)
    product = numpy_softmax(logits) ** 0.7 * targets**1.5
    expected = numpy_loss(logits, product / product.sum(axis=1, keepdims=True), weights)
    found = made("product", alpha=1.5, beta=0.7).loss(step(logits, targets, weights, 0.5))
    assert found.item() == pytest.approx(expected, rel=1e-7)


def test_a_product_never_vanishes() -> None:
    """Student and supervisor that exclude each other's class still give a target, and a finite gradient."""
    logits, targets, weights = np.array([[900.0, -900.0]]), np.array([[0.0, 1.0]]), np.ones(1)
    given_step = step(logits, targets, weights, 0.5)
    made("product").loss(given_step).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert given_step.logits.grad is not None
    assert given_step.logits.grad.numpy().tolist() == [[1.0, -1.0]]


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 20), classes=st.integers(2, 4), own=st.sampled_from(["hard", "soft"]))
def test_adaptconf(seed: int, size: int, classes: int, own: str) -> None:
    """Each item's weight between own and weak label is the softmax of the two losses over the temperature."""
    logits, targets, weights = batch(seed, size, classes)
    f = numpy_softmax(logits)
    labels = f if own == "soft" else np.eye(classes)[f.argmax(axis=1)]
    to_own, to_weak = (np.exp(-(q * np.log(f)).sum(axis=1) / 0.3) for q in (labels, targets))
    a = (to_own / (to_own + to_weak))[:, None] * 0.8
    expected = numpy_loss(logits, (1 - a) * targets + a * labels, weights)
    strategy = made("adaptconf", temperature=0.3, own=own, max_weight=0.8)
    assert strategy.loss(step(logits, targets, weights, 0.1)).item() == pytest.approx(expected, rel=1e-7)


def test_adaptconf_of_a_large_temperature_weighs_all_alike() -> None:
    """As the temperature grows, every item is half weak and half own label."""
    logits, targets, weights = batch(5, 12, 2)
    half = 0.5 * targets + 0.5 * numpy_softmax(logits)
    found = made("adaptconf", temperature=1e9, own="soft").loss(step(logits, targets, weights, 0.1))
    assert found.item() == pytest.approx(numpy_loss(logits, half, weights), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 20), radius=st.floats(0.01, 0.5))
def test_window(seed: int, size: int, radius: float) -> None:
    """Items of which the student is surer than the window allows have no part in the loss."""
    logits, targets, weights = batch(seed, size, 2)
    inside = numpy_softmax(logits).max(axis=1) <= 0.5 + radius
    found = made("window", radius=radius).loss(step(logits, targets, weights, 0.1))
    assert found.item() == pytest.approx(numpy_loss(logits, targets, weights * inside), rel=1e-9)


WEAK = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2], [0.05, 0.95], [0.6, 0.4]])


def kept(name: str, **parameters: object) -> list[str]:
    """Ids of the items that are kept."""
    return list(made(name, **parameters).prepare(supervision(tuple("abcdef"), WEAK)).item_ids)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ["i0", "i3", "i4"]),
        ({"threshold": 0.7}, ["i0", "i2", "i3", "i4"]),
        ({"top": 0.5}, ["i0", "i3", "i4"]),
        ({"top": 0.34, "balanced": True}, ["i0", "i4"]),
        ({"top": 0.01}, ["i4"]),
        ({"threshold": 0}, ["i0", "i1", "i2", "i3", "i4", "i5"]),
    ],
)
def test_confidence_filter(parameters: dict[str, object], expected: list[str]) -> None:
    """The items above the threshold, or the surest share of all or of each class, with at least one."""
    assert kept("confidence_filter", **parameters) == expected


def test_ties_are_broken_by_item_id() -> None:
    """Of equally sure items the first are kept."""
    even = supervision(tuple("abcd"), np.full((4, 2), 0.5))
    assert made("confidence_filter", top=0.5).prepare(even).item_ids == ("i0", "i1")


def test_a_filter_that_keeps_nothing_says_why() -> None:
    """No item left is an error with the reason, not an empty training."""
    with pytest.raises(NothingKept, match=r"largest confidence is 0\.95, the threshold 0\.99"):
        kept("confidence_filter", threshold=0.99)


def test_random_filter_matches_size_and_labels() -> None:
    """The control keeps as many items, with the labels of what it matches, and others for another seed."""
    like = {"name": "confidence_filter", "parameters": {"top": 0.5, "labels": "hard"}}
    strategy = made("random_filter", like=like)
    random = np.random.default_rng(0)
    weak = random.dirichlet((1, 1), size=400)
    drawn = {}
    for seed in (1, 2):
        found = strategy.prepare(replace(supervision(tuple(map(str, range(400))), weak), seed=seed))
        assert len(found.item_ids) == 200
        assert np.unique(found.targets).tolist() == [0, 1]
        drawn[seed] = set(found.item_ids)
    surest = set(made("confidence_filter", top=0.5).prepare(supervision(tuple(map(str, range(400))), weak)).item_ids)
    assert drawn[1] != drawn[2]
    assert 70 < len(drawn[1] & surest) < 130
    assert 70 < len(drawn[1] & drawn[2]) < 130


@pytest.mark.parametrize("like", ["naive", "random_filter", "nonesuch"])
def test_random_filter_needs_a_filter(like: str) -> None:
    """What keeps all items, is the control itself or is unknown cannot be matched."""
    with pytest.raises(SpecError, match=like):
        made("random_filter", like=like).prepare(supervision(tuple("abcdef"), WEAK))


def test_mix() -> None:
    """The truth comes behind the weak labels, with its weight; without a budget there is none."""
    truth = Labelled(item_ids=("t",), texts=("true",), targets=np.array([[0.0, 1.0]]), weights=np.ones(1))
    given = replace(supervision(tuple("abcdef"), WEAK), truth=truth)
    found = made("mix", budget=1, truth_weight=3).prepare(given)
    assert found.item_ids[-1] == "t"
    assert found.targets[-1].tolist() == [0, 1]
    assert found.weights.tolist() == [1, 1, 1, 1, 1, 1, 3]
    assert made("mix", budget=7).truth_budget() == 7
    with pytest.raises(ValueError, match="none came"):
        made("mix").prepare(supervision(tuple("abcdef"), WEAK))


class Recorder(LinearStudent):
    """A student that writes down what happens to it, and always predicts the same."""

    def __init__(self) -> None:
        super().__init__(1)
        self.said: list[object] = []

    def fit(self, items: Labelled, strategy: Strategy) -> None:
        self.said.append(items.targets[:, 1].round(6).tolist())

    def reset(self) -> None:
        super().reset()
        if hasattr(self, "said"):
            self.said.append("reset")

    def predict(self, texts: Sequence[str]) -> Floats:
        return np.array([[0.2, 0.8], [0.7, 0.3]])


def test_self_refine() -> None:
    """After the weak labels come rounds of own labels, each from the pretrained weights."""
    student = Recorder()
    given: Supervision = supervision(("x", "y"), np.array([[0.6, 0.4], [0.5, 0.5]]))
    made("self_refine", rounds=2).run(student, given)
    assert student.said == [[0.4, 0.5], "reset", [0.8, 0.3], "reset", [0.8, 0.3]]
    hard = Recorder()
    made("self_refine", labels="hard").run(hard, given)
    assert hard.said == [[0, 0], "reset", [1, 0]]
