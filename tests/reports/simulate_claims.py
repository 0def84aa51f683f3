"""How often intervals hold the truth and claims are false: `python -m tests.reports.simulate_claims [WORLDS]`.

Prints a table: in worlds whose truth is known, the coverage of 95% intervals and the share of false claims, by the
statistics of reports and, for comparison, by what they replaced (`before`): an interval of Satterthwaite's width, as
skewed as the percentiles of a bootstrap, whose exclusion of 0 was a claim, and Satterthwaite's t test.

A model's answer is right where its mean, and normal numbers for its seed, the item, the model's own view of the item
and the answer itself, add up to more than 0. Moments of accuracy have a closed form, so thousands of worlds take
seconds; scores by class are resampled as tables do it.

Shapes: W worlds, S models, K seeds, N items, B resamples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from wtsbench.metrics.classification import METRICS, Floats, Predicted
from wtsbench.reports.resampling import Block, Resampler, group_counts
from wtsbench.reports.spread import ALPHA, CLAIM_SEEDS, TAIL, Spread, between, bounded
from wtsbench.reports.statistics import Estimate, Moments, difference, holm, ratio, score

AT_ONCE = 3_000_000
"""Answers in memory."""
DRAWS = 400
"""Resamples of the interval that was replaced."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """Worlds: how many seeds and items, and how much seeds, items and models' views of items differ."""

    seeds: int
    items: int
    seed: float = 0.1
    item: float = 1.0
    model: float = 0.3
    failing: float = 0.0
    """Probability that a seed's training fails, and its answers are a coin's."""


