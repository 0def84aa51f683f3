"""Has a grid become worse than its baseline? A regression needs effect and significance, both on equal items and seeds.

For each entry of the baseline the same entry is looked up in a store. Where both were measured on the same items by the
same metric and scorer, their difference is that of paired samples over the seeds that both have done, as in any table
(`statistics`), and p-values are corrected over all entries (Holm 1979). An entry is a *regression* where it became
worse by at least the metric's threshold, in points of the metric, and the corrected p-value is at most 5%.

What could not be compared never passes: entries that are missing, lack a seed that the baseline has, were measured on
other items or by other code. An entry that lacks a seed is a regression all the same where the others prove it.
Time and memory are compared as ratios, and only on the same hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from wtsbench.errors import ExitCode
from wtsbench.reports.baseline import Baseline, Entry, Items
from wtsbench.reports.resampling import Block, Resampler
from wtsbench.reports.rows import RESAMPLES
from wtsbench.reports.spread import ALPHA, CLAIM_SEEDS
from wtsbench.reports.statistics import difference, holm

THRESHOLD = 0.01
"""Points of a metric that a change takes to count, where nothing else was said."""
Status = Literal["equal", "unchanged", "improved", "regression", "slower", "larger", "missing", "incomparable", "new"]
FAILING: frozenset[Status] = frozenset({"regression", "slower", "larger"})
UNMEASURED: frozenset[Status] = frozenset({"missing", "incomparable"})


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One entry now, beside the same entry of the baseline."""

    entry: Entry
    status: Status
    reason: str = ""
    """Why it could not be compared, or what became slower or larger."""
    before: float | None = None
    after: float | None = None
    """Mean scores over the seeds in common."""
    worse: float | None = None
    """By how many points it became worse; below 0 where it became better."""
    low: float | None = None
    high: float | None = None
    """95% interval of `worse`."""
    p: float | None = None
    """Two-sided, of no difference."""
    p_holm: float | None = None
    """Corrected over all entries."""
    noticed: float | None = None
    """The loss that would have been found 4 times in 5, in this entry alone: its p-value corrected over all entries,
    and what is measured at least the threshold (an estimate)."""
    threshold: float | None = None
    seeds: tuple[int, ...] = ()
    time_ratio: float | None = None
    memory_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """All verdicts, worst first."""

    grid: str
    verdicts: tuple[Verdict, ...]

    @property
    def exit_code(self) -> ExitCode:
        """REGRESSION where something became worse; INCOMPLETE where something, or everything, was not measured."""
        states = {verdict.status for verdict in self.verdicts}
        if states & FAILING:
            return ExitCode.REGRESSION
        compared = states - UNMEASURED - {"new"}
        return ExitCode.INCOMPLETE if not compared or states & UNMEASURED else ExitCode.DONE

    @property
    def regressions(self) -> tuple[Verdict, ...]:
        """Those that became worse in score."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "regression")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the gate calls worse."""

    thresholds: Mapping[str, float]
    """By metric, in its points."""
    time: float | None = None
    """Largest ratio of time to the baseline's; None does not gate it."""
    memory: float | None = None

    def threshold(self, metric: str) -> float:
        """Of a metric."""
        return self.thresholds.get(metric, THRESHOLD)


