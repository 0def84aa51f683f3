"""How numbers of a leaderboard are written, the same in every renderer that people read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from wtsbench.errors import SpecError
from wtsbench.reports.rows import TABLE, Measured, Row, Shown, Submitted
from wtsbench.reports.spread import CLAIM_SEEDS
from wtsbench.spec.cell import Run

MISSING = "-"
EMPTY = "The store holds no grid yet."

SHOWN_FAILURES = 8
SHOWN_SUBMISSIONS = 3
FEW_ITEMS = 10
"""With fewer groups of test items, or of one class, an interval is hardly known."""
SPLITS = {"ood": " out of distribution"}
"""What a title says of a split; nothing of `test`."""
LEGEND = (
    "[low, high]: 95% interval over seeds and groups of test items.",
    "PGR: (student - weak) / (ceiling - weak), where the gap is proven, else NA; what is shown so leans towards .5.",
    "+ or − behind a strategy's gain: proven better or worse than the weak supervisor. Proven: by interval and test, "
    "at 5%.",
    "#: 1 + number of strategies proven better (5%, Holm-corrected); = marks ties.",
)
"""What columns mean, a text each: whoever shows them folds them."""

DRAWS_LEGEND = (
    "Where a table names draws of the training items, intervals, tests and claims are over these draws, each the mean "
    "of its seeds, and over groups of test items; elsewhere they say nothing of other training items."
)

TEXTS = "empty/copy/cut"
"""Heading of `spoken`."""
TEXTS_LEGEND = (
    f"{TEXTS}: share of texts without a word / that only repeat the prompt / that were cut off at max_new_tokens. A "
    "lead of who has more of the first two is claimed only if it holds with each of them counted as the worst; else no "
    "rank."
)


def other_submissions(submissions: Iterable[Shown], grid: str) -> Iterator[str]:
    """Which submission of a grid is shown, where the store has others of its name; nothing where it has not."""
    for known in submissions:
        if known.grid == grid and known.others:
            more = len(known.others) - SHOWN_SUBMISSIONS
            listed = ", ".join(map(submitted, known.others[:SHOWN_SUBMISSIONS])) + (f", {more} more" * (more > 0))
            yield f"shown: submission {submitted(known.shown)}; not shown: {listed}; --submission NUMBER shows one"


def submitted(one: Submitted) -> str:
    """`3 of 2026-11-29 22:30 (5 cells)`."""
    at = one.submitted_at[:16].replace("T", " ")
    return f"{one.submission} of {at} ({one.cells:,} cell{'s' * (one.cells != 1)})"


def legend(rows: Sequence[Row]) -> Iterator[str]:
    """What the columns mean, a text each."""
    yield from LEGEND
    if any(row.data_seeds for row in rows):
        yield DRAWS_LEGEND
    if any(spoken(row.metrics) is not None for row in rows):
        yield TEXTS_LEGEND


def spoken(metrics: Mapping[str, Measured]) -> str | None:
    """What is to be known of generated texts beside their score, `58/0/2%`; None for classification."""
    values = [metrics[name].value for name in ("empty", "copied", "cut_off") if name in metrics]
    return shares(*values) if values else None


def shares(*values: float | None) -> str:
    """`58/0/2%`: a share that is not 0 is never shown as 0."""
    return "/".join("?" if value is None else _percent(value) for value in values) + "%"


def _percent(value: float) -> str:
    return "<1" if 0 < value < 0.01 else f"{100 * value:.0f}"


def interval(value: float | None, low: float | None, high: float | None, *, digits: int = 3) -> str:
    """`0.741 [0.712, 0.768]`; a dash where there is no value."""
    if value is None or low is None or high is None:
        return MISSING
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def drawn(value: float | None, low: float | None, high: float | None) -> tuple[float, float, float] | None:
    """What of a score can be drawn: low end, value and high end."""
    return None if value is None or low is None or high is None else (low, value, high)


def number(value: float, digits: int) -> str:
    """Fixed decimals, and no minus before a zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def probability(value: float) -> str:
    """Three decimals, and never 0."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def score(row: Row) -> str:
    """The student's score."""
    return interval(row.student_score, row.student_low, row.student_high)


