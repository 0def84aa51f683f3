"""What classifiers score that need no language model: what a table's models are to be held against.

`majority` names the commonest class of `weak_train` whatever the text says. `tfidf` is a logistic regression (l2,
C = 1) on TF-IDF of words and pairs of words, 1 + ln(count), rows of length 1, as scikit-learn has them; it learns once
from the ground truth of `weak_train`, as the weak supervisor does, and once from that of `transfer`, as the ceiling
does.

They are a function of the prepared items alone, so they are computed once a data set and kept in its report.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter

from wtsbench.json_text import parsed
from wtsbench.metrics.classification import METRICS, Predicted
from wtsbench.spec.trial import TEST_SPLITS, Split

TRIVIAL = "trivial"
"""The entry of a data set's report."""
_DIGITS = 6


def trivial(items: pa.Table, classes: int) -> dict[str, dict[str, dict[str, float]]]:
    """By test split and name of a trivial classifier: accuracy, balanced accuracy and F1.

    Args:
        items: prepared items of a classification task, with labels, of all splits.
        classes: number of classes C.
    """
    parts = {split: items.filter(pc.equal(items["split"], split.value)) for split in Split}
    tests = {split: parts[split] for split in TEST_SPLITS if parts[split].num_rows}
    counts = np.bincount(_labels(parts[Split.WEAK_TRAIN]), minlength=classes)
    made = {"majority": {split: np.full(part.num_rows, counts.argmax()) for split, part in tests.items()}}
    for split in (Split.WEAK_TRAIN, Split.TRANSFER):
        made[f"tfidf on {split.value}"] = _learned(parts[split], tests)
    return {
        split.value: {name: _scores(_labels(part), answers[split], classes) for name, answers in made.items()}
        for split, part in tests.items()
    }


def with_trivial(report: dict[str, Any], items: pa.Table, classes: int) -> dict[str, Any]:
    """A data set's report with what trivial classifiers score; as it is for tasks without classes."""
    return {**report, TRIVIAL: trivial(items, classes)} if classes else report


def trivial_in(report: str) -> dict[str, dict[str, dict[str, float]]]:
    """What trivial classifiers score, from a stored report (JSON); nothing where it has nothing of them.

    Raises:
        ValueError: it cannot be read.
    """
    values = parsed(report)
    if not isinstance(values, dict):
        raise ValueError("it is no object")
    return _SCORES.validate_python(values.get(TRIVIAL, {}))


_SCORES: TypeAdapter[dict[str, dict[str, dict[str, float]]]] = TypeAdapter(dict[str, dict[str, dict[str, FiniteFloat]]])


def _learned(lessons: pa.Table, tests: dict[Split, pa.Table]) -> dict[Split, NDArray[np.int64]]:
    """The classes that TF-IDF with logistic regression names; the one class there is where lessons have but one."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    truth = _labels(lessons)
    if len(set(truth.tolist())) == 1:
        return {split: np.full(part.num_rows, truth[0]) for split, part in tests.items()}
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    classifier = LogisticRegression(max_iter=1000)
    try:
        features = vectoriser.fit_transform(lessons["text"].to_pylist())
    except ValueError:  # not one word in all the lessons
        return {split: np.full(part.num_rows, np.bincount(truth).argmax()) for split, part in tests.items()}
    with threadpool_limits(1), warnings.catch_warnings():  # sums of several threads are of another order
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features, truth)
    return {
        split: classifier.predict(vectoriser.transform(part["text"].to_pylist())).astype(np.int64)
        for split, part in tests.items()
    }


def _labels(part: pa.Table) -> NDArray[np.int64]:
    labels: NDArray[np.int64] = part["label"].to_numpy().astype(np.int64)
    return labels


def _scores(truth: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> dict[str, float]:
    made = Predicted.of(truth, answers, classes=classes)
    return {name: round(metric.of(made), _DIGITS) for name, metric in METRICS.items()}
