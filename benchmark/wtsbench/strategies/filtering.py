"""Base of strategies that filter items: labels for all, then a choice among them."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from wtsbench.strategies import base
from wtsbench.strategies.base import Floats


class NothingKept(ValueError):
    """A filter leaves no item to learn from."""


class Filter(base.Strategy):
    """Base of strategies that learn from some of the items."""

    filters = True

    def label(self, supervision: base.Supervision) -> base.Labelled:
        """All items with labels for training: here those of `naive`."""
        return base.Strategy.prepare(self, supervision)

    @abstractmethod
    def keep(self, supervision: base.Supervision) -> NDArray[np.bool_]:
        """[N] which items are kept."""

    def prepare(self, supervision: base.Supervision) -> base.Labelled:
        """The kept items.

        Raises:
            NothingKept: there are none.
        """
        kept = self.keep(supervision)
        if not kept.any():
            raise NothingKept(f"strategy {self.name} keeps none of {len(kept)} items: {self.why_none(supervision)}")
        return self.label(supervision).subset(kept)

    def why_none(self, supervision: base.Supervision) -> str:
        """Explanation for the error if nothing is kept."""
        return "loosen its parameters"


def largest(scores: Floats, count: int) -> NDArray[np.bool_]:
    """[N] mask of the `count` largest of `scores` [N]; of equal ones the first, in order of item id."""
    kept = np.zeros(len(scores), dtype=bool)
    kept[np.argsort(-scores, kind="stable")[:count]] = True
    return kept


def share_of(size: int, share: float) -> int:
    """A share of `size` items in whole items, at least one if the share is not 0."""
    return min(size, max(1, round(share * size))) if share > 0 else 0