def gate(baseline: Baseline, now: Baseline, limits: Limits, *, fresh: bool = False, resamples: int = RESAMPLES) -> Gate:
    """Compare what a grid scores now with its baseline.

    Args:
        baseline: what is expected.
        now: what was measured.
        limits: what counts as worse.
        fresh: seeds are paired in order, whatever their numbers: `now` has others than the baseline, on purpose, and
            only entries that it has are looked at.
        resamples: of the bootstrap.
    """
    measured = now.by_key()
    by_another = {key[:-1]: entry for key, entry in measured.items()}
    resamplers = {
        digest: Resampler(digest, int(items.groups.max()) + 1, resamples=resamples)
        for digest, items in baseline.items.items()
    }
    verdicts = []
    tests = sum(entry.key[:-1] in by_another for entry in baseline.entries)
    for before in baseline.entries:
        after = measured.pop(before.key, None) or by_another.get(before.key[:-1])
        if after is not None:
            items, resampler = baseline.items[before.items_digest], resamplers[before.items_digest]
            verdicts.append(_compared(before, after, items, resampler, limits, fresh, 1 if fresh else tests))
        elif not fresh:
            verdicts.append(Verdict(entry=before, status="missing", reason="not measured"))
    verdicts += [Verdict(entry=entry, status="new", reason="not in the baseline") for entry in measured.values()]
    return Gate(grid=baseline.grid, verdicts=tuple(sorted(_decided(verdicts, limits), key=_worst_first)))


def with_confirmation(found: Gate, fresh: Gate) -> Gate:
    """The gate, in which only those regressions stay that fresh seeds show as well.

    What was suspicious is tested once more, each entry alone: its p-value is not corrected for the others.
    """
    shown = {
        verdict.entry.key
        for verdict in fresh.verdicts
        if verdict.status not in UNMEASURED
        and (verdict.worse or 0.0) >= (verdict.threshold or 0.0)
        and verdict.p is not None
        and verdict.p <= ALPHA
    }
    again = {verdict.entry.key for verdict in fresh.verdicts if verdict.status not in UNMEASURED}

    def judged(verdict: Verdict) -> Verdict:
        if verdict.status != "regression":
            return verdict
        if verdict.entry.key not in again:
            return replace(verdict, reason="could not be run again")
        if verdict.entry.key in shown:
            return replace(verdict, reason="confirmed with fresh seeds")
        status: Status = "unchanged" if len(verdict.seeds) == len(verdict.entry.runs) else "incomparable"
        return replace(verdict, status=status, reason="not confirmed with fresh seeds")

    return Gate(grid=found.grid, verdicts=tuple(sorted(map(judged, found.verdicts), key=_worst_first)))


def without_code(found: Gate, versions: Sequence[str]) -> Gate:
    """The gate of trials that other code ran: nothing of it says anything about this code."""
    reason = f"run by other code: {', '.join(versions)}"
    verdicts = [
        replace(verdict, status="incomparable", reason=reason) if verdict.status != "missing" else verdict
        for verdict in found.verdicts
    ]
    return Gate(grid=found.grid, verdicts=tuple(sorted(verdicts, key=_worst_first)))


def moves_nothing(verdict: Verdict) -> bool:
    """Whether a baseline that takes this entry expects as much as before.

    Only outputs that are equal bit for bit do: differences that are each proven smaller than a threshold add up.
    """
    return verdict.status in ("equal", "new")