def seeds(row: Row) -> str:
    """Seeds done of seeds asked for."""
    return f"{row.seeds_done}/{row.seeds_total}"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A weak supervisor or ceiling, over the seeds of the rows that are compared with it."""

    name: str
    score: str
    texts: str
    """`spoken` of it; empty for classification."""
    drawn: tuple[float, float, float] | None
    """Low end, value and high end of the score."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One table: the rows of a grid, task, pair, split and scorer."""

    rows: tuple[Row, ...]
    apart: str | None = None
    """In what it differs from another table of the same title, with whose rows its own are not ranked."""

    @property
    def strategies(self) -> tuple[Row, ...]:
        """Those with a rank, then those without one."""
        return tuple(row for row in self.rows if row.kind == "strategy")

    @property
    def ranked(self) -> tuple[Row, ...]:
        """Strategies with a rank."""
        return tuple(row for row in self.strategies if row.rank is not None)

    @property
    def unranked(self) -> tuple[Row, ...]:
        """Strategies without a rank, shown apart."""
        return tuple(row for row in self.strategies if row.rank is None)

    @property
    def controls(self) -> tuple[Row, ...]:
        """What they are held against; not ranked."""
        return tuple(row for row in self.rows if row.kind == "control")

    @property
    def generated(self) -> bool:
        """Whether it scores texts."""
        return any(spoken(row.metrics) is not None for row in self.rows)

    @property
    def title(self) -> str:
        """`safety-mini, nano-1 -> nano-3`."""
        row = self.rows[0]
        return f"{row.task}{SPLITS.get(row.split, '')}, {row.weak} -> {row.strong}"

    @property
    def facts(self) -> str:
        """Metric, size of the test, and what could have been found."""
        row = self.rows[0]
        facts = [row.metric.replace("_", " ")]
        if not row.higher_is_better:
            facts.append("lower is better")
        size = f"{row.test_items or 0:,}"
        related = f" in {row.test_groups:,} groups" if row.test_groups and row.test_groups != row.test_items else ""
        what = "test items" if row.samples is None else f"prompts x {row.samples} samples"
        facts.append(f"{size} {what}{related}")
        if row.balance is not None:
            facts.append(f"balance {row.balance}")
        if row.scorer is not None:
            facts.append(f"scorer {row.scorer_name or ''} {row.scorer[:12]}".replace("  ", " "))
        sizes = [row.detectable for row in self.strategies if row.detectable]
        if sizes:
            facts.append(f"detectable gain {number(max(sizes), 3)}")
        draws = max((row.data_seeds for row in self.rows), key=len)
        if draws:
            facts.append(f"{len(draws)} draw{'s' * (len(draws) > 1)} of the training items")
        noise = next((row.noise_sd for row in self.rows if row.noise_sd is not None), None)
        if noise is not None:
            facts.append(f"seed noise {number(noise, 3)}")
        return ", ".join(facts)

    @property
    def warning(self) -> str | None:
        """What speaks against taking the table at its word: too few seeds, choices by what it is scored by."""
        found = (
            self.apart,
            self._few_seeds(),
            self._few_items(),
            self._below_trivial(),
            *self._one_class(),
            self._unconverged(),
            self._chosen_by_the_scorer(),
            *self._unranked(),
        )
        return "; ".join(text for text in found if text is not None) or None

    def _unranked(self) -> Iterator[str]:
        """Why strategies have no rank, each reason once."""
        named: dict[str, list[str]] = {}
        for row in self.unranked:
            if row.unranked is not None:
                named.setdefault(row.unranked, []).append(row.strategy)
        for reason, names in named.items():
            yield f"no rank: {', '.join(names)} ({reason})"

    def _few_items(self) -> str | None:
        """Intervals from a handful of items are rough."""
        row = self.rows[0]
        if row.test_groups is not None and row.test_groups < FEW_ITEMS:
            return f"fewer than {FEW_ITEMS} groups of test items: intervals are rough"
        if row.rarest_class is not None and row.rarest_class < FEW_ITEMS:
            return f"fewer than {FEW_ITEMS} test items of a class: F1, recall and balanced accuracy are rough"
        return None

    @property
    def published(self) -> list[str]:
        """The sources of published figures of these rows; `[1]` marks the first."""
        return list(dict.fromkeys(each.source for row in self.rows for each in row.published))

    def _below_trivial(self) -> str | None:
        """A ceiling that a classifier without a language model beats is no ceiling."""
        row = next((row for row in self.rows if row.ceiling_score is not None), None)
        if row is None or row.ceiling_score is None:
            return None
        sign = 1 if row.higher_is_better else -1
        ahead = [name for name, value in row.trivial.items() if sign * (value - row.ceiling_score) > 0]
        return f"the ceiling scores below {', '.join(ahead)}" if ahead else None

    def _one_class(self) -> Iterator[str]:
        """Models that learned nothing but a class's name."""
        named = {
            each if each.startswith(("weak", "ceiling")) else each.replace("student", row.strategy, 1): None
            for row in self.rows
            for each in row.one_class
        }
        if named:
            shown = [*named][:SHOWN_FAILURES]
            more = f" and {len(named) - len(shown)} more" if len(named) > len(shown) else ""
            yield f"one class whatever the item: {', '.join(shown)}{more}"

    def _unconverged(self) -> str | None:
        """Models whose training ended while its loss still fell."""
        named = {
            f"{role} {share:.0%}".replace("student", row.strategy, 1): None
            for row in self.rows
            for role, share in row.unconverged.items()
        }
        shown = [*named][:SHOWN_FAILURES]
        more = f" and {len(named) - len(shown)} more" if len(named) > len(shown) else ""
        how = "share of the training loss's fall in the last fifth of the steps; more epochs may change the scores"
        return f"not converged: {', '.join(shown)}{more} ({how})" if named else None

    def _few_seeds(self) -> str | None:
        few = [row for row in self.rows if row.few_seeds and row.seeds_done]
        if not few:
            return None
        which = (
            ""
            if len(few) == sum(row.seeds_done > 0 for row in self.rows)
            else f" in {len(few)} row{'s' * (len(few) != 1)}"
        )
        return f"fewer than {CLAIM_SEEDS} {'draws' if few[0].data_seeds else 'seeds'}{which}: no claim"

    def _chosen_by_the_scorer(self) -> str | None:
        """Strategies whose students learned what this very scorer likes: its scores may flatter them."""
        if self.rows[0].scorer is None:
            return None
        names = sorted({row.strategy.partition("(")[0] for row in self.rows if row.kind == "strategy"})
        choosing = [name for name in names if looks_at_scores(name)]
        return f"{', '.join(choosing)}: learned from what this scorer prefers" if choosing else None

    @property
    def weak(self) -> list[Baseline]:
        """What the students learned from."""
        return list(self._baselines("weak", self.rows[0].weak))

    @property
    def ceiling(self) -> list[Baseline]:
        """What the students could have reached."""
        return list(self._baselines("ceiling", self.rows[0].strong))

    def _baselines(self, role: str, model: str) -> Iterator[Baseline]:
        """One for all rows, or one for each set of seeds that rows have done."""
        sets = {row.runs: row for row in reversed(self.rows) if row.seeds}
        for done, row in sorted(sets.items()):
            which = "" if len(sets) == 1 else f", {_said(done)}"
            values = [getattr(row, f"{role}_{part}") for part in ("score", "low", "high")]
            texts = spoken(getattr(row, f"{role}_metrics")) or ""
            yield Baseline(name=f"{role} {model}{which}", score=interval(*values), texts=texts, drawn=drawn(*values))

    def rank(self, row: Row) -> str:
        """`2`, or `1=` for ties."""
        if row.rank is None:
            return MISSING
        tied = sum(other.rank == row.rank for other in self.ranked) > 1
        return f"{row.rank}{'=' if tied else ''}"


