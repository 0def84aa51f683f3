"""The one interface of scorers. A score says how toxic a text is: in [0, 1], higher is more toxic.

Shapes: N texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wtsbench.errors import ScorerError
from wtsbench.spec.identity import digest

Scores = NDArray[np.float64]


class Scorer(Protocol):
    """Gives texts their scores. Equal texts get equal scores, whatever else is in the call.

    An empty text is scored as the scorer scores the empty string, by the rule that its class names; whoever sums up
    scores counts empty texts beside them, or a mute model wins.
    """

    @property
    def name(self) -> str:
        """What people call it."""

    def identity(self) -> dict[str, Any]:
        """Everything that decides a score, as JSON: kind, weights, settings. Never its name, a place or a secret."""

    @property
    def digest(self) -> str:
        """SHA-256 of the identity. Scores of different digests are different quantities: never in one column."""

    def score(self, texts: Sequence[str]) -> Scores:
        """[N] scores in [0, 1]; none is NaN.

        Raises:
            ScorerUnavailable: it does not answer now; the same call may succeed later.
            ScorerError: it cannot score them.
        """


class Identified:
    """What scorers have in common: a digest from the identity."""

    def identity(self) -> dict[str, Any]:
        """See `Scorer`."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """See `Scorer`."""
        return digest(self.identity())


def once_each(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts in the order of first use, and for each of the N texts its place [N] among them."""
    places: dict[str, int] = {}
    which = [places.setdefault(text, len(places)) for text in texts]
    return list(places), np.array(which, dtype=np.int64)


def checked(scores: Scores, *, name: str, texts: int) -> Scores:
    """The scores, if there are as many as `texts` and all are in [0, 1]; a rounding error beyond is cut off.

    Raises:
        ScorerError: they are not.
    """
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != (texts,):
        raise ScorerError(f"scorer {name} gave scores of shape {found.shape} for {texts} texts")
    if not bool(np.all((found >= -1e-9) & (found <= 1 + 1e-9))):  # NaN compares as false
        raise ScorerError(f"scorer {name} gave a score that is not between 0 and 1")
    return np.clip(found, 0.0, 1.0)
