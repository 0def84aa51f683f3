"""Intervals over seeds and items: a paired, hierarchical bootstrap whose width is right for few seeds too.

**Resampling.** A resample draws the N test items with replacement and, independently, the K seeds with replacement.
Where items come in groups (one question, nearly the same words), N counts groups, which are drawn whole.
All trials of a comparison see the same draw, so that what they share (hard items, lucky seeds) cancels in differences.
A score is the mean over seeds of the metric on all items; its resampled value is the mean over the drawn seeds of the
metric on the drawn items.

**Interval.** The percentiles of such resamples alone are not an honest interval: with 3 to 5 seeds they are too narrow
where seeds differ much (a mean of K values varies by s^2 / K, its bootstrap by (K-1)/K of that, and the quantiles
belong to a normal and not to a t distribution), and too wide where neither seeds nor items but their combination
decides, for that part is then counted three times. So the variance is taken apart, as in a two-way analysis of
variance:

    A = between seeds = var_k(m_k) / K                            m_k: metric of seed k on all items
    B = between items = N/(N-1) var_b(mean_k m_bk)                m_bk: metric of seed k on the items of resample b
    I = interaction   = N/(N-1) sum_k var_b(m_bk - mean_k m_bk) / (K (K-1))
    V = max(A + B - I, A, B)                                      clustered two ways (Cameron, Gelbach, Miller 2011)
    d = V^2 / (A^2/(K-1) + B^2/(N-1) + I^2/((K-1)(N-1)))          degrees of freedom (Satterthwaite 1946)

Where seeds err on exactly opposite items their mean never moves, A and B are 0, and V is I: that tells how little these
seeds and items say.

The 95% interval is 2 t(0.975; d) sqrt(V) wide and lies around the score as skewed as the 2.5% and 97.5% percentiles of
the resamples do. With one seed there is only B, and the interval speaks about other items and not about other seeds.

**PGR** is the ratio of means (student - weak) / (ceiling - weak), for metrics of either direction. Its interval holds
the values r for which the interval of (student - weak) - r (ceiling - weak) contains 0 (Fieller 1954, with the interval
above in place of the normal one). It is bounded exactly when the interval of the gap excludes 0.

**Tests.** The p-value of a difference is that of t = difference / sqrt(V) with d degrees of freedom; among many
comparisons, p-values are corrected as in Holm 1979, which holds the chance of any false claim at 5% whatever depends on
what. The interval leans as the resamples do and the test does not, so close to 5% the two may disagree; claims go by
the corrected test.

**Noise floor.** What seeds alone do: the standard deviation over seeds of one configuration's score, pooled over the
configurations of a table, and from it that of the difference of two identical configurations with K seeds each,
sqrt(2 / K) as large.

Shapes: B resamples, N items, K seeds, Q quantities. `resampling` has how items and seeds are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wtsbench.spec.metrics import Floats

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
_NOTHING = 1e-12
"""Relative size of what is left of a difference of equal numbers: the last digits, in which sums may differ."""
_CANCELLED = 1e-9
"""Part of the interaction below which a variance is rounding."""
POWER = 0.8
"""Probability with which an effect of the minimum detectable size is found."""
CLAIM_SEEDS = 5
"""With fewer seeds a table makes no claim: the spread over seeds is itself hardly known."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score or a difference of scores with its 95% interval."""

    value: float
    low: float
    high: float
    error: float
    """Standard error, sqrt(V)."""
    freedom: float
    """Degrees of freedom of the error."""

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0 on that side, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def p(self) -> float:
        """Two-sided p-value of the hypothesis that the truth is 0: t = value / error with the error's freedom."""
        from scipy.special import stdtr  # a leaderboard that is kept needs none of it

        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stdtr(self.freedom, -abs(self.value) / self.error))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect: the size that a two-sided 5% test with this error finds 4 times in 5."""
        from scipy.special import stdtrit

        return float((stdtrit(self.freedom, 1 - TAIL) + stdtrit(self.freedom, POWER)) * self.error)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A quantity per seed, on all items and on every resample of them. Differences of samples are paired."""

    full: Floats
    """[K]."""
    resampled: Floats
    """[B, K]."""
    weights: Floats
    """[B, K] how often each seed was drawn, over K."""
    items: int
    """N: items, or groups of them where those are what is resampled."""

    def __sub__(self, other: Sample) -> Sample:
        return self._with(_apart(self.full, other.full), _apart(self.resampled, other.resampled))

    def __mul__(self, factor: float) -> Sample:
        return self._with(self.full * factor, self.resampled * factor)

    @property
    def defined(self) -> bool:
        """Whether every seed has a number."""
        return bool(np.isfinite(self.full).all())

    def _with(self, full: Floats, resampled: Floats) -> Sample:
        return Sample(full=full, resampled=resampled, weights=self.weights, items=self.items)

    def estimate(self, lowest: float = -np.inf, highest: float = np.inf) -> Estimate:
        """Mean over seeds with its interval, which is cut at what the quantity can be."""
        return _interval(Moments.of(self), np.ones(1), lowest, highest)


