"""The numbers of a row, and the verdicts of comparisons: computed, rounded, named as `rows` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from wtsbench.metrics.classification import Metric
from wtsbench.reports.rows import DECIMALS, SILENT, Comparison
from wtsbench.reports.spread import ALPHA, CLAIM_SEEDS
from wtsbench.reports.statistics import (
    Estimate,
    Sample,
    difference,
    holm,
    pooled_deviation,
    recovered,
    score,
    tested,
)
from wtsbench.spec.cell import Cell, repeated, weight

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
    cells: Sequence[Cell],
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
    times = repeated(cell.run for cell in cells)
    numbers |= {"detectable": gain.detectable if gain.claims else None}
    numbers |= {"pgr_reason": _reason(gap, metric, *times, identity)}
    if noise is not None:
        numbers |= {"noise_sd": noise, "noise_floor": noise * float(np.sqrt(2 / weight(cell.run for cell in cells)))}
    if numbers["pgr_reason"] is None:
        pgr = recovered(weak, student, ceiling)
        numbers |= {"pgr": pgr.value, "pgr_low": pgr.low, "pgr_high": pgr.high}
    gap_p = probability(gap.p) if gap.claims else None
    return {name: rounded(value) for name, value in numbers.items()} | {"gap_p": gap_p}


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What the tests of a difference say: the plain one, and the strict one where there is one (`silence`)."""

    p: float
    p_strict: float | None
    p_holm: float
    """Corrected; the larger of the two, where there are two."""
    silent: bool
    """It would be proven, but for texts that say nothing."""


def decided(found: Sequence[tuple[Comparison, Estimate | None, Estimate | None]]) -> list[Comparison]:
    """With p-values, corrected among those over as many seeds or more, and verdicts, rounded.

    Args:
        found: each with its difference, and the same with texts that say nothing counted as the worst where these may
            explain it.
    """
    results = both([plain for _, plain, _ in found], [strict for _, _, strict in found])
    return [
        comparison if estimate is None or result is None else _judged(comparison, estimate, result)
        for (comparison, estimate, _), result in zip(found, results, strict=True)
    ]


def both(plain: Sequence[Estimate | None], strict: Sequence[Estimate | None]) -> list[Tested | None]:
    """The tests of a family, None of what claims nothing. A difference that has two tests has to pass both."""
    first = corrections(plain)
    second = corrections([one if two is None else two for one, two in zip(plain, strict, strict=True)])
    p_strict = [
        None if one is None or two is None or p_values is None else 1.0 if one.value * two.value <= 0 else p_values[0]
        for one, two, p_values in zip(plain, strict, second, strict=True)
    ]
    larger = [max(p_values[0], p or 0.0) for p_values, p in zip(first, p_strict, strict=True) if p_values is not None]
    corrected = iter(holm(larger))
    return [
        None if one is None or p_values is None else _tested(one, *p_values, p, next(corrected))
        for one, p_values, p in zip(plain, first, p_strict, strict=True)
    ]


def _tested(plain: Estimate, p: float, p_holm: float, p_strict: float | None, p_both: float) -> Tested:
    """Of a plain test, its correction, the strict test, and the correction of the larger one."""
    return Tested(
        p=probability(p),
        p_strict=None if p_strict is None else probability(p_strict),
        p_holm=probability(p_both),
        silent=p_strict is not None and p_strict > ALPHA and p_holm <= ALPHA and plain.sign != 0,
    )


def corrections(family: Sequence[Estimate | None]) -> list[tuple[float, float] | None]:
    """p-value and corrected p-value of each that claims something; None for others."""
    places = [place for place, each in enumerate(family) if each is not None and each.claims]
    found: list[tuple[float, float] | None] = [None] * len(family)
    for place, p_values in zip(places, tested([each for each in family if each and each.claims]), strict=True):
        found[place] = p_values
    return found


def _judged(found: Comparison, estimate: Estimate, result: Tested) -> Comparison:
    sign = estimate.sign * (1 if found.higher_is_better else -1)
    return replace(
        found,
        difference=rounded(estimate.value),
        low=rounded(estimate.low),
        high=rounded(estimate.high),
        p=result.p,
        p_strict=result.p_strict,
        p_holm=result.p_holm,
        reason=SILENT if result.silent else found.reason,
        verdict="tie" if result.p_holm > ALPHA or not sign else "better" if sign > 0 else "worse",
    )


def _reason(gap: Estimate, metric: Metric[Any], times: int, what: str, identity: Identity | None) -> str | None:
    """Why there is no PGR."""
    if identity is not None:
        return f"answers every item as {_REPEATED[identity]}"
    if not gap.claims:
        return f"{times} {what}{'s' * (times != 1)}: a claim takes {CLAIM_SEEDS}"
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
