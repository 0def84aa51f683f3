"""The interface of all scorers. A score says how toxic a text is: in [0, 1], higher is more toxic.

Shapes: N texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtsbench.errors import ScorerError
from wtsbench.spec.identity import digest

Scores = NDArray[np.float64]


class Scorer(ABC):
    """Gives texts their scores. Equal texts get equal scores, whatever else is in the call.

    An empty text gets the score of the empty string, by the rule in the docstring of the scorer's class. Summaries of
    scores must report empty texts too, or a model that writes nothing would win.
    """

    name: str
    """Its name for people."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything that decides a score, as JSON: kind, weights, settings. Never its name, a path or a secret."""

    @property
    def digest(self) -> str:
        """SHA-256 of the identity. Scores of different digests are different quantities, and never mixed."""
        return digest(self.identity())

    @abstractmethod
    def score(self, texts: Sequence[str]) -> Scores:
        """[N] scores in [0, 1]; none is NaN.

        Raises:
            ScorerUnavailable: it does not answer now; the same call may succeed later.
            ScorerError: it cannot score them.
        """


def once_each(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct texts in order of first use, and for each of the N texts its index [N] among them."""
    index_of: dict[str, int] = {}
    indices = [index_of.setdefault(text, len(index_of)) for text in texts]
    return list(index_of), np.array(indices, dtype=np.int64)


def checked(scores: Scores, *, name: str, texts: int) -> Scores:
    """The scores, if there are as many as `texts` and all are in [0, 1]; rounding errors beyond are clipped.

    Raises:
        ScorerError: there are too few or too many, or one is out of range.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (texts,):
        raise ScorerError(f"scorer {name} gave scores of shape {values.shape} for {texts} texts")
    if not bool(np.all((values >= -1e-9) & (values <= 1 + 1e-9))):  # NaN compares as false
        raise ScorerError(f"scorer {name} gave a score that is not between 0 and 1")
    return np.clip(values, 0.0, 1.0)
