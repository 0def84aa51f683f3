"""A list of words as a scorer, for artificial languages such as that of the synthetic task."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wtsbench.scoring.base import Scorer, Scores
from wtsbench.spec.scorer import LexiconSource

_VERSION = 1
"""Raised when a change of code gives other scores for the same list."""
_WORD = re.compile(r"[^\W_]+")
_CLAUSES = re.compile(r"[.,;:!?\n]+")


@dataclass(frozen=True, kw_only=True)
class LexiconScorer(Scorer):
    """The probability that at least one listed word is taken as toxic, if each is so independently.

    `1 - prod(1 - weight)` over all occurrences in clauses that have a target word; a clause ends at a punctuation mark
    or a line break, and words are compared without case. A text without such words, as the empty text, scores 0.
    """

    name: str
    source: LexiconSource

    def identity(self) -> dict[str, Any]:
        """The list, and the version of the rule."""
        return {
            "kind": "lexicon",
            "version": _VERSION,
            "weights": dict(self.source.weights),
            "targets": sorted(set(self.source.targets)),
        }

    def score(self, texts: Sequence[str]) -> Scores:
        """[N] scores; see the class."""
        return np.array([self._score(text) for text in texts], dtype=np.float64)

    def _score(self, text: str) -> float:
        harmless, targets = 1.0, set(self.source.targets)
        for clause in _CLAUSES.split(unicodedata.normalize("NFKC", text).casefold()):
            words = _WORD.findall(clause)
            if not targets or targets.intersection(words):
                for word in words:
                    harmless *= 1 - self.source.weights.get(word, 0.0)
        return 1 - harmless
