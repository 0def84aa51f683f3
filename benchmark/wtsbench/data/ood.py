"""The out-of-distribution set, without items that the task's own data contains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wtsbench.data.grouping import alike
from wtsbench.data.normalise import comparable

if TYPE_CHECKING:
    from wtsbench.data.protocol import Item


def unseen(strangers: Sequence[Item], known: Sequence[Item], threshold: float) -> tuple[list[Item], dict[str, int]]:
    """The items of another set that the task's own data does not contain, and counts of those left out.

    An item is left out with its whole group. All distinct items of the task count, whatever the grid's caps, so that
    the set is the same for every cap.

    Args:
        strangers: the other set's items, grouped.
        known: all the task's items.
        threshold: similarity from which two texts count as nearly the same.
    """
    ids, texts = {item.item_id for item in known}, {comparable(item.text) for item in known}
    same = [item.item_id in ids or comparable(item.text) in texts for item in strangers]
    near = alike([_compared(item) for item in strangers], [_compared(item) for item in known], threshold)
    groups = {item.group_id for item, one, two in zip(strangers, same, near, strict=True) if one or two}
    left = [item for item in strangers if item.group_id not in groups]
    either = [is_same or is_near for is_same, is_near in zip(same, near, strict=True)]
    return left, {
        "same_text_dropped": sum(same),
        "near_identical_dropped": sum(either) - sum(same),
        "of_their_groups_dropped": len(strangers) - len(left) - sum(either),
        "unseen_items": len(left),
    }


def _compared(item: Item) -> frozenset[str]:
    """The whole text, and the columns in which near-identical items are looked for."""
    return frozenset({comparable(item.text)}.union(*item.similar))
