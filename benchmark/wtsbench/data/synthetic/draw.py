"""Random choices that are the same on every machine and Python version."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Draw:
    """Choices from a seed and a scope; equal arguments give equal choices for ever.

    Only `random.Random.random` is used: Python promises that its sequence stays, and promises nothing of `choice` or
    `shuffle`.
    """

    def __init__(self, seed: int, scope: str) -> None:
        key = hashlib.sha256(f"{scope}:{seed}".encode()).digest()
        self._random = random.Random(int.from_bytes(key[:8], "big")).random

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def pick(self, choices: Sequence[_T]) -> _T:
        """One of `choices`, all equally likely."""
        return choices[int(self._random() * len(choices))]

    def usual(self, choices: Sequence[_T], *, often: float) -> _T:
        """One of the first two of `choices` with probability `often`, else one of all of them."""
        return self.pick(choices[:2] if self.chance(often) else choices)

    def two(self, choices: Sequence[_T]) -> tuple[_T, _T]:
        """Two of `choices`, at different places."""
        first = int(self._random() * len(choices))
        second = int(self._random() * (len(choices) - 1))
        return choices[first], choices[second + (second >= first)]


class RareDraw(Draw):
    """Draws no usual wording where there are others: texts of the same language that speak otherwise."""

    def usual(self, choices: Sequence[_T], *, often: float) -> _T:
        """One of `choices` but the first two, all equally likely."""
        return self.pick(choices[2:] or choices)


def phrases(text: str) -> tuple[str, ...]:
    """`"a b, c"` as ("a b", "c")."""
    return tuple(phrase.strip() for phrase in text.split(","))
