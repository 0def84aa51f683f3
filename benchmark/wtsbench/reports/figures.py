"""The numbers of a row, and the verdicts of comparisons: computed, rounded, named as `rows` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from wtsbench.reports.contents import GridCell
from wtsbench.reports.rows import DECIMALS, Comparison
from wtsbench.reports.spread import ALPHA, CLAIM_SEEDS
from wtsbench.reports.statistics import (
    Estimate,
    Sample,
    difference,
    pooled_deviation,
    recovered,
    score,
    tested,
)
from wtsbench.spec.metrics import Metric

Identity = Literal["weak", "ceiling", "both"]
"""Whose answers a student repeats on every item, in every seed."""
_REPEATED = {
    "weak": "its weak supervisor does",
    "ceiling": "its ceiling does",
    "both": "its weak supervisor and its ceiling do",
}


def numbers_of(
    metric: Metric[Any],
    samples: Mapping[str, Sample],
    cells: Sequence[GridCell],
    noise: float | None,
    identity: Identity | None,
) -> dict[str, Any]:
    """The fields of a row that are computed by the metric that ranks."""
    weak, student, ceiling = samples["weak"], samples["student"], samples["ceiling"]
    numbers: dict[str, float | str | None] = {}
    for role, sample in samples.items():
        estimate = score(sample, metric.lowest, metric.highest)
        numbers |= {f"{role}_score": estimate.value, f"{role}_low": estimate.low, f"{role}_high": estimate.high}
        if len({cell.trials[role] for cell in cells}) == len(cells):
            numbers[f"{role}_sd"] = pooled_deviation([sample.full])
    gap, gain = (difference(one, weak, metric.lowest, metric.highest) for one in (ceiling, student))
    for name, estimate in (("gap", gap), ("gain", gain)):
        numbers |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    numbers |= {"detectable": gain.detectable, "pgr_reason": _reason(gap, metric, len(cells), identity)}
    if noise is not None:
        numbers |= {"noise_sd": noise, "noise_floor": noise * float(np.sqrt(2 / len(cells)))}
    if numbers["pgr_reason"] is None:
        pgr = recovered(weak, student, ceiling)
        numbers |= {"pgr": pgr.value, "pgr_low": pgr.low, "pgr_high": pgr.high}
    gap_p = probability(gap.p) if gap.claims else None
    return {name: rounded(value) for name, value in numbers.items()} | {"gap_p": gap_p}


def decided(found: Sequence[tuple[Comparison, Estimate | None]]) -> list[Comparison]:
    """With p-values, corrected among those over as many seeds or more, and verdicts, rounded."""
    corrected = corrections([estimate for _, estimate in found])
    return [
        comparison if estimate is None or p_values is None else _judged(comparison, estimate, *p_values)
        for (comparison, estimate), p_values in zip(found, corrected, strict=True)
    ]


def corrections(family: Sequence[Estimate | None]) -> list[tuple[float, float] | None]:
    """p-value and corrected p-value of each that claims something; None for others."""
    places = [place for place, each in enumerate(family) if each is not None and each.claims]
    found: list[tuple[float, float] | None] = [None] * len(family)
    for place, p_values in zip(places, tested([each for each in family if each and each.claims]), strict=True):
        found[place] = p_values
    return found


def _judged(found: Comparison, estimate: Estimate, p: float, p_holm: float) -> Comparison:
    sign = estimate.sign * (1 if found.higher_is_better else -1)
    return replace(
        found,
        difference=rounded(estimate.value),
        low=rounded(estimate.low),
        high=rounded(estimate.high),
        p=probability(p),
        p_holm=probability(p_holm),
        verdict="tie" if p_holm > ALPHA or not sign else "better" if sign > 0 else "worse",
    )


def _reason(gap: Estimate, metric: Metric[Any], seeds: int, identity: Identity | None) -> str | None:
    """Why there is no PGR."""
    if identity is not None:
        return f"answers every item as {_REPEATED[identity]}"
    if not gap.claims:
        return f"{seeds} seed{'s' * (seeds != 1)}: a claim takes {CLAIM_SEEDS}"
    numbers = f"ceiling - weak {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    if gap.proven == -metric.direction:
        return f"ceiling worse than weak: {numbers}"
    if gap.proven == 0:
        return f"gap not proven: {numbers}" + (f", p {gap.p:.2g}" if gap.sign else "")
    return None


def rounded(value: Any) -> Any:
    """Rounded, and never a negative zero."""
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value


def probability(value: float) -> float:
    """With as many digits as other numbers have, however small it is."""
    return float(f"{value:.{DECIMALS}g}")
