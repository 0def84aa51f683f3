"""From rows to items: duplicates and contradictions out, groups kept whole, four disjoint splits, balanced and capped.

Nothing here depends on the order of the rows: whatever needs an order takes that of a hash of content and data seed.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from wtsbench.contract.schemas import ITEMS
from wtsbench.data import overlap
from wtsbench.data.grouping import SHINGLE_WORDS, group_items
from wtsbench.data.normalise import content_key, item_id
from wtsbench.data.ood import unseen
from wtsbench.data.rows import Row
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import TEST_SPLITS, Split

MAJORITY = 0.55
"""A split whose largest class has a greater share is cut down to the size of its smallest class."""


@dataclass(frozen=True)
class Item:
    """A distinct text with its one label, or with its target where it has one."""

    item_id: str
    text: str
    label: int | None
    target: str | None
    texts: tuple[str, ...]
    groups: frozenset[str]
    similar: tuple[frozenset[str], ...]
    """Comparable texts for each set of columns in which near-identical items are looked for."""
    group_id: str = field(default="")


PARTED = (Split.WEAK_TRAIN, Split.TRANSFER, Split.VALIDATION, Split.TEST)
"""The splits that a task's own data is parted into."""
_TAUGHT = (Split.WEAK_TRAIN, Split.TRANSFER)
"""Where a generative item needs a target: ground truth is learned from there."""


