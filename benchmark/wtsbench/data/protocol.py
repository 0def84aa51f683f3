"""From rows to items: duplicates and contradictions removed, groups kept whole, four disjoint splits, balanced, capped.

Nothing here depends on the order of the rows: every order is that of a hash of content and data seed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from wtsbench.contract.schemas import ITEMS
from wtsbench.data import overlap
from wtsbench.data.balance import TAUGHT, choose, rank
from wtsbench.data.grouping import SHINGLE_WORDS, group_items
from wtsbench.data.normalise import content_key, item_id
from wtsbench.data.ood import unseen
from wtsbench.data.rows import Row
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import TEST_SPLITS, Split


@dataclass(frozen=True)
class Item:
    """A distinct text with its one label, or with its target if it has one."""

    item_id: str
    text: str
    label: int | None
    target: str | None
    texts: tuple[str, ...]
    groups: frozenset[str]
    similar: tuple[frozenset[str], ...]
    """Comparable texts for each set of columns in which near-identical items are looked for."""
    group_id: str = ""


PARTED = (Split.WEAK_TRAIN, Split.TRANSFER, Split.VALIDATION, Split.TEST)
"""The splits of a task's own data."""


def build(
    manifest: TaskManifest, settings: DataSettings, rows: Sequence[Row], elsewhere: Sequence[Row] | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """The items table (without its digest) and the report's counts.

    Args:
        manifest: the task.
        settings: of the grid.
        rows: of the task's source.
        elsewhere: rows of its out-of-distribution set, if it has one.

    Raises:
        DataError: a split has fewer than two items, or lacks a class; or a test set is a single group, which allows no
            conclusion about other items.
    """
    items, counts = distinct(rows)
    items = grouped(items, manifest.group.threshold)
    splits = split_groups(items, manifest, settings.seed)
    draw = settings.seed if settings.draw is None else settings.draw
    if settings.draw is not None:
        taught = [item for split in TAUGHT for item in splits[split]]
        splits |= split_groups(taught, manifest, draw, TAUGHT)
    balance = settings.balance or manifest.balance
    report: dict[str, Any] = {**counts, **_group_report(items, manifest), "data_seed": settings.seed, "splits": {}}
    report["draw"] = draw
    report["balance"] = balance if manifest.form == "classification" else None
    chosen: dict[Split, list[Item]] = {}
    for split in PARTED:
        size = getattr(manifest.splits, split.value)
        cap = getattr(settings, split.value) or size.items
        seed = draw if split in TAUGHT else settings.seed
        chosen[split], split_counts = choose(manifest, split, splits[split], balance=balance, cap=cap, seed=seed)
        report["splits"][split.value] = {"share": size.share, **split_counts}
    left: list[Item] = []
    if elsewhere is not None:
        other = manifest.ood_manifest()
        assert other is not None, "the rows are of a set that the manifest has"
        assert manifest.ood is not None, "the rows are of a set that the manifest has"
        strangers, ood_counts = distinct(elsewhere)
        left, dropped = unseen(grouped(strangers, other.group.threshold), items, other.group.threshold)
        cap = settings.ood or manifest.ood.items
        chosen[Split.OOD], split_counts = choose(other, Split.OOD, left, balance=balance, cap=cap, seed=settings.seed)
        report["splits"][Split.OOD.value] = split_counts
        report["ood"] = {**ood_counts, **dropped, **_group_report(left, other)}
    _check_sizes(manifest, report, items, left)
    report["test_values_seen_in_training"] = overlap.values_seen(manifest, chosen)
    report["near_identical_across_splits"] = overlap.near_identical(manifest, chosen)
    report["words"] = _words(chosen)
    table = _table(chosen)
    check_disjoint(table)
    return table, report


def distinct(rows: Iterable[Row]) -> tuple[list[Item], dict[str, int]]:
    """One item per comparable text; texts with contradicting labels are dropped with all their rows.

    A prompt with several continuations is one item, whose target is one that may be learned from, if there is any.
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
    """The items with the id of their group, which is its smallest item id."""
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


def split_groups(
    items: Sequence[Item], manifest: TaskManifest, seed: int, parted: Sequence[Split] = PARTED
) -> dict[Split, list[Item]]:
    """Assign whole groups, in the order of their hash, to one split after the other until each has its share."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.group_id].append(item)
    bounds: list[tuple[Split, float]] = []
    total_share = round(sum(getattr(manifest.splits, split.value).share for split in parted), 9)
    reached = 0.0
    for split in parted:
        reached += getattr(manifest.splits, split.value).share
        bounds.append((split, reached / total_share * len(items)))
    result: dict[Split, list[Item]] = {split: [] for split in parted}
    before = 0
    for group_id in sorted(groups, key=lambda name: rank(seed, "group", name)):
        middle = before + len(groups[group_id]) / 2
        split = next((split for split, bound in bounds if middle < bound), bounds[-1][0])
        result[split].extend(groups[group_id])
        before += len(groups[group_id])
    return result


def check_disjoint(items: pa.Table) -> None:
    """Assert that no item occurs twice and no group is in two splits."""
    ids = items["item_id"].to_pylist()
    assert len(set(ids)) == len(ids), "an item occurs twice"
    home: dict[str, str] = {}
    for group, split in zip(items["group_id"].to_pylist(), items["split"].to_pylist(), strict=True):
        assert home.setdefault(group, split) == split, f"group {group} lies in {home[group]} and in {split}"


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


def _words(chosen: dict[Split, list[Item]]) -> dict[str, int]:
    """Statistics of words per text: a tokenizer makes at least as many tokens."""
    counts = sorted(len(item.text.split()) for items in chosen.values() for item in items)
    return {"median": counts[len(counts) // 2], "longest": counts[-1]}


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
    """Raise DataError if a split is too small; if one group has most items, the message says what joins them."""
    for name, counts in report["splits"].items():
        missing = [label for label, count in counts["classes"].items() if not count]
        # Intervals resample groups: with a single one they would have no width and seem to prove anything.
        single = name in TEST_SPLITS and counts["groups"] < 2 <= counts["items"]
        if counts["items"] >= 2 and not missing and not single:
            continue
        lacks = f", none of them {' or '.join(missing)}" if missing else ", all of one group" if single else ""
        found, own = (report["ood"], strangers) if name == Split.OOD.value else (report, items)
        dropped = found["contradictory_rows_dropped"]
        also = f"; {dropped} rows are left out for texts that have contradictory labels" if dropped else ""
        tied = overlap.crowded(own)
        least, cap = counts["least_cap"], counts["items_asked"] or counts["items"]
        if missing and cap < least:
            remedy = f"raise its cap of {cap}: {least} items of this split are the fewest with every class among them."
        elif found is not report:
            remedy = "give the manifest's ood another source, or leave it out."
        elif tied:
            remedy = (
                "tie the items by fewer columns, name in group.similar those that have to differ, or raise "
                "group.threshold: at 1 only equal texts are alike."
            )
        else:
            remedy = f"give the task more data, or splits.{name} in its manifest a larger share."
        raise DataError(
            f"task {manifest.name}: too few items: split {name} has {counts['items']}{lacks}, of "
            f"{found['distinct_items']} distinct items in {found['groups']} groups, the largest of "
            f"{found['largest_group']}{tied}{also}",
            remedy=remedy,
        )