def right(law: Law, shares: Sequence[float], worlds: int, chance: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """[some W, S, K, N]: 1 where an answer is right; S models of these accuracies."""
    spread = np.sqrt(1 + law.seed**2 + law.item**2 + law.model**2)
    mean = (ndtri(np.array(shares)) * spread)[:, None, None]
    size = max(1, AT_ONCE // (len(shares) * law.seeds * law.items))
    for start in range(0, worlds, size):
        some, models = min(size, worlds - start), len(shares)
        hidden = (
            mean
            + law.seed * chance.normal(size=(some, models, law.seeds, 1))
            + law.item * chance.normal(size=(some, 1, 1, law.items))
            + law.model * chance.normal(size=(some, models, 1, law.items))
        )
        hidden *= chance.random((some, models, law.seeds, 1)) >= law.failing if law.failing else 1.0
        yield (hidden + chance.normal(size=hidden.shape) > 0).astype(np.float32)


def moments(values: NDArray[np.float32]) -> tuple[Floats, Spread]:
    """Means over seeds and items [...] of numbers [..., K, N], and what they vary by: the analysis of variance."""
    seeds, items = values.shape[-2:]
    by_seed, by_item = values.mean(axis=-1, dtype=np.float64), values.mean(axis=-2, dtype=np.float64)
    inner = (values - by_item[..., None, :]).var(axis=-1, ddof=1).sum(axis=-1, dtype=np.float64)
    spread = Spread(
        seeds=by_seed.var(axis=-1, ddof=1) / seeds if seeds > 1 else np.zeros(by_seed.shape[:-1]),
        items=by_item.var(axis=-1, ddof=1) / items,
        interaction=inner / items / max(seeds * (seeds - 1), 1),
        freedom=(seeds - 1.0, items - 1.0),
    )
    return by_seed.mean(axis=-1), spread


def before(values: NDArray[np.float32], chance: np.random.Generator) -> tuple[Floats, Floats]:
    """The interval that was replaced, of numbers [W, K, N]."""
    mean, spread = moments(values)
    worlds, seeds, items = values.shape
    counts = chance.multinomial(items, np.full(items, 1 / items), size=DRAWS).astype(np.float32)
    weights = chance.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) / seeds
    drawn = (counts @ values.reshape(-1, items).T / items).reshape(DRAWS, worlds, seeds)
    below, above = np.quantile(np.einsum("bwk,bk->bw", drawn, weights), [TAIL, 1 - TAIL], axis=0)
    width = 2 * stdtrit(spread.satterthwaite, 1 - TAIL) * spread.error
    part = np.where(above > below, np.clip((mean - below) / np.where(above > below, above - below, 1), 0, 1), 0.5)
    return mean - part * width, mean + (1 - part) * width


def percent(flags: NDArray[Any]) -> float:
    """Share of worlds."""
    return 100 * float(flags.mean())


def held_by(low: Floats, high: Floats, truth: float) -> float:
    """Percentage of intervals that hold the truth; digits of float32 are none."""
    return percent((low <= truth + 1e-7) & (high >= truth - 1e-7))


def scores_and_gaps(law: Law, shares: tuple[float, float], worlds: int, *, old: bool = True) -> dict[str, float]:
    """Coverage of a score and of a difference of two models, and how often that difference is claimed."""
    chance = np.random.default_rng(2026)
    ends: dict[str, list[Floats]] = {}
    for hits in right(law, shares, worlds, chance):
        apart = hits[:, 0] - hits[:, 1]
        (one, spread), (two, other), (gap, of_gap) = moments(hits[:, 0]), moments(hits[:, 1]), moments(apart)
        found = {
            "score": bounded(one, spread, spread.quantile, 0, 1, law.items, law.items),
            "gap": between((one, two), (spread, other), of_gap, 0, 1, law.items, law.items),
            "test": (of_gap.p(np.where(np.abs(gap) < 1e-7, 0, gap)),) * 2,
        }
        if old:
            found |= {"score before": before(hits[:, 0], chance), "gap before": before(apart, chance)}
        for name, pair in found.items():
            ends.setdefault(name, []).append(np.stack(pair))
    whole = {name: np.concatenate(parts, axis=-1) for name, parts in ends.items()}
    told: dict[str, float] = {}
    for name in ("score", "gap") if not old else ("score before", "score", "gap before", "gap"):
        low, high = whole[name]
        told[name] = held_by(low, high, shares[0] if "score" in name else shares[0] - shares[1])
    if old:
        low, high = whole["gap before"]
        told["claims before"] = percent((low > 1e-7) | (high < -1e-7))
    low, high = whole["gap"]
    claimed = ((low > 0) | (high < 0)) & (whole["test"][0] <= ALPHA)
    told["claims"] = percent(claimed) if law.seeds >= CLAIM_SEEDS else 0.0
    told["width"] = float((high - low).mean())
    return told


def families(law: Law, shares: Sequence[float], worlds: int) -> dict[str, float]:
    """Percentage of worlds with any claim among all pairs of models that do not differ, and of true ones found.

    Models of the first share do not differ; those of another share are better than all of them.
    """
    chance = np.random.default_rng(2027)
    pairs = list(combinations(range(len(shares)), 2))
    null = [shares[one] == shares[two] for one, two in pairs]
    any_before: list[NDArray[Any]] = []
    any_now: list[NDArray[Any]] = []
    found_before: list[NDArray[Any]] = []
    found_now: list[NDArray[Any]] = []
    for hits in right(law, shares, worlds, chance):
        parts = [moments(hits[:, one] - hits[:, two]) for one, two in pairs]
        sizes = np.abs(np.stack([mean for mean, _ in parts], axis=-1))
        sizes = np.where(sizes < 1e-7, 0, sizes)
        spread = Spread(
            seeds=np.stack([each.seeds for _, each in parts], axis=-1),
            items=np.stack([each.items for _, each in parts], axis=-1),
            interaction=np.stack([each.interaction for _, each in parts], axis=-1),
            freedom=parts[0][1].freedom,
        )
        old = 2 * stdtr(spread.satterthwaite, -sizes / np.where(spread.error > 0, spread.error, 1))
        for worlds_p, anyone, found, may in (
            (np.where(spread.error > 0, old, sizes == 0), any_before, found_before, True),
            (spread.in_family().p(sizes), any_now, found_now, law.seeds >= CLAIM_SEEDS),
        ):
            claimed = (np.array([holm(each) for each in worlds_p.tolist()]) <= ALPHA) & may
            anyone.append(np.asarray(claimed[:, null].any(axis=1)))
            found.append(claimed[:, ~np.array(null)].mean(axis=1) if not all(null) else np.empty(0))
    told = {"false before": percent(np.concatenate(any_before)), "false": percent(np.concatenate(any_now))}
    if not all(null):
        told |= {"found before": percent(np.concatenate(found_before)), "found": percent(np.concatenate(found_now))}
    return told


def recoveries(law: Law, shares: tuple[float, float, float], worlds: int) -> dict[str, float]:
    """Of worlds with a proven gap: coverage of PGR's interval and mean PGR; and the range of detectable gains.

    Args:
        law: of the worlds.
        shares: accuracies of the weak supervisor, the student and the ceiling.
        worlds: how many.
    """
    chance = np.random.default_rng(2029)
    truth = (shares[1] - shares[0]) / (shares[2] - shares[0])
    held: list[bool] = []
    shown: list[float] = []
    sizes: list[float] = []
    found: list[bool] = []
    for hits in right(law, shares, worlds, chance):
        for weak, student, ceiling in hits:
            mean, spread = moments(ceiling - weak)
            gained, of_gain = moments(student - weak)
            gain = Estimate(value=float(gained), low=0, high=0, spread=of_gain)
            sizes.append(gain.detectable)
            found.append(bool(gain.p <= ALPHA))
            low, high = between(
                (ceiling.mean(), weak.mean()),
                (moments(ceiling)[1], moments(weak)[1]),
                spread,
                0,
                1,
                law.items,
                law.items,
            )
            if low > 0 and spread.p(mean) <= ALPHA:
                pgr = ratio(_together(student - weak, ceiling - weak))
                held.append(bool(pgr.low <= truth <= pgr.high))
                shown.append(pgr.value)
    low, high = np.quantile(sizes, [0.05, 0.95])
    return {
        "PGR": 100 * float(np.mean(held)) if held else np.nan,
        "PGR shown": 100 * len(shown) / len(sizes),
        "its mean": float(np.mean(shown)) if shown else np.nan,
        "gain found": percent(np.array(found)),
        "detectable from": float(low),
        "to": float(high),
    }


def _together(one: NDArray[np.float32], two: NDArray[np.float32]) -> Moments:
    """Moments of two quantities [K, N]."""
    values = np.stack([one, two]).astype(np.float64)  # [2, K, N]
    _, seeds, items = values.shape
    by_seed, by_item = values.mean(axis=2), values.mean(axis=1)
    rest = values - by_item[:, None]
    rest -= rest.mean(axis=2, keepdims=True)
    return Moments(
        value=by_seed.mean(axis=1),
        seeds=np.cov(by_seed) / seeds,
        items=np.cov(by_item) / items,
        interaction=np.einsum("qkn,rkn->qr", rest, rest) / (items - 1) / items / (seeds * (seeds - 1)),
        freedom=(seeds - 1.0, items - 1.0),
    )


def by_class(
    name: str, law: Law, positives: float, share: float, worlds: int, resamples: int = 300
) -> dict[str, float]:
    """Coverage of a metric of classification, and of the difference of two equal models, where a class is rare.

    Args:
        name: of the metric.
        law: of the worlds.
        positives: expected number of items of class 1; at least one is there.
        share: of each class that both models name.
        worlds: how many.
        resamples: of the items.
    """
    chance = np.random.default_rng(2028)
    metric = METRICS[name]
    held: list[bool] = []
    apart: list[bool] = []
    claims: list[bool] = []
    truth = _truth(name, law, positives / law.items, share)
    for hits in right(law, (share, share), worlds, chance):
        for world in range(len(hits)):
            labels = np.zeros(law.items, dtype=np.int64)
            while not labels.any():
                labels = (chance.random(law.items) < positives / law.items).astype(np.int64)
            answers = np.where(hits[world].reshape(-1, law.items) > 0, labels, 1 - labels)
            resampler = Resampler(f"{world} {len(held)}", law.items, resamples=resamples)
            features = metric.features(Predicted(labels=labels, classes=answers, count=2))
            ((scores,),) = resampler.scores([Block(features=features, values=(metric.value,))])
            counts = group_counts(labels, np.arange(law.items), 2)
            effective = None if metric.effective is None else metric.effective(counts)
            one, two = (
                resampler.sample(scores, range(start, start + law.seeds), effective) for start in (0, law.seeds)
            )
            found, gap = score(one, 0, 1), difference(one, two, 0, 1)
            held.append(found.low <= truth <= found.high)
            apart.append(gap.low <= 0 <= gap.high)
            claims.append(gap.proven != 0)
    return {"score": percent(np.array(held)), "gap": percent(np.array(apart)), "claims": percent(np.array(claims))}


def _truth(name: str, law: Law, positive: float, share: float) -> float:
    """What a new seed scores on endlessly many new items."""
    if name != "f1":
        return share
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    fixed = 1 + law.item**2 + law.model**2
    recall = ndtr((ndtri(share) * np.sqrt(fixed + law.seed**2) + law.seed * nodes) / np.sqrt(fixed))
    scores = 2 * recall * positive / (positive + recall * positive + (1 - recall) * (1 - positive))
    return float(scores @ weights / weights.sum())


def line(what: str, numbers: dict[str, float]) -> None:
    """Print a cell."""
    told = [f"{name} {number:.{1 if number >= 1 or number == 0 else 3}f}" for name, number in numbers.items()]
    print(f"{what:<46}{'  '.join(told)}", flush=True)


def main(worlds: int = 2_000) -> None:
    """Print all cells; percentages."""
    print(f"{worlds:,} worlds a cell; percent. Scores and gaps of two models, K seeds, N items, seeds' deviation s")
    for seeds in (1, 2, 3, 5, 10):
        for items in (30, 100, 500):
            for shares in ((0.75, 0.75), (0.95, 0.95), (0.995, 0.995), (0.99, 0.95)):
                for seed in (0.05, 0.25):
                    law = Law(seeds=seeds, items=items, seed=seed)
                    where = f"K {seeds:<3} N {items:<4} {shares[0]} and {shares[1]}, s {seed}"
                    line(where, scores_and_gaps(law, shares, worlds))
    some = max(1, worlds // 4)
    print(
        f"\n{some:,} worlds a cell, {worlds:,} where S is 2 or 3; percent. Any false claim among S equal models, N 500"
    )
    for models in (2, 3, 8, 15):
        for seeds in (2, 3, 5, 10):
            for seed, failing in ((0.05, 0.0), (0.3, 0.0), (0.05, 0.25)):
                law = Law(seeds=seeds, items=500, seed=seed, failing=failing)
                where = f"S {models:<3} K {seeds:<3} s {seed}{', 1 of 4 seeds fails' if failing else ''}"
                line(where, families(law, (0.75,) * models, worlds if models < 4 else some))
    print(f"\n{some:,} worlds a cell; percent. One of S models is better by .05: how often each of its pairs is found")
    for models in (4, 8):
        for seeds in (3, 5, 10):
            for seed, items in ((0.05, 500), (0.05, 2_000), (0.15, 2_000)):
                law = Law(seeds=seeds, items=items, seed=seed)
                where = f"S {models:<3} K {seeds:<3} N {items:<5} s {seed}"
                line(where, families(law, (0.75,) * (models - 1) + (0.8,), some))
    print(f"\n{some:,} worlds a cell; percent of PGR's intervals that hold the truth, and what of it is shown")
    for three in ((0.7, 0.75, 0.8), (0.7, 0.7, 0.72), (0.7, 0.72, 0.9), (0.95, 0.96, 0.99)):
        for seeds, items in ((3, 500), (5, 100), (5, 500), (10, 1_000)):
            law = Law(seeds=seeds, items=items, seed=0.05)
            line(f"K {seeds:<3} N {items:<5} {' '.join(map(str, three))}", recoveries(law, three, some))
    print(f"\n{some:,} worlds a cell; percent. Rare classes: N 100, of which some are of class 1")
    for name in ("f1", "balanced_accuracy"):
        for positives, share, seeds in (
            (3, 0.8, 5),
            (3, 0.8, 3),
            (5, 0.9, 5),
            (10, 0.8, 5),
            (10, 0.95, 5),
            (50, 0.8, 5),
        ):
            law = Law(seeds=seeds, items=100)
            line(f"{name}, {positives} of 100, recall {share}, K {seeds}", by_class(name, law, positives, share, some))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
