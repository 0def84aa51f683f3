"""What a mean over seeds and items varies by, with its intervals and p-values; `statistics` has the formulas.

Shapes: `...` worlds of a simulation, or nothing: one number each in a table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from wtsbench.metrics.classification import Floats

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
ALPHA = 0.05
"""Chance of any false claim within a family of tests."""
CLAIM_SEEDS = 3
"""With fewer seeds nothing is claimed: two that agree by luck are too common."""
_FEW = 2
"""Degrees of freedom of seeds below which Satterthwaite's interval is too narrow where seeds decide."""
_MORE = 0.25
"""Part of the way from it to the conservative one that makes up for it."""
_CANCELLED = 1e-9
"""Part of the interaction below which a variance is rounding."""
_SMALLEST = -46.0
"""Logarithm of the smallest p-value that is told from 0."""
_HALVINGS = 60
"""Of the range of a p-value's logarithm: far below its last digit."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What the mean over seeds of a quantity varies by, [...] each."""

    seeds: Floats
    """A."""
    items: Floats
    """B."""
    interaction: Floats
    """I."""
    freedom: tuple[Any, Any]
    """K - 1 and n - 1; each a number, or [...] of which none is 0."""

    @cached_property
    def variance(self) -> Floats:
        """V."""
        found = np.maximum(np.maximum(self.seeds + self.items - self.interaction, self.seeds), self.items)
        return np.where(found <= _CANCELLED * self.interaction, self.interaction, found)

    @cached_property
    def error(self) -> Floats:
        """Standard error, sqrt(V)."""
        return np.sqrt(self.variance)

    @cached_property
    def satterthwaite(self) -> Floats:
        """d; n - 1 where nothing varies."""
        over_seeds, over_items = self.freedom
        parts = self.items**2 / over_items
        if np.all(over_seeds):
            parts = parts + self.seeds**2 / over_seeds + self.interaction**2 / (over_seeds * over_items)
        return np.where(parts > 0, self.variance**2 / np.where(parts > 0, parts, 1), over_items)

    def conservative(self, tail: Any) -> Floats:
        """Half the width of the interval whose tails are at most this probable each (Banerjee 1960)."""
        from scipy.special import stdtrit  # a leaderboard that is kept needs none of it

        over_seeds, over_items = self.freedom
        rest = stdtrit(over_items, tail) ** 2 * (self.variance - self.seeds)
        if np.all(over_seeds):
            rest = rest + stdtrit(over_seeds, tail) ** 2 * self.seeds
        half: Floats = np.sqrt(rest)
        return half

    @property
    def quantile(self) -> Floats:
        """How many standard errors half a 95% interval is wide: t of d, and with few seeds some more."""
        from scipy.special import stdtrit

        found: Floats = stdtrit(self.satterthwaite, 1 - TAIL)
        if 0 < self.freedom[0] < _FEW:
            error = np.where(self.error > 0, self.error, 1)
            more = np.maximum(self.conservative(TAIL) / error - found, 0)
            found = found + np.where(self.error > 0, _MORE * more, 0)
        return found

    def p(self, value: Any) -> Floats:
        """Two-sided p-value of the hypothesis that the truth is 0, where the mean is `value` [...]."""
        from scipy.special import stdtr

        size, error = np.abs(value), np.where(self.error > 0, self.error, 1)
        low, high = np.full(size.shape, _SMALLEST), np.zeros(size.shape)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            beyond = size >= self.conservative(np.exp(middle) / 2)
            low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
        found = np.maximum(np.exp(high), 2 * stdtr(self.satterthwaite, -size / error))
        found = np.where(self.error > 0, found, 0.0)  # the same everywhere: what signs tell
        signs = 2.0 ** -np.minimum(self.freedom[1], 1000.0)
        return np.where(size > 0, np.maximum(found, signs), 1.0)

    def in_family(self) -> Spread:
        """The same where the last axis is a family of tests, of which each learns from all how much seeds differ."""
        tests = self.seeds.shape[-1]
        apart = (np.sqrt(8 * tests + 1) - 1) / 2  # differences of so many and one models, which are as many pairs
        over_seeds, over_items = self.freedom
        return replace(
            self,
            seeds=(self.seeds + self.seeds.mean(axis=-1, keepdims=True)) / 2,
            freedom=(over_seeds * min(2.0, 4 / (1 + 3 / apart)), over_items),
        )


def bounded(
    value: Any, spread: Spread, quantile: Floats, lowest: float, highest: float, items: float, effective: float
) -> tuple[Floats, Floats]:
    """Ends of the interval of a score, `quantile` standard errors off it in the middle of its range."""
    if not np.isfinite(highest - lowest):
        half = quantile * spread.error
        return np.maximum(lowest, value - half), np.minimum(highest, value + half)
    width = highest - lowest
    share = np.clip((np.asarray(value, dtype=np.float64) - lowest) / width, 0.0, 1.0)
    variance = spread.variance / width**2
    inner = (variance > 0) & (share > 0) & (share < 1)
    count = np.where(inner, share * (1 - share) / np.where(inner, variance, 1), effective)
    errors, added = effective * np.minimum(share, 1 - share), 1 - effective / items
    seen = np.where(inner, errors, 1.0)
    count = (seen + added) / (seen / count + added / np.minimum(count, effective))
    square = quantile**2 / count
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    low, high = np.minimum(share, np.maximum(0.0, middle - half)), np.maximum(share, np.minimum(1.0, middle + half))
    return lowest + width * low, lowest + width * high


def between(
    values: tuple[Any, Any],
    spreads: tuple[Spread, Spread],
    apart: Spread,
    lowest: float,
    highest: float,
    items: float,
    effective: float,
) -> tuple[Floats, Floats]:
    """Ends of the interval of the first value less the second; `apart` is the spread of that difference."""
    quantile = apart.quantile
    (low1, high1), (low2, high2) = (
        bounded(value, spread, quantile, lowest, highest, items, effective)
        for value, spread in zip(values, spreads, strict=True)
    )
    first, second = (np.asarray(value, dtype=np.float64) for value in values)
    product = spreads[0].error * spreads[1].error
    shared = (spreads[0].variance + spreads[1].variance - apart.variance) / 2
    related = np.where(product > 0, np.clip(shared / np.where(product > 0, product, 1), -1, 1), 0.0)
    same = (product > 0) & (apart.variance == 0)  # each item alike: neither can be off alone

    def reach(one: Floats, two: Floats) -> Floats:
        square = one**2 - 2 * related * one * two + two**2
        return np.where(same, 0.0, np.sqrt(np.maximum(square, 0.0)))

    value = first - second
    if not np.isfinite(highest - lowest):
        half = quantile * apart.error
        return value - half, value + half
    return value - reach(first - low1, high2 - second), value + reach(high1 - first, second - low2)
