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

from wtsbench.reports.rows import SILENT, Comparison, Row
from wtsbench.reports.spread import ALPHA


def may_explain(difference: float, silence: float, direction: int) -> bool:
    """Whether whoever is ahead says nothing more often: else this explains no lead.

    Args:
        difference: first - second.
        silence: share of the first's texts that say nothing, less that of the second's.
        direction: 1 where higher is better, -1 where lower is.
    """
    return difference * direction * silence > 0


def without_pgr(row: Row, *, gain_is_silence: bool) -> Row:
    """The row, with no PGR where its gap or its gain is that of texts that say nothing."""
    gap_is_silence = row.gap_strict_p is not None and row.gap_strict_p > ALPHA
    if row.pgr is None or not (gap_is_silence or gain_is_silence):
        return row
    name = "gap" if gap_is_silence else "gain"
    reason = f"{name} not proven when texts that say nothing count as the worst"
    return replace(row, pgr=None, pgr_low=None, pgr_high=None, pgr_reason=reason)


def ahead_by_silence(found: Comparison) -> tuple[str, str] | None:
    """Which strategy is ahead of which other only by texts that say nothing."""
    if found.family != "strategies" or found.reason != SILENT or found.difference is None:
        return None
    first_ahead = (found.difference > 0) == found.higher_is_better
    return (found.first, found.second) if first_ahead else (found.second, found.first)
