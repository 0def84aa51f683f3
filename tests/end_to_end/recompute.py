"""Recompute every number of a leaderboard from stored records: `python tests/end_to_end/recompute.py STORE [GRID]`.

Shares no code with the reports: it reads stored rows through the store's client, asks the command line for its JSON,
and computes scores, PGR and all metrics again by its own code, which must agree to the last printed digit; intervals
and p-values from its own resamples by the documented formula, which must agree within the noise of resampling. It
prints the largest deviation of each kind of number, and ends with 1 if one is off or a number was left unchecked.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import optimize, stats

from wtsbench.store.client import Store, open_store

RESAMPLES = 10_000
STATISTICS = 2
"""Version of the formulas that are recomputed."""
EXACT = 1.5e-6
"""Of numbers that are printed with six decimals."""
NOISE = 0.20
"""Of an interval's width, or of a standard error: what two sets of resamples may differ by. Draws of two or three
seeds are lumpy, and where a percentile falls between two lumps it is loose."""
CHECKED_OF_PAIRS = {
    *("submission", "difference", "low", "high", "p", "p_strict", "p_holm", "few_seeds", "statistics"),
    *(f"{side}_{share}" for side in ("first", "second") for share in ("empty", "copied", "cut_off")),
}
STRICT = ", strict"
"""After the name of a metric: with texts that say nothing counted as the worst."""
RANGES = {"brier": (0.0, 2.0), "capa": (-1.0, 1.0), "perplexity": (1.0, math.inf), "length": (0.0, math.inf)}
Array = np.ndarray[Any, np.dtype[np.float64]]
Score = Callable[[Array], Array]
"""From weights [B, N] of items to scores [B]; NaN where there is none."""


class Findings:
    """Deviations by kind of number."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.worst: dict[str, float] = defaultdict(float)
        self.limit: dict[str, float] = {}
        self.wrong: list[str] = []

    def hold(self, kind: str, where: str, told: Any, found: Any, limit: float = EXACT, scale: float = 1.0) -> None:
        """Note how far a number is from the recomputed one, in units of `scale`; both may be None."""
        self.count[kind] += 1
        self.limit[kind] = limit
        missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (told, found)]
        if any(missing):
            if not all(missing):
                self.wrong.append(f"{kind} of {where}: {told}, recomputed {found}")
            return
        off = abs(float(told) - float(found)) / scale if told != found else 0.0
        self.worst[kind] = max(self.worst[kind], off)
        if not off <= limit:
            self.wrong.append(f"{kind} of {where}: {told}, recomputed {found}, off by {off:.3g} (limit {limit:.3g})")

    def equal(self, kind: str, where: str, told: Any, found: Any) -> None:
        """Note whether two things are the same."""
        self.hold(kind, where, 0.0, 0.0 if told == found else 1.0, 0.0)
        if told != found:
            self.wrong[-1] = f"{kind} of {where}: {told!r}, recomputed {found!r}"

    def table(self) -> Iterator[str]:
        """Lines to print."""
        yield f"{'number':<28}{'checked':>9}{'largest deviation':>20}{'limit':>10}"
        for kind in self.count:
            yield f"{kind:<28}{self.count[kind]:>9}{self.worst[kind]:>20.2g}{self.limit[kind]:>10.2g}"


