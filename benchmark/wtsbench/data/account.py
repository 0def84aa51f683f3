"""A short account of a task's data: how rows became items, the splits, and warnings.

A pure function of a data set's report, so it is the same before a grid runs and from the store.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wtsbench.data import overlap
from wtsbench.data.dataset import Dataset
from wtsbench.json_text import parsed
from wtsbench.metrics.classification import METRICS
from wtsbench.spec.trial import TEST_SPLITS, Split
from wtsbench.visible import visible

DISAGREEMENT = 0.2
"""Assumed share of items that two models answer differently, before any was run."""
_POWER = 2.8016
"""Standard errors of a difference that a two-sided test at 5% detects with a power of 80%."""
COARSE = 0.1
"""A test set that cannot show smaller differences than this is reported as too small."""
FEW = 10
"""With fewer test items of a class, its scores are unreliable."""
_RARE = 0.1
"""Below this share of a split, a class is shown with its number of items."""
_ONE_SIDED = 0.75
"""From this share of one class on, accuracy says little."""
SHOWS = (
    "shows: about the smallest difference in the metric that a test set can show, of two models that answer "
    f"{DISAGREEMENT:.0%} of its items differently; to the second number where related texts are answered as one"
)
"""Explanation of the column with `SplitAccount.shown`."""
_LEFT_OUT = {
    "empty_rows_dropped": ("empty", "their text is empty; look at the columns that `template` names"),
    "rows_without_two_choices": ("without two choices", "a question needs a right and a wrong choice"),
    "indistinct_pairs_dropped": ("pairs of equal texts", "there is nothing to prefer in them"),
    "rows_without_another": ("without a counterpart", "no other row has a part to take"),
    "duplicate_rows_dropped": ("duplicate", "the same text with the same label is one item"),
    "contradictory_rows_dropped": ("contradictory", "their texts occur with different labels; look at the labels"),
    "same_text_dropped": ("known to the task", "the task's own data have these texts"),
    "near_identical_dropped": ("nearly known to the task", "the task's own data have nearly these texts"),
    "of_their_groups_dropped": ("related to those", "their groups hold texts that the task's own data have"),
    "dropped_without_target": ("without a target", "`demonstrations` lets few continuations be learned from"),
    "dropped_by_balancing": ("balanced away", "`balance: none` keeps them, `balance: train` those of test sets"),
}
"""Counts of a report in the order of the steps that drop rows: a name, and advice if a step drops most of them."""
_CAPPED, _WITHOUT_TARGET = "capped", _LEFT_OUT["dropped_without_target"][0]
_CHOSEN = (_CAPPED, _WITHOUT_TARGET)
"""What the user asked for, by a cap or by `demonstrations`, is not counted as lost."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of rows or items, with its name."""

    name: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Way:
    """From the rows of a source to distinct items."""

    rows: int
    left_out: tuple[Count, ...]
    """Reasons why rows, or items made of them, were dropped; reasons with 0 are left out."""
    items: int
    groups: int

    def __str__(self) -> str:
        """`11,468 rows, 12 empty and 570 duplicate left out: 10,886 items in 10,102 groups of related texts`."""
        lost = _listed(f"{count.number:,} {count.name}" for count in self.left_out)
        groups = "" if self.groups == self.items else f" in {self.groups:,} groups of related texts"
        return f"{self.rows:,} rows{lost and f', {lost} left out'}: {self.items:,} items{groups}"


@dataclass(frozen=True, kw_only=True)
class SplitAccount:
    """The items of a split."""

    split: str
    items: int
    groups: int
    classes: tuple[Count, ...]
    """Items of each class; empty for generation."""
    left_out: tuple[Count, ...]
    """Items of the split that trials do not use."""
    shows: tuple[float, float] | None
    """About the smallest difference in the task's metric that the items can show, where all are answered independently,
    and where related texts are answered as one; of test sets of classification."""

    @property
    def shares(self) -> str:
        """`no 91%, yes 9.3% (158)`: rare classes with their number of items."""
        return ", ".join(f"{count.name} {_percent(count.number, self.items)}" for count in self.classes)

    @property
    def shown(self) -> str:
        """`0.033`, or `0.047 to 0.144`; empty if unknown."""
        if self.shows is None:
            return ""
        low, high = (f"{difference:.3f}" for difference in self.shows)
        return low if low == high else f"{low} to {high}"

    @property
    def gone(self) -> str:
        """`310 balanced away, 2,000 capped`; empty if all are used."""
        return ", ".join(f"{count.number:,} {count.name}" for count in self.left_out)


