"""Overlap between test items and training items, as far as the manifest's grouping allows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wtsbench.data.balance import TAUGHT
from wtsbench.data.grouping import similar_pairs
from wtsbench.data.normalise import comparable
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import Split
from wtsbench.visible import shortened

if TYPE_CHECKING:
    from wtsbench.data.protocol import Item

_TIES = 3
"""Number of values in a message."""
_EXCERPT = 100
"""Characters of a text in a message."""


def values_seen(manifest: TaskManifest, chosen: Mapping[Split, Sequence[Item]]) -> dict[str, float]:
    """For each of several text columns, the share of test items whose value also occurs in weak_train or transfer."""
    if len(manifest.text_columns) < 2:
        return {}
    shares: dict[str, float] = {}
    test = chosen[Split.TEST]
    for place, column in enumerate(manifest.text_columns):
        learned = {comparable(item.texts[place]) for split in TAUGHT for item in chosen[split]}
        shares[column] = round(sum(comparable(item.texts[place]) in learned for item in test) / len(test), 6)
    return shares


def near_identical(manifest: TaskManifest, chosen: Mapping[Split, Sequence[Item]]) -> dict[str, Any]:
    """The number of test items whose whole text is nearly that of an item of weak_train or transfer, and two of them.

    Grouping prevents any, unless `group.similar` restricts the columns that are compared.
    """
    if not manifest.group.similar:
        return {"test_items": 0, "example": []}
    test = {_whole(item): item.text for item in chosen[Split.TEST]}
    learned = {_whole(item): item.text for split in TAUGHT for item in chosen[split]}
    own, others = sorted(test), sorted(learned)
    left, right = similar_pairs(own, manifest.group.threshold, others)
    example = [] if not len(left) else [test[own[int(left[0])]], learned[others[int(right[0])]]]
    near = {own[place] for place in np.unique(left).tolist()}
    return {"test_items": sum(_whole(item) in near for item in chosen[Split.TEST]), "example": example}


def warnings(task: str, report: Mapping[str, Any]) -> list[str]:
    """Warnings from a preparation's report, to know before reading scores."""
    near = report.get("near_identical_across_splits")
    if not near or not near["test_items"]:
        return []
    one, two = map(_excerpt, near["example"])
    size = report["splits"][Split.TEST.value]["items"]
    return [
        f"task {task}: {near['test_items']} of {size} test items are nearly the same as an item that is learned from, "
        f"such as {one} and {two}: its manifest's group.similar leaves out what they share"
    ]


def crowded(items: Sequence[Item]) -> str:
    """If more than half of the items are one group: what most of them have in common, and two of them."""
    group_id, largest = Counter(item.group_id for item in items).most_common(1)[0] if items else ("", 0)
    if largest <= len(items) / 2:
        return ""
    members = [item for item in items if item.group_id == group_id]
    values = Counter(value.replace("\n", " ", 1) for item in members for value in item.groups)  # a column and its value
    values.update(f"the text {text!r}" for item in members for text in set[str]().union(*item.similar))
    common = ", ".join(f"{shortened(value)} ({count} items)" for value, count in values.most_common(_TIES) if count > 1)
    why = f"tied together most by {common}" if common else "each nearly the same as another of them"
    one, two = (_excerpt(item.text) for item in members[:2])
    return f", {why}, such as {one} and {two}"


def _whole(item: Item) -> str:
    return " ".join(map(comparable, item.texts))


def _excerpt(text: str) -> str:
    """The beginning of a text, in quotes, on one line; unprintable characters are escaped."""
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…")
