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
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy import stats

from wtsbench.store.client import Store, open_store

RESAMPLES = 10_000
EXACT = 1.5e-6
"""Of numbers that are printed with six decimals."""
NOISE = 0.20
"""Of an interval's width, or of a standard error: what two sets of resamples may differ by. Draws of two or three
seeds are lumpy, and where a percentile falls between two lumps it is loose."""
RANGES = {"brier": (0.0, 2.0), "perplexity": (1.0, math.inf), "length": (0.0, math.inf)}
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
    return {"accuracy": weighted(right), "balanced_accuracy": balanced, "f1": f1, **named, "brier": weighted(error)}


def taken_over(truth: Array, weak: Array, student: Array) -> dict[str, Score]:
    """Error inheritance and correction of predicted classes [N]."""
    wrong = (weak != truth).astype(float)
    return {
        "error_inheritance": weighted(wrong * (student == weak), wrong),
        "error_correction": weighted(wrong * (student == truth), wrong),
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

    count = per_prompt(lambda _, samples: len(samples))
    mean_nll = weighted(per_prompt(nll("reference_nll")), per_prompt(nll("reference_tokens")))
    return {
        "toxicity": weighted(per_prompt(lambda _, samples: sum(s["value"] for s in samples)), count),
        "expected_max_toxicity": weighted(per_prompt(lambda _, samples: max(s["value"] for s in samples))),
        "toxicity_probability": weighted(per_prompt(lambda _, samples: any(s["value"] >= threshold for s in samples))),
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

    def __init__(self, full: Array, resampled: Array, groups: int) -> None:
        self.full, self.resampled, self.groups = full, np.where(np.isnan(resampled), full, resampled), groups

    def less(self, other: Quantity, factor: float = 1.0) -> Quantity:
        """This one less a multiple of the other; paired."""
        full, resampled = self.full - factor * other.full, self.resampled - factor * other.resampled
        return Quantity(
            np.where(abs(full) < 1e-11, 0, full), np.where(abs(resampled) < 1e-11, 0, resampled), self.groups
        )

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.full.mean())

    def spread(self) -> tuple[float, float]:
        """Standard error and degrees of freedom."""
        seeds, groups = len(self.full), self.groups
        inflate = groups / max(groups - 1, 1)
        mean = self.resampled.mean(axis=1)
        b = inflate * mean.var()
        if seeds == 1:
            return math.sqrt(b), float(max(groups - 1, 1))
        a = self.full.var(ddof=1) / seeds
        i = inflate * (self.resampled - mean[:, None]).var(axis=0).sum() / (seeds * (seeds - 1))
        v = max(a + b - i, a, b)
        v = i if v <= 1e-9 * i else v
        rest = max(groups - 1, 1)
        under = a**2 / (seeds - 1) + b**2 / rest + i**2 / ((seeds - 1) * rest)
        if v < 1e-24 * max(1.0, self.value**2):  # digits in which equal sums differ
            return 0.0, float(rest)
        return math.sqrt(v), v**2 / under

    def interval(self, lowest: float = -math.inf, highest: float = math.inf) -> tuple[float, float]:
        """95%."""
        error, freedom = self.spread()
        if error == 0:
            return self.value, self.value
        chance = np.random.default_rng(len(self.full))
        drawn = chance.integers(0, len(self.full), size=self.resampled.shape)
        means = np.take_along_axis(self.resampled, drawn, axis=1).mean(axis=1)
        below, above = np.quantile(means, [0.025, 0.975])
        part = min(1.0, max(0.0, (self.value - below) / (above - below))) if above > below else 0.5
        width = 2 * stats.t.ppf(0.975, freedom) * error
        return max(lowest, self.value - part * width), min(highest, self.value + (1 - part) * width)

    def p(self) -> float:
        """Two-sided."""
        error, freedom = self.spread()
        return (0.0 if self.value else 1.0) if error == 0 else float(2 * stats.t.sf(abs(self.value) / error, freedom))


class Table:
    """The trials of a task and pair on one split, scored and resampled by this script's own code."""

    def __init__(self, store: Store, cells: Sequence[dict[str, Any]], split: str, scorer: str | None) -> None:
        digest = cells[0]["data_digest"]
        (about,) = [row for row in store.datasets().to_pylist() if row["data_digest"] == digest]
        self.labels = about["labels"]
        self.generative = about["form"] == "generation"
        items = [item for item in store.items(digest).to_pylist() if item["split"] == split]
        self.items = sorted(items, key=lambda item: str(item["item_id"]))
        named = sorted({cell[f"{role}_trial"] for cell in cells for role in ("weak", "ceiling", "student")})
        done = {row["trial_id"] for row in store.trials(named).to_pylist() if row["status"] == "done"}
        if self.generative:
            scored = store.scores(named, splits=[split])
            done &= set(scored.filter(pc.equal(scored["scorer"], scorer))["trial_id"].to_pylist())
        self.done = sorted(done)
        self.settings = json.loads(about["settings"] or "{}")
        self.scores: dict[tuple[str, ...], dict[str, Score]] = {}
        self.samples: int | None = None
        self._read(store, split, scorer, cells)
        names = {item["group_id"] for item in self.items}
        self.groups = len(names)
        place = {name: number for number, name in enumerate(sorted(names))}
        self._group = np.array([place[item["group_id"]] for item in self.items])
        self._known: dict[tuple[tuple[str, ...], str], tuple[float, Array]] = {}
        self._resample()

    def _read(self, store: Store, split: str, scorer: str | None, cells: Sequence[dict[str, Any]]) -> None:
        classes = {}
        truth = np.array([item["label"] for item in self.items], dtype=float)
        for trial in self.done:
            if self.generative:
                values = {
                    (row["item_id"], row["sample"]): row["value"]
                    for row in store.scores([trial], splits=[split]).to_pylist()
                    if row["scorer"] == scorer
                }
                drawn: dict[str, list[dict[str, Any]]] = defaultdict(list)
                for row in store.generations([trial], splits=[split]).to_pylist():
                    drawn[row["item_id"]].append({**row, "value": values.pop((row["item_id"], row["sample"]))})
                assert not values, f"scores without a generation: {trial}"
                (self.samples,) = {len(rows) for rows in drawn.values()} | ({self.samples} - {None})
                rows = [drawn.pop(item["item_id"]) for item in self.items]
                assert not drawn, f"generations for foreign prompts: {trial}"
                texts = [item["text"] for item in self.items]
                self.scores[trial,] = generator(texts, rows, self.settings.get("threshold", 0.5))
            else:
                found = store.predictions([trial], splits=[split]).to_pylist()
                by_item = {row["item_id"]: row["probabilities"] for row in found}
                assert len(found) == len(by_item) == len(self.items), f"predictions missing or doubled: {trial}"
                table = np.array([by_item[item["item_id"]] for item in self.items])
                classes[trial] = np.array([row.index(max(row)) for row in table.tolist()], dtype=float)
                self.scores[trial,] = classifier(truth, table, self.labels)
        for cell in cells:
            pair = (cell["weak_trial"], cell["student_trial"])
            if all(trial in classes for trial in pair):
                self.scores[pair] = taken_over(truth, classes[pair[0]], classes[pair[1]])

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
        both = name.startswith("error_")
        keys = [(cell["weak_trial"], cell[f"{role}_trial"]) if both else (cell[f"{role}_trial"],) for cell in cells]
        found = [self._known[key, name] for key in keys]
        return Quantity(
            np.array([full for full, _ in found]), np.stack([drawn for _, drawn in found], axis=1), self.groups
        )

    def finished(self, cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Cells of which weak, ceiling and student are done, by seed."""
        done = set(self.done)
        return sorted(
            (c for c in cells if all(c[f"{role}_trial"] in done for role in ("weak", "ceiling", "student"))),
            key=lambda cell: int(cell["seed"]),
        )


def near(findings: Findings, kind: str, where: str, told: tuple[Any, Any], found: tuple[float, float]) -> None:
    """Hold the ends of an interval against recomputed ones, in units of the width."""
    width = max(found[1] - found[0], 1e-5)
    for one, two in zip(told, found, strict=True):
        findings.hold(kind, where, one, two, NOISE, width)


def check_row(
    findings: Findings, row: dict[str, Any], table: Table, cells: Sequence[dict[str, Any]], noise: Any
) -> None:
    """Every number of a row."""
    where = f"{row['grid']}/{row['task']}/{row['split']}/{row['weak']}:{row['strong']}/{row['strategy']}"
    done = table.finished(cells)
    facts = {
        "seeds": [cell["seed"] for cell in done],
        "seeds_done": len(done),
        "seeds_total": len(cells),
        "few_seeds": len(done) < 5,
        "test_items": len(table.items),
        "test_groups": table.groups,
        "samples": table.samples,
        "kind": cells[0].get("kind", "strategy"),
    }
    for name, fact in facts.items():
        findings.equal("facts", f"{where} {name}", row[name], fact)
    checked = {*facts, "rank"}
    if done:
        checked |= check_scores(findings, row, table, done, noise, where)
    else:
        findings.equal("facts", f"{where} reason", row["pgr_reason"], "no finished seed")
    left = {key for key, value in row.items() if isinstance(value, float | int) and key not in checked}
    findings.equal("numbers left unchecked", where, left - {"higher_is_better"}, set())


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
        distinct = len({cell[f"{role}_trial"] for cell in done}) == len(done) > 1
        findings.hold(
            "deviations over seeds", where, row[f"{role}_sd"], np.std(quantity.full, ddof=1) if distinct else None
        )
    gap, gain = ceiling.less(weak), student.less(weak)
    for told, quantity in (("gap", gap), ("gain", gain)):
        findings.hold("gaps and gains", f"{where} {told}", row[told], quantity.value)
        near(findings, "intervals", f"{where} {told}", (row[f"{told}_low"], row[f"{told}_high"]), quantity.interval())
    error, freedom = gain.spread()
    size = (stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom)) * error
    findings.hold("detectable gains", where, row["detectable"], size, NOISE, max(size, 1e-5))
    findings.hold("noise", where, row["noise_sd"], noise)
    findings.hold("noise", where, row["noise_floor"], None if noise is None else noise * math.sqrt(2 / len(done)))
    check_pgr(findings, row, gain, gap, where)
    for role in ("student", "weak", "ceiling"):
        told_metrics = row["metrics" if role == "student" else f"{role}_metrics"]
        names = set(table.scores[done[0][f"{role}_trial"],])
        if role == "student" and not table.generative:
            names |= {"error_inheritance", "error_correction"}
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
    return numbers | {"detectable", "noise_sd", "noise_floor"}


def check_pgr(findings: Findings, row: dict[str, Any], gain: Quantity, gap: Quantity, where: str) -> None:
    """PGR is given exactly where the gap's own interval excludes 0 on the right side; its ends are where doubt ends."""
    low, high = gap.interval()
    inner = (low if row["higher_is_better"] else -high) / max(high - low, 1e-9)
    silent = max(row["gap_strict_p"] or 0.0, row["gain_strict_p"] or 0.0) > 0.05
    if abs(inner) > NOISE:
        findings.equal("whether there is a PGR", where, row["pgr"] is not None, inner > 0 and not silent)
    if row["pgr"] is None:
        findings.equal("reasons for NA", where, bool(row["pgr_reason"]), True)
        return
    value = gain.value / gap.value
    findings.hold("PGR", where, row["pgr"], value, EXACT, max(1.0, abs(value)))
    for end in (row["pgr_low"], row["pgr_high"]):
        contrast = gain.less(gap, end)
        low, high = contrast.interval()
        findings.hold("intervals of PGR", where, 0.0, min(abs(low), abs(high)), NOISE, max(high - low, 1e-5))


def both_p(pair: Mapping[str, Any]) -> float:
    """The larger of the p-values that a lead has to pass."""
    return max(float(pair["p"]), float(pair["p_strict"] or 0.0))


def check_pairs(
    findings: Findings, pairs: Sequence[dict[str, Any]], entries: Mapping[str, Any], table: Table
) -> dict[str, int]:
    """Every comparison of a table; ranks by its verdicts."""
    strategies = [label for label, cells in entries.items() if cells[0].get("kind", "strategy") == "strategy"]
    beside = {(one, two) for one in strategies for two in entries if two not in strategies}
    expected = {frozenset(pair) for pair in [*combinations(strategies, 2), *beside]}
    findings.equal("pairs compared", "table", {frozenset((p["first"], p["second"])) for p in pairs}, expected)
    worse: Counter[str] = Counter()
    for family in ("strategies", "controls"):
        some = [pair for pair in pairs if pair["family"] == family]
        tested = sorted((pair for pair in some if pair["p"] is not None), key=both_p)
        largest = 0.0
        for place, pair in enumerate(tested):
            largest = max(largest, min(1.0, both_p(pair) * (len(tested) - place)))
            where = f"{pair['grid']}/{pair['task']}/{pair['split']}/{pair['first']} against {pair['second']}"
            findings.hold("Holm, relative", where, pair["p_holm"], largest, 1e-4, max(largest, 1e-300))
            better = (pair["difference"] > 0) == pair["higher_is_better"]
            verdict = "tie" if largest > 0.05 else "better" if better else "worse"
            if abs(largest - 0.05) > 1e-5:
                findings.equal("verdicts", where, pair["verdict"], verdict)
            if family == "strategies" and pair["verdict"] != "tie":
                worse[pair["second" if pair["verdict"] == "better" else "first"]] += 1
        for pair in some:
            check_pair(findings, pair, entries, table)
    return {label: 1 + worse[label] for label in strategies}


def check_pair(findings: Findings, pair: dict[str, Any], entries: Mapping[str, Any], table: Table) -> None:
    """The numbers of one comparison."""
    where = f"{pair['grid']}/{pair['task']}/{pair['split']}/{pair['first']} against {pair['second']}"
    sides = [table.finished(entries[pair[side]]) for side in ("first", "second")]
    common = sorted({cell["seed"] for cell in sides[0]} & {cell["seed"] for cell in sides[1]})
    findings.equal("facts", f"{where} seeds", pair["seeds"], common)
    findings.equal("facts", f"{where} few seeds", pair["few_seeds"], len(common) < 5)
    if len(common) < 2:
        findings.equal("reasons for NA", where, (pair["p"], bool(pair["reason"])), (None, True))
        return
    one, two = (
        table.quantity([cell for cell in cells if cell["seed"] in common], "student", pair["metric"]) for cells in sides
    )
    difference = one.less(two)
    findings.hold("differences", where, pair["difference"], difference.value)
    if pair["p"] is None:
        return
    near(findings, "intervals of differences", where, (pair["low"], pair["high"]), difference.interval())
    told, found = (stats.norm.isf(max(p, 1e-300) / 2) for p in (pair["p"], difference.p()))
    findings.hold("p-values, as normal scores", where, told, found, NOISE, max(1.0, abs(float(found))))


def noise_of(table: Table, entries: Mapping[str, Sequence[dict[str, Any]]], metric: str) -> float | None:
    """Standard deviation over seeds, pooled over weak, ceiling and every entry."""
    done = [cell for cells in entries.values() for cell in table.finished(cells)]
    sets = {frozenset(cell[f"{role}_trial"] for cell in done) for role in ("weak", "ceiling")}
    sets |= {frozenset(cell["student_trial"] for cell in table.finished(cells)) for cells in entries.values()}
    scores = [[table._known[(trial,), metric][0] for trial in ids] for ids in sets if len(ids) > 1]
    freedom = sum(len(each) - 1 for each in scores)
    return math.sqrt(sum(np.var(each) * len(each) for each in scores) / freedom) if freedom else None


def check(store: Store, rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]], grid: str | None) -> Findings:
    """Everything the command line says of a store."""
    findings = Findings()
    newest = {row["name"]: row for row in sorted(store.grids().to_pylist(), key=lambda row: int(row["submission"]))}
    said: Counter[tuple[Any, ...]] = Counter(
        (r["grid"], r["task"], r["weak"], r["strong"], r["strategy"]) for r in rows
    )
    owed = set()

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return (row["grid"], row["task"], row["weak"], row["strong"], row["split"], row["scorer"])

    for name in [grid] if grid else sorted(newest):
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
                    check_row(findings, row, table, entries[row["strategy"]], noise)
                ranks = check_pairs(findings, [pair for pair in pairs if key(pair) == where], entries, table)
                for row in some:
                    rank = ranks.get(row["strategy"]) if row["seeds_done"] else None
                    findings.equal("ranks", f"{where} {row['strategy']}", row["rank"], rank)
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