def build(
    manifest: TaskManifest, settings: DataSettings, rows: Sequence[Row], elsewhere: Sequence[Row] | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """The items table (without its digest) and the report's counts.

    Args:
        manifest: the task.
        settings: of the grid.
        rows: of the task's source.
        elsewhere: of its out-of-distribution set, where it has one.

    Raises:
        DataError: a split ends up with fewer than two items, or without one of the classes; or a test set is of one
            group, from which nothing can be said about other items.
    """
    items, counts = distinct(rows)
    items = grouped(items, manifest.group.threshold)
    splits = split_groups(items, manifest, settings.seed)
    report: dict[str, Any] = {**counts, **_group_report(items, manifest), "data_seed": settings.seed, "splits": {}}
    chosen: dict[Split, list[Item]] = {}
    for split in PARTED:
        size = getattr(manifest.splits, split.value)
        cap = getattr(settings, split.value) or size.items
        chosen[split], told = _choose(manifest, splits[split], cap, settings.seed, taught=split in _TAUGHT)
        report["splits"][split.value] = {"share": size.share, **told}
    left: list[Item] = []
    if elsewhere is not None:
        other = manifest.ood_manifest()
        if other is None or manifest.ood is None:
            raise AssertionError("rows of a set that the manifest has not")
        strangers, found = distinct(elsewhere)
        left, dropped = unseen(grouped(strangers, other.group.threshold), items, other.group.threshold)
        cap = settings.ood or manifest.ood.items
        chosen[Split.OOD], told = _choose(other, left, cap, settings.seed, taught=False)
        report["splits"][Split.OOD.value] = told
        report["ood"] = {**found, **dropped, **_group_report(left, other)}
    _check_sizes(manifest, report, items, left)
    report["test_values_seen_in_training"] = overlap.values_seen(manifest, chosen)
    report["near_identical_across_splits"] = overlap.near_identical(manifest, chosen)
    table = _table(chosen)
    check_disjoint(table)
    return table, report


def _choose(
    manifest: TaskManifest, items: Sequence[Item], cap: int | None, seed: int, *, taught: bool
) -> tuple[list[Item], dict[str, Any]]:
    """A split's items, balanced and capped, and the counts of what was done."""
    ordered = _in_turn(items, seed)
    counts: dict[str, Any] = {}
    if manifest.form == "generation":
        before = len(ordered)
        ordered = [item for item in ordered if item.target is not None or not taught]
        counts["dropped_without_target"] = before - len(ordered)
    balanced = balance(ordered)
    chosen = balanced[:cap]
    classes = Counter(item.label for item in chosen)
    return chosen, {
        **counts,
        "items_before_balancing": len(ordered),
        "dropped_by_balancing": len(ordered) - len(balanced),
        "items_available": len(balanced),
        "items_asked": cap,
        "items": len(chosen),
        "groups": len({item.group_id for item in chosen}),
        "classes": {name: classes[label] for label, name in enumerate(manifest.labels)},
    }


def distinct(rows: Iterable[Row]) -> tuple[list[Item], dict[str, int]]:
    """One item per comparable text; texts that occur with different labels are dropped with all their rows.

    A prompt that occurs with several continuations is one item, with one that may be learned from where it has one.
    """
    by_key: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_key[content_key(row.texts)].append(row)
    items: list[Item] = []
    contradictory: list[list[Row]] = []
    for key, same in by_key.items():
        if len({row.label for row in same}) > 1:
            contradictory.append(same)
            continue
        shown = min(same, key=lambda row: (row.target is None, row.text, row.texts, row.target or ""))
        items.append(
            Item(
                item_id=item_id(key),
                text=shown.text,
                label=shown.label,
                target=shown.target,
                texts=shown.texts,
                groups=frozenset(value for row in same for value in row.groups),
                similar=tuple(map(frozenset, zip(*(row.similar for row in same), strict=True))),
            )
        )
    items.sort(key=lambda item: item.item_id)
    dropped = sum(map(len, contradictory))
    counts = {
        "contradictory_texts": len(contradictory),
        "contradictory_rows_dropped": dropped,
        "duplicate_rows_dropped": sum(map(len, by_key.values())) - dropped - len(items),
        "distinct_items": len(items),
    }
    return items, counts


def grouped(items: Sequence[Item], threshold: float) -> list[Item]:
    """The items with their group's id, which is the smallest item id of the group."""
    if not items:
        return []
    ties = [(number, value) for number, item in enumerate(items) for value in sorted(item.groups)]
    likenesses = [
        [(number, value) for number, item in enumerate(items) for value in sorted(item.similar[kind])]
        for kind in range(len(items[0].similar))
    ]
    numbers = group_items(len(items), ties, likenesses, threshold)
    first: dict[int, str] = {}
    for item, number in zip(items, numbers.tolist(), strict=True):
        first[number] = min(first.get(number, item.item_id), item.item_id)
    return [replace(item, group_id=first[number]) for item, number in zip(items, numbers.tolist(), strict=True)]


def split_groups(items: Sequence[Item], manifest: TaskManifest, seed: int) -> dict[Split, list[Item]]:
    """Whole groups, in the order of their hash, to the splits in turn until each has its share of the items."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.group_id].append(item)
    bounds: list[tuple[Split, float]] = []
    reached = 0.0
    for split in PARTED:
        reached += getattr(manifest.splits, split.value).share
        bounds.append((split, reached * len(items)))
    result: dict[Split, list[Item]] = {split: [] for split in PARTED}
    before = 0
    for group_id in sorted(groups, key=lambda name: _rank(seed, "group", name)):
        middle = before + len(groups[group_id]) / 2
        split = next((split for split, bound in bounds if middle < bound), bounds[-1][0])
        result[split].extend(groups[group_id])
        before += len(groups[group_id])
    return result


def balance(ordered: Sequence[Item]) -> list[Item]:
    """All items; or, where one class is too common, the first of each class, as many as the smallest class has."""
    classes = Counter(item.label for item in ordered)
    if not classes or max(classes.values()) <= MAJORITY * len(ordered):
        return list(ordered)
    least = min(classes.values())
    seen: Counter[int | None] = Counter()
    kept: list[Item] = []
    for item in ordered:
        seen[item.label] += 1
        if seen[item.label] <= least:
            kept.append(item)
    return kept


def check_disjoint(items: pa.Table) -> None:
    """Raise AssertionError where an item occurs twice or a group lies in two splits: our fault, never the data's."""
    ids = items["item_id"].to_pylist()
    if len(set(ids)) != len(ids):
        raise AssertionError("an item occurs twice")
    home: dict[str, str] = {}
    for group, split in zip(items["group_id"].to_pylist(), items["split"].to_pylist(), strict=True):
        if home.setdefault(group, split) != split:
            raise AssertionError(f"group {group} lies in {home[group]} and in {split}")


def _in_turn(items: Iterable[Item], seed: int) -> list[Item]:
    """By hash, the classes taking turns: so every prefix is as balanced as can be, and holds every shorter one."""
    turn: Counter[int | None] = Counter()
    keyed: list[tuple[int, int, Item]] = []
    for item in sorted(items, key=lambda item: _rank(seed, "item", item.item_id)):
        keyed.append((turn[item.label], -1 if item.label is None else item.label, item))
        turn[item.label] += 1
    keyed.sort(key=lambda entry: entry[:2])
    return [item for _, _, item in keyed]


def _rank(seed: int, kind: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{kind}\n{name}".encode()).digest()


def _table(chosen: dict[Split, list[Item]]) -> pa.Table:
    rows = [
        {
            "data_digest": "",
            "item_id": item.item_id,
            "group_id": item.group_id,
            "split": split.value,
            "text": item.text,
            "label": item.label,
            "target": item.target,
        }
        for split in Split
        for item in sorted(chosen.get(split, ()), key=lambda item: item.item_id)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def _group_report(items: Sequence[Item], manifest: TaskManifest) -> dict[str, Any]:
    sizes = Counter(item.group_id for item in items)
    return {
        "groups": len(sizes),
        "largest_group": max(sizes.values(), default=0),
        "items_in_groups_of_several": sum(size for size in sizes.values() if size > 1),
        "similarity": {
            "columns": [list(columns) for columns in manifest.similar_columns],
            "shingle_words": SHINGLE_WORDS,
            "threshold": manifest.group.threshold,
        },
    }


def _check_sizes(manifest: TaskManifest, report: dict[str, Any], items: list[Item], strangers: list[Item]) -> None:
    """Raise DataError where a split is too small; if one group holds most items, what ties them together is why."""
    for name, counts in report["splits"].items():
        missing = [label for label, count in counts["classes"].items() if not count]
        # Intervals resample groups: with a single one they would have no width, and prove whatever they hold.
        single = name in TEST_SPLITS and counts["groups"] < 2 <= counts["items"]
        if counts["items"] >= 2 and not missing and not single:
            continue
        lacks = f", none of them {' or '.join(missing)}" if missing else ", all of one group" if single else ""
        found, own = (report["ood"], strangers) if name == Split.OOD.value else (report, items)
        dropped = found["contradictory_rows_dropped"]
        also = f"; {dropped} rows are left out for texts that have contradictory labels" if dropped else ""
        tied = overlap.crowded(own)
        raise DataError(
            f"task {manifest.name}: too few items: split {name} has {counts['items']}{lacks}, of "
            f"{found['distinct_items']} distinct items in {found['groups']} groups, the largest of "
            f"{found['largest_group']}{tied}{also}",
            remedy="give the manifest's ood another source, or leave it out."
            if found is not report
            else "tie the items by fewer columns, name in group.similar those that have to differ, or raise "
            "group.threshold: at 1 only equal texts are alike."
            if tied
            else f"give the task more data, or splits.{name} in its manifest a larger share.",
        )