def looks_at_scores(strategy: str) -> bool:
    """Whether a strategy chooses among texts by the scores that they get; False for one that is not installed."""
    from wtsbench.strategies import registry  # only tables of generated texts ask

    try:
        kind = registry.get(strategy)
    except SpecError:
        return False
    return bool(getattr(kind, "needs_scores", False))


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Group]]]:
    """Grid names, each with its tables."""
    for grid, of_grid in groupby(rows, key=lambda row: row.grid):
        tables = [Group(rows=tuple(some)) for _, some in groupby(of_grid, key=lambda row: row.table)]
        yield grid, [replace(group, apart=_apart(group, tables)) for group in tables]


def _apart(group: Group, tables: Sequence[Group]) -> str | None:
    """What sets a table apart from those of the same title."""
    alike = [other.rows[0] for other in tables if other is not group and other.title == group.title]
    mine = group.rows[0]
    differing = [
        f"{name.replace('_', ' ')} {str(getattr(mine, name))[:12]}, there {str(getattr(other, name))[:12]}"
        for other in alike
        for name in TABLE
        if getattr(other, name) != getattr(mine, name)
    ]
    return f"ranked apart from another table of this title: {'; '.join(differing)}" if differing else None


def published_notes(group: Group) -> Iterator[str]:
    """Where the published figures of a table are from, and how they differ from what stands beside them."""
    every = list(dict.fromkeys(each for row in group.rows for each in row.published))
    for place, source in enumerate(group.published, start=1):
        some = [each for each in every if each.source == source]
        told = "; ".join(dict.fromkeys(difference for each in some for difference in each.differences))
        files = ", ".join(dict.fromkeys(f"{each.file} (SHA-256 {each.sha256[:12]})" for each in some))
        yield (
            f"[{place}] published: {source}; not the same measurement: {told}. PGR where only scores are: from these."
            f" Not in the store, but in the manifest {files}."
        )


