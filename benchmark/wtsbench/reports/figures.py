"""The numbers of a row, and the verdicts of comparisons: computed, rounded, named as `rows` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wtsbench.reports.contents import GridCell
from wtsbench.reports.rows import DECIMALS, SILENT, Comparison
from wtsbench.reports.statistics import Estimate, Sample, holm, pooled_deviation, recovered
from wtsbench.spec.metrics import Metric

ALPHA = 0.05
"""Chance of any false claim within a family of comparisons."""


def numbers_of(
    metric: Metric[Any], samples: Mapping[str, Sample], cells: Sequence[GridCell], noise: float | None
) -> dict[str, Any]:
    """The fields of a row that are computed by the metric that ranks."""
    weak, student, ceiling = samples["weak"], samples["student"], samples["ceiling"]
    numbers: dict[str, float | str | None] = {}
    for role, sample in samples.items():
        estimate = sample.estimate(metric.lowest, metric.highest)
        numbers |= {f"{role}_score": estimate.value, f"{role}_low": estimate.low, f"{role}_high": estimate.high}
        if len({cell.trials[role] for cell in cells}) == len(cells):
            numbers[f"{role}_sd"] = pooled_deviation([sample.full])
    gap, gain = (ceiling - weak).estimate(), (student - weak).estimate()
    for name, estimate in (("gap", gap), ("gain", gain)):
        numbers |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    numbers |= {"detectable": gain.detectable, "pgr_reason": _reason(gap, metric, len(cells))}
    if noise is not None:
        numbers |= {"noise_sd": noise, "noise_floor": noise * float(np.sqrt(2 / len(cells)))}
    if gap.sign == metric.direction:
        pgr = recovered(weak, student, ceiling)
        numbers |= {"pgr": pgr.value, "pgr_low": pgr.low, "pgr_high": pgr.high}
    return {name: rounded(value) for name, value in numbers.items()}


def decided(found: Sequence[Comparison]) -> list[Comparison]:
    """With corrected p-values and verdicts, rounded. A lead has to pass both of its tests, where it has two."""
    tested = [comparison for comparison in found if comparison.p is not None]
    plain = _corrected([comparison.p or 0.0 for comparison in tested], tested)
    both = _corrected([max(comparison.p or 0.0, comparison.p_strict or 0.0) for comparison in tested], tested)
    return [_judged(comparison, both.get(id(comparison)), plain.get(id(comparison))) for comparison in found]


def _corrected(p_values: Sequence[float], tested: Sequence[Comparison]) -> dict[int, float]:
    return dict(zip(map(id, tested), holm(p_values), strict=True))


def _judged(found: Comparison, p_holm: float | None, plain: float | None) -> Comparison:
    if p_holm is None or plain is None or found.difference is None:
        return found
    silent = plain <= ALPHA < p_holm and found.p_strict is not None and found.p_strict > ALPHA
    ahead = found.difference > 0 if found.higher_is_better else found.difference < 0
    numbers = {name: rounded(getattr(found, name)) for name in ("difference", "low", "high")}
    return replace(
        found,
        **numbers,
        p=_probability(found.p),
        p_strict=_probability(found.p_strict),
        p_holm=_probability(p_holm),
        reason=SILENT if silent else found.reason,
        verdict="tie" if p_holm > ALPHA else "better" if ahead else "worse",
    )


def _reason(gap: Estimate, metric: Metric[Any], seeds: int) -> str | None:
    """Why there is no PGR, or what to know about it."""
    numbers = f"ceiling - weak {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    if gap.sign == -metric.direction:
        return f"ceiling worse than weak: {numbers}"
    if gap.sign == 0:
        return f"gap not proven: {numbers}"
    return "1 seed: intervals are over items only" if seeds == 1 else None


def rounded(value: Any) -> Any:
    """Rounded, and never a negative zero."""
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value


def _probability(value: float | None) -> float | None:
    """With as many digits as other numbers have, however small it is."""
    return None if value is None else float(f"{value:.{DECIMALS}g}")
