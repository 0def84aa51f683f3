"""One table: the strategies and controls of a task and pair, scored on the same resamples of one split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from wtsbench.errors import SpecError
from wtsbench.metrics.classification import Features, Metric
from wtsbench.metrics.inheritance import Supervised
from wtsbench.reports.contents import Ending
from wtsbench.reports.evidence import Evidence, ScoredItems, evidence
from wtsbench.reports.figures import Identity, Tested, both, decided, numbers_of, rounded
from wtsbench.reports.ranking import ranks, unranked
from wtsbench.reports.resampling import Block, Resampler, Scores
from wtsbench.reports.rows import Comparison, Measured, Row, SeedTrials, Shown
from wtsbench.reports.silence import ahead_by_silence, may_explain, without_pgr
from wtsbench.reports.spread import CLAIM_SEEDS
from wtsbench.reports.statistics import Estimate, Sample, difference, pooled_deviation, score
from wtsbench.reports.trial_facts import distinct, failures, one_class, unconverged
from wtsbench.spec.cell import Cell, Run, repeated
from wtsbench.spec.trial import EXTERNAL
from wtsbench.store.client import Store


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Whose scores of generations count in a table."""

    digest: str | None
    """None where no finished trial has scores."""
    name: str | None
    """As the task names it, where the trials were planned with it."""
    trials: frozenset[str]
    """Those it has scored."""


_Side = tuple[Sequence[Cell], str]
"""Cells, and the role whose trials are meant."""
_Compared = tuple[Comparison, Estimate | None, Estimate | None]
"""With the difference, and the stricter one where there is one."""


