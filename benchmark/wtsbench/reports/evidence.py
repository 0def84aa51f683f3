"""What trials made of the items of a split, read from the store and held against those items.

Shapes: T trials, N items, C classes, n samples of a prompt, F features of a metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wtsbench.data.dataset import balance_in
from wtsbench.errors import StoreError
from wtsbench.json_text import parsed
from wtsbench.metrics.classification import (
    Features,
    Integers,
    Metric,
    Predicted,
    classification_metrics,
    predicted_classes,
)
from wtsbench.metrics.generation import GENERATION_METRICS, STRICT, Samples
from wtsbench.metrics.inheritance import INHERITANCE
from wtsbench.metrics.samples import samples
from wtsbench.reports.resampling import group_counts
from wtsbench.spec.trial import Form, Split
from wtsbench.store.client import Store

_CLASSES_AT_ONCE, _TEXTS_AT_ONCE = 32, 4
"""Trials whose records are in memory as lists and text at once."""
_DAMAGED = "the store is damaged, or was written by something else; restore it from a copy."


@dataclass(frozen=True)
class EvidenceForm:
    """What reports have to know of a form of tasks."""

    name: Form
    metrics: Callable[[Sequence[str]], Mapping[str, Metric[Any]]]
    """Of the class names: all metrics, by name."""
    read: Callable[[Store, Sequence[str], ScoredItems, str | None], Iterator[tuple[str, Predicted | Samples]]]
    """Of a store, trials, items and a scorer: each trial, and what it made of the items."""
    strict: Mapping[str, Metric[Any]] = field(default_factory=dict)
    """By metric, what a lead is tested by once more."""
    inheritance: Mapping[str, Metric[Any]] = field(default_factory=dict)
    """Metrics of what students take over from their weak supervisors."""
    judged: bool = False
    """Whether the scores are those of a scorer."""


@dataclass(frozen=True, kw_only=True)
class ScoredItems:
    """The items of a split that trials of a task are scored on, ordered by id."""

    task: str
    data_digest: str
    split: Split
    form: EvidenceForm
    metric: Metric[Any]
    """What the leaderboard ranks by."""
    metrics: Mapping[str, Metric[Any]]
    """All that is reported, `metric` included."""
    labels: tuple[str, ...]
    """Class names."""
    truth: NDArray[np.int64]
    """[N] true classes; empty for generation."""
    items: pa.Table
    """The items themselves."""
    threshold: float
    """Of toxicity probability."""
    balance: str | None
    """Which splits had their classes evened out; None for generation, and where it is not known."""
    groups: NDArray[np.int64]
    """[N] number of each item's group of near-identical or otherwise related items, counted from 0."""

    @property
    def every(self) -> tuple[Metric[Any], ...]:
        """What is computed of a trial's evidence: all metrics, and the stricter ones."""
        return (*self.metrics.values(), *self.form.strict.values())

    @property
    def size(self) -> int:
        """N."""
        return int(self.items.num_rows)

    @property
    def items_digest(self) -> str:
        """SHA-256 of the items' ids and groups, in order: equal where scores are of the same items."""
        names = "\n".join(self.items["item_id"].to_pylist())
        return hashlib.sha256(names.encode() + self.groups.astype("<i8").tobytes()).hexdigest()

    @property
    def group_count(self) -> int:
        """G."""
        return int(self.groups.max()) + 1

    @cached_property
    def class_groups(self) -> Integers:
        """[C] groups that have an item of each class; empty for generation."""
        return group_counts(self.truth, self.groups, len(self.labels) if self.truth.size else 0)

    def effective(self, metric: Metric[Any]) -> float | None:
        """How many groups of one kind tell as much of a metric; None: as many as there are."""
        return None if metric.effective is None else metric.effective(self.class_groups)


