"""Metrics against plain counting."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wtsbench.metrics.classification import METRICS, Predicted, classification_metrics, predicted_classes
from wtsbench.metrics.generation import GENERATION_METRICS
from wtsbench.metrics.inheritance import INHERITANCE, Supervised
from wtsbench.spec.generation import GenerationMetricName
from wtsbench.spec.task import MetricName

CLASSES = st.integers(2, 4)


def score(name: str, labels: Any, predictions: Any, *, classes: int | None = None) -> float:
    """A metric of one trial."""
    return METRICS[name].of(Predicted.of(labels, predictions, classes=classes))


def counted(name: str, labels: list[int], made: list[int], classes: int) -> float:
    """The metric, one item at a time."""
    if name == "accuracy":
        return sum(a == b for a, b in zip(labels, made, strict=True)) / len(labels)
    recalls, f1s = [], {}
    for each in range(classes):
        hit = sum(a == b == each for a, b in zip(labels, made, strict=True))
        true, called = labels.count(each), made.count(each)
        if true:
            recalls.append(hit / true)
        if true + called:
            f1s[each] = 2 * hit / (true + called)
    if name == "balanced_accuracy":
        return sum(recalls) / len(recalls)
    return f1s.get(1, 0.0) if classes == 2 else sum(f1s.values()) / len(f1s)


@given(data=st.data(), classes=CLASSES)
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_what_counting_gives(name: str, data: st.DataObject, classes: int) -> None:
    """Scores equal those counted item by item, whichever classes are absent."""
    size = data.draw(st.integers(1, 12))
    draw = st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)
    labels, made = data.draw(draw), data.draw(draw)
    found = score(name, labels, made, classes=classes)
    assert found == pytest.approx(counted(name, labels, made, classes), abs=1e-12)
    assert METRICS[name].lowest <= found <= METRICS[name].highest


def test_a_manifest_can_name_exactly_these_metrics() -> None:
    """What a manifest can name is known; classifiers can be ranked by all of `METRICS`."""
    assert set(METRICS) == set(get_args(MetricName))
    assert set(GENERATION_METRICS) >= set(get_args(GenerationMetricName))
    for registry in (METRICS, GENERATION_METRICS, INHERITANCE):
        assert [metric.name for metric in registry.values()] == list(registry)


def test_probabilities_count_by_their_largest_the_first_of_equals() -> None:
    """Probabilities and their argmax score the same; a tie is the lower class."""
    probabilities = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    assert predicted_classes(probabilities).tolist() == [1, 0, 0]
    for name in METRICS:
        assert score(name, [1, 0, 1], probabilities) == score(name, [1, 0, 1], [1, 0, 0])


def test_a_model_that_names_one_class_only() -> None:
    """Its accuracy is the class's share, its balanced accuracy chance, its F1 as defined and never NaN."""
    labels = [0, 0, 0, 1]
    assert score("accuracy", labels, [0] * 4) == 0.75
    assert score("balanced_accuracy", labels, [0] * 4) == 0.5
    assert score("f1", labels, [0] * 4) == 0.0
    assert score("f1", [0] * 4, [0] * 4) == 0.0


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "no items"),
        ([0, 1], [0], "do not belong together"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.1]], "NaN"),
        ([0, 2], [[0.5, 0.5], [0.9, 0.1]], "between 0 and 1"),
        ([0, -1], [0, 1], "between 0 and 1"),
    ],
)
def test_nonsense_has_no_score(labels: list[int], predictions: list[Any], message: str) -> None:
    """What cannot be scored raises and names why; it never becomes a number."""
    with pytest.raises(ValueError, match=message):
        score("accuracy", labels, predictions)