@dataclass(frozen=True, kw_only=True)
class Account:
    """How the rows of a task, and of its out-of-distribution test set, became items."""

    task: str
    metric: str
    balance: str | None
    """None for generation, or if unknown."""
    own: Way
    ood: Way | None
    words: tuple[int, ...]
    """Words of the items' texts: the median and the maximum; empty if unknown."""
    splits: tuple[SplitAccount, ...]
    warnings: tuple[str, ...]
    """What the user must know before reading scores."""

    @property
    def line(self) -> str:
        """The account in one line, for the head of a submission."""
        parts = ", ".join(f"{split.split} {split.items:,}" for split in self.splits)
        shares = next((split.shares for split in self.splits if split.split == Split.TEST.value), "")
        return f"{self.task}: {self.own.rows:,} rows -> {parts}{shares and f' ({shares})'}{self._balance}"

    @property
    def lines(self) -> list[str]:
        """How rows became items, source by source, and the lengths of texts; without the splits."""
        texts = "; texts of {:,} words (median) to {:,}".format(*self.words) if self.words else ""
        lines = [f"{self.task}: {self.own}{texts}{self._balance}"]
        return lines if self.ood is None else [*lines, f"{self.task}, out of distribution: {self.ood}"]

    @property
    def _balance(self) -> str:
        return "" if self.balance is None else f"; balance {self.balance}"


def account_of(dataset: Dataset) -> Account:
    """The account of prepared data."""
    return account(dataset.task, dataset.metric, dataset.labels, dataset.report)


def account(task: str, metric: str, labels: Sequence[str], report: Mapping[str, Any]) -> Account:
    """The account from a data set's report; fields missing from an old report count as none.

    Names in it are safe to print to a terminal.
    """
    task = visible(task)
    split_reports = {name: split for name, split in _mapping(report, "splits").items() if isinstance(split, Mapping)}
    splits = tuple(_split(name, metric, labels, split) for name, split in split_reports.items())
    other = _mapping(report, "ood")
    balance = report.get("balance")
    words = _mapping(report, "words")
    made = Account(
        task=task,
        metric=metric,
        balance=balance if isinstance(balance, str) else None,
        own=_way(report, _number(report, "distinct_items")),
        ood=_way(other, _number(other, "unseen_items")) if other else None,
        words=(_number(words, "median"), _number(words, "longest")) if words else (),
        splits=splits,
        warnings=(),
    )
    return replace(made, warnings=(*_warnings(made), *overlap.warnings(task, report)))


def stored_account(row: Mapping[str, Any]) -> Account | None:
    """The account of a data set from its row in a store; None if the row has no splits."""
    try:
        report = parsed(row["report"])
    except ValueError:
        return None
    if not isinstance(report, dict) or not isinstance(report.get("splits"), dict):
        return None
    return account(row["task"], row["metric"], row["labels"], report)


def smallest_difference(metric: str, items: int, of_classes: Sequence[int]) -> float | None:
    """About the smallest difference between two models' scores that a test set detects with 80% power, at 5%.

    The share of items that exactly one of the two has right is at most `DISAGREEMENT`: so the difference of their
    accuracies has a standard error of at most sqrt(DISAGREEMENT / n) (McNemar 1947). For a mean over classes, n is the
    effective number of items (`Metric.effective`).

    Args:
        metric: a metric of classification; for others None is returned.
        items: number of items, or of groups of related items, that are answered independently of each other.
        of_classes: the same for each class.
    """
    definition = METRICS.get(metric)
    if definition is None:
        return None
    size = items if definition.effective is None else definition.effective(np.array(of_classes, dtype=np.int64))
    return min(1.0, _POWER * math.sqrt(DISAGREEMENT / size)) if size > 0 else None


