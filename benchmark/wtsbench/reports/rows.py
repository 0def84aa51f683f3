"""What a leaderboard is made of: plain data, as JSON has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from wtsbench.data.account import Account

RESAMPLES = 10_000
"""Of items and seeds, from which intervals come."""
STATISTICS_VERSION = 2
"""Raised when the same records give other intervals, tests or claims: version 1 claimed by intervals alone."""
DECIMALS = 6
"""Of every number in a row: more than the resampling tells, few enough that no machine's rounding shows."""

TABLE = ("grid", "task", "weak", "strong", "split", "data_digest", "metric", "scorer")
"""What rows have to agree in to be compared, and ranked, with each other: fields of `Row` and of `Comparison`. The data
digest covers the items with their labels and splits, and so the protocol that made them. Trials of one submission were
planned by one version of the science and for one environment: both are in their ids."""

TURNED: dict[str | None, str | None] = {"better": "worse", "worse": "better", "tie": "tie", None: None}
"""What a verdict of the first is of the second."""
SILENT = "ahead only by texts that say nothing"


@dataclass(frozen=True, kw_only=True)
class SeedTrials:
    """The trials of one finished seed of a row."""

    seed: int
    weak: str
    ceiling: str
    student: str
    data_seed: int | None = None
    """Which draw of the training items; None where the grid has one alone."""


@dataclass(frozen=True, kw_only=True)
class SeedFailure:
    """Why a seed of a row is missing."""

    seed: int
    role: str
    trial_id: str
    failure_class: str
    message: str
    data_seed: int | None = None

    @property
    def run(self) -> tuple[int | None, int]:
        """Data seed and seed."""
        return self.data_seed, self.seed


