"""p-values, corrections and noise against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.test_statistics import latent, samples
from wtsbench.metrics.classification import share
from wtsbench.reports.resampling import Block, Resampler
from wtsbench.reports.spread import Spread
from wtsbench.reports.statistics import difference, holm, pooled_deviation, recovered, score


def test_where_only_seeds_differ_it_is_the_paired_t_test() -> None:
    """Scores that differ by seed and by nothing else give scipy's paired t-test, interval and p-value."""
    first, second = np.array([0.61, 0.66, 0.58, 0.7, 0.63]), np.array([0.6, 0.6, 0.55, 0.64, 0.62])
    resampler = Resampler("x", 300, resamples=2_000)
    values = np.repeat(np.concatenate([first, second])[:, None], 300, axis=1)  # every item of a seed scores the same
    features = np.stack([values, np.ones_like(values)], axis=-1)
    ((scores,),) = resampler.scores([Block(features=features, values=(share,))])
    one, two = (resampler.sample(scores, range(start, start + 5)) for start in (0, 5))
    found = difference(one, two, -math.inf, math.inf)
    test = scipy.stats.ttest_rel(first, second)
    bounds = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue, rel=1e-6)
    assert found.spread.satterthwaite == pytest.approx(4, rel=1e-6)
    assert found.high - found.low == pytest.approx(bounds.high - bounds.low, rel=1e-6)
    assert found.value == pytest.approx((first - second).mean())


def test_where_only_items_differ_it_is_the_paired_t_test_of_items() -> None:
    """With equal seeds the p-value is scipy's paired t-test over items, up to the resampling's noise."""
    chance = np.random.default_rng(4)
    first, second = (np.repeat(latent(chance, mean, 1, 500), 4, axis=0) for mean in (0.5, 0.6))
    one, two = samples(Resampler("x", 500), first, second)
    found = difference(two, one, 0, 1)
    test = scipy.stats.ttest_rel(second[0], first[0])
    assert math.log(found.p) == pytest.approx(math.log(test.pvalue), abs=0.25)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_what_its_definition_says(values: list[float]) -> None:
    """Corrected p-values equal those by the definition written out: max over the smaller ones of (m - i) p_i."""
    ordered = sorted(values)
    by_value: dict[float, float] = {}
    for place, value in enumerate(ordered):
        largest = max(min(1.0, (len(values) - i) * ordered[i]) for i in range(place + 1))
        by_value[value] = max(by_value.get(value, 0.0), largest)
    found = holm(values)
    for value, corrected in zip(values, found, strict=True):
        assert corrected <= by_value[value] + 1e-12
        assert corrected >= value
    assert sorted(found) == [found[i] for i in np.argsort(values, kind="stable")]


def test_holm_by_hand() -> None:
    """The textbook's four p-values."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_rarely_makes_a_false_claim() -> None:
    """Among ten true null hypotheses with correlated tests, one is rejected in at most about 5% of 2,000 families."""
    chance = np.random.default_rng(9)
    shared, own = chance.normal(size=(2_000, 1)), chance.normal(size=(2_000, 10))
    p_values = 2 * scipy.stats.norm.sf(np.abs(math.sqrt(0.5) * shared + math.sqrt(0.5) * own))
    false = sum(min(holm(row)) <= 0.05 for row in p_values.tolist())
    assert false / 2_000 < 0.065


def test_without_variance_items_count_as_signs() -> None:
    """No difference at all has p 1; the same one in every seed and item has that of a sign test of the items."""
    for items, p in ((2, 0.5), (6, 1 / 32), (40, 2.0**-39)):
        nothing = Spread(seeds=np.zeros(()), items=np.zeros(()), interaction=np.zeros(()), freedom=(4, items - 1))
        assert float(nothing.p(np.float64(0))) == 1
        assert float(nothing.p(np.float64(0.2))) == pytest.approx(p)


def test_without_variance_pgr_is_a_point() -> None:
    """Scores that are the same for every item and seed give a PGR whose interval has no width."""
    values = np.repeat(np.array([0.6, 0.5, 0.3]), 3)[:, None] * np.ones((9, 40))
    resampler = Resampler("x", 40, resamples=100)
    features = np.stack([values, np.ones((9, 40))], axis=-1)
    ((scores,),) = resampler.scores([Block(features=features, values=(share,))])
    weak, student, ceiling = (resampler.sample(scores, range(start, start + 3)) for start in (0, 3, 6))
    assert difference(ceiling, weak, -math.inf, math.inf).proven == -1
    found = recovered(weak, student, ceiling)
    assert (found.low, found.value, found.high) == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-6)


def test_equal_numbers_differ_by_exactly_nothing() -> None:
    """Trials that wrote the same fractions tie exactly, though sums of fractions may differ in their last digits."""
    chance = np.random.default_rng(2)
    values = chance.random((3, 400)) / 3
    resampler = Resampler("x", 400, resamples=300)
    features = np.stack([np.concatenate([values, values]), np.ones((6, 400))], axis=-1)
    ((scores,),) = resampler.scores([Block(features=features, values=(share,))])
    found = difference(resampler.sample(scores, range(3)), resampler.sample(scores, range(3, 6)), 0, 1)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_pooled_deviation_is_that_of_the_analysis_of_variance() -> None:
    """Square root of the mean square within configurations."""
    groups = [np.array([0.6, 0.64, 0.62]), np.array([0.7, 0.75]), np.array([0.9])]
    squares = sum(((each - each.mean()) ** 2).sum() for each in groups)
    assert pooled_deviation(groups) == pytest.approx(math.sqrt(squares / 3))
    assert pooled_deviation(groups[:1]) == pytest.approx(float(np.std(groups[0], ddof=1)))
    assert pooled_deviation(groups[2:]) is None


def test_a_resample_that_defines_no_score_changes_nothing() -> None:
    """A class of one item is missing from a third of the resamples: these have the recall of all items, never NaN."""
    found = np.zeros((2, 50, 2), dtype=np.int64)
    found[:, 7] = [[1, 1], [0, 1]]

    (((full, resampled),),) = Resampler("x", 50, resamples=200).scores([Block(features=found, values=(share,))])
    assert full.tolist() == [1, 0]
    assert (resampled == full).all()


def test_seeds_that_err_on_opposite_items_are_not_certain() -> None:
    """Two seeds that each name one class only have the mean 1/2 on every resample: their interval has a width."""
    labels = np.arange(100) % 2
    hits = np.stack([labels == 0, labels == 1]).astype(np.int64)
    (sample,) = samples(Resampler("x", 100, resamples=1_000), hits)
    found = score(sample, 0, 1)
    assert found.value == 0.5
    assert found.spread.satterthwaite == pytest.approx(99, rel=0.01)
    assert float(found.spread.error) == pytest.approx(0.05, rel=0.1)
    assert 0.3 < found.low < 0.45
    assert 0.55 < found.high < 0.7
