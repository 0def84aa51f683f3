"""Intervals and tests over seeds and items whose errors are what they say, for few seeds and near a bound too.

**Resampling.** A resample draws the N test items with replacement. Where items come in groups (one question, nearly the
same words), N counts groups, which are drawn whole. All trials of a comparison see the same draw, so that what they
share (hard items) cancels in differences. A score is the mean over K seeds of the metric on all items.

**Variance.** What other seeds and other items would change is taken apart, as in a two-way analysis of variance:

    A = between seeds = var_k(m_k) / K                            m_k: metric of seed k on all items
    B = between items = N/(N-1) var_b(mean_k m_bk)                m_bk: metric of seed k on the items of resample b
    I = interaction   = N/(N-1) sum_k var_b(m_bk - mean_k m_bk) / (K (K-1))
    V = max(A + B - I, A, B)                                      clustered two ways (Cameron, Gelbach, Miller 2011)
    d = V^2 / (A^2/(K-1) + B^2/(n-1) + I^2/((K-1)(n-1)))          degrees of freedom (Satterthwaite 1946)

n is N, or fewer where a metric rests on the items of a rare class (`Sample.effective`). Where seeds err on exactly
opposite items their mean never moves, A and B are 0, and V is I. With one seed there is only B: such an interval speaks
of other items and not of other seeds.

**Draws of the training items.** Where a grid has several (`data.seeds`), what is repeated is a draw with all its seeds:
in every formula K is the number of draws, and m_k the mean over the seeds of draw k. So A holds what draws change and
what seeds change, as the mean square between the groups of a nested analysis of variance does (Snedecor and Cochran
1989, chapter 13): with S seeds in each draw its expectation is (var(draws) + var(seeds)/S) / K. Each draw counts alike,
however many of its seeds are done. What a seed does in one draw is taken to be independent of what it does in another.

**Interval of a score.** Scores have bounds, and near one the normal interval fails. So it is Wilson's (1927), with the
effective number of items n* = p (1 - p) / V in place of a count (Korn and Graubard 1998) and t(0.975; d) in place of
1.96; where nothing varies, n* = n. With two seeds t lies a quarter of the way to the multiple of sqrt(V) that the
conservative interval below is wide. A score by class is worth at most n where errors are few: 1 - n/N of one error is
added, seen with n* = n. A score without bounds has the interval p +- t sqrt(V).

**Interval of a difference.** From the two intervals [l, u] of scores and their correlation r = (V1 + V2 - V) /
(2 sqrt(V1 V2)), both taken with the difference's own t (Newcombe 1998, Zou and Donner 2008):

    low  = p1 - p2 - sqrt((p1 - l1)^2 - 2 r (p1 - l1)(u2 - p2) + (u2 - p2)^2), high likewise

**PGR** is the ratio of means (student - weak) / (ceiling - weak), for metrics of either direction. Its interval holds
the values r for which |(student - weak) - r (ceiling - weak)| <= t sqrt(V) (Fieller 1954). It is bounded where the gap
is proven.

**Tests.** Satterthwaite's d jumps where seeds happen to agree, and far out in the tail, where corrections for many
comparisons look, that makes false claims. So p is the level at which difference^2 = t(K-1)^2 A + t(n-1)^2 (V - A)
(Banerjee 1960), which is never too small whatever the shares of A and V - A are. It is at least the p of
Satterthwaite's t, and at least 2^(1-n), what n items can tell by their signs. With few seeds A is hardly known, so the
tests of a family learn it from each other: A becomes the mean of its own and of the family's A, with m (K-1) degrees of
freedom in place of K-1, m = min(2, 4 / (1 + 3/g)), where g is the number of independent differences among as many
pairs; a mean of all alone would be wrong where the seeds of one model scatter more than others'. Families are corrected
as in Holm 1979. A claim takes the corrected p and the interval, and no fewer than `CLAIM_SEEDS` seeds.

**Noise floor.** What seeds alone do: the standard deviation over seeds of one configuration's score, pooled over the
configurations of a table, and from it that of the difference of two identical configurations with K seeds each,
sqrt(2 / K) as large.

How often all this is right is simulated by `tests/reports/simulate_claims.py`; `docs/statistics.md` has the figures.

Shapes: B resamples, N items, K seeds, Q quantities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from wtsbench.metrics.classification import Floats
from wtsbench.reports.spread import ALPHA, CLAIM_SEEDS, TAIL, Spread, between, bounded

POWER = 0.8
"""Probability with which an effect of the minimum detectable size is found."""
_NOTHING = 1e-12
"""Relative size of what is left of a difference of equal numbers: the last digits, in which sums may differ."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score or a difference of scores with its 95% interval."""

    value: float
    low: float
    high: float
    spread: Spread

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0 on that side, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def claims(self) -> bool:
        """Whether there are seeds enough to claim anything."""
        return bool(self.spread.freedom[0] + 1 >= CLAIM_SEEDS)

    @property
    def p(self) -> float:
        """Two-sided p-value of the hypothesis that the truth is 0."""
        return float(self.spread.p(np.float64(self.value)))

    @property
    def proven(self) -> int:
        """The sign of a difference that is claimed: by its interval and by its test, alone."""
        return self.sign if self.claims and self.p <= ALPHA else 0

    @property
    def detectable(self) -> float:
        """Minimum detectable effect: the size that the test finds 4 times in 5, were the error as it is estimated."""
        return self.found()

    def found(self, tests: int = 1, least: float = 0.0) -> float:
        """The size that one of so many tests finds 4 times in 5, where what is measured must reach `least` as well.

        The correction is that for the smallest p-value: a difference that stands alone among those tests has it.
        """
        from scipy.special import stdtrit

        spread = self.spread
        reached = max(float(spread.conservative(TAIL / tests)), least)
        return reached + float(stdtrit(spread.satterthwaite, POWER) * spread.error)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A quantity per seed, on all items and on every resample of them. Differences of samples are paired."""

    full: Floats
    """[K]."""
    resampled: Floats
    """[B, K]."""
    items: int
    """N: items, or groups of them where those are what is resampled."""
    effective: float
    """n: as many items as tell as much, where the quantity rests on the items of a rare class; else N."""

    def __sub__(self, other: Sample) -> Sample:
        return replace(self, full=_apart(self.full, other.full), resampled=_apart(self.resampled, other.resampled))

    def by_draw(self, draws: Sequence[int]) -> Sample:
        """The same over D draws of the training items: of each, the mean over its seeds.

        Args:
            draws: [K] which draw each column is of.
        """
        columns = [np.flatnonzero(np.asarray(draws) == draw) for draw in sorted(set(draws))]
        return replace(
            self,
            full=np.stack([self.full[index].mean() for index in columns]),
            resampled=np.stack([self.resampled[:, index].mean(axis=1) for index in columns], axis=1),
        )

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.full.mean())

    @property
    def defined(self) -> bool:
        """Whether every seed has a number."""
        return bool(np.isfinite(self.full).all())

    @cached_property
    def spread(self) -> Spread:
        """What the mean varies by."""
        return Moments.of(self).spread(np.ones(1))


def _apart(one: Floats, two: Floats) -> Floats:
    """One - two; 0 where they are the same number but for the last digits, in which sums of equal terms may differ."""
    difference = one - two
    return np.where(np.abs(difference) <= _NOTHING * np.maximum(1.0, np.abs(one)), 0.0, difference)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What any weighted sum of Q paired quantities varies by."""

    value: Floats
    """[Q]."""
    seeds: Floats
    """[Q, Q] covariance A of the means, between seeds."""
    items: Floats
    """[Q, Q] B."""
    interaction: Floats
    """[Q, Q] I."""
    freedom: tuple[float, float]
    """K - 1 and n - 1."""

    @classmethod
    def of(cls, *samples: Sample) -> Moments:
        """Moments of samples over the same seeds and items."""
        full = np.stack([sample.full for sample in samples])  # [Q, K]
        moved = np.stack([sample.resampled for sample in samples]) - full[:, None]  # [Q, B, K]
        quantities, seeds = full.shape
        unbiased = samples[0].items / max(samples[0].items - 1, 1)
        mean = moved.mean(axis=2)  # [Q, B]
        between_seeds = interaction = np.zeros((quantities, quantities))
        if seeds > 1:
            between_seeds = np.atleast_2d(np.cov(full)) / seeds
            apart = (moved - mean[:, :, None]).transpose(2, 0, 1)  # [K, Q, B]
            apart = apart - apart.mean(axis=2, keepdims=True)
            summed = np.einsum("kqb,krb->qr", apart, apart) / apart.shape[2]
            interaction = unbiased * summed / (seeds * (seeds - 1))
        return cls(
            value=full.mean(axis=1),
            seeds=between_seeds,
            items=unbiased * np.atleast_2d(np.cov(mean, bias=True)),
            interaction=interaction,
            freedom=(float(seeds - 1), max(samples[0].effective - 1.0, 1.0)),
        )

    def spread(self, factors: Floats) -> Spread:
        """Of the sum of the quantities, each times its factor [Q]."""
        value = float(self.value @ factors)
        seeds, items, interaction = (
            np.maximum(0.0, factors @ matrix @ factors) for matrix in (self.seeds, self.items, self.interaction)
        )
        spread = Spread(seeds=seeds, items=items, interaction=interaction, freedom=self.freedom)
        if spread.variance <= (_NOTHING * max(1.0, abs(value))) ** 2:  # digits in which equal sums differ
            return replace(spread, seeds=np.zeros(()), items=np.zeros(()), interaction=np.zeros(()))
        return spread