def scored_items(store: Store, data_digest: str, split: Split = Split.TEST) -> ScoredItems | None:
    """The items of a split of a prepared data set; None where it has none, which only `test` must have.

    Raises:
        StoreError: the store has no such data set, no test item in it, or wtsbench has no such metric or form.
    """
    known = store.datasets()
    rows = known.filter(pc.equal(known["data_digest"], data_digest)).to_pylist()
    if not rows:
        raise StoreError(f"the store {store.uri} lacks the data set {data_digest[:12]} that its trials used")
    row = rows[0]
    form = FORMS.get(row["form"])
    if form is None:
        raise StoreError(f"task {row['task']} is of the form {row['form']!r}, which this version of wtsbench has not")
    items = store.items(data_digest)
    items = items.filter(pc.equal(items["split"], split.value)).sort_by("item_id")
    if items.num_rows == 0:
        if split is Split.TEST:
            raise StoreError(f"the data set {data_digest[:12]} of task {row['task']} has no test item")
        return None
    metrics = form.metrics(row["labels"])
    if row["metric"] not in metrics:
        raise StoreError(
            f"task {row['task']} is scored by {row['metric']!r}, which this version of wtsbench does not know",
            remedy=f"it knows {', '.join(metrics)}.",
        )
    return ScoredItems(
        task=row["task"],
        data_digest=data_digest,
        split=split,
        form=form,
        metric=metrics[row["metric"]],
        metrics=metrics,
        labels=tuple(row["labels"]),
        items=items,
        truth=items["label"].to_numpy().astype(np.int64) if row["labels"] else np.empty(0, dtype=np.int64),
        threshold=threshold_of(row),
        balance=balance_in(row["report"]),
        groups=_numbered(items["group_id"].to_pylist()),
    )


def threshold_of(row: Mapping[str, Any]) -> float:
    """Score from which a text of a data set counts as toxic, as its settings have it; .5 where they have none.

    Raises:
        StoreError: they cannot be read.
    """
    try:
        settings = parsed(row["settings"] or "{}")
        threshold = settings.get("threshold", 0.5) if isinstance(settings, dict) else None
    except ValueError:
        threshold = None
    if not isinstance(threshold, int | float):
        raise StoreError(
            f"the settings of data set {row['data_digest'][:12]} of task {row['task']} cannot be read", remedy=_DAMAGED
        )
    return float(threshold)


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """Names as numbers in the order of their first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What T trials made of the items."""

    features: Mapping[Callable[[Any], Features], Features]
    """By the function that makes them of a trial's evidence: [T, N, F]."""
    classes: NDArray[np.int64] | None
    """[T, N] predicted classes; None for generation."""
    probabilities: NDArray[np.float64] | None
    """[T, N, C] of the classes; None for generation."""
    samples: int | None
    """n, for generation."""


def evidence(store: Store, trial_ids: Sequence[str], tests: ScoredItems, scorer: str | None = None) -> Evidence:
    """What finished trials made of the items, in the order of the ids and of the items.

    Args:
        store: where it is.
        trial_ids: finished trials, at least one.
        tests: the items.
        scorer: for generation, whose scores count.

    Raises:
        StoreError: a trial's records are not one distribution over the classes for each item, or not the same number
            of scored samples for each prompt and trial.
    """
    functions = list(dict.fromkeys(metric.features for metric in tests.every))
    made: dict[Callable[[Any], Features], list[Features]] = {function: [] for function in functions}
    classes: list[NDArray[np.int64]] = []
    probabilities: list[NDArray[np.float64]] = []
    counts: dict[int, str] = {}
    for trial_id, found in tests.form.read(store, trial_ids, tests, scorer):
        for function in functions:
            made[function].append(function(found))
        if isinstance(found, Predicted):
            assert found.probabilities is not None, "they are what is stored"
            classes.append(found.classes.astype(np.int64))
            probabilities.append(found.probabilities.astype(np.float64))
        else:
            counts.setdefault(len(found.texts[0]), trial_id)
    if len(counts) > 1:
        told = " and ".join(f"{count} (trial {trial_id[:12]})" for count, trial_id in sorted(counts.items()))
        raise StoreError(f"trials of task {tests.task} drew different numbers of samples a prompt: {told}")
    return Evidence(
        features={function: np.stack(parts) for function, parts in made.items()},
        classes=np.stack(classes) if classes else None,
        probabilities=np.stack(probabilities) if probabilities else None,
        samples=next(iter(counts), None),
    )


