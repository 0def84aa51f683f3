"""Which items of `weak_train` make up a budget of ground truth."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def budget(item_ids: Sequence[str], labels: Sequence[Hashable], size: int) -> list[int]:
    """Indices of `size` items, or of all if there are fewer: the classes take turns, each in the order of item ids.

    Ids are hashes of the items' content. A larger budget contains a smaller one. Indices are in the order of choice.
    """
    turns: dict[Hashable, int] = {}
    taken = []
    for place in sorted(range(len(item_ids)), key=item_ids.__getitem__):
        turns[labels[place]] = turn = turns.get(labels[place], -1) + 1
        taken.append((turn, item_ids[place], place))
    return [place for _, _, place in sorted(taken)[:size]]