def score(sample: Sample, lowest: float, highest: float) -> Estimate:
    """Mean over seeds with its interval, where no score lies beyond these bounds."""
    low, high = bounded(
        sample.value, sample.spread, sample.spread.quantile, lowest, highest, sample.items, sample.effective
    )
    return Estimate(value=sample.value, low=float(low), high=float(high), spread=sample.spread)


def difference(one: Sample, two: Sample, lowest: float, highest: float) -> Estimate:
    """One - two with its interval, where no score of either lies beyond these bounds."""
    apart = one - two
    low, high = between(
        (one.value, two.value), (one.spread, two.spread), apart.spread, lowest, highest, one.items, one.effective
    )
    return Estimate(value=apart.value, low=float(low), high=float(high), spread=apart.spread)


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """PGR with its 95% interval."""

    value: float
    low: float
    high: float


def recovered(weak: Sample, student: Sample, ceiling: Sample) -> Recovered:
    """PGR = (student - weak) / (ceiling - weak), with its interval.

    Only where `ceiling - weak` is proven: elsewhere the interval may have no end.
    """
    return ratio(Moments.of(student - weak, ceiling - weak))


def ratio(moments: Moments) -> Recovered:
    """The first of two quantities over the second, which is proven, with its interval."""
    gain, gap = moments.value
    value = float(gain / gap)
    return Recovered(value=value, low=_edge(moments, value, -1.0), high=_edge(moments, value, 1.0))


