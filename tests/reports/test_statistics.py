"""Intervals against analysis of variance, scipy and plain loops; shared draws; determinism."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from tests.reports.worlds import right_with
from wtsbench.metrics.classification import METRICS, Metric, Predicted
from wtsbench.reports.resampling import Block, Resampler, Scores
from wtsbench.reports.statistics import Estimate, Sample, difference, recovered, score

Integers = NDArray[np.int64]
CHANCE = np.random.default_rng(11)
INFINITE = (-math.inf, math.inf)


def latent(chance: np.random.Generator, mean: float, seeds: int, items: int, *, between: float = 0.1) -> Integers:
    """[K, N] hits of a model whose seeds differ and whose items differ in difficulty."""
    hidden = mean + between * chance.normal(size=(seeds, 1)) + chance.normal(size=(1, items))
    hits: Integers = (hidden + chance.normal(size=(seeds, items)) > 0).astype(np.int64)
    return hits


def scores(
    resampler: Resampler, metric: Metric[Predicted], labels: Integers, made: Integers, classes: int, groups: Any = None
) -> Scores:
    """Scores of trials that predict these classes [T, N]."""
    features = metric.features(Predicted(labels=labels, classes=made, count=classes))
    ((found,),) = resampler.scores([Block(features=features, values=(metric.value,))], groups)
    return found


def samples(resampler: Resampler, *hits: Integers) -> list[Sample]:
    """Samples of accuracy; a hit is class 1 where every label is 1."""
    labels = np.ones(resampler.items, dtype=np.int64)
    every = scores(resampler, METRICS["accuracy"], labels, np.concatenate(hits), 2)
    found, start = [], 0
    for each in hits:
        found.append(resampler.sample(every, range(start, start + len(each))))
        start += len(each)
    return found


def ends(found: Estimate) -> tuple[float, float, float]:
    """Value and interval."""
    return found.value, found.low, found.high


def half_width(values: Any) -> float:
    """Half the 95% interval of the mean of values [K][N], by a two-way analysis of variance written out in loops."""
    rows, columns = len(values), len(values[0])
    grand = sum(map(sum, values)) / (rows * columns)
    row_means = [sum(row) / columns for row in values]
    column_means = [sum(row[i] for row in values) / rows for i in range(columns)]
    size = rows * columns
    a = columns * sum((mean - grand) ** 2 for mean in row_means) / (rows - 1) / size
    b = rows * sum((mean - grand) ** 2 for mean in column_means) / (columns - 1) / size
    rest = sum(
        (values[k][i] - row_means[k] - column_means[i] + grand) ** 2 for k in range(rows) for i in range(columns)
    )
    c = rest / ((rows - 1) * (columns - 1)) / size
    variance = max(a + b - c, a, b)
    freedom = variance**2 / (a**2 / (rows - 1) + b**2 / (columns - 1) + c**2 / ((rows - 1) * (columns - 1)))
    return float(scipy.stats.t.ppf(0.975, freedom)) * math.sqrt(variance)


@pytest.mark.parametrize(("seeds", "between"), [(3, 0.0), (3, 0.4), (5, 0.1), (8, 0.05)])
def test_width_is_that_of_the_two_way_analysis(seeds: int, between: float) -> None:
    """For accuracy the variance has a closed form: without bounds the interval is as wide as it says."""
    resampler = Resampler("x", 300)
    weak = latent(CHANCE, 0.2, seeds, 300, between=between)
    strong = latent(CHANCE, 0.8, seeds, 300, between=between)
    one, two = samples(resampler, weak, strong)
    for found, values in ((score(one, *INFINITE), weak), (difference(two, one, *INFINITE), strong - weak)):
        assert found.value == pytest.approx(float(values.mean()), abs=1e-12)
        assert (found.high - found.low) / 2 == pytest.approx(half_width(values.tolist()), rel=0.05)
        assert found.low < found.value < found.high


def test_one_seed_is_the_bootstrap_of_the_items() -> None:
    """With one seed the interval is scipy's percentile bootstrap over items, up to its noise."""
    hits = latent(CHANCE, 0.7, 1, 400)
    (sample,) = samples(Resampler("x", 400), hits)
    found = score(sample, 0, 1)
    other = scipy.stats.bootstrap((hits[0],), np.mean, n_resamples=5_000, method="percentile", rng=1)
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.005)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.005)
    assert float(found.spread.error) == pytest.approx(float(hits.std(ddof=1)) / 20, rel=0.03)