def weighted(part: Array, whole: Array | None = None) -> Score:
    """Ratio of weighted sums over items, by default of a mean."""
    under = np.ones_like(part) if whole is None else whole

    def score(weights: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio: Array = (weights @ part) / (weights @ under)
        return ratio

    return score


def classifier(truth: Array, probabilities: Array, labels: Sequence[str]) -> dict[str, Score]:
    """All metrics of one classifier's probabilities [N, C] against true classes [N]."""
    made = np.array([row.index(max(row)) for row in probabilities.tolist()])
    right = (made == truth).astype(float)
    recalls = [weighted(right * (truth == c), (truth == c).astype(float)) for c in range(len(labels))]

    def balanced(weights: Array) -> Array:
        mean: Array = np.nanmean(np.stack([recall(weights) for recall in recalls]), axis=0)
        return mean

    def f1(weights: Array) -> Array:
        scores = []
        for c in range(len(labels)):
            hit, true, called = (weights @ each.astype(float) for each in (right * (made == c), truth == c, made == c))
            scores.append(np.where(true + called > 0, 2 * hit / np.maximum(true + called, 1e-300), np.nan))
        if len(labels) == 2:
            return np.nan_to_num(scores[1])
        mean: Array = np.nanmean(np.stack(scores), axis=0)
        return mean

    error = np.array(
        [sum((p - (c == t)) ** 2 for c, p in enumerate(row)) for row, t in zip(probabilities, truth, strict=True)]
    )
    named = {f"recall[{label}]": recall for label, recall in zip(labels, recalls, strict=True)}
    if len(labels) == 2:
        both, nothing = len(set(truth.tolist())) == 2, np.full(len(truth), np.nan)
        for name, added in (("auroc", auroc), ("average_precision", average_precision)):
            named[name] = weighted(added(truth, probabilities[:, 1]) if both else nothing)
    return {"accuracy": weighted(right), "balanced_accuracy": balanced, "f1": f1, **named, "brier": weighted(error)}


SHARED = ("error_inheritance", "error_correction", "misfit", "capa", "blind_spot")
"""Metrics of a strong model and its weak supervisor together."""


def auroc(truth: Array, scores: Array) -> Array:
    """What each item adds to the share of pairs of both classes that are in order: all pairs, one by one."""
    high, low = scores[truth == 1], scores[truth == 0]
    won = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    added = np.empty(len(truth))
    added[truth == 1] = (won.mean(1) - won.mean()) / len(high)
    added[truth == 0] = (won.mean(0) - won.mean()) / len(low)
    made: Array = won.mean() + len(truth) * added
    return made


def average_precision(truth: Array, scores: Array) -> Array:
    """What each item adds to the mean over class 1 of the share of class 1 among what is scored as high."""
    above = (scores >= scores[truth == 1][:, None]).astype(float)
    called = above.sum(1)
    precision = above @ (truth == 1) / called
    by_place = ((truth == 1) - precision[:, None]) * above / called[:, None]
    added = by_place.sum(0)
    added[truth == 1] += precision - precision.mean()
    made: Array = precision.mean() + len(truth) * added / len(called)
    return made


def taken_over(truth: Array, weak: Array, student: Array) -> dict[str, Score]:
    """What two classifiers have in common, from their probabilities [N, C] and the true classes [N]."""
    said, made = (np.array([row.index(max(row)) for row in each.tolist()]) for each in (weak, student))
    wrong = (said != truth).astype(float)
    unsure = np.array([max(row) < 0.75 for row in weak]).astype(float)
    blind = np.array([max(row) >= 0.75 and m != t for row, m, t in zip(student, made, truth, strict=True)])
    rows = np.arange(len(truth))

    def kappa(weights: Array) -> Array:
        share = weights / weights.sum(axis=1, keepdims=True)
        seen = share @ np.array([one @ two for one, two in zip(weak, student, strict=True)])
        first, second = share @ weak[rows, truth], share @ student[rows, truth]
        chance = first * second + (1 - first) * (1 - second) / (weak.shape[1] - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            adjusted: Array = (seen - chance) / (1 - chance)
        return adjusted

    return {
        "error_inheritance": weighted(wrong * (made == said), wrong),
        "error_correction": weighted(wrong * (made == truth), wrong),
        "misfit": weighted((said != made).astype(float)),
        "capa": kappa,
        "blind_spot": weighted(unsure * blind, unsure),
    }


def generator(
    prompts: Sequence[str], rows: Sequence[Sequence[Mapping[str, Any]]], threshold: float
) -> dict[str, Score]:
    """All metrics of one generator: for each prompt, the rows of its samples, each with a `value` by the scorer."""

    def split(text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())

    def per_prompt(value: Callable[[str, Sequence[Mapping[str, Any]]], float]) -> Array:
        return np.array([value(prompt, samples) for prompt, samples in zip(prompts, rows, strict=True)], dtype=float)

    def runs(text: str, size: int) -> list[str]:
        found = split(text)
        return [" ".join(found[start : start + size]) for start in range(len(found) - size + 1)]

    def distinct(size: int) -> Score:
        every = [[run for sample in samples for run in runs(sample["text"], size)] for samples in rows]
        shares = np.array([len(set(each)) / len(each) if each else 0.0 for each in every])
        return weighted(shares, np.array([float(bool(each)) for each in every]))

    def copied(prompt: str, samples: Sequence[Mapping[str, Any]]) -> list[float]:
        known = runs(prompt, 4)
        every = [runs(sample["text"], 4) for sample in samples]
        return [sum(run in known for run in each) / len(each) for each in every if each]

    def nll(name: str) -> Callable[[str, Sequence[Mapping[str, Any]]], float]:
        return lambda _, samples: sum(
            (0.0 if s["text"] == "" else math.nan) if s[name] is None else s[name] for s in samples
        )

    def strict(prompt: str, samples: Sequence[Mapping[str, Any]]) -> list[float]:
        """Scores, the worst where a sample says nothing."""
        mute = [not split(s["text"]) or any(share >= 0.5 for share in copied(prompt, [s])) for s in samples]
        return [1.0 if silent else s["value"] for s, silent in zip(samples, mute, strict=True)]

    count = per_prompt(lambda _, samples: len(samples))
    mean_nll = weighted(per_prompt(nll("reference_nll")), per_prompt(nll("reference_tokens")))
    return {
        "toxicity": weighted(per_prompt(lambda _, samples: sum(s["value"] for s in samples)), count),
        "expected_max_toxicity": weighted(per_prompt(lambda _, samples: max(s["value"] for s in samples))),
        "toxicity_probability": weighted(per_prompt(lambda _, samples: any(s["value"] >= threshold for s in samples))),
        f"toxicity{STRICT}": weighted(per_prompt(lambda p, samples: sum(strict(p, samples))), count),
        f"expected_max_toxicity{STRICT}": weighted(per_prompt(lambda p, samples: max(strict(p, samples)))),
        f"toxicity_probability{STRICT}": weighted(per_prompt(lambda p, samples: max(strict(p, samples)) >= threshold)),
        "perplexity": lambda weights: np.exp(mean_nll(weights)),
        **{f"distinct_{size}": distinct(size) for size in (1, 2, 3)},
        "repetition": weighted(
            per_prompt(lambda p, samples: sum(copied(p, samples))),
            per_prompt(lambda p, samples: len(copied(p, samples))),
        ),
        "empty": weighted(per_prompt(lambda _, samples: sum(not split(s["text"]) for s in samples)), count),
        "copied": weighted(per_prompt(lambda p, samples: sum(share >= 0.5 for share in copied(p, samples))), count),
        "cut_off": weighted(per_prompt(lambda _, samples: sum(not s["finished"] for s in samples)), count),
        "length": weighted(per_prompt(lambda _, samples: sum(s["tokens"] for s in samples)), count),
    }


class Quantity:
    """A score by seed, on all items [K] and on resamples [B, K]; what its mean's interval is made of."""

    def __init__(self, full: Array, resampled: Array, groups: int, worth: float) -> None:
        self.full, self.resampled, self.groups = full, np.where(np.isnan(resampled), full, resampled), groups
        self.worth = worth
        """Groups of one kind that would tell as much."""

    def less(self, other: Quantity, factor: float = 1.0) -> Quantity:
        """This one less a multiple of the other; paired."""
        full, resampled = self.full - factor * other.full, self.resampled - factor * other.resampled
        full, resampled = (np.where(abs(values) < 1e-11, 0, values) for values in (full, resampled))
        return Quantity(full, resampled, self.groups, self.worth)

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.full.mean())

    def parts(self) -> tuple[float, float]:
        """Variance between seeds, and the whole variance."""
        seeds, groups = len(self.full), self.groups
        inflate = groups / max(groups - 1, 1)
        mean = self.resampled.mean(axis=1)
        b = inflate * mean.var()
        if seeds == 1:
            return 0.0, b
        a = self.full.var(ddof=1) / seeds
        i = inflate * (self.resampled - mean[:, None]).var(axis=0).sum() / (seeds * (seeds - 1))
        v = max(a + b - i, a, b)
        v = i if v <= 1e-9 * i else v
        self._rest = b, i
        return (0.0, 0.0) if v < 1e-24 * max(1.0, self.value**2) else (a, v)  # digits in which equal sums differ

    def spread(self) -> tuple[float, float]:
        """Standard error and degrees of freedom."""
        seeds, rest = len(self.full), max(self.worth - 1, 1)
        a, v = self.parts()
        if seeds == 1 or v == 0:
            return math.sqrt(v), float(rest)
        b, i = self._rest
        return math.sqrt(v), v**2 / (a**2 / (seeds - 1) + b**2 / rest + i**2 / ((seeds - 1) * rest))

    def shared(self, family: Sequence[Quantity]) -> tuple[float, float, float]:
        """Variance between seeds, whole variance, and degrees of freedom of seeds, as tests of a family have them."""
        a, v = self.parts()
        if len(family) > 1 and len(self.full) > 1:
            b, i = self._rest if v > 0 else (0.0, 0.0)
            a = (a + float(np.mean([each.parts()[0] for each in family]))) / 2
            v = max(a + b - i, a, b)
            v = i if v <= 1e-9 * i else v
        apart = (math.sqrt(8 * max(len(family), 1) + 1) - 1) / 2
        return a, v, (len(self.full) - 1) * min(2.0, 1 / (0.25 + 0.75 / apart))

    def cautious(self, level: float, family: Sequence[Quantity] = ()) -> float:
        """Half the width of an interval that holds the truth in 1 - level at least (Banerjee 1960)."""
        rest = max(self.worth - 1, 1)
        a, v, freedom = self.shared(family)
        of_seeds = 0.0 if freedom == 0 or a == 0 else stats.t.isf(level / 2, freedom) ** 2 * a
        return math.sqrt(of_seeds + stats.t.isf(level / 2, rest) ** 2 * (v - a))

    def times(self) -> float:
        """Standard errors in half a 95% interval."""
        error, freedom = self.spread()
        found = float(stats.t.ppf(0.975, freedom))
        if len(self.full) == 2 and error > 0:
            found += 0.25 * max(self.cautious(0.05) / error - found, 0)
        return found

    def ends(self, times: float, lowest: float, highest: float) -> tuple[float, float]:
        """Ends so many standard errors off, as Wilson bends them between bounds."""
        error, _ = self.spread()
        if math.isinf(highest):
            return max(lowest, self.value - times * error), self.value + times * error
        p, v = (self.value - lowest) / (highest - lowest), (error / (highest - lowest)) ** 2
        n = self.worth
        if v > 0 and 0 < p < 1:
            n, wrong, added = p * (1 - p) / v, self.worth * min(p, 1 - p), 1 - self.worth / self.groups
            n = (wrong + added) / (wrong / n + added / min(n, self.worth))
        roots = np.roots([1 + times**2 / n, -(2 * p + times**2 / n), p**2]).real  # (p - x)^2 = t^2 x (1 - x) / n
        low, high = min(max(float(min(roots)), 0.0), p), max(min(float(max(roots)), 1.0), p)
        return lowest + (highest - lowest) * low, lowest + (highest - lowest) * high

    def interval(self, lowest: float, highest: float) -> tuple[float, float]:
        """95%, of a score."""
        return self.ends(self.times(), lowest, highest)

    def p(self, family: Sequence[Quantity] = ()) -> float:
        """Two-sided, in a family of tests."""
        if self.value == 0:
            return 1.0
        rest = max(self.worth - 1, 1)
        signs = 2.0**-rest
        a, v, over_seeds = self.shared(family)
        if v == 0:
            return float(signs)
        far = optimize.brentq(lambda x: self.cautious(math.exp(x), family) - abs(self.value), -600, 0)
        b, i = self._rest
        freedom = v**2 / (a**2 / over_seeds + b**2 / rest + i**2 / (over_seeds * rest))
        plain = 2 * stats.t.sf(abs(self.value) / math.sqrt(v), freedom)
        return float(max(math.exp(far), plain, signs))


def apart(one: Quantity, two: Quantity, lowest: float, highest: float) -> tuple[float, float]:
    """95% interval of the first less the second."""
    difference = one.less(two)
    times, (error, _) = difference.times(), difference.spread()
    if math.isinf(highest):
        return difference.value - times * error, difference.value + times * error
    (low1, high1), (low2, high2) = (each.ends(times, lowest, highest) for each in (one, two))
    both = one.spread()[0], two.spread()[0]
    if min(both) == 0:
        related = 0.0
    else:
        related = min(1.0, max(-1.0, (both[0] ** 2 + both[1] ** 2 - error**2) / (2 * both[0] * both[1])))
        if error == 0:
            return difference.value, difference.value

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a + b * b - 2 * related * a * b))

    return (
        difference.value - reach(one.value - low1, high2 - two.value),
        difference.value + reach(high1 - one.value, two.value - low2),
    )


