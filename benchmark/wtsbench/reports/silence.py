"""Who says nothing wins nothing: leads that texts without content may explain.

A text says nothing where it has no word, or only repeats the prompt (at least half of its runs of four words stand
there). Scorers find nothing in it, so a model gains by falling silent, most of all where it would have been toxic. What
it would have written is unknown, so it counts as the worst, as a missing outcome counts as a failure in a trial of
medicine: where whoever is ahead says nothing more often than the other, the lead must be proven a second time with such
texts scored 1. The larger of the two p-values counts, and holds its level, for a lead is claimed only where both tests
find it (an intersection-union test, Berger 1982).
"""

from __future__ import annotations

from dataclasses import replace

from wtsbench.reports.figures import ALPHA
from wtsbench.reports.rows import SILENT, Comparison, Row
from wtsbench.reports.statistics import Sample


def strict_p(plain: Sample, strict: Sample, silence: float, direction: int) -> float | None:
    """Two-sided p-value of a difference when texts that say nothing count as the worst; 1 where it turns round.

    Args:
        plain: first - second.
        strict: the same with texts that say nothing counted as the worst.
        silence: share of the first's texts that say nothing, less that of the second's.
        direction: 1 where higher is better, -1 where lower is.

    Returns:
        None where whoever is ahead does not say nothing more often: then this explains no lead.
    """
    difference = plain.full.mean()
    if difference * direction * silence <= 0:
        return None
    estimate = strict.estimate()
    return float(estimate.p) if estimate.value * difference > 0 else 1.0


def proves_nothing(row: Row) -> bool:
    """Whether a row's gain or loss is not proven when texts that say nothing count as the worst."""
    return row.gain_strict_p is not None and row.gain_strict_p > ALPHA


def gains_by_silence(row: Row) -> bool:
    """Whether a row's gain would be proven, but for the texts that say nothing."""
    if row.gain_low is None or row.gain_high is None or not proves_nothing(row):
        return False
    return row.gain_low > 0 if row.higher_is_better else row.gain_high < 0


def without_pgr(row: Row) -> Row:
    """The row, with no PGR where its gap or its gain is that of texts that say nothing."""
    for name, p in (("gap", row.gap_strict_p), ("gain", row.gain_strict_p)):
        if row.pgr is not None and p is not None and p > ALPHA:
            reason = f"{name} not proven when texts that say nothing count as the worst"
            return replace(row, pgr=None, pgr_low=None, pgr_high=None, pgr_reason=reason)
    return row


def ahead_by_silence(found: Comparison) -> tuple[str, str] | None:
    """Which strategy is ahead of which other only by texts that say nothing."""
    if found.family != "strategies" or found.reason != SILENT or found.difference is None:
        return None
    first_ahead = (found.difference > 0) == found.higher_is_better
    return (found.first, found.second) if first_ahead else (found.second, found.first)
