"""Choosing a split's items: classes cut to the size of the rarest if asked for, then capped with equal shares."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from wtsbench.spec.items import Balance
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import TEST_SPLITS, Split

if TYPE_CHECKING:
    from wtsbench.data.protocol import Item

TAUGHT = (Split.WEAK_TRAIN, Split.TRANSFER)
"""The splits that are learned from, and drawn anew by another draw. A generative item needs a target there."""


def choose(
    manifest: TaskManifest, split: Split, items: Iterable[Item], *, balance: Balance, cap: int | None, seed: int
) -> tuple[list[Item], dict[str, Any]]:
    """A split's items, balanced and capped, and counts of the dropped ones."""
    ordered = sorted(items, key=lambda item: rank(seed, "item", item.item_id))
    counts: dict[str, Any] = {}
    if manifest.form == "generation":
        before = len(ordered)
        ordered = [item for item in ordered if item.target is not None or split not in TAUGHT]
        counts["dropped_without_target"] = before - len(ordered)
    balanced = _evened(ordered) if balance == "all" or (balance == "train" and split not in TEST_SPLITS) else ordered
    turns = _by_share(balanced)
    chosen = turns[:cap]
    classes = Counter(item.label for item in chosen)
    related = Counter(label for label, _ in {(item.label, item.group_id) for item in chosen})
    return chosen, {
        **counts,
        "items_before_balancing": len(ordered),
        "dropped_by_balancing": len(ordered) - len(balanced),
        "items_available": len(balanced),
        "items_asked": cap,
        "least_cap": _whole_at(turns),
        "items": len(chosen),
        "groups": len({item.group_id for item in chosen}),
        "classes": {name: classes[label] for label, name in enumerate(manifest.labels)},
        "groups_of_classes": {name: related[label] for label, name in enumerate(manifest.labels)},
    }


def rank(seed: int, kind: str, name: str) -> bytes:
    """Sort key of items and groups: a hash, so that neither the order of rows nor ids matter."""
    return hashlib.sha256(f"{seed}\n{kind}\n{name}".encode()).digest()


def _evened(ordered: Sequence[Item]) -> list[Item]:
    """The first items of each class, as many as the rarest class has."""
    least = min(Counter(item.label for item in ordered).values(), default=0)
    return [item for item, place in _placed(ordered) if place < least]


def _by_share(ordered: Sequence[Item]) -> list[Item]:
    """The items in an order in which every prefix has nearly the class shares of the whole.

    Item i of the n of its class gets position (i + 1/2) / n (the Webster/Sainte-Lague method). So a smaller cap keeps a
    subset of what a larger one keeps.
    """
    sizes = Counter(item.label for item in ordered)
    keyed = [((place + 0.5) / sizes[item.label], item.label or 0, item) for item, place in _placed(ordered)]
    return [item for *_, item in sorted(keyed, key=lambda entry: entry[:2])]


def _placed(ordered: Sequence[Item]) -> list[tuple[Item, int]]:
    """Each item with its index within its class."""
    seen: Counter[int | None] = Counter()
    placed = []
    for item in ordered:
        placed.append((item, seen[item.label]))
        seen[item.label] += 1
    return placed


def _whole_at(turns: Sequence[Item]) -> int:
    """The smallest cap that keeps an item of every class."""
    first = {item.label: place for place, item in reversed(list(enumerate(turns)))}
    return 1 + max(first.values(), default=-1)