def test_recalls_and_calibration_beside() -> None:
    """Recalls and Brier score are what counting gives; of a class that does not occur there is no recall."""
    labels, probabilities = [0, 0, 1, 0], np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.5, 0.5]])
    every = classification_metrics(("safe", "unsafe"))
    made = Predicted.of(labels, probabilities)
    assert every["recall[safe]"].of(made) == pytest.approx(2 / 3)
    assert every["recall[unsafe]"].of(made) == 1
    expected = (2 * 0.1**2 + 2 * 0.6**2 + 2 * 0.3**2 + 2 * 0.5**2) / 4
    assert every["brier"].of(made) == pytest.approx(expected)
    assert np.isnan(every["recall[unsafe]"].of(Predicted.of([0, 0], probabilities[:2])))
    assert np.isnan(every["brier"].of(Predicted.of(labels, [0, 1, 1, 0])))
    assert set(METRICS) < set(every)


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
@pytest.mark.parametrize("digits", [1, 6])
def test_order_of_probabilities(name: str, digits: int) -> None:
    """AUROC and average precision are scikit-learn's, ties included; an item counts as its weight moves them."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    reference = {"auroc": roc_auc_score, "average_precision": average_precision_score}[name]
    chance = np.random.default_rng(3)
    labels = (chance.random(300) < 0.1).astype(int)
    scores = np.round(np.clip(chance.normal(0.4 + 0.2 * labels, 0.2), 0, 1), digits)
    metric = classification_metrics(("no", "yes"))[name]
    made = Predicted.of(labels, np.stack([1 - scores, scores], axis=1))
    assert metric.of(made) == pytest.approx(reference(labels, scores), abs=1e-12)
    values, step = metric.features(made)[:, 0], 1e-6
    for item in (*np.flatnonzero(labels)[:5], *np.flatnonzero(labels == 0)[:5]):
        weights = 1 + step * (np.arange(300) == item)
        moved = reference(labels, scores, sample_weight=weights) - reference(labels, scores)
        assert values[item] == pytest.approx(metric.of(made) + 300 * moved / step, abs=1e-3)
    assert np.isnan(metric.of(Predicted.of(labels, labels)))
    assert name not in classification_metrics(("a", "b", "c"))


def test_what_a_student_takes_over() -> None:
    """Of the weak supervisor's errors: those repeated with the same wrong class, and those put right."""
    labels, weak = np.array([0, 0, 1, 2, 1, 2]), np.array([0, 1, 2, 0, 1, 1])
    student = np.array([1, 1, 1, 1, 1, 1])
    made = Supervised(labels=labels, weak=weak, student=student)
    assert INHERITANCE["error_inheritance"].of(made) == pytest.approx(2 / 4)  # items 1 and 5
    assert INHERITANCE["error_correction"].of(made) == pytest.approx(1 / 4)  # item 2; item 3 is wrong in its own way
    assert INHERITANCE["misfit"].of(made) == pytest.approx(3 / 6)
    flawless = Supervised(labels=labels, weak=labels, student=student)
    assert all(np.isnan(INHERITANCE[name].of(flawless)) for name in ("error_inheritance", "error_correction"))
    assert all(np.isnan(INHERITANCE[name].of(made)) for name in ("capa", "blind_spot"))  # probabilities unknown


def together(labels: np.ndarray, weak: np.ndarray, student: np.ndarray) -> dict[str, float]:
    """All of them, of probabilities [N, C]."""
    made = Supervised(
        labels=labels,
        weak=weak.argmax(axis=1),
        student=student.argmax(axis=1),
        weak_probabilities=weak,
        student_probabilities=student,
    )
    return {name: metric.of(made) for name, metric in INHERITANCE.items()}


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_agreement_beyond_chance(classes: int) -> None:
    """CAPA is its definition written out: seen less expected agreement of two draws, over its largest possible size."""
    random = np.random.default_rng(classes)
    labels = random.integers(classes, size=50)
    weak, student = random.dirichlet(np.ones(classes), size=(2, 50))
    seen = np.mean([sum(p * q for p, q in zip(one, two, strict=True)) for one, two in zip(weak, student, strict=True)])
    first, second = (np.mean([row[label] for row, label in zip(p, labels, strict=True)]) for p in (weak, student))
    expected = first * second + np.mean([1 / (classes - 1) for _ in labels]) * (1 - first) * (1 - second)
    assert together(labels, weak, student)["capa"] == pytest.approx((seen - expected) / (1 - expected))


def test_agreement_at_its_ends() -> None:
    """Sure and equal models are 1, independent errors near 0, and errors that never meet below; flawless ones NaN."""
    random = np.random.default_rng(0)
    labels = random.integers(2, size=20_000)
    one, two = (np.eye(2)[np.where(random.random(20_000) < 0.2, 1 - labels, labels)] for _ in range(2))
    assert together(labels, one, one)["capa"] == pytest.approx(1)
    assert together(labels, one, two)["capa"] == pytest.approx(0, abs=0.03)
    wrong = one.argmax(axis=1) != labels
    apart = np.eye(2)[np.where(~wrong & (random.random(20_000) < 0.25), 1 - labels, labels)]
    assert together(labels, one, apart)["capa"] < -0.2
    assert np.isnan(together(labels, np.eye(2)[labels], np.eye(2)[labels])["capa"])


def test_the_gain_is_never_larger_than_the_misfit() -> None:
    """Accuracy can rise by no more than the share of items on which the student left the weak labels."""
    random = np.random.default_rng(1)
    for _ in range(50):
        labels = random.integers(3, size=40)
        weak, student = random.dirichlet(np.ones(3), size=(2, 40))
        gain = (student.argmax(axis=1) == labels).mean() - (weak.argmax(axis=1) == labels).mean()
        found = together(labels, weak, student)
        assert abs(gain) <= found["misfit"] == pytest.approx((student.argmax(axis=1) != weak.argmax(axis=1)).mean())


def test_a_blind_spot() -> None:
    """Of the items of which the weak model is unsure, those that the student surely has wrong; NaN where it is sure."""
    labels = np.array([0, 0, 0, 0, 1])
    weak = np.array([[0.6, 0.4], [0.74, 0.26], [0.75, 0.25], [0.3, 0.7], [0.5, 0.5]])
    student = np.array([[0.2, 0.8], [0.3, 0.7], [0.1, 0.9], [0.9, 0.1], [0.75, 0.25]])
    assert together(labels, weak, student)["blind_spot"] == pytest.approx(2 / 4)  # items 0 and 4; of 2 the weak is sure
    assert np.isnan(together(labels, np.eye(2)[labels], student)["blind_spot"])
