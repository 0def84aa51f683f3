"""Scores of seeds without predictions: PGR with each seed's own baselines, and intervals over seeds alone.

Nothing is known of items, so an interval says what other seeds would do and not what other items would; it is narrower
than one over both. The formulas are those of `statistics`, with B and I of 0 and items without number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wtsbench.errors import DataError
from wtsbench.reports.spread import CLAIM_SEEDS
from wtsbench.reports.statistics import Sample, difference, recovered

COLUMNS = ("task", "strategy", "seed", "weak", "ceiling", "student")
"""What a file has, or is told to have under other names; a score may be missing."""
NOTE = "over seeds only: no items known"
_ITEMS = 10**9
"""As good as no limit to what items could tell."""


@dataclass(frozen=True, kw_only=True)
class SeedScores:
    """A task and strategy, on the seeds that have all three scores; intervals are 95%, over seeds alone."""

    task: str
    strategy: str
    seeds: tuple[int, ...]
    left_out: int
    """Seeds that lack a score."""
    weak: float | None = None
    student: float | None = None
    ceiling: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    pgr: float | None = None
    """Mean gain over mean gap."""
    pgr_low: float | None = None
    pgr_high: float | None = None
    reason: str | None = None
    """Why there is no PGR, or no interval."""
    interval: str = NOTE


def seed_scores(columns: Mapping[str, Sequence[Any]], what: str) -> list[SeedScores]:
    """A row for each task and strategy, in the order of the file.

    Args:
        columns: COLUMNS; scores are shares in [0, 1].
        what: how messages call the file.

    Raises:
        DataError: a column is missing, a seed has a configuration twice, or a score is none.
    """
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking:
        raise DataError(
            f"{what} has no column {', '.join(lacking)}",
            remedy=f"say which column it is, as in --column {lacking[0]}=NAME.",
        )
    found: dict[tuple[str, str], dict[int, tuple[float | None, ...]]] = {}
    for row, (task, strategy, seed, *scores) in enumerate(zip(*(columns[name] for name in COLUMNS), strict=True), 1):
        of_one = found.setdefault((str(task), str(strategy)), {})
        if not str(seed).isdecimal() or int(str(seed)) in of_one:
            raise DataError(
                f"{what}: row {row}: {strategy} has seed {seed} of task {task} before, or it is no seed",
                remedy="give every seed of a task and strategy one row; name what differs in the strategy.",
            )
        of_one[int(str(seed))] = tuple(_share(score, row, what) for score in scores)
    return [_row(task, strategy, of_one) for (task, strategy), of_one in found.items()]


def _share(value: Any, row: int, what: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise DataError(f"{what}: row {row}: {value!r} is no score", remedy="scores are shares from 0 to 1.")
    return number


def _row(task: str, strategy: str, scores: Mapping[int, tuple[float | None, ...]]) -> SeedScores:
    whole = {seed: values for seed, values in sorted(scores.items()) if None not in values}
    row = SeedScores(task=task, strategy=strategy, seeds=tuple(whole), left_out=len(scores) - len(whole))
    if not whole:
        return SeedScores(**vars(row) | {"reason": "no seed has a weak, a ceiling and a student score"})
    weak, ceiling, student = (_sample(column) for column in np.array([*whole.values()], dtype=np.float64).T)
    told: dict[str, Any] = {"weak": weak.value, "ceiling": ceiling.value, "student": student.value}
    gap = ceiling.value - weak.value
    if len(whole) > 1:
        gain = difference(student, weak, 0.0, 1.0)
        told |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    proven = 0 if len(whole) < CLAIM_SEEDS else difference(ceiling, weak, 0.0, 1.0).proven
    if proven < 0:
        told |= {"reason": "ceiling worse than weak: there is no gap to recover"}
    elif proven == 0:
        told |= {"pgr": (student.value - weak.value) / gap if gap else None}
        told |= {"reason": f"no interval: fewer than {CLAIM_SEEDS} seeds, or no proven gap"}
    else:
        ratio = recovered(weak, student, ceiling)
        told |= {"pgr": ratio.value, "pgr_low": ratio.low, "pgr_high": ratio.high}
    return SeedScores(**vars(row) | told)


def _sample(scores: Any) -> Sample:
    return Sample(full=scores, resampled=np.tile(scores, (2, 1)), items=_ITEMS, effective=float(_ITEMS))