def _edge(moments: Moments, inside: float, step: float) -> float:
    """The last ratio in the direction of `step` that the data do not contradict."""
    from scipy.optimize import brentq

    def beyond(ratio: float) -> float:
        """Above 0 where the data contradict the ratio."""
        factors = np.array([1.0, -ratio])
        spread = moments.spread(factors)
        return float(abs(moments.value @ factors) - spread.quantile * spread.error)

    reach = step / 64
    while beyond(inside + reach) <= 0:
        reach *= 2
        assert abs(reach) < 1e12, "the gap is proven, so the interval is bounded"
    near, far = inside + (reach / 2 if abs(reach) > 1 / 64 else 0.0), inside + reach
    if beyond(near) > 0:  # nothing varies, and the contrast at the ratio itself is off 0 in its last digit
        return near
    edge: float = brentq(beyond, near, far, xtol=1e-9 * max(1.0, abs(far)), rtol=1e-12)
    return edge


def tested(family: Sequence[Estimate]) -> list[tuple[float, float]]:
    """p-value of each difference of a family, and the same corrected for their number (Holm)."""
    if not family:
        return []
    spreads = [each.spread for each in family]
    spread = Spread(
        seeds=np.stack([each.seeds for each in spreads]),
        items=np.stack([each.items for each in spreads]),
        interaction=np.stack([each.interaction for each in spreads]),
        freedom=(np.array([each.freedom[0] for each in spreads]), np.array([each.freedom[1] for each in spreads])),
    )
    p_values = spread.in_family().p(np.array([each.value for each in family])).tolist()
    return list(zip(p_values, holm(p_values), strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values, in the same order (Holm 1979): the i-th smallest of m is multiplied by m - i + 1."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def pooled_deviation(scores: Sequence[Floats]) -> float | None:
    """Standard deviation over seeds, pooled over configurations [K] each; None where none has two seeds."""
    freedom = sum(len(each) - 1 for each in scores)
    if freedom == 0:
        return None
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in scores)
    return float(np.sqrt(squares / freedom))