def test_paired_difference_agrees_with_scipy_where_seeds_do_not_differ() -> None:
    """Equal seeds leave the items: the paired interval is scipy's paired bootstrap of per-item differences."""
    first, second = (np.repeat(latent(CHANCE, mean, 1, 400), 3, axis=0) for mean in (0.3, 0.8))
    one, two = samples(Resampler("x", 400), first, second)
    found = difference(two, one, 0, 1)
    other = scipy.stats.bootstrap(
        (first[0], second[0]),
        lambda a, b, axis: b.mean(axis) - a.mean(axis),
        paired=True,
        n_resamples=5_000,
        method="percentile",
        rng=2,
    )
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.006)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.006)


def test_plain_loops_over_seeds_and_items_agree_where_items_decide() -> None:
    """Where items matter most, resampling seeds and items in plain loops gives about the same interval."""
    hits = latent(CHANCE, 0.6, 5, 250, between=0.02)
    (sample,) = samples(Resampler("x", 250), hits)
    found = score(sample, 0, 1)
    chance, rows = random.Random(3), hits.tolist()
    draws = []
    for _ in range(600):
        items = chance.choices(range(250), k=250)
        draws.append(sum(row[i] for row in chance.choices(rows, k=5) for i in items) / 1250)
    draws.sort()
    assert found.low == pytest.approx(draws[14], abs=0.015)
    assert found.high == pytest.approx(draws[-15], abs=0.015)


@pytest.mark.parametrize("name", METRICS)
def test_resampled_scores_are_scores_of_the_items_drawn(name: str) -> None:
    """A resample is scored as if its items were written out, as often as they were drawn."""
    items, classes = 30, 3
    labels, made = CHANCE.integers(0, classes, items), CHANCE.integers(0, classes, (2, items))
    resampler = Resampler("x", items, resamples=20)
    full, resampled = scores(resampler, METRICS[name], labels, made, classes)
    drawn = Resampler("x", items, resamples=20)
    counts = drawn._counts(drawn._generator(), 20)
    assert (counts.sum(axis=1) == items).all()
    for trial in range(2):
        assert full[trial] == METRICS[name].of(Predicted.of(labels, made[trial], classes=classes))
        for row, times in enumerate(counts):
            written = np.repeat(np.arange(items), times)
            expected = METRICS[name].of(Predicted.of(labels[written], made[trial][written], classes=classes))
            assert resampled[row, trial] == pytest.approx(expected, abs=1e-12)


def test_pgr_interval_holds_the_ratios_that_the_data_do_not_contradict() -> None:
    """The PGR's interval is Fieller's, with the variances of the two-way analysis, scanned ratio by ratio."""
    weak, student, ceiling = (latent(CHANCE, mean, 4, 300) for mean in (0.0, 0.5, 1.1))
    found = recovered(*samples(Resampler("x", 300), weak, student, ceiling))
    gain, gap = (student - weak).mean(), (ceiling - weak).mean()
    assert found.value == pytest.approx(float(gain / gap), abs=1e-12)
    kept = []
    for step in range(-50, 200):
        ratio = step / 100
        contrast = (student - weak) - ratio * (ceiling - weak)
        if abs(contrast.mean()) <= half_width(contrast.tolist()):
            kept.append(ratio)
    assert found.low == pytest.approx(kept[0], abs=0.04)
    assert found.high == pytest.approx(kept[-1], abs=0.04)