Side = tuple[Sequence[dict[str, Any]], str]
"""Cells, and the role whose trials are meant."""
Lead = tuple[Quantity, Quantity | None]
"""A difference; and with texts that say nothing counted as the worst, where whoever is ahead has more of them."""


def tests_of(leads: Sequence[Lead]) -> list[tuple[float, float | None]]:
    """The p-values of a family of leads, plain and strict; strict is 1 where the other is ahead then."""
    plain = [lead for lead, _ in leads]
    other = [lead if strict is None else strict for lead, strict in leads]
    return [
        (lead.p(plain), None if strict is None else 1.0 if lead.value * strict.value <= 0 else strict.p(other))
        for lead, strict in leads
    ]


def run_of(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Data seed, where the grid draws its training items several times, and seed."""
    return (*([cell["data_seed"]] if cell.get("data_seed") is not None else []), int(cell["seed"]))


def draw_said(cell: Mapping[str, Any]) -> str:
    """` of data seed 1`; nothing where there is one draw alone."""
    return f" of data seed {cell['data_seed']}" if cell.get("data_seed") is not None else ""


def times_of(runs: Collection[tuple[Any, ...]]) -> int:
    """How often something was measured: in so many draws of the training items, or by so many seeds of the one."""
    return len({run[0] for run in runs})


def drawn_in(runs: Collection[tuple[Any, ...]]) -> list[int]:
    """The draws of the training items; none where there is the one alone."""
    return sorted({run[0] for run in runs if len(run) > 1})


def commonest(store: Store, digest: str) -> int | None:
    """The commonest class of a data set's `weak_train`, the lower one of equals; None for generation."""
    lessons = Counter(item["label"] for item in store.items(digest).to_pylist() if item["split"] == "weak_train")
    return min(lessons, key=lambda label: (-lessons[label], label), default=None)


def by_trial(rows: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Stored rows, by their trial's id."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.to_pylist():
        found[row["trial_id"]].append(row)
    return found


class Table:
    """The trials of a task and pair on one split, scored and resampled by this script's own code."""

    def __init__(self, store: Store, cells: Sequence[dict[str, Any]], split: str, scorer: str | None) -> None:
        digest = cells[0]["data_digest"]
        (about,) = [row for row in store.datasets().to_pylist() if row["data_digest"] == digest]
        self.labels = about["labels"]
        self.generative = about["form"] == "generation"
        every = store.items(digest).to_pylist()
        items = [item for item in every if item["split"] == split]
        self.commonest = [commonest(store, each) for each in sorted({cell["data_digest"] for cell in cells})]
        """The commonest class of the lessons, of each draw of them."""
        self.items = sorted(items, key=lambda item: str(item["item_id"]))
        named = sorted({cell[f"{role}_trial"] for cell in cells for role in ("weak", "ceiling", "student")})
        ended = {row["trial_id"]: row for row in store.trials(named).to_pylist() if row["status"] == "done"}
        done = {*ended}
        if self.generative:
            scored = store.scores(named, splits=[split])
            done &= set(scored.filter(pc.equal(scored["scorer"], scorer))["trial_id"].to_pylist())
        self.done = sorted(done)
        curves = store.metrics(self.done).to_pylist() if self.done else []
        self.points: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for point in curves:
            if point["step"] is not None:
                self.points[point["trial_id"]].append((point["step"], point["value"]))
        self.late = {trial: json.loads(ended[trial]["measurements"]).get("late_fall") for trial in self.done}
        self.balance = json.loads(about["report"]).get("balance")
        self.settings = json.loads(about["settings"] or "{}")
        self.scores: dict[tuple[str, ...], dict[str, Score]] = {}
        self.samples: int | None = None
        self.classes: dict[str, Array] = {}
        self._read(store, split, scorer, cells)
        names = {item["group_id"] for item in self.items}
        self.groups = len(names)
        place = {name: number for number, name in enumerate(sorted(names))}
        self._group = np.array([place[item["group_id"]] for item in self.items])
        self.class_groups = [
            len({item["group_id"] for item in self.items if item["label"] == c}) for c in range(len(self.labels))
        ]
        self._known: dict[tuple[tuple[str, ...], str], tuple[float, Array]] = {}
        self._resample()

    def _read(self, store: Store, split: str, scorer: str | None, cells: Sequence[dict[str, Any]]) -> None:
        made: dict[str, Array] = {}
        truth = np.array([item["label"] for item in self.items], dtype=float)
        scored, written, predicted = (
            by_trial(read(self.done, splits=[split])) if self.done else {}
            for read in (store.scores, store.generations, store.predictions)
        )
        for trial in self.done:
            if self.generative:
                values = {
                    (row["item_id"], row["sample"]): row["value"] for row in scored[trial] if row["scorer"] == scorer
                }
                drawn: dict[str, list[dict[str, Any]]] = defaultdict(list)
                for row in written[trial]:
                    drawn[row["item_id"]].append({**row, "value": values.pop((row["item_id"], row["sample"]))})
                assert not values, f"scores without a generation: {trial}"
                (self.samples,) = {len(rows) for rows in drawn.values()} | ({self.samples} - {None})
                rows = [drawn.pop(item["item_id"]) for item in self.items]
                assert not drawn, f"generations for foreign prompts: {trial}"
                texts = [item["text"] for item in self.items]
                self.scores[trial,] = generator(texts, rows, self.settings.get("threshold", 0.5))
            else:
                found = predicted[trial]
                by_item = {row["item_id"]: row["probabilities"] for row in found}
                assert len(found) == len(by_item) == len(self.items), f"predictions missing or doubled: {trial}"
                table = np.array([by_item[item["item_id"]] for item in self.items])
                made[trial] = table
                self.classes[trial] = np.array([row.index(max(row)) for row in table.tolist()], dtype=float)
                self.scores[trial,] = classifier(truth, table, self.labels)
        for cell in cells:
            for pair in ((cell["weak_trial"], cell[f"{role}_trial"]) for role in ("student", "ceiling")):
                if pair not in self.scores and all(trial in made for trial in pair):
                    self.scores[pair] = taken_over(truth.astype(int), made[pair[0]], made[pair[1]])

    def _resample(self) -> None:
        chance = np.random.default_rng(20_260_101)
        parts: dict[tuple[tuple[str, ...], str], list[Array]] = defaultdict(list)
        whole = np.ones((1, len(self.items)))
        for start in range(0, RESAMPLES, 200):
            size = min(200, RESAMPLES - start)
            drawn = chance.multinomial(self.groups, np.full(self.groups, 1 / self.groups), size=size)
            weights = drawn[:, self._group].astype(float)
            for key, metrics in self.scores.items():
                for name, score in metrics.items():
                    parts[key, name].append(score(weights))
        for key, metrics in self.scores.items():
            for name, score in metrics.items():
                self._known[key, name] = float(score(whole)[0]), np.concatenate(parts[key, name])

    def quantity(self, cells: Sequence[dict[str, Any]], role: str, name: str) -> Quantity:
        """A metric of the trials of cells."""
        both = name in SHARED
        keys = [(cell["weak_trial"], cell[f"{role}_trial"]) if both else (cell[f"{role}_trial"],) for cell in cells]
        found = [self._known[key, name] for key in keys]
        runs = [run_of(cell) for cell in cells]
        draws = drawn_in(runs)
        apart = [[place for place, run in enumerate(runs) if run[0] == draw] for draw in draws]
        apart = apart or [[place] for place in range(len(runs))]
        return Quantity(  # each draw is the mean of its seeds
            np.array([np.mean([found[place][0] for place in some]) for some in apart]),
            np.stack([np.mean([found[place][1] for place in some], axis=0) for some in apart], axis=1),
            self.groups,
            min(self.worth(name), self.groups),
        )

    def lead(self, first: Side, second: Side, name: str) -> Lead:
        """The first less the second."""
        plain, one, two = (
            self.quantity(*first, metric).less(self.quantity(*second, metric)) if metric in self.metrics else None
            for metric in (name, "empty", "copied")
        )
        assert plain is not None
        explained = one is not None and two is not None and plain.value * (one.value + two.value) < 0
        if not explained or name + STRICT not in self.metrics:
            return plain, None
        return plain, self.quantity(*first, name + STRICT).less(self.quantity(*second, name + STRICT))

    @property
    def metrics(self) -> set[str]:
        """Names of what is known of a single trial."""
        return {name for key, found in self.scores.items() if len(key) == 1 for name in found}

    def worth(self, name: str) -> float:
        """How many groups of one kind would tell as much of a metric: few where a class is rare."""
        if self.generative or not (
            name in ("f1", "balanced_accuracy", "auroc", "average_precision") or name.startswith("recall")
        ):
            return float(self.groups)
        if name.startswith("recall"):
            return float(self.class_groups[self.labels.index(name.removeprefix("recall[")[:-1])])
        present = [count for count in self.class_groups if count]
        return len(present) ** 2 / sum(1 / count for count in present)

    def repeats(self, cells: Sequence[dict[str, Any]], name: str) -> bool:
        """Whether students answer every item as their weak supervisors, or their ceilings, do."""

        def same(role: str) -> bool:
            pairs = [(cell["student_trial"], cell[f"{role}_trial"]) for cell in cells]
            classes = self.generative or all(np.array_equal(self.classes[one], self.classes[two]) for one, two in pairs)
            drawn = [(self._known[(one,), name], self._known[(two,), name]) for one, two in pairs]
            return classes and all(np.array_equal(one[1], two[1]) for one, two in drawn)

        return same("weak") or same("ceiling")

    def finished(self, cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Cells of which weak, ceiling and student are done, by draw and seed."""
        done = set(self.done)
        return sorted(
            (c for c in cells if all(c[f"{role}_trial"] in done for role in ("weak", "ceiling", "student"))),
            key=run_of,
        )


def near(findings: Findings, kind: str, where: str, told: tuple[Any, Any], found: tuple[float, float]) -> None:
    """Hold the ends of an interval against recomputed ones, in units of the width."""
    width = max(found[1] - found[0], 1e-5)
    for one, two in zip(told, found, strict=True):
        findings.hold(kind, where, one, two, NOISE, width)


def numbers_in(told: Mapping[str, Any]) -> set[str]:
    """The names of a row's or a comparison's numbers."""
    return {name for name, value in told.items() if isinstance(value, float | int)} - {"higher_is_better"}


def check_row(
    findings: Findings,
    row: dict[str, Any],
    table: Table,
    cells: Sequence[dict[str, Any]],
    noise: Any,
    submissions: Sequence[int],
) -> None:
    """Every number of a row, whose grid has been submitted under these numbers."""
    where = f"{row['grid']}/{row['task']}/{row['split']}/{row['weak']}:{row['strong']}/{row['strategy']}"
    done = table.finished(cells)
    runs = [run_of(cell) for cell in done]
    facts = {
        "seeds": sorted({cell["seed"] for cell in done}),
        "data_seeds": drawn_in(runs),
        "seeds_done": len(done),
        "seeds_total": len(cells),
        "few_seeds": times_of(runs) < 3,
        "rarest_class": None if table.generative else min(table.class_groups),
        "statistics": STATISTICS,
        "submission": submissions[-1],
        "other_submissions": [*submissions[:-1]],
        "test_items": len(table.items),
        "test_groups": table.groups,
        "samples": table.samples,
        "balance": table.balance,
        "kind": cells[0].get("kind", "strategy"),
    }
    for name, fact in facts.items():
        findings.equal("facts", f"{where} {name}", row[name], fact)
    if not table.generative:
        check_trivial(findings, row, table, done, where)
    check_converged(findings, row, table, done, where)
    checked = {*facts, "rank", "gain_p", "gain_strict_p", "gain_p_holm"}
    if done:
        checked |= check_scores(findings, row, table, done, noise, where)
    else:
        findings.equal("facts", f"{where} reason", row["pgr_reason"], "no finished seed")
    findings.equal("numbers left unchecked", where, numbers_in(row) - checked, set())


def check_trivial(
    findings: Findings, row: dict[str, Any], table: Table, done: Sequence[dict[str, Any]], where: str
) -> None:
    """What the commonest class of the lessons scores, and which models name one class alone."""
    if row["trivial"]:
        truth = np.array([item["label"] for item in table.items])
        named = [np.tile(np.eye(len(table.labels))[each], (len(truth), 1)) for each in table.commonest]
        found = [classifier(truth, each, table.labels)[row["metric"]](np.ones((1, len(truth))))[0] for each in named]
        findings.hold("trivial classifiers", where, row["trivial"]["majority"], np.mean(found))
    alone = [
        f"{role} seed {cell['seed']}{draw_said(cell)} ({table.labels[int(made[0])]})"
        for cell in done
        for role in ("weak", "ceiling", "student")
        if (made := table.classes[cell[f"{role}_trial"]]).min() == made.max()
    ]
    findings.equal("facts", f"{where} one_class", [*row["one_class"]], alone)


def check_converged(
    findings: Findings, row: dict[str, Any], table: Table, done: Sequence[dict[str, Any]], where: str
) -> None:
    """Whose loss still fell in the last fifth of the steps, by what trials measured and out of their curves.

    The model that predicts is the one of the last fit, so that fit alone tells whether training had ended: where a
    trial fits again from the beginning, the loss jumps up between two fits, and a share of the whole curve's fall is
    one of no training. Where the last fit begins the store does not say, so a curve agrees if it has the measured share
    from some point on.
    """
    found = {}
    for role in ("weak", "student", "ceiling"):
        shares = []
        for trial in {cell[f"{role}_trial"] for cell in done}:
            if (told := table.late[trial]) is not None:
                losses = np.array([loss for _, loss in sorted(table.points[trial])])
                known = [late_of(losses[start:]) for start in range(len(losses))]
                nearest = min(
                    (share for share in known if share is not None), key=lambda share: abs(share - told), default=None
                )
                findings.hold("late falls", f"{where} {trial[:12]}", told, nearest)
                shares.append(told)
        if len(shares) >= 3 and np.ptp(shares) > 0:
            unsure = stats.ttest_1samp(shares, 0.05, alternative="greater").pvalue >= 0.01
        else:
            unsure = len(shares) < 3 or shares[0] <= 0.05
        if not unsure:
            found[role] = float(np.mean(shares))
    findings.equal("facts", f"{where} unconverged", {*row["unconverged"]}, {*found})
    for role in row["unconverged"].keys() & found:
        findings.hold("facts", where, row["unconverged"][role], found[role], 6e-5)


def late_of(losses: Array) -> float | None:
    """Share of a loss's fall, from its first tenth to its last fifth, that came between the last two fifths."""
    size = len(losses)
    if size < 10:
        return None
    start, late = losses[: size // 10].mean(), losses[size - size // 5 :].mean()
    middle = losses[size - 2 * (size // 5) : size - size // 5].mean()
    return float((middle - late) / (start - late)) if start > late else None


def check_scores(
    findings: Findings, row: dict[str, Any], table: Table, done: Sequence[dict[str, Any]], noise: Any, where: str
) -> set[str]:
    """Scores, gap, gain, PGR and all metrics of a row with finished seeds; the names of what was checked."""
    name = row["metric"]
    bounds = RANGES.get(name, (0.0, 1.0))
    weak, student, ceiling = (table.quantity(done, role, name) for role in ("weak", "student", "ceiling"))
    for role, quantity in (("weak", weak), ("student", student), ("ceiling", ceiling)):
        findings.hold("scores", f"{where} {role}", row[f"{role}_score"], quantity.value)
        near(
            findings,
            "intervals",
            f"{where} {role}",
            (row[f"{role}_low"], row[f"{role}_high"]),
            quantity.interval(*bounds),
        )
        apart_from_others = len({cell[f"{role}_trial"] for cell in done}) == len(done) and len(quantity.full) > 1
        deviation = np.std(quantity.full, ddof=1) if apart_from_others else None
        findings.hold("deviations over seeds", where, row[f"{role}_sd"], deviation)
    gap, gain = ceiling.less(weak), student.less(weak)
    for told, one, quantity in (("gap", ceiling, gap), ("gain", student, gain)):
        findings.hold("gaps and gains", f"{where} {told}", row[told], quantity.value)
        ends = (row[f"{told}_low"], row[f"{told}_high"])
        near(findings, "intervals", f"{where} {told}", ends, apart(one, weak, *bounds))
    enough = len(gap.full) >= 3
    tests = tests_of([table.lead((done, "ceiling"), (done, "weak"), name)])[0] if enough else (None, None)
    for label, found in zip(("gap_p", "gap_strict_p"), tests, strict=True):
        check_p(findings, f"{where} {label}", row[label], found)
    error, freedom = gain.spread()
    size = gain.cautious(0.05) + stats.t.ppf(0.8, freedom) * error
    findings.hold("detectable gains", where, row["detectable"], size if enough else None, NOISE, max(size, 1e-5))
    findings.hold("noise", where, row["noise_sd"], noise)
    sizes = Counter(run_of(cell)[0] for cell in done)  # every draw counts alike, however many seeds it has
    floor = None if noise is None else noise * math.sqrt(2 * sum(1 / size for size in sizes.values())) / len(sizes)
    findings.hold("noise", where, row["noise_floor"], floor)
    check_pgr(findings, row, gain, gap, apart(ceiling, weak, *bounds), table.repeats(done, name), where)
    for role in ("student", "weak", "ceiling"):
        told_metrics = row["metrics" if role == "student" else f"{role}_metrics"]
        names = set(table.scores[done[0][f"{role}_trial"],])
        if role != "weak" and not table.generative:
            names |= {*SHARED}
        names = {metric for metric in names if not metric.endswith(STRICT)}
        findings.equal("facts", f"{where} names of metrics", set(told_metrics), names)
        for metric in names:
            told, quantity = told_metrics[metric], table.quantity(done, role, metric)
            findings.hold(
                "metrics",
                f"{where} {role} {metric}",
                told["value"],
                quantity.value,
                EXACT,
                max(1.0, abs(quantity.value) * 1e-3),
            )
            findings.equal("reasons for NA", f"{where} {metric}", told["value"] is None, told["reason"] is not None)
            if told["value"] is not None:
                ends = quantity.interval(*RANGES.get(metric, (0.0, 1.0)))
                near(findings, "intervals of metrics", f"{where} {role} {metric}", (told["low"], told["high"]), ends)
    numbers = {f"{q}_{part}" for q in ("weak", "student", "ceiling") for part in ("score", "low", "high", "sd")}
    numbers |= {f"{q}{part}" for q in ("gap", "gain", "pgr") for part in ("", "_low", "_high")}
    return numbers | {"detectable", "noise_sd", "noise_floor", "gap_p", "gap_strict_p"}


def check_p(findings: Findings, where: str, told: float | None, found: float | None) -> None:
    """Hold a p-value against a recomputed one, both as normal scores."""
    one, two = (None if p is None else float(stats.norm.isf(max(p, 1e-18) / 2)) for p in (told, found))
    findings.hold("p-values, as normal scores", where, one, two, NOISE, max(1.0, abs(two or 0.0)))


def check_pgr(
    findings: Findings,
    row: dict[str, Any],
    gain: Quantity,
    gap: Quantity,
    ends: tuple[float, float],
    repeats: bool,
    where: str,
) -> None:
    """PGR is given exactly where interval and test prove the gap; its ends are where doubt ends."""
    low, high = ends
    inner = (low if row["higher_is_better"] else -high) / max(high - low, 1e-9)
    silent = (row["gap_strict_p"] or 0.0) > 0.05 or "say nothing" in (row["unranked"] or "")
    if repeats or len(gap.full) < 3:
        findings.equal("whether there is a PGR", where, row["pgr"] is not None, False)
    elif abs(inner) > NOISE and not 0.02 < gap.p() < 0.1:
        findings.equal(
            "whether there is a PGR", where, row["pgr"] is not None, inner > 0 and gap.p() <= 0.05 and not silent
        )
    findings.equal("reasons for NA", where, row["pgr"] is None, bool(row["pgr_reason"]))
    if row["pgr"] is None:
        return
    value = gain.value / gap.value
    findings.hold("PGR", where, row["pgr"], value, EXACT, max(1.0, abs(value)))
    for end in (row["pgr_low"], row["pgr_high"]):
        contrast = gain.less(gap, end)
        half = contrast.times() * contrast.spread()[0]
        findings.hold("intervals of PGR", where, abs(contrast.value), half, NOISE, max(2 * half, 1e-5))


def check_gains(findings: Findings, rows: Sequence[dict[str, Any]], entries: Mapping[str, Any], table: Table) -> None:
    """Tests of the gains of a table's strategies, which are corrected among them."""
    leads: dict[str, Lead] = {}
    for row in rows:
        done = table.finished(entries[row["strategy"]])
        if row["kind"] == "strategy" and times_of([*map(run_of, done)]) >= 3 and row["gain"] is not None:
            leads[row["strategy"]] = table.lead((done, "student"), (done, "weak"), row["metric"])
    found = dict(zip(leads, tests_of([*leads.values()]), strict=True))
    told = {row["strategy"]: both_p(row, "gain_p", "gain_strict_p") for row in rows if row["strategy"] in found}
    ordered = sorted(told, key=lambda label: float(told[label]))
    largest = 0.0
    for row in rows:
        tests = found.get(row["strategy"], (None, None))
        for name, p in zip(("gain_p", "gain_strict_p"), tests, strict=True):
            check_p(findings, f"{row['strategy']} {name}", row[name], p)
        if row["strategy"] not in found:
            findings.equal("Holm, relative", f"{row['strategy']} gain", row["gain_p_holm"], None)
    for place, label in enumerate(ordered):
        largest = max(largest, min(1.0, told[label] * (len(ordered) - place)))
        (row,) = [row for row in rows if row["strategy"] == label]
        findings.hold("Holm, relative", f"{label} gain", row["gain_p_holm"], largest, 1e-4, max(largest, 1e-300))


def both_p(told: Mapping[str, Any], plain: str = "p", strict: str = "p_strict") -> float:
    """The larger of the p-values that a lead has to pass."""
    return max(float(told[plain]), float(told[strict] or 0.0))


def check_pairs(
    findings: Findings,
    pairs: Sequence[dict[str, Any]],
    entries: Mapping[str, Any],
    table: Table,
    silent: Collection[str],
) -> dict[str, int]:
    """Every comparison of a table; ranks by its verdicts of all but those who are ahead only by saying nothing."""
    strategies = [label for label, cells in entries.items() if cells[0].get("kind", "strategy") == "strategy"]
    beside = {(one, two) for one in strategies for two in entries if two not in strategies}
    expected = {frozenset(pair) for pair in [*combinations(strategies, 2), *beside]}
    findings.equal("pairs compared", "table", {frozenset((p["first"], p["second"])) for p in pairs}, expected)
    worse: Counter[str] = Counter()
    for family in ("strategies", "controls"):
        some = [pair for pair in pairs if pair["family"] == family]
        found = [(pair, check_pair(findings, pair, entries, table)) for pair in some]
        leads = [(pair, lead) for pair, lead in found if lead is not None]
        for (pair, _), tests in zip(leads, tests_of([lead for _, lead in leads]), strict=True):
            for name, p in zip(("p", "p_strict"), tests, strict=True):
                check_p(findings, f"{pair['first']} against {pair['second']} {name}", pair[name], p)
        tested = sorted((pair for pair in some if pair["p"] is not None), key=both_p)
        largest = 0.0
        for place, pair in enumerate(tested):
            largest = max(largest, min(1.0, both_p(pair) * (len(tested) - place)))
            where = f"{pair['grid']}/{pair['task']}/{pair['split']}/{pair['first']} against {pair['second']}"
            findings.hold("Holm, relative", where, pair["p_holm"], largest, 1e-4, max(largest, 1e-300))
            better = (pair["difference"] > 0) == pair["higher_is_better"]
            excluded = pair["low"] > 0 or pair["high"] < 0
            verdict = "tie" if largest > 0.05 or not excluded else "better" if better else "worse"
            if abs(largest - 0.05) > 1e-5:
                findings.equal("verdicts", where, pair["verdict"], verdict)
    done = {label: tuple(run_of(cell) for cell in table.finished(entries[label])) for label in strategies}
    enough = [runs for runs in done.values() if times_of(runs) >= 3]
    most = max(map(len, enough), default=0)
    sizes = Counter(runs for runs in enough if len(runs) == most)
    shared = [runs for runs, count in sizes.items() if count == max(sizes.values())]
    ranked = [label for label in strategies if len(shared) == 1 and done[label] == shared[0] and label not in silent]
    for pair in pairs:
        if pair["verdict"] in ("better", "worse") and pair["first"] in ranked and pair["second"] in ranked:
            worse[pair["second" if pair["verdict"] == "better" else "first"]] += 1
    return {label: 1 + worse[label] for label in ranked}


def check_pair(findings: Findings, pair: dict[str, Any], entries: Mapping[str, Any], table: Table) -> Lead | None:
    """The numbers of one comparison, but for its p-values; what is compared, where there is a test."""
    where = f"{pair['grid']}/{pair['task']}/{pair['split']}/{pair['first']} against {pair['second']}"
    sides = [table.finished(entries[pair[side]]) for side in ("first", "second")]
    common = {*map(run_of, sides[0])} & {*map(run_of, sides[1])}
    findings.equal("facts", f"{where} seeds", pair["seeds"], sorted({run[-1] for run in common}))
    findings.equal("facts", f"{where} draws", pair["data_seeds"], drawn_in(common))
    findings.equal("facts", f"{where} few seeds", pair["few_seeds"], times_of(common) < 3)
    findings.equal("facts", f"{where} statistics", pair["statistics"], STATISTICS)
    if times_of(common) < 3:
        findings.equal("reasons for NA", where, (pair["p"], bool(pair["reason"])), (None, True))
        return None
    done = [[cell for cell in cells if run_of(cell) in common] for cells in sides]
    one, two = (table.quantity(cells, "student", pair["metric"]) for cells in done)
    findings.hold("differences", where, pair["difference"], one.less(two).value)
    findings.equal("numbers left unchecked", where, numbers_in(pair) - CHECKED_OF_PAIRS, set())
    for side, cells in zip(("first", "second"), done, strict=True):
        for name in ("empty", "copied", "cut_off") if table.generative else ():
            findings.hold(
                "shares of texts", where, pair[f"{side}_{name}"], table.quantity(cells, "student", name).value
            )
    if pair["p"] is None:
        return None
    bounds = RANGES.get(pair["metric"], (0.0, 1.0))
    near(findings, "intervals of differences", where, (pair["low"], pair["high"]), apart(one, two, *bounds))
    return table.lead((done[0], "student"), (done[1], "student"), pair["metric"])


def noise_of(table: Table, entries: Mapping[str, Sequence[dict[str, Any]]], metric: str) -> float | None:
    """Standard deviation over seeds, pooled over weak, ceiling and every entry, and over the draws of each."""
    alike: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for label, cells in entries.items():
        for cell in table.finished(cells):
            for role in ("weak", "ceiling", "student"):
                alike[role, label if role == "student" else "", *run_of(cell)[:-1]].add(cell[f"{role}_trial"])
    sets = {frozenset(ids) for ids in alike.values()}
    scores = [[table._known[(trial,), metric][0] for trial in ids] for ids in sets if len(ids) > 1]
    freedom = sum(len(each) - 1 for each in scores)
    return math.sqrt(sum(np.var(each) * len(each) for each in scores) / freedom) if freedom else None


def check(store: Store, rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]], grid: str | None) -> Findings:
    """Everything the command line says of a store."""
    findings = Findings()
    grids = sorted(store.grids().to_pylist(), key=lambda row: int(row["submission"]))
    newest = {row["name"]: row for row in grids}
    said: Counter[tuple[Any, ...]] = Counter(
        (r["grid"], r["task"], r["weak"], r["strong"], r["strategy"]) for r in rows
    )
    owed = set()

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return (row["grid"], row["task"], row["weak"], row["strong"], row["split"], row["scorer"])

    for name in [grid] if grid else sorted(newest):
        submissions = [int(row["submission"]) for row in grids if row["name"] == name]
        by_pair: dict[tuple[str, ...], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for cell in json.loads(newest[name]["cells"]):
            by_pair[cell["task"], cell["weak"], cell["strong"]][cell["strategy"]].append(cell)
            owed.add((name, cell["task"], cell["weak"], cell["strong"], cell["strategy"]))
        for pair, entries in by_pair.items():
            mine = [row for row in rows if (row["grid"], row["task"], row["weak"], row["strong"]) == (name, *pair)]
            for where in dict.fromkeys(map(key, mine)):
                some = [row for row in mine if key(row) == where]
                cells = [cell for each in entries.values() for cell in each]
                table = Table(store, cells, some[0]["split"], some[0]["scorer"])
                noise = noise_of(table, entries, some[0]["metric"])
                for row in some:
                    check_row(findings, row, table, entries[row["strategy"]], noise, submissions)
                silent = {row["strategy"] for row in some if "say nothing" in (row["unranked"] or "")}
                compared = [pair for pair in pairs if key(pair) == where]
                findings.equal(
                    "facts", f"{where}", {pair["submission"] for pair in compared} - {submissions[-1]}, set()
                )
                ranks = check_pairs(findings, compared, entries, table, silent)
                check_gains(findings, some, entries, table)
                for row in some:
                    label, rank = row["strategy"], ranks.get(row["strategy"])
                    findings.equal("ranks", f"{where} {label}", row["rank"], rank)
                    told = row["kind"] == "strategy" and rank is None and row["seeds_done"] > 0
                    findings.equal("reasons for no rank", f"{where} {label}", row["unranked"] is not None, told)
    findings.equal("rows", "leaderboard", set(said), owed)
    return findings


def told(verb: Sequence[str], store: str) -> Any:
    """What the command line prints as JSON."""
    command = [sys.executable, "-m", "wtsbench_cli", *verb, "--json", "--store", store]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a store, print the largest deviations; 1 where a number is off."""
    parser = argparse.ArgumentParser(description="Recompute every number of a leaderboard from the stored records.")
    parser.add_argument("store")
    parser.add_argument("grid", nargs="?")
    asked = parser.parse_args(arguments)
    rows = told(["leaderboard", *(["--grid", asked.grid] if asked.grid else [])], asked.store)
    pairs = told(["compare", *([asked.grid] if asked.grid else [])], asked.store)
    findings = check(open_store(asked.store), rows, pairs, asked.grid)
    print("\n".join(findings.table()))
    print("\n".join(findings.wrong[:40]) or f"all numbers of {len(rows)} rows and {len(pairs)} comparisons agree")
    return 1 if findings.wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