class Table:
    """The strategies and controls of one task and pair.

    Args:
        store: where the trials are.
        shown: the grid's submission.
        cells: of one task and pair.
        ended: how trials ended.
        tests: the items to score on.
        scorer: for generation, whose scores count.
        trivial: metrics of trivial classifiers on these items, by name (`scoring.trivial`).
        resampler: the draws of these items.
    """

    def __init__(
        self,
        store: Store,
        shown: Shown,
        cells: Sequence[Cell],
        ended: Mapping[str, Ending],
        tests: ScoredItems,
        scorer: Scorer | None = None,
        trivial: Mapping[str, Mapping[str, float]] | None = None,
        *,
        resampler: Resampler,
    ) -> None:
        self.grid = shown.grid
        self._shown = shown
        self.task, self.weak, self.strong = cells[0].task, cells[0].weak, cells[0].strong
        self.tests = tests
        self.scorer = scorer
        self._trivial = {
            name: scores[tests.metric.name] for name, scores in (trivial or {}).items() if tests.metric.name in scores
        }
        self._ended = ended
        self._entries: dict[str, list[Cell]] = {}
        for cell in sorted(cells, key=lambda cell: (cell.strategy, cell.run)):
            self._entries.setdefault(cell.strategy, []).append(cell)
        self.order = list(dict.fromkeys(cell.strategy for cell in cells))
        """Labels in the order the grid has them."""
        self._resampler = resampler
        self._known: dict[tuple[str, tuple[int, ...]], Measured] = {}
        self._store = store
        finished = [cell for cell in cells if self._finished(cell)]
        self._column = _numbered(trial_id for cell in finished for trial_id in cell.trials.values())
        self._pair = _numbered(
            (cell.weak_trial, strong) for cell in finished for strong in (cell.student_trial, cell.ceiling_trial)
        )

    @property
    def metrics(self) -> dict[str, Metric[Any]]:
        """All that is reported of students and ceilings."""
        return {**self.tests.metrics, **self.tests.form.inheritance}

    @property
    def strategies(self) -> list[str]:
        """Labels of the strategies."""
        return [label for label, cells in self._entries.items() if cells[0].kind == "strategy"]

    @property
    def controls(self) -> list[str]:
        """Names of the controls, in the grid's order."""
        return [label for label in self.order if self._entries[label][0].kind == "control"]

    def rows(self) -> list[Row]:
        """A row for each strategy, best first, those without a rank after them, controls last."""
        labels = [label for label in self.strategies if self._done(label) and label not in self.unranked]
        placed = ranks(labels, self.comparisons())
        noise = self._noise()
        rows = [
            replace(
                self._row(label, noise),
                rank=placed.get(label),
                unranked=self.unranked.get(label),
                **self._gain_tests(label),
            )
            for label in self.strategies
        ]
        direction = self.tests.metric.direction

        def place(row: Row) -> tuple[bool, int, float, str]:
            return (row.rank is None, row.rank or 0, -direction * (row.student_score or 0.0), row.strategy)

        return sorted(rows, key=place) + [self._row(label, noise) for label in self.controls]

    def trials_by_entry(self) -> dict[str, tuple[str, dict[int, str], int]]:
        """Of `weak`, `ceiling` and every label: its kind, its trials by seed, and how many seeds were asked for.

        Seeds are those whose weak supervisor, ceiling and student are all done.

        Raises:
            SpecError: the grid draws its training items several times.
        """
        every = [cell for cells in self._entries.values() for cell in cells]
        if every[0].data_seed is not None:
            raise SpecError(
                f"grid {self.grid} draws its training items several times (data.seeds), and a baseline holds the seeds "
                "of one draw",
                remedy="give the gate a grid of its own, with data.seed alone.",
            )
        asked = len({cell.seed for cell in every})
        done = [cell for label in self._entries for cell in self._done(label)]
        ends = {role: (role, {cell.seed: cell.trials[role] for cell in done}, asked) for role in ("weak", "ceiling")}
        return ends | {
            label: (cells[0].kind, {cell.seed: cell.student_trial for cell in self._done(label)}, len(cells))
            for label, cells in self._entries.items()
        }

    def features(self, trial_ids: Sequence[str]) -> Features:
        """[T, N, F] what the metric that ranks sums over items, of finished trials in this order."""
        assert self._evidence is not None, "some trial has finished"
        every = self._evidence.features[self.tests.metric.features]
        return every[[self._column[trial_id] for trial_id in trial_ids]]

    def comparisons(self, name: str | None = None) -> Sequence[Comparison]:
        """Strategies with each other, and with the controls; by the metric that ranks, or by another.

        Each pair is compared on the seeds that both have done, and on the same items. p-values are corrected among the
        pairs of strategies, and among the pairs of a strategy and a control.
        """
        return self._by_rank if name in (None, self.tests.metric.name) else self._compared(self.metrics[name])

    @cached_property
    def unranked(self) -> dict[str, str]:
        """Strategies with a finished seed that have no rank, and why."""
        done = {label: [cell.run for cell in self._done(label)] for label in self.strategies}
        silent = {label: "the weak supervisor" for label in self._gains if self._wins_by_silence(label)}
        silent |= dict(pair for found in self._by_rank if (pair := ahead_by_silence(found)) is not None)
        return {
            label: f"ahead of {other} only by texts that say nothing" for label, other in silent.items()
        } | unranked(done, {label: len(self._entries[label]) for label in done})

    @cached_property
    def _by_rank(self) -> list[Comparison]:
        """By the metric that ranks."""
        return self._compared(self.tests.metric)

    def _compared(self, metric: Metric[Any]) -> list[Comparison]:
        among = [self._compare(metric, *pair, "strategies") for pair in combinations(self.strategies, 2)]
        beside = [self._compare(metric, one, two, "controls") for one in self.strategies for two in self.controls]
        return [*decided(among), *decided(beside)]

    @cached_property
    def _gains(self) -> dict[str, Tested]:
        """The tests of the gain of each strategy with seeds enough, corrected among them."""
        metric = self.tests.metric
        plain: dict[str, Estimate] = {}
        strict: list[Estimate | None] = []
        for label in self.strategies:
            if done := self._done(label):
                student, weak = (self._sample(metric, done, role) for role in ("student", "weak"))
                if student.defined and weak.defined:
                    plain[label] = difference(student, weak, metric.lowest, metric.highest)
                    strict.append(self._strict(metric, plain[label], (done, "student"), (done, "weak")))
        results = zip(plain, both(list(plain.values()), strict), strict=True)
        return {label: result for label, result in results if result is not None}

    def _gain_tests(self, label: str) -> dict[str, Any]:
        """The fields of a row that tell of its gain's tests."""
        if label not in self._gains:
            return {}
        result = self._gains[label]
        return {"gain_p": result.p, "gain_strict_p": result.p_strict, "gain_p_holm": result.p_holm}

    def _wins_by_silence(self, label: str) -> bool:
        """Whether a strategy would be proven better than its weak supervisor, but for texts that say nothing."""
        done = self._done(label)
        full, _ = self._scores[self.tests.metric.name]
        student, weak = (
            float(np.mean(full[self._columns(self.tests.metric, done, role)])) for role in ("student", "weak")
        )
        return self._gains[label].silent and (student - weak) * self.tests.metric.direction > 0

    @cached_property
    def _evidence(self) -> Evidence | None:
        """Of all finished trials; read when first asked for."""
        if not self._column:
            return None
        scorer = None if self.scorer is None else self.scorer.digest
        return evidence(self._store, list(self._column), self.tests, scorer)

    @cached_property
    def _scores(self) -> dict[str, Scores]:
        """By metric: a column a trial, and for inheritance a column a pair of weak trial and student or ceiling."""
        return {} if self._evidence is None else self._resampled(self._evidence)

    def _finished(self, cell: Cell) -> bool:
        return all(
            trial_id in self._ended
            and self._ended[trial_id].done
            and (self.scorer is None or trial_id in self.scorer.trials)
            for trial_id in cell.trials.values()
        )

    def _done(self, label: str) -> list[Cell]:
        return [cell for cell in self._entries[label] if self._finished(cell)]

    def _resampled(self, made: Evidence) -> dict[str, Scores]:
        named: list[list[Metric[Any]]] = []
        blocks: list[Block] = []

        def add(metrics: list[Metric[Any]], features: Features) -> None:
            named.append(metrics)
            blocks.append(Block(features=features, values=tuple(metric.value for metric in metrics)))

        for function, features in made.features.items():
            add([metric for metric in self.tests.every if metric.features is function], features)
        if made.classes is not None and made.probabilities is not None:
            weak, student = ([self._column[pair[part]] for pair in self._pair] for part in (0, 1))
            supervised = Supervised(
                labels=self.tests.truth,
                weak=made.classes[weak],
                student=made.classes[student],
                weak_probabilities=made.probabilities[weak],
                student_probabilities=made.probabilities[student],
            )
            for metric in self.tests.form.inheritance.values():
                add([metric], metric.features(supervised))
        scores = self._resampler.scores(blocks, self.tests.groups)
        return {
            metric.name: found
            for metrics, results in zip(named, scores, strict=True)
            for metric, found in zip(metrics, results, strict=True)
        }

    def _sample(self, metric: Metric[Any], cells: Sequence[Cell], role: str) -> Sample:
        effective = self.tests.effective(metric)
        sample = self._resampler.sample(self._scores[metric.name], self._columns(metric, cells, role), effective)
        drawn = [cell.data_seed for cell in cells if cell.data_seed is not None]
        return sample.by_draw(drawn) if drawn else sample

    def _columns(self, metric: Metric[Any], cells: Sequence[Cell], role: str) -> list[int]:
        """Where in `_scores` a role's trials are."""
        if metric.name in self.tests.form.inheritance:
            return [self._pair[cell.weak_trial, cell.trials[role]] for cell in cells]
        return [self._column[cell.trials[role]] for cell in cells]

    def _compare(self, metric: Metric[Any], first: str, second: str, family: Any) -> _Compared:
        one, two = self._done(first), self._done(second)
        common = {cell.run for cell in one} & {cell.run for cell in two}
        times, what = repeated(common)
        found = Comparison(
            grid=self.grid,
            submission=self._shown.shown.submission,
            task=self.task,
            weak=self.weak,
            strong=self.strong,
            split=self.tests.split.value,
            data_digest=self.tests.data_digest,
            scorer=None if self.scorer is None else self.scorer.digest,
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            first=first,
            second=second,
            family=family,
            seeds=_seeds(common),
            data_seeds=_draws(common),
            few_seeds=times < CLAIM_SEEDS,
        )
        if times < CLAIM_SEEDS:
            told = f"{times} common {what}{'s' * (times != 1)}: {CLAIM_SEEDS} are needed"
            return replace(found, reason=told), None, None
        sample, other = (
            self._sample(metric, [cell for cell in cells if cell.run in common], "student") for cells in (one, two)
        )
        if not (sample.defined and other.defined):
            return replace(found, reason=f"{metric.name} is not defined for all of them"), None, None
        sides = [([cell for cell in cells if cell.run in common], "student") for cells in (one, two)]
        shares = {**self._shares("first", *sides[0]), **self._shares("second", *sides[1])}
        estimate = difference(sample, other, metric.lowest, metric.highest)
        return replace(found, **shares), estimate, self._strict(metric, estimate, *sides)

    def _strict(self, metric: Metric[Any], estimate: Estimate, first: _Side, second: _Side) -> Estimate | None:
        """A difference with texts that say nothing counted as the worst; None where these cannot explain it."""
        strict = self.tests.form.strict.get(metric.name)
        if strict is None:
            return None
        silence = [sum(self._share(name, *side) for name in ("empty", "copied")) for side in (first, second)]
        if not may_explain(estimate.value, silence[0] - silence[1], metric.direction):
            return None
        one, two = (self._sample(strict, *side) for side in (first, second))
        return difference(one, two, strict.lowest, strict.highest)

    def _share(self, name: str, cells: Sequence[Cell], role: str) -> float:
        """A metric's mean over the trials of a role."""
        full, _ = self._scores[name]
        return float(np.mean(full[self._columns(self.tests.metrics[name], cells, role)]))

    def _shares(self, side: str, cells: Sequence[Cell], role: str) -> dict[str, Any]:
        """What a comparison of generated texts says of one side's texts."""
        if not self.tests.form.strict:
            return {}
        names = ("empty", "copied", "cut_off")
        return {f"{side}_{name}": rounded(self._share(name, cells, role)) for name in names}

    def _noise(self) -> float | None:
        """Standard deviation over seeds, pooled over configurations: the weak model, the ceiling, every entry."""
        done = {label: self._done(label) for label in self._entries}
        every = [cell for cells in done.values() for cell in cells]
        draws = {cell.data_seed for cell in every}
        configurations = {
            frozenset(cell.trials[role] for cell in cells if cell.data_seed == draw)
            for role, some in (("weak", [every]), ("ceiling", [every]), ("student", done.values()))
            for cells in some
            for draw in draws
        } - {frozenset()}
        if not configurations:
            return None
        full, _ = self._scores[self.tests.metric.name]
        columns = sorted(sorted(self._column[trial_id] for trial_id in ids) for ids in configurations)
        noise = pooled_deviation([full[index] for index in columns])
        return noise if noise is not None and np.isfinite(noise) else None

    def _row(self, label: str, noise: float | None) -> Row:
        cells, done = self._entries[label], self._done(label)
        runs = [cell.run for cell in done]
        metric = self.tests.metric
        row = Row(
            grid=self.grid,
            submission=self._shown.shown.submission,
            other_submissions=tuple(other.submission for other in self._shown.others),
            task=self.task,
            weak=self.weak,
            strong=self.strong,
            strategy=label,
            kind=cells[0].kind,
            split=self.tests.split.value,
            scorer=None if self.scorer is None else self.scorer.digest,
            scorer_name=None if self.scorer is None else self.scorer.name,
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            seeds_done=len(done),
            seeds_total=len(cells),
            seeds=_seeds(runs),
            data_seeds=_draws(runs),
            few_seeds=repeated(runs)[0] < CLAIM_SEEDS,
            test_items=self.tests.size,
            test_groups=self.tests.group_count,
            rarest_class=int(self.tests.class_groups.min()) if self.tests.class_groups.size else None,
            balance=self.tests.balance,
            samples=None if self._evidence is None else self._evidence.samples,
            data_digest=self.tests.data_digest,
            trivial=self._trivial,
            one_class=tuple(one_class(done, self._class_of)),
            unconverged=unconverged(done, self._ended),
            trials=tuple(SeedTrials(seed=cell.seed, data_seed=cell.data_seed, **cell.trials) for cell in done),
            failures=tuple(failures(cells, self._ended)),
            sandboxes=distinct(done, self._ended, "sandbox"),
            environments=distinct(done, self._ended, "environment"),
            origin="external" if EXTERNAL in distinct(done, self._ended, "environment") else "wtsbench",
        )
        if not done:
            return replace(row, pgr_reason="no finished seed")
        row = replace(
            row,
            metrics=self._measured(self.metrics, done, "student"),
            weak_metrics=self._measured(self.tests.metrics, done, "weak"),
            ceiling_metrics=self._measured(self.metrics, done, "ceiling"),
        )
        samples = {role: self._sample(metric, done, role) for role in ("weak", "student", "ceiling")}
        if not all(sample.defined for sample in samples.values()):
            return replace(row, pgr_reason=f"{metric.name} is not defined for every trial")
        row = replace(row, **numbers_of(metric, samples, done, noise, self._identity(done)))
        gap = difference(samples["ceiling"], samples["weak"], metric.lowest, metric.highest)
        (tested,) = both([gap], [self._strict(metric, gap, (done, "ceiling"), (done, "weak"))])
        row = replace(row, gap_strict_p=None if tested is None else tested.p_strict)
        return without_pgr(row, gain_is_silence=label in self._gains and self._gains[label].silent)

    def _identity(self, cells: Sequence[Cell]) -> Identity | None:
        """Whether students made of every item what their weak supervisors, or their ceilings, made of it."""
        assert self._evidence is not None
        made = [self._evidence.features[self.tests.metric.features]]
        made += [] if self._evidence.classes is None else [self._evidence.classes]
        weak, student, ceiling = (
            [self._column[cell.trials[role]] for cell in cells] for role in ("weak", "student", "ceiling")
        )
        as_weak, as_ceiling = (
            all(np.array_equal(values[student], values[other]) for values in made) for other in (weak, ceiling)
        )
        return "both" if as_weak and as_ceiling else "weak" if as_weak else "ceiling" if as_ceiling else None

    def _class_of(self, trial_id: str) -> str | None:
        """The class that a model names whatever the item; None where it names several, or nothing is classified."""
        if self._evidence is None or self._evidence.classes is None or self.tests.size < 2:
            return None
        made = self._evidence.classes[self._column[trial_id]]
        return self.tests.labels[made[0]] if (made == made[0]).all() else None

    def _measured(self, metrics: Mapping[str, Metric[Any]], cells: Sequence[Cell], role: str) -> dict[str, Measured]:
        return {name: self._measure(metric, cells, role) for name, metric in metrics.items()}

    def _measure(self, metric: Metric[Any], cells: Sequence[Cell], role: str) -> Measured:
        key = (metric.name, tuple(self._columns(metric, cells, role)))
        if key not in self._known:  # rows share their weak models and ceilings
            sample = self._sample(metric, cells, role)
            if sample.defined:
                estimate = score(sample, metric.lowest, metric.highest)
                value, low, high = (rounded(number) for number in (estimate.value, estimate.low, estimate.high))
                self._known[key] = Measured(value=value, low=low, high=high)
            else:
                missing = int((~np.isfinite(sample.full)).sum())
                times, what = repeated(cell.run for cell in cells)
                self._known[key] = Measured(reason=f"not defined in {missing} of {times} {what}{'s' * (times != 1)}")
        return self._known[key]


def _seeds(runs: Iterable[Run]) -> tuple[int, ...]:
    return tuple(sorted({seed for _, seed in runs}))


def _draws(runs: Iterable[Run]) -> tuple[int, ...]:
    return tuple(sorted({data_seed for data_seed, _ in runs if data_seed is not None}))


def _numbered(keys: Iterable[Any]) -> dict[Any, int]:
    """Distinct keys, sorted, by number."""
    return {key: number for number, key in enumerate(sorted(set(keys)))}
