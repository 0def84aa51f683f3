"""The strategies' formulas against independent numpy code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.students import supervision
from wtsbench.strategies.base import Step, Supervision
from wtsbench.strategies.ensemble import Ensemble, EnsembleParameters
from wtsbench.strategies.logconf import LogConf, LogConfParameters, hardened, hardened_as_released
from wtsbench.strategies.naive import Naive

SEEDS = st.integers(0, 10_000)


def numpy_softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def numpy_loss(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """Mean over items of weight times cross-entropy."""
    return float(
        np.mean([w * -sum(t * np.log(p)) for p, t, w in zip(numpy_softmax(logits), targets, weights, strict=True)])
    )


def numpy_quantile(values: np.ndarray, level: float) -> float:
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    position = level * (len(ordered) - 1)
    low = int(np.floor(position))
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (position - low) * (ordered[high] - ordered[low]))


def batch(seed: int, size: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random logits, targets and weights."""
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(size, classes)),
        random.dirichlet(np.ones(classes), size=size),
        random.uniform(0, 2, size),
    )


def step(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, progress: float) -> Step:
    """The batch as a loss sees it."""
    return Step(
        logits=torch.from_numpy(logits).requires_grad_(),
        targets=torch.from_numpy(targets),
        weights=torch.from_numpy(weights),
        progress=progress,
    )


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 20), classes=st.integers(2, 4))
def test_naive_is_cross_entropy(seed: int, size: int, classes: int) -> None:
    """The loss of `naive` is the weighted mean cross-entropy to the weak labels."""
    logits, targets, weights = batch(seed, size, classes)
    loss = Naive(Naive.Parameters()).loss(step(logits, targets, weights, 0.3))
    assert loss.item() == pytest.approx(numpy_loss(logits, targets, weights), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    size=st.integers(1, 20),
    progress=st.floats(0, 0.999),
    max_weight=st.floats(0, 1),
    variant=st.sampled_from(["as_published", "as_released"]),
)
def test_logconf_of_two_classes(seed: int, size: int, progress: float, max_weight: float, variant: str) -> None:
    """The loss of `logconf` is the one of its docstring, written down a second time in numpy."""
    logits, targets, weights = batch(seed, size, 2)
    own = numpy_softmax(logits)
    if variant == "as_published":
        threshold = numpy_quantile(own[:, 1], 1 - targets[:, 1].mean())
        second = own[:, 1] >= threshold - 1e-12
    else:
        threshold = numpy_quantile(own[:, 0], targets[:, 1].mean())
        second = own[:, 0] < threshold - 1e-12
    one_hot = np.array([[0.0, 1.0] if one else [1.0, 0.0] for one in second])
    if variant == "as_published":
        ramp = progress / 0.2 if progress < 0.2 else 1.0
    else:
        ramp = progress if progress <= 0.1 else 1.0
    c = max_weight * ramp
    expected = numpy_loss(logits, (1 - c) * targets + c * one_hot, weights)
    parameters = LogConfParameters.model_validate({"max_weight": max_weight, "variant": variant})
    assert LogConf(parameters).loss(step(logits, targets, weights, progress)).item() == pytest.approx(
        expected, rel=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.integers(4, 40))
def test_hardened_predictions_have_the_weak_shares(seed: int, size: int) -> None:
    """The class shares of the hardened predictions are those of the weak labels, to within one item."""
    logits, targets, _ = batch(seed, size, 2)
    own = torch.from_numpy(numpy_softmax(logits))
    counts = hardened(own, torch.from_numpy(targets)).sum(dim=0).numpy()
    assert abs(counts[1] - targets[:, 1].sum()) <= 1


@pytest.mark.parametrize(("classes", "only"), [(2, 0), (2, 1), (3, 0), (3, 2)])
def test_a_batch_of_one_class(classes: int, only: int) -> None:
    """Where all weak labels of a batch are one class, no item is named another; the released code names one class 0."""
    own = torch.from_numpy(numpy_softmax(batch(0, 9, classes)[0]))
    targets = torch.nn.functional.one_hot(torch.full((9,), only), classes).double()
    assert torch.equal(hardened(own, targets), targets)
    if classes == 2:
        first = hardened_as_released(own, targets)[:, 0].sum().item()
        assert first == (9 if only == 0 else 1)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.integers(4, 40))
def test_the_rule_for_many_classes_includes_that_for_two(seed: int, size: int) -> None:
    """With two classes, the largest margin over the class thresholds is the rule with one threshold."""
    logits, targets, _ = batch(seed, size, 2)
    own = numpy_softmax(logits)
    margins = np.stack([own[:, c] - numpy_quantile(own[:, c], 1 - targets[:, c].mean()) for c in (0, 1)], axis=1)
    clear = np.abs(margins[:, 1]) > 1e-9
    ours = hardened(torch.from_numpy(own), torch.from_numpy(targets)).argmax(dim=1).numpy()
    assert (ours[clear] == margins.argmax(axis=1)[clear]).all()


def test_hardened_predictions_of_three_classes_follow_the_weak_shares() -> None:
    """A student that never says the third class is made to say it about as often as the weak labels do."""
    random = np.random.default_rng(0)
    own = numpy_softmax(random.normal(size=(600, 3)) + np.array([2.0, 1.0, -3.0]))
    targets = np.eye(3)[random.choice(3, size=600, p=[0.5, 0.3, 0.2])]
    counts = hardened(torch.from_numpy(own), torch.from_numpy(targets)).mean(dim=0).numpy()
    assert own.argmax(axis=1).max() < 2 or (own.argmax(axis=1) == 2).mean() < 0.02
    assert np.abs(counts - targets.mean(axis=0)).max() < 0.12


def test_no_gradient_flows_through_the_hardened_predictions() -> None:
    """The gradient is softmax minus target: the student's own labels count as constants."""
    logits, targets, weights = batch(3, 12, 2)
    given_step = step(logits, targets, weights, 0.9)
    strategy = LogConf(LogConfParameters(max_weight=0.7))
    strategy.loss(given_step).backward()  # type: ignore[no-untyped-call]  # torch's own
    own = hardened(torch.from_numpy(numpy_softmax(logits)), torch.from_numpy(targets)).numpy()
    expected = (numpy_softmax(logits) - (0.3 * targets + 0.7 * own)) * weights[:, None] / len(logits)
    assert given_step.logits.grad is not None
    assert np.allclose(given_step.logits.grad.numpy(), expected, atol=1e-12)


def labels_of_three() -> Supervision:
    """Three supervisors, two items, two classes."""
    return supervision(
        ("x", "y"),
        np.array([[0.9, 0.1], [0.4, 0.6]]),
        np.array([[0.2, 0.8], [0.3, 0.7]]),
        np.array([[0.6, 0.4], [0.9, 0.1]]),
    )


def test_an_ensemble_learns_from_the_mean() -> None:
    """Soft targets are the mean distribution; hard ones its argmax."""
    soft = Ensemble(EnsembleParameters()).prepare(labels_of_three())
    assert np.allclose(soft.targets, [[1.7 / 3, 1.3 / 3], [1.6 / 3, 1.4 / 3]])
    assert soft.weights.tolist() == [1, 1]
    hard = Ensemble(EnsembleParameters(labels="hard")).prepare(labels_of_three())
    assert hard.targets.tolist() == [[1, 0], [1, 0]]
