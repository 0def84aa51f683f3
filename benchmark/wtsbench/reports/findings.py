"""Which strategies help, in a paragraph computed from the comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wtsbench.reports.rows import Comparison, Leaderboard, Row
from wtsbench.reports.spread import ALPHA, CLAIM_SEEDS
from wtsbench.reports.wording import SPLITS, spoken

BASELINE = "naive"


@dataclass
class _Count:
    better: int = 0
    worse: int = 0
    tested: int = 0
    untested: int = 0

    def add(self, verdict: str | None) -> None:
        self.better += verdict == "better"
        self.worse += verdict == "worse"
        self.tested += verdict is not None
        self.untested += verdict is None

    def __str__(self) -> str:
        text = f"{self.better} of {self.tested}"
        notes = [f"{count} {name}" for name, count in (("worse", self.worse), ("NA", self.untested)) if count]
        return text + (f" ({', '.join(notes)})" if notes else "")


def findings(board: Leaderboard, grid: str) -> list[str]:
    """One paragraph a split with tables."""
    paragraphs = []
    for split in dict.fromkeys(row.split for row in board.rows if row.grid == grid):
        rows = [row for row in board.rows if (row.grid, row.split) == (grid, split)]
        compared = [found for found in board.comparisons if (found.grid, found.split) == (grid, split)]
        sentences = [*_gains(rows), *_baseline(compared), *_controls(compared), *_silence(rows), *_few(rows)]
        if sentences:
            where = f"Which strategies help{SPLITS.get(split, '')}: "
            paragraphs.append(where + " ".join(sentences))
    return paragraphs


def _gains(rows: Sequence[Row]) -> Iterator[str]:
    counts: dict[str, _Count] = {}
    for row in rows:
        if row.kind == "strategy":
            counts.setdefault(row.strategy, _Count()).add(gain_verdict(row))
    if counts:
        which = (
            "a gain over the weak supervisor is proven, corrected for all strategies (Holm, 5%), in this many tables"
        )
        yield f"{which}: {_listed(counts)}."


def gain_verdict(row: Row) -> str | None:
    """Whether a row is proven better or worse than its weak supervisor; None where nothing is claimed."""
    if row.gain_p_holm is None or row.gain_low is None or row.gain_high is None:
        return None
    up, down = ("better", "worse") if row.higher_is_better else ("worse", "better")
    if row.gain_p_holm > ALPHA:
        return "tie"
    return up if row.gain_low > 0 else down if row.gain_high < 0 else "tie"


def baseline_of(labels: Sequence[str]) -> str | None:
    """What strategies are held against: naive, or the only variant of it; None where there is no such strategy."""
    if BASELINE in labels:
        return BASELINE
    variants = [label for label in labels if label.startswith(f"{BASELINE}(")]
    return variants[0] if len(variants) == 1 else None


def _baseline(compared: Sequence[Comparison]) -> Iterator[str]:
    among = [found for found in compared if found.family == "strategies"]
    naive = baseline_of(sorted({label for found in among for label in (found.first, found.second)}))
    counts: dict[str, _Count] = {}
    for found in among:
        if found.first == naive:
            counts.setdefault(found.second, _Count()).add(_turned(found.verdict))
        elif found.second == naive:
            counts.setdefault(found.first, _Count()).add(found.verdict)
    if counts:
        yield f"Better than {naive}, corrected for all pairs of strategies (Holm, 5%): {_listed(counts)}."


def _turned(verdict: str | None) -> str | None:
    return {"better": "worse", "worse": "better"}.get(verdict or "", verdict)


def _controls(compared: Sequence[Comparison]) -> Iterator[str]:
    """How often a strategy is proven better than a control, over all controls and tables."""
    counts: dict[str, _Count] = {}
    for found in compared:
        if found.family == "controls":
            counts.setdefault(found.first, _Count()).add(found.verdict)
    if counts:
        controls = {found.second for found in compared if found.family == "controls"}
        which = (
            f"the control {min(controls)}" if len(controls) == 1 else f"the {len(controls)} controls, each in its table"
        )
        yield f"Better than {which}: {_listed(counts)}."


def _silence(rows: Sequence[Row]) -> Iterator[str]:
    """Of generated texts, the most that any table of each strategy has of those that say nothing or were cut off."""
    most: dict[str, Row] = {}
    for row in rows:
        if row.kind == "strategy" and spoken(row.metrics) is not None:
            before = most.setdefault(row.strategy, row)
            if _silent(row) > _silent(before):
                most[row.strategy] = row
    if most:
        shares = "; ".join(f"{label} {spoken(row.metrics)}" for label, row in sorted(most.items()))
        yield f"Texts without a word / only repeating the prompt / cut off, in the table with most of them: {shares}."


def _silent(row: Row) -> float:
    return sum(row.metrics[name].value or 0.0 for name in ("empty", "copied"))


def _listed(counts: Mapping[str, _Count]) -> str:
    """`logconf 1 of 3; naive 0 of 3 (1 worse)`, then those of which nothing is known, unless that is so of all."""
    told = [f"{label} {count}" for label, count in sorted(counts.items()) if count.tested]
    unknown = [label for label, count in sorted(counts.items()) if not count.tested]
    if not told:
        return "none could be compared"
    return "; ".join([*told, *([f"not compared: {', '.join(unknown)}"] if unknown else [])])


def _few(rows: Sequence[Row]) -> Iterator[str]:
    """How many tables make no claim at all."""
    tables: dict[tuple[str, ...], bool] = {}
    for row in rows:
        key = (row.task, row.weak, row.strong, row.data_digest, row.scorer or "")
        tables[key] = tables.get(key, True) and (row.few_seeds or row.kind == "control")
    few = sum(tables.values())
    if few:
        which = f"{few} of {len(tables)} tables" if len(tables) > 1 else "the table"
        yield f"Fewer than {CLAIM_SEEDS} seeds in {which}: no claim."