class Notes:
    """Footnotes to PGRs: each reason once, with a letter and the number of its rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = [row for row in rows if row.pgr_reason]
        self._total = len(rows)
        self._marks: dict[str, str] = {}
        for row in self._rows:
            self._marks.setdefault(self._key(row), _letters(len(self._marks)))

    def pgr(self, row: Row) -> str:
        """`0.45 [0.12, 0.80]`, or `NA` with its footnote's letter."""
        text = "NA" if row.pgr is None else interval(row.pgr, row.pgr_low, row.pgr_high, digits=2)
        mark = self._marks.get(self._key(row)) if row.pgr_reason else None
        return text if mark is None else f"{text} ({mark})"

    def of(self, rows: Sequence[Row]) -> Iterator[str]:
        """The footnotes of some rows."""
        keys = [self._key(row) for row in rows if row.pgr_reason]
        for key in dict.fromkeys(keys):
            yield f"({self._marks[key]}) {key}" + (f" ({keys.count(key)} rows)" if keys.count(key) > 1 else "")

    @property
    def count(self) -> str:
        """How many rows have no PGR; nothing where all have one."""
        missing = sum(row.pgr is None for row in self._rows)
        return f"PGR is NA in {missing} of {self._total} row{'s' * (self._total != 1)}." if missing else ""

    @staticmethod
    def _key(row: Row) -> str:
        return row.pgr_reason or ""


def missing_seeds(rows: Sequence[Row]) -> Iterator[str]:
    """What is missing, and the failures behind it, each trial once."""
    once = {(row.grid, row.task, row.weak, row.strong, row.strategy): row for row in reversed(rows)}.values()
    lacking = sum(row.seeds_total - row.seeds_done for row in once)
    if not lacking:
        return
    total = sum(row.seeds_total for row in once)
    yield f"{lacking} of {total} seeds are missing: not run yet, or failed."
    told: dict[str, str] = {}
    for row in rows:
        for failure in row.failures:
            model = row.weak if failure.role == "weak" else row.strong
            strategy = f" {row.strategy}" if failure.role == "student" else ""
            role = row.kind if strategy and row.kind == "control" else failure.role
            told[failure.trial_id] = (
                f"{role} {row.task} {model}{strategy} {_said([failure.run])} ({failure.trial_id[:12]}): "
                f"{failure.failure_class}: {failure.message}"
            )
    yield from list(told.values())[:SHOWN_FAILURES]
    if len(told) > SHOWN_FAILURES:
        yield f"and {len(told) - SHOWN_FAILURES} more failed trials"


def _said(runs: Sequence[Run]) -> str:
    """`seeds 0-4`, or `seeds 0-4 of data seed 1, seed 0 of data seed 2`."""
    seeds: dict[int | None, list[int]] = {}
    for data_seed, seed in runs:
        seeds.setdefault(data_seed, []).append(seed)
    return ", ".join(
        f"seed{'s' * (len(some) > 1)} {_ranges(some)}" + ("" if data_seed is None else f" of data seed {data_seed}")
        for data_seed, some in seeds.items()
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers, with runs of three and more as `0-4`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs)


def _letters(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("a") + digit) + text
    return text