def cut_off(dataset: Dataset, max_length: int) -> str | None:
    """A warning if texts have more words than `max_length` tokens and will be cut off; others may be, too."""
    long = sum(len(text.split()) > max_length for text in dataset.items["text"].to_pylist())
    if not long:
        return None
    return (
        f"task {dataset.task}: {long:,} of {dataset.items.num_rows:,} items have more words than "
        f"training.max_length ({max_length}) has tokens: what is beyond is cut off, and no item is left out for it"
    )


def _split(name: str, metric: str, labels: Sequence[str], told: Mapping[str, Any]) -> SplitAccount:
    classes, related = _mapping(told, "classes"), _mapping(told, "groups_of_classes")
    items, groups = _number(told, "items"), _number(told, "groups")
    independent = smallest_difference(metric, items, [_number(classes, label) for label in labels])
    as_one = smallest_difference(metric, groups, [_number(related, label) for label in labels])
    shows = None if independent is None or as_one is None or name not in TEST_SPLITS else (independent, as_one)
    left = [*_left_out(told), Count(name=_CAPPED, number=_number(told, "items_available") - items)]
    return SplitAccount(
        split=name,
        items=items,
        groups=groups,
        classes=tuple(Count(name=visible(label), number=_number(classes, label)) for label in labels),
        left_out=tuple(count for count in left if count.number > 0),
        shows=shows,
    )


def _way(report: Mapping[str, Any], items: int) -> Way:
    return Way(
        rows=_number(report, "rows"), left_out=tuple(_left_out(report)), items=items, groups=_number(report, "groups")
    )


def _left_out(report: Mapping[str, Any]) -> Iterator[Count]:
    for key, (name, _) in _LEFT_OUT.items():
        if _number(report, key) > 0:
            yield Count(name=name, number=_number(report, key))


def _warnings(made: Account) -> Iterator[str]:
    lost = Counter({count.name: count.number for count in made.own.left_out})
    total = made.own.items + lost.total()
    for split in made.splits:
        if split.split != Split.OOD.value:
            lost.update({count.name: count.number for count in split.left_out if count.name not in _CHOSEN})
    if lost.total() > total / 2:
        ((name, number),) = lost.most_common(1)
        why = next(why for called, why in _LEFT_OUT.values() if called == name)
        yield (
            f"task {made.task}: most of its rows are lost, {lost.total():,} of {total:,}; {number:,} of these are "
            f"{name}: {why}"
        )
    for split in made.splits:
        if split.split in TEST_SPLITS:
            yield from _of_test_set(made, split)
        without = sum(count.number for count in split.left_out if count.name == _WITHOUT_TARGET)
        available = split.items + sum(count.number for count in split.left_out)
        if without > available / 2:
            yield (
                f"task {made.task}: {without:,} of {available:,} items of {split.split} are {_WITHOUT_TARGET}: "
                f"{_LEFT_OUT['dropped_without_target'][1]}"
            )


def _of_test_set(made: Account, split: SplitAccount) -> Iterator[str]:
    subject = f"task {made.task}: {split.items:,} items of {split.split}"
    metric = made.metric.replace("_", " ")
    rare = _listed(f"{count.number:,} of {count.name}" for count in split.classes if count.number < _RARE * split.items)
    few = _listed(f"{count.number} of {count.name}" for count in split.classes if count.number < FEW)
    if split.shows is not None and split.shows[0] > COARSE:
        only = f", only {rare}," if rare else ""
        yield f"{subject}{only} are too few to show a difference in {metric} below about {split.shows[0]:.2f}"
    elif few:
        yield f"{subject}, only {few}: what is said of so few items is rough"
    most = max(split.classes, key=lambda count: count.number, default=None)
    if made.metric == "accuracy" and most is not None and most.number >= _ONE_SIDED * split.items:
        yield (
            f"{subject}: who always answers {most.name} has an accuracy of {most.number / split.items:.3f}; "
            "`metric: balanced_accuracy` or `f1` says more"
        )


def _mapping(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) else 0


def _listed(parts: Iterable[str]) -> str:
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _percent(number: int, whole: int) -> str:
    share = number / whole if whole else 0.0
    return f"{share:.1%} ({number:,})" if share < _RARE else f"{share:.0%}"
