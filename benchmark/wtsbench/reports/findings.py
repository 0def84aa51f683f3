"""Which strategies help, counted over the tables of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wtsbench.reports.document import Column, Line, Table, TableCell
from wtsbench.reports.rows import TURNED, Comparison, Leaderboard, Row
from wtsbench.reports.spread import ALPHA
from wtsbench.reports.wording import MISSING, SPLITS, TEXTS, spoken
from wtsbench.spec.trial import EXTERNAL

BASELINE = "naive"
IMPORTED = f"{EXTERNAL}:"
"""Before the name of a strategy whose predictions were imported."""


@dataclass
class _Count:
    better: int = 0
    worse: int = 0
    tested: int = 0

    def add(self, verdict: str | None) -> None:
        self.better += verdict == "better"
        self.worse += verdict == "worse"
        self.tested += verdict is not None

    @property
    def cell(self) -> TableCell:
        """`1 of 3, 1 worse`; a dash where nothing could be tested."""
        if not self.tested:
            return TableCell(text=MISSING, tone="dim")
        text = f"{self.better} of {self.tested}" + (f", {self.worse} worse" if self.worse else "")
        return TableCell(
            text=text, number=self.better, tone="good" if self.better else "bad" if self.worse else "plain"
        )


def findings(board: Leaderboard, grid: str) -> list[Table]:
    """For each split, in how many tables a gain is proven, and how many comparisons each strategy wins."""
    found = []
    for split in dict.fromkeys(row.split for row in board.rows if row.grid == grid):
        rows = [row for row in board.rows if (row.grid, row.split, row.kind) == (grid, split, "strategy")]
        compared = [each for each in board.comparisons if (each.grid, each.split) == (grid, split)]
        labels = list(dict.fromkeys(row.strategy for row in rows))
        naive = baseline_of(labels)
        columns = [Column(heading="strategy"), Column(heading="gain proven", numeric=True)]
        columns += [Column(heading=f"better than {naive}", numeric=True)] if naive else []
        controls = any(each.family == "controls" for each in compared)
        columns += [Column(heading="better than controls", numeric=True)] if controls else []
        texts = any(spoken(row.metrics) is not None for row in rows)
        columns += [Column(heading=f"most {TEXTS}", numeric=True)] if texts else []
        lines = []
        for label in labels:
            own = [row for row in rows if row.strategy == label]
            cells = [TableCell(text=label), _gains(own)]
            cells += [_against(compared, label, naive)] if naive else []
            cells += [_controls(compared, label)] if controls else []
            cells += [TableCell(text=_most_silent(own))] if texts else []
            lines.append(Line(cells=tuple(cells)))
        caption = f"Which strategies help{SPLITS.get(split, '')}: proven at 5%, corrected (Holm), in so many tables"
        found.append(Table(caption=caption, columns=tuple(columns), lines=tuple(lines)))
    return found


def _gains(rows: Sequence[Row]) -> TableCell:
    count = _Count()
    for row in rows:
        count.add(gain_verdict(row))
    return count.cell


def gain_verdict(row: Row) -> str | None:
    """Whether a row is proven better or worse than its weak supervisor; None where nothing is claimed."""
    if row.gain_p_holm is None or row.gain_low is None or row.gain_high is None:
        return None
    up, down = ("better", "worse") if row.higher_is_better else ("worse", "better")
    if row.gain_p_holm > ALPHA:
        return "tie"
    return up if row.gain_low > 0 else down if row.gain_high < 0 else "tie"


def gap_proven(row: Row) -> bool:
    """Whether a row's ceiling is proven better than its weak supervisor; its PGR may be withheld all the same.

    For generation also where texts that say nothing count as the worst, if these may explain the gap.
    """
    if row.gap_p is None or row.gap_low is None or row.gap_high is None:
        return False
    apart = row.gap_low > 0 if row.higher_is_better else row.gap_high < 0
    return apart and max(row.gap_p, row.gap_strict_p or 0.0) <= ALPHA


def baseline_of(labels: Sequence[str]) -> str | None:
    """What strategies are held against: naive, or the only variant of it; None where there is no such strategy.

    Of an imported grid it is what other code calls so: no grid has strategies of both.
    """
    own = {label.removeprefix(IMPORTED): label for label in labels}
    if BASELINE in own:
        return own[BASELINE]
    variants = [label for name, label in own.items() if name.startswith(f"{BASELINE}(")]
    return variants[0] if len(variants) == 1 else None


def _against(compared: Sequence[Comparison], label: str, naive: str) -> TableCell:
    if label == naive:
        return TableCell(text="", tone="dim")
    count = _Count()
    for found in compared:
        if found.family == "strategies" and {found.first, found.second} == {label, naive}:
            count.add(found.verdict if found.first == label else TURNED[found.verdict])
    return count.cell


def _controls(compared: Sequence[Comparison], label: str) -> TableCell:
    count = _Count()
    for found in compared:
        if found.family == "controls" and found.first == label:
            count.add(found.verdict)
    return count.cell


def _most_silent(rows: Sequence[Row]) -> str:
    """Of generated texts, the most that any table has of those that say nothing or were cut off."""
    texts = [row for row in rows if spoken(row.metrics) is not None]
    if not texts:
        return MISSING
    most = max(texts, key=lambda row: sum(row.metrics[name].value or 0.0 for name in ("empty", "copied")))
    return spoken(most.metrics) or MISSING
