"""Simulated worlds whose truth is known: how often do the intervals hold it?"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from tests.reports.test_statistics import samples
from wtsbench.reports.resampling import Resampler
from wtsbench.reports.statistics import recovered

MEANS = (0.4, 0.7, 1.1)
"""Of weak, student and ceiling, in units of the noise of one answer."""


@dataclass(frozen=True)
class Law:
    """A kind of world: how much seeds, items, and a model's own items differ, in units of the noise of one answer."""

    seeds: int
    items: int
    seed: float
    item: float
    model: float


LAWS = {
    "items decide": Law(seeds=5, items=400, seed=0.02, item=1.5, model=0.5),
    "both matter": Law(seeds=5, items=400, seed=0.12, item=1.0, model=0.5),
    "seeds decide": Law(seeds=5, items=800, seed=0.2, item=0.7, model=0.3),
}


def coverage(law: Law, worlds: int, *, resamples: int) -> dict[str, float]:
    """Share of worlds in which each interval holds the truth; PGR among the worlds that report one.

    A model answers right where mean + seed + item + item for this model + noise > 0, all normal; so the probability of
    a right answer by a new seed to a new item has a closed form.
    """
    chance = np.random.default_rng(2026)
    scale = math.sqrt(1 + law.seed**2 + law.item**2 + law.model**2)
    weak_truth, student_truth, ceiling_truth = (float(ndtr(mean / scale)) for mean in MEANS)
    ratio = (student_truth - weak_truth) / (ceiling_truth - weak_truth)
    hits: Counter[str] = Counter()
    proven = 0
    for world in range(worlds):
        hidden = (
            np.array(MEANS)[:, None, None]
            + law.seed * chance.normal(size=(3, law.seeds, 1))
            + law.item * chance.normal(size=(1, 1, law.items))
            + law.model * chance.normal(size=(3, 1, law.items))
            + chance.normal(size=(3, law.seeds, law.items))
        )
        resampler = Resampler(f"world {world}", law.items, resamples=resamples)
        weak, student, ceiling = samples(resampler, *(hidden > 0).astype(np.int64))
        gap = (ceiling - weak).estimate()
        for quantity, found, truth in (
            ("weak", weak.estimate(0, 1), weak_truth),
            ("student", student.estimate(0, 1), student_truth),
            ("gap", gap, ceiling_truth - weak_truth),
            ("gain", (student - weak).estimate(), student_truth - weak_truth),
        ):
            hits[quantity] += found.low <= truth <= found.high
        if gap.sign > 0:
            proven += 1
            pgr = recovered(weak, student, ceiling)
            hits["pgr"] += pgr.low <= ratio <= pgr.high
    assert proven > 0.75 * worlds, "PGR is judged on most worlds, not on a few lucky ones"
    return {quantity: hits[quantity] / (proven if quantity == "pgr" else worlds) for quantity in hits}


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """300 worlds: each 95% interval holds the truth in 91 to 99% of them."""
    found = coverage(LAWS["both matter"], 300, resamples=300)
    assert set(found) == {"weak", "student", "gap", "gain", "pgr"}
    assert all(0.91 <= share <= 0.99 for share in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_intervals_hold_the_truth_in_95_percent(law: str) -> None:
    """1,000 worlds of each kind: each 95% interval holds the truth in 93 to 97% of them."""
    found = coverage(LAWS[law], 1_000, resamples=1_000)
    assert all(0.93 <= share <= 0.97 for share in found.values()), found


@pytest.mark.slow
def test_three_seeds_that_differ_much_are_not_taken_for_certainty() -> None:
    """The hardest case, three seeds that decide nearly everything: coverage stays above 90%."""
    found = coverage(Law(seeds=3, items=800, seed=0.15, item=0.7, model=0.3), 1_000, resamples=500)
    assert all(0.90 <= share <= 0.99 for share in found.values()), found