@dataclass(frozen=True)
class Measured:
    """A metric's mean over seeds with its 95% interval; without a value where it is not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    """Why there is no value."""


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """What others report of a row's task, pair and strategy; by another protocol."""

    source: str
    file: str
    """Name of the manifest that has it: of the reader's machine, for a store has no published figures."""
    sha256: str
    """Of that file's content."""
    differences: tuple[str, ...]
    """In what the protocols differ."""
    score: float | None = None
    weak_score: float | None = None
    ceiling_score: float | None = None
    pgr: float | None = None
    """Published, or from the three scores."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task, pair and strategy or control of a grid, scored on one split.

    Scores are None until a seed is done; intervals are 95%.
    """

    grid: str
    submission: int | None = None
    """Number of the grid's submission whose cells these are."""
    other_submissions: tuple[int, ...] = ()
    """Submissions of the same name that are in the store and not shown."""
    task: str
    weak: str
    strong: str
    strategy: str
    """Label of the strategy, or name of the control."""
    kind: Literal["strategy", "control"] = "strategy"
    split: str = "test"
    """`test`, or `ood`: a test set out of the task's distribution."""
    scorer: str | None = None
    """For generation: digest of what scored the texts. Scores of different scorers are in different tables."""
    scorer_name: str | None = None
    metric: str
    higher_is_better: bool
    weak_score: float | None = None
    weak_low: float | None = None
    weak_high: float | None = None
    student_score: float | None = None
    student_low: float | None = None
    student_high: float | None = None
    ceiling_score: float | None = None
    ceiling_low: float | None = None
    ceiling_high: float | None = None
    gap: float | None = None
    """ceiling - weak, whatever the metric's direction."""
    gap_low: float | None = None
    gap_high: float | None = None
    gain: float | None = None
    """student - weak."""
    gain_low: float | None = None
    gain_high: float | None = None
    gap_p: float | None = None
    """Two-sided p-value of no gap; None with fewer than 3 seeds, of which nothing is claimed."""
    gain_p: float | None = None
    """Two-sided p-value of no gain; None for controls as well."""
    gain_p_holm: float | None = None
    """Corrected among the gains of the table's strategies."""
    gain_strict_p: float | None = None
    """For a gain or loss of which texts that say nothing may be the cause: its two-sided p-value when these count as
    the worst; `gain_p_holm` is corrected with it as well. None where whoever is ahead does not say nothing more
    often."""
    gap_strict_p: float | None = None
    """The same of the gap."""
    detectable: float | None = None
    """Size of a gain that this row's seeds and items would prove 4 times in 5, alone (minimum detectable effect): an
    estimate, itself unsure with few seeds; None with fewer than 3, which prove none however large."""
    pgr: float | None = None
    """Performance gap recovered, gain / gap; None where the gap is not proven, by its interval and its test."""
    pgr_low: float | None = None
    pgr_high: float | None = None
    pgr_reason: str | None = None
    """Why there is no PGR, or what to know about it."""
    rank: int | None = None
    """Within a table: 1 plus the number of ranked strategies that are proven better, corrected for the number of
    comparisons; None for controls, and for strategies that `unranked` speaks of."""
    unranked: str | None = None
    """Why a strategy with a finished seed has no rank."""
    weak_sd: float | None = None
    """Standard deviation over seeds, or over draws of the means over their seeds; None with one alone, or where one
    trial serves all seeds."""
    student_sd: float | None = None
    ceiling_sd: float | None = None
    noise_sd: float | None = None
    """Standard deviation over seeds, pooled over all configurations of the table and draws of the training items."""
    noise_floor: float | None = None
    """Standard deviation of the difference of two identical configurations with as many seeds as this row."""
    seeds_done: int
    """Seeds whose weak supervisor, ceiling and student are all done; of every draw of the training items."""
    seeds_total: int
    seeds: tuple[int, ...] = ()
    """The seeds done; of several draws, those done of some."""
    data_seeds: tuple[int, ...] = ()
    """The draws of the training items with a seed done: intervals, tests and claims are over these. None where the grid
    has one draw alone, and all is over its seeds."""
    few_seeds: bool = True
    """Fewer than 3 draws with a seed done, or of one draw fewer than 3 seeds: no claim."""
    test_items: int | None = None
    test_groups: int | None = None
    """Groups of related test items, which are what the intervals resample."""
    rarest_class: int | None = None
    """For classification: groups with an item of the rarest class."""
    balance: str | None = None
    """For classification: which splits had their classes evened out, `all`, `train` or `none`."""
    samples: int | None = None
    """For generation: continuations of each prompt."""
    data_digest: str
    """Of the items; of several draws of the training items, the first's: all have the same test items."""
    metrics: dict[str, Measured] = field(default_factory=dict)
    """All metrics of the student, by name."""
    weak_metrics: dict[str, Measured] = field(default_factory=dict)
    ceiling_metrics: dict[str, Measured] = field(default_factory=dict)
    published: tuple[PublishedFigure, ...] = ()
    """What others report, to look at: no test and no rank knows of it."""
    trivial: dict[str, float] = field(default_factory=dict)
    """For classification: what trivial classifiers score by the row's metric, by name (`wtsbench.scoring.trivial`);
    of several draws of the training items, their mean."""
    one_class: tuple[str, ...] = ()
    """For classification: models that name one class whatever the item, such as `student seed 3 (safe)`."""
    unconverged: dict[str, float] = field(default_factory=dict)
    """By role, where it is proven that training had not converged: the mean share of the loss's fall that came in the
    last fifth of the steps."""
    trials: tuple[SeedTrials, ...] = ()
    """Where the numbers come from."""
    failures: tuple[SeedFailure, ...] = ()
    sandboxes: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    origin: Literal["wtsbench", "external"] = "wtsbench"
    """Who made the predictions; `external` is code that wtsbench did not run."""
    statistics: int = STATISTICS_VERSION

    @property
    def runs(self) -> tuple[tuple[int | None, int], ...]:
        """Data seed and seed of each that is done."""
        return tuple((one.data_seed, one.seed) for one in self.trials)

    @property
    def table(self) -> tuple[Any, ...]:
        """Equal where rows are of one table."""
        return tuple(getattr(self, name) for name in TABLE)

    @property
    def complete(self) -> bool:
        """Whether every seed asked for is done."""
        return self.seeds_done == self.seeds_total


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two entries of a table, by one metric, on the seeds that both have done."""

    grid: str
    submission: int | None = None
    task: str
    weak: str
    strong: str
    split: str
    data_digest: str
    scorer: str | None
    metric: str
    higher_is_better: bool
    first: str
    second: str
    family: Literal["strategies", "controls"]
    """What the p-value is corrected among: all pairs of strategies of the table, or all pairs of a strategy and a
    control."""
    seeds: tuple[int, ...] = ()
    """That both have done; of several draws, those done of some."""
    data_seeds: tuple[int, ...] = ()
    """The draws of the training items of which both have a seed done; none where the grid has one draw alone."""
    difference: float | None = None
    """first - second, whatever the metric's direction."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, of no difference."""
    p_strict: float | None = None
    """For a lead of which texts that say nothing may be the cause: its p-value when these count as the worst. None
    where whoever is ahead does not say nothing more often."""
    p_holm: float | None = None
    """The larger of the two, corrected among the family."""
    verdict: Literal["better", "worse", "tie"] | None = None
    """Of the first, by the corrected p-value at 5% and the interval; `tie` where no difference is proven."""
    reason: str | None = None
    """Why there is no test, or why a difference proves nothing."""
    few_seeds: bool = True
    """Fewer than 3 common draws, or of one draw fewer than 3 common seeds: no claim."""
    first_empty: float | None = None
    """For generation: the share of the first's samples without a word."""
    first_copied: float | None = None
    """The share that only repeats the prompt."""
    first_cut_off: float | None = None
    """The share that was cut off at `max_new_tokens`."""
    second_empty: float | None = None
    second_copied: float | None = None
    second_cut_off: float | None = None
    statistics: int = STATISTICS_VERSION

    @property
    def table(self) -> tuple[Any, ...]:
        """That of the rows which it compares."""
        return tuple(getattr(self, name) for name in TABLE)


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """One submission of a grid."""

    submission: int
    """Its number in the store; numbers are in the order of time, so a merge may number anew."""
    submitted_at: str
    """ISO 8601, UTC, to the second."""
    cells: int


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Which submission of a grid is shown, and which of the same name are not."""

    grid: str
    shown: Submitted
    others: tuple[Submitted, ...]
    """Newest first."""


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Pairs of entries, table by table."""

    pairs: tuple[Comparison, ...] = ()
    submissions: tuple[Shown, ...] = ()

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Rows by grid, task, pair and split in the order the grid names them, then by rank and score, controls last."""

    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()
    """All of them, by the metric that ranks."""
    submissions: tuple[Shown, ...] = ()
    data: tuple[Account, ...] = ()
    """What became of the rows of each task."""
    unread: tuple[str, ...] = ()
    """What the store has of them that cannot be read, a sentence each."""

    def records(self) -> list[dict[str, Any]]:
        """The rows as JSON values."""
        return [_values(row) for row in self.rows]


def _values(row: Row) -> dict[str, Any]:
    """As `dataclasses.asdict`, which copies every number and takes ten times as long."""
    values = dict(vars(row))
    for name in ("metrics", "weak_metrics", "ceiling_metrics"):
        values[name] = {metric: dict(vars(measured)) for metric, measured in values[name].items()}
    for name in ("published", "trials", "failures"):
        values[name] = tuple(dict(vars(each)) for each in values[name])
    return values