def _compared(
    before: Entry, after: Entry, items: Items, resampler: Resampler, limits: Limits, fresh: bool, tests: int
) -> Verdict:
    """The difference of an entry, before its p-value is corrected among so many tests."""
    differing = [
        f"{name} {before.comparable[name]} before, {value} now"
        for name, value in after.comparable.items()
        if before.comparable[name] != value
    ]
    if differing:
        return Verdict(entry=before, status="incomparable", reason=f"measured otherwise: {'; '.join(differing)}")
    if fresh:
        pairs = list(zip(sorted(before.runs), sorted(after.runs), strict=False))
    else:
        pairs = [(seed, seed) for seed in sorted(before.runs.keys() & after.runs.keys())]
    threshold = limits.threshold(before.metric)
    lacking = [] if fresh else sorted(before.runs.keys() - after.runs.keys())
    if len(pairs) < min(CLAIM_SEEDS, len(before.runs)) or not pairs:
        reason = f"{_seeds(len(pairs))} in common: {CLAIM_SEEDS} are needed"
        return Verdict(entry=before, status="incomparable", reason=reason)
    old, new = [before.runs[one] for one, _ in pairs], [after.runs[two] for _, two in pairs]
    common = Verdict(
        entry=before,
        status="incomparable" if lacking else "unchanged",
        reason=f"not measured: seed {', '.join(map(str, lacking))}" if lacking else "",
        before=float(np.mean([run.score for run in old])),
        after=float(np.mean([run.score for run in new])),
        threshold=threshold,
        seeds=tuple(seed for _, seed in pairs),
        time_ratio=_ratio([run.seconds for run in old], [run.seconds for run in new], before, after),
        memory_ratio=_ratio([run.memory for run in old], [run.memory for run in new], before, after),
    )
    if all(np.array_equal(one.features, two.features) for one, two in zip(old, new, strict=True)):
        return replace(common, status=common.status if lacking else "equal", worse=0.0, low=0.0, high=0.0)
    if len(pairs) < CLAIM_SEEDS:
        reason = f"scores differ, and {_seeds(len(pairs))} cannot say whether by chance: {CLAIM_SEEDS} are needed"
        return replace(common, status="incomparable", reason=reason)
    features = np.stack([run.features for run in (*old, *new)])
    metric = items.metric(before.metric)
    ((scores,),) = resampler.scores([Block(features=features, values=(metric.value,))], items.groups)
    halves = [
        resampler.sample(scores, range(start, start + len(old)), items.effective(metric)) for start in (0, len(old))
    ]
    lost = difference(halves[0], halves[1], metric.lowest, metric.highest)
    low, high = sorted((metric.direction * lost.low, metric.direction * lost.high))
    noticed = lost.found(tests, threshold)
    return replace(common, worse=metric.direction * lost.value, low=low, high=high, p=lost.p, noticed=noticed)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _ratio(before: Sequence[float | None], after: Sequence[float | None], old: Entry, new: Entry) -> float | None:
    """Now over before; None where a number is missing, or the hardware is another."""
    if old.hardware != new.hardware or None in before or None in after:
        return None
    whole = sum(number or 0.0 for number in before)
    return sum(number or 0.0 for number in after) / whole if whole else None


def _decided(verdicts: Sequence[Verdict], limits: Limits) -> list[Verdict]:
    """With corrected p-values and what follows of them; entries that are equal were compared as well."""
    compared = [verdict for verdict in verdicts if verdict.worse is not None]
    corrected = holm([1.0 if verdict.p is None else verdict.p for verdict in compared])
    by_id = dict(zip(map(id, compared), corrected, strict=True))
    return [_judged(verdict, by_id.get(id(verdict)), limits) for verdict in verdicts]


def _judged(verdict: Verdict, p_holm: float | None, limits: Limits) -> Verdict:
    if p_holm is None:
        return verdict
    if verdict.p is not None:
        worse, threshold, status = verdict.worse or 0.0, verdict.threshold or 0.0, verdict.status
        if p_holm <= ALPHA and abs(worse) >= threshold:
            status = "regression" if worse > 0 else "improved" if status == "unchanged" else status
        verdict = replace(verdict, status=status, p_holm=p_holm)
    if verdict.status in ("regression", "incomparable"):
        return verdict
    if verdict.time_ratio is not None and limits.time is not None and verdict.time_ratio > limits.time:
        return replace(verdict, status="slower", reason=f"{verdict.time_ratio:.2f} times the baseline's time")
    if verdict.memory_ratio is not None and limits.memory is not None and verdict.memory_ratio > limits.memory:
        return replace(verdict, status="larger", reason=f"{verdict.memory_ratio:.2f} times the baseline's memory")
    return verdict


ORDER: tuple[Status, ...] = (
    "regression", "slower", "larger", "missing", "incomparable", "improved", "unchanged", "equal", "new",
)  # fmt: skip
"""Worst first."""


def _worst_first(verdict: Verdict) -> tuple[int, float, tuple[str, ...]]:
    return (ORDER.index(verdict.status), -(verdict.worse or 0.0), verdict.entry.key)