def scorers(store: Store, trial_ids: Sequence[str], split: Split) -> dict[str, set[str]]:
    """By scorer, the trials with scores of it on a split."""
    found: dict[str, set[str]] = {}
    for some in _portions(trial_ids, _TEXTS_AT_ONCE):
        table = store.scores(some, splits=[split.value]).select(["trial_id", "scorer"])
        for row in table.group_by(["trial_id", "scorer"]).aggregate([]).to_pylist():
            found.setdefault(row["scorer"], set()).add(row["trial_id"])
    return dict(sorted(found.items()))


def _portions(trial_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(trial_ids), size):
        yield trial_ids[start : start + size]


def _predictions(
    store: Store, trial_ids: Sequence[str], tests: ScoredItems, scorer: str | None
) -> Iterator[tuple[str, Predicted]]:
    for some in _portions(trial_ids, _CLASSES_AT_ONCE):
        table = store.predictions(some, splits=[tests.split.value]).select(["trial_id", "item_id", "probabilities"])
        for trial_id in some:
            yield trial_id, _predicted(trial_id, _of(table, trial_id).sort_by("item_id"), tests)


def _generations(
    store: Store, trial_ids: Sequence[str], tests: ScoredItems, scorer: str | None
) -> Iterator[tuple[str, Samples]]:
    for some in _portions(trial_ids, _TEXTS_AT_ONCE):
        drawn = store.generations(some, splits=[tests.split.value])
        scored = store.scores(some, splits=[tests.split.value])
        scored = scored.filter(pc.equal(scored["scorer"], scorer))
        for trial_id in some:
            yield trial_id, _samples(trial_id, _of(drawn, trial_id), _of(scored, trial_id), tests)


def _of(table: pa.Table, trial_id: str) -> pa.Table:
    return table.filter(pc.equal(table["trial_id"], trial_id))


def _predicted(trial_id: str, part: pa.Table, tests: ScoredItems) -> Predicted:
    values = part["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    ids, count = part["item_id"].combine_chunks(), len(tests.labels)
    if not ids.equals(tests.items["item_id"].combine_chunks()) or values.size != len(ids) * count:
        raise StoreError(
            f"{_told(trial_id, tests)}, but its predictions are not one distribution for each of the {tests.size} "
            f"{tests.split.value} items",
            remedy=_DAMAGED,
        )
    probabilities = values.reshape(len(ids), count)
    try:
        classes = predicted_classes(probabilities)
    except ValueError as error:
        raise StoreError(f"{_told(trial_id, tests)}, but its {error}") from None
    return Predicted(labels=tests.truth, classes=classes, probabilities=probabilities, count=count)


def _samples(trial_id: str, drawn: pa.Table, scored: pa.Table, tests: ScoredItems) -> Samples:
    try:
        return samples(drawn, scored, tests.items, tests.threshold)
    except ValueError as error:
        raise StoreError(f"{_told(trial_id, tests)}, but its {error}", remedy=_DAMAGED) from None


def _told(trial_id: str, tests: ScoredItems) -> str:
    return f"trial {trial_id[:12]} of task {tests.task} is stored as done"


_FORMS = (
    EvidenceForm("classification", classification_metrics, _predictions, inheritance=INHERITANCE),
    EvidenceForm("generation", lambda labels: GENERATION_METRICS, _generations, strict=STRICT, judged=True),
)
FORMS: Mapping[Form, EvidenceForm] = {form.name: form for form in _FORMS}
"""By name, every form of tasks."""
