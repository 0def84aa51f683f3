"""Which items of `weak_train` make up a budget of ground truth."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def budget(item_ids: Sequence[str], labels: Sequence[Hashable], size: int) -> list[int]:
    """Places of the first `size` items by id, which is a hash of their content, the classes taking turns.

    A larger budget holds a smaller one. Places are in the order in which items are taken; all of them where there are
    fewer items than `size`.
    """
    turns: dict[Hashable, int] = {}
    taken = []
    for place in sorted(range(len(item_ids)), key=item_ids.__getitem__):
        turns[labels[place]] = turn = turns.get(labels[place], -1) + 1
        taken.append((turn, item_ids[place], place))
    return [place for _, _, place in sorted(taken)[:size]]
