"""Who is ranked, and how: only what was all compared with each other on the same seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from wtsbench.reports.rows import Comparison
from wtsbench.reports.spread import CLAIM_SEEDS
from wtsbench.spec.cell import Run, repeated


def unranked(done: Mapping[str, Sequence[Run]], totals: Mapping[str, int]) -> dict[str, str]:
    """Strategies with a finished seed that have no rank, and why.

    Ranked are those on the largest set of seeds that any has done of those that have enough of them to be ranked; of
    several sets as large, on the one that most share, and on none where two are shared as much.

    Args:
        done: by strategy, the seeds done of each draw of the training items.
        totals: by strategy, how many were asked for.
    """
    sets = Counter(tuple(seeds) for seeds in done.values() if repeated(seeds)[0] >= CLAIM_SEEDS)
    size = max(map(len, sets), default=0)
    most = max((count for seeds, count in sets.items() if len(seeds) == size), default=0)
    usual = [seeds for seeds, count in sets.items() if (len(seeds), count) == (size, most)]
    reasons: dict[str, str] = {}
    for label, seeds in done.items():
        if not seeds:
            continue
        count = f"{len(seeds)} of {totals[label]} seeds done"
        times, what = repeated(seeds)
        if times < CLAIM_SEEDS:
            count = count if what == "seed" else f"{times} draw{'s' * (times != 1)} of the training items"
            reasons[label] = f"{count}, a rank takes {CLAIM_SEEDS}"
        elif len(seeds) < size:
            reasons[label] = f"{count}, by others {size}"
        elif usual != [tuple(seeds)]:
            reasons[label] = f"{count}, by others other ones"
    return reasons


def ranks(labels: Sequence[str], compared: Sequence[Comparison]) -> dict[str, int]:
    """Rank of each: 1 plus the number of these that are proven better; so ties share a rank."""
    better = Counter(
        found.second if found.verdict == "better" else found.first
        for found in compared
        if found.verdict in ("better", "worse") and {found.first, found.second} <= set(labels)
    )
    return {label: 1 + better[label] for label in labels}