def _apart(one: Floats, two: Floats) -> Floats:
    """One - two; 0 where they are the same number but for the last digits, in which sums of equal terms may differ."""
    difference = one - two
    return np.where(np.abs(difference) <= _NOTHING * np.maximum(1.0, np.abs(one)), 0.0, difference)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What the interval of any weighted sum of Q paired quantities is computed from."""

    value: Floats
    """[Q]."""
    seeds: Floats
    """[Q, Q] covariance A of the means, between seeds."""
    between_items: Floats
    """[Q, Q] B."""
    interaction: Floats
    """[Q, Q] I."""
    draws: Floats
    """[B, Q] resampled means."""
    freedom: tuple[float, float]
    """K - 1 and N - 1."""

    @classmethod
    def of(cls, *samples: Sample) -> Moments:
        """Moments of samples over the same seeds and items."""
        full = np.stack([sample.full for sample in samples])  # [Q, K]
        moved = np.stack([sample.resampled for sample in samples]) - full[:, None]  # [Q, B, K]
        quantities, seeds = full.shape
        items, weights = samples[0].items, samples[0].weights
        unbiased = items / max(items - 1, 1)
        mean = moved.mean(axis=2)  # [Q, B]
        between_items = unbiased * np.atleast_2d(np.cov(mean, bias=True))
        nothing = np.zeros((quantities, quantities))
        if seeds == 1:
            between_seeds = interaction = nothing
        else:
            between_seeds = np.atleast_2d(np.cov(full)) / seeds
            apart = (moved - mean[:, :, None]).transpose(2, 0, 1)  # [K, Q, B]
            apart = apart - apart.mean(axis=2, keepdims=True)
            summed = np.einsum("kqb,krb->qr", apart, apart) / apart.shape[2]
            interaction = unbiased * summed / (seeds * (seeds - 1))
        return cls(
            value=full.mean(axis=1),
            seeds=between_seeds,
            between_items=between_items,
            interaction=interaction,
            draws=np.einsum("bk,qbk->bq", weights, moved + full[:, None]),
            freedom=(float(seeds - 1), float(max(items - 1, 1))),
        )


def _interval(moments: Moments, factors: Floats, lowest: float = -np.inf, highest: float = np.inf) -> Estimate:
    """Interval of the sum of the quantities, each times its factor [Q]."""
    from scipy.special import stdtrit

    value = float(moments.value @ factors)
    between_seeds, between_items, interaction = (
        max(0.0, float(factors @ matrix @ factors))
        for matrix in (moments.seeds, moments.between_items, moments.interaction)
    )
    variance = max(between_seeds + between_items - interaction, between_seeds, between_items)
    if variance <= _CANCELLED * interaction:
        variance = interaction
    if variance <= (_NOTHING * max(1.0, abs(value))) ** 2:
        return Estimate(value=value, low=value, high=value, error=0.0, freedom=moments.freedom[1])
    over_seeds, over_items = moments.freedom
    spread = between_items**2 / over_items
    if over_seeds:
        spread += between_seeds**2 / over_seeds + interaction**2 / (over_seeds * over_items)
    freedom = variance**2 / spread if spread > 0 else over_items
    error = float(np.sqrt(variance))
    width = 2 * float(stdtrit(freedom, 1 - TAIL)) * error
    below, above = np.quantile(moments.draws @ factors, [TAIL, 1 - TAIL])
    part = float(np.clip((value - below) / (above - below), 0.0, 1.0)) if above > below else 0.5
    return Estimate(
        value=value,
        low=max(lowest, value - part * width),
        high=min(highest, value + (1 - part) * width),
        error=error,
        freedom=freedom,
    )


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """PGR with its 95% interval."""

    value: float
    low: float
    high: float


def recovered(weak: Sample, student: Sample, ceiling: Sample) -> Recovered:
    """PGR = (student - weak) / (ceiling - weak), with its interval.

    Only where the interval of `ceiling - weak` excludes 0: elsewhere the interval has no end.
    """
    moments = Moments.of(student - weak, ceiling - weak)
    gain, gap = moments.value
    value = float(gain / gap)
    return Recovered(value=value, low=_edge(moments, value, -1.0), high=_edge(moments, value, 1.0))


def _edge(moments: Moments, inside: float, step: float) -> float:
    """The last ratio in the direction of `step` that the data do not contradict."""
    from scipy.optimize import brentq

    rising = (moments.value[1] < 0) == (step > 0)  # where the contrast grows with the ratio, its lower end leaves 0

    def beyond(ratio: float) -> float:
        """Above 0 where the data contradict the ratio."""
        found = _interval(moments, np.array([1.0, -ratio]))
        return found.low if rising else -found.high

    reach = step / 64
    while beyond(inside + reach) <= 0:
        reach *= 2
        assert abs(reach) < 1e12, "the gap is proven, so the interval is bounded"
    near, far = inside + (reach / 2 if abs(reach) > 1 / 64 else 0.0), inside + reach
    if beyond(near) > 0:  # nothing varies, and the contrast at the ratio itself is off 0 in its last digit
        return near
    edge: float = brentq(beyond, near, far, xtol=1e-9 * max(1.0, abs(far)), rtol=1e-12)
    return edge


def ranks(better: NDArray[np.bool_]) -> list[int]:
    """Rank of each of S entries: 1 plus the number of those that are proven better; so ties share a rank.

    Args:
        better: [S, S], whether the entry of the row is proven better than that of the column.
    """
    return [1 + int(count) for count in better.sum(axis=0)]


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