def test_pgr_interval_widens_without_end_as_the_gap_becomes_doubtful() -> None:
    """A gap just proven gives a PGR interval far wider than a clear one."""
    chance = np.random.default_rng(2)
    labels = np.ones(400, dtype=np.int64)

    def width(ceiling: float) -> float:
        hits = [np.stack([right_with(chance, labels, share) for _ in range(4)]) for share in (0.7, 0.75, ceiling)]
        weak, student, top = samples(Resampler("x", 400), *hits)
        assert difference(top, weak, 0, 1).proven == 1
        found = recovered(weak, student, top)
        assert found.low < found.value < found.high
        return found.high - found.low

    assert width(0.74) > 3 * width(0.95)


def test_what_trials_share_cancels() -> None:
    """A student equal to its ceiling differs by exactly 0 and recovers exactly 1."""
    weak, ceiling = latent(CHANCE, 0.1, 3, 200), latent(CHANCE, 1.2, 3, 200)
    low, top, same = samples(Resampler("x", 200), weak, ceiling, ceiling)
    apart = difference(same, top, 0, 1)
    assert (apart.value, apart.low, apart.high, apart.sign) == (0, 0, 0, 0)
    found = recovered(low, same, top)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1), abs=1e-6)


def test_draws_depend_on_what_is_compared_only() -> None:
    """The same key and sizes give the same draws, another key others; other trials beside do not matter."""
    first, second = latent(CHANCE, 0.3, 3, 100), latent(CHANCE, 0.6, 3, 100)
    alone = samples(Resampler("x", 100, resamples=500), first)[0]
    beside = samples(Resampler("x", 100, resamples=500), second, first)[1]
    other = samples(Resampler("y", 100, resamples=500), first)[0]
    assert ends(score(alone, 0, 1)) == ends(score(beside, 0, 1))
    assert np.array_equal(alone.resampled, beside.resampled)
    assert not np.array_equal(alone.resampled, other.resampled)


def test_seeds_that_differ_widen_the_interval() -> None:
    """Seeds far apart tell less about the next seed than seeds close together, whatever the items say."""
    labels = np.ones(500, dtype=np.int64)
    chance = np.random.default_rng(1)
    close = np.stack([right_with(chance, labels, share) for share in (0.79, 0.80, 0.81)])
    apart = np.stack([right_with(chance, labels, share) for share in (0.65, 0.80, 0.95)])
    tight, wide = (score(sample, 0, 1) for sample in samples(Resampler("x", 500), close, apart))
    assert tight.value == pytest.approx(wide.value)
    assert wide.high - wide.low > 4 * (tight.high - tight.low)
    assert wide.low >= 0
    assert wide.high <= 1
    assert wide.spread.satterthwaite < 3 < tight.spread.satterthwaite


def test_an_effect_of_the_detectable_size_is_found_four_times_in_five() -> None:
    """Where items decide, the minimum detectable effect has 80% power for a normal estimate of this error."""
    hits = np.repeat(latent(CHANCE, 0.5, 1, 2_000), 5, axis=0)
    (sample,) = samples(Resampler("x", 2_000), hits)
    found = score(sample, 0, 1)
    assert found.detectable == pytest.approx((1.96 + 0.8416) * float(found.spread.error), rel=0.01)


def test_items_of_a_group_are_drawn_together() -> None:
    """Repeating every item within its group changes no interval: it adds items, and no information."""
    random_numbers = np.random.default_rng(5)
    labels = random_numbers.integers(0, 2, 60)
    predicted = random_numbers.integers(0, 2, (3, 60))
    metric = METRICS["accuracy"]
    resampler = Resampler("groups", 60, resamples=500)
    once = scores(resampler, metric, labels, predicted, 2)
    groups = np.repeat(np.arange(60), 7)
    often = scores(resampler, metric, np.repeat(labels, 7), np.repeat(predicted, 7, axis=1), 2, groups)
    np.testing.assert_allclose(often[0], once[0])
    np.testing.assert_allclose(often[1], once[1])
