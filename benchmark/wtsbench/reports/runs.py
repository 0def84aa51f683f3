"""What trials tell beside their predictions: where they ran and on what, how training went, what their texts score.

Read once for a whole report. Nothing of it decides a rank.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc

from wtsbench.contract.measurements import Measurements
from wtsbench.reports import charts
from wtsbench.reports.document import Block, Chart
from wtsbench.reports.evidence import threshold_of
from wtsbench.reports.rows import Leaderboard, Row
from wtsbench.reports.wording import SPLITS, Group
from wtsbench.store.client import Store

_STEPS = 60
"""Points of a training curve: more than a chart shows."""
_LOG_LINES = 40
"""Of a failed trial, from the end."""
_COLUMNS = (
    "trial_id", "attempt", "status", "failure_class", "failure_message", "role", "task", "model", "strategy", "seed",
    "data_seed", "data_digest", "wtsbench_version", "git_commit", "git_dirty", "environment_lock", "sandbox",
    "isolation", "image_digest", "model_revision", "device_name", "dtype", "threads", "started_at", "duration_s",
    "measurements",
)  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """The runs behind a leaderboard.

    Args:
        store: where they are.
        board: what is shown of them.
    """

    store: Store
    board: Leaderboard

    @cached_property
    def trials(self) -> dict[str, dict[str, Any]]:
        """By id, what a reader needs to check or repeat a trial; of the attempt that succeeded, else of the last."""
        ids = {
            each for row in self.board.rows for seed in row.trials for each in (seed.weak, seed.ceiling, seed.student)
        }
        ids |= {failure.trial_id for row in self.board.rows for failure in row.failures}
        found = self.store.trials(sorted(ids), columns=_COLUMNS).to_pylist()
        last = {
            one["trial_id"]: one for one in sorted(found, key=lambda one: (one["status"] == "done", one["attempt"]))
        }
        return {trial_id: self._told(one) for trial_id, one in sorted(last.items())}

    @cached_property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Names of classes, by data digest; none of generative tasks."""
        rows = self.store.datasets().select(["data_digest", "labels"]).to_pylist()
        return {row["data_digest"]: tuple(row["labels"]) for row in rows}

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Scores from which texts count as toxic, by data digest."""
        rows = self.store.datasets().select(["data_digest", "task", "settings"]).to_pylist()
        return {row["data_digest"]: threshold_of(row) for row in rows}

    def sources(self) -> dict[str, dict[str, Any]]:
        """By the key of `anchors.source_of`: data, seeds and trials of a row."""
        from wtsbench.reports.anchors import source_of

        return {
            source_of(row): {
                "title": f"{row.task} {row.weak} → {row.strong}: {row.strategy}",
                "data_digest": row.data_digest,
                "metric": row.metric,
                "split": row.split,
                "test_items": row.test_items,
                "sandboxes": list(row.sandboxes),
                "trials": [vars(seed) for seed in row.trials],
                "failures": [failure.trial_id for failure in row.failures],
                "command": _command(row),
            }
            for row in self.board.rows
        }

    def parameters(self, row: Row) -> int | None:
        """Parameters of a row's strong model, as its ceiling counted them."""
        counted = [self.trials[seed.ceiling]["measurements"].get("parameters") for seed in row.trials]
        return next((number for number in counted if number), None)

    def by_size(self, tables: Sequence[Group]) -> Chart | None:
        """PGR against the size of the strong model, for the tables of one task and test set."""
        points = [
            {
                "strategy": row.strategy,
                "parameters": self.parameters(row),
                "value": row.pgr,
                "low": row.pgr_low,
                "high": row.pgr_high,
            }
            for group in tables
            for row in group.ranked
            if row.pgr is not None and self.parameters(row)
        ]
        if not points:
            return None
        return Chart(
            title=f"{_task(tables[0].rows[0])}: PGR against the size of the strong model",
            description="Performance gap recovered by each strategy, with 95% intervals, against the number of"
            " parameters of the strong model; dashed lines at 0 (the weak supervisor) and 1 (the ceiling). Rows"
            " whose gap is not proven have no PGR and are not drawn.",
            spec=charts.by_size(points, axis="PGR"),
        )

    def extra(self, group: Group) -> Iterator[Block]:
        """Training curves, and for generated texts the distribution of their scores."""
        if group.rows[0].split == "test":  # the same training stands behind both test sets
            yield from self._curves(group)
        if group.rows[0].scorer is not None:
            yield from self._distributions(group)

    def failure_logs(self) -> dict[str, str]:
        """By trial id, the last lines of those that failed."""
        failed = [trial_id for trial_id, one in self.trials.items() if one["status"] != "done"]
        logs = {trial_id: self.store.logs(trial_id) for trial_id in failed}
        return {
            trial_id: "\n".join(text.rstrip() for text in table["text"].to_pylist()[-_LOG_LINES:])
            for trial_id, table in logs.items()
        }

    def _told(self, one: Mapping[str, Any]) -> dict[str, Any]:
        found = Measurements.of_stored(one["measurements"])
        measured = {} if found is None else json.loads(json.dumps(found.stored()), parse_constant=str)  # NaN is no JSON
        kept = ("parameters", "trained_parameters", "steps", "train_items", "final_loss", "peak_memory_bytes", "torch",
                "transformers", "python", "weights_sha256", "seconds")  # fmt: skip
        told = {name: one[name] for name in _COLUMNS if name not in ("measurements", "started_at")}
        return {
            **told,
            "started_at": one["started_at"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "measurements": {name: measured[name] for name in kept if name in measured},
        }

    @cached_property
    def _losses(self) -> dict[str, list[tuple[int, float]]]:
        """Training losses of all trials, by trial id: step and value, thinned out."""
        done = [trial_id for trial_id, one in self.trials.items() if one["status"] == "done"]
        table = self.store.metrics(done)
        table = table.filter(pc.and_(pc.is_valid(table["step"]), pc.equal(table["name"], "loss")))
        losses: dict[str, list[tuple[int, float]]] = {}
        columns = (table[name].to_pylist() for name in ("trial_id", "step", "value"))
        for trial_id, step, value in zip(*columns, strict=True):
            if value is not None and np.isfinite(value):
                losses.setdefault(trial_id, []).append((step, value))
        return {trial_id: _thinned(sorted(points)) for trial_id, points in losses.items()}

    def _curves(self, group: Group) -> Iterator[Chart]:
        """The loss over steps of the first seed of each row: what it is over other seeds, the store has."""
        drawn: dict[str, str] = {}
        for row in group.rows:
            if row.trials:
                first = row.trials[0]
                drawn.setdefault(f"weak {row.weak}", first.weak)
                drawn.setdefault(f"ceiling {row.strong}", first.ceiling)
                drawn.setdefault(row.strategy, first.student)
        points = [
            {"name": name, "step": step, "value": value}
            for name, trial_id in drawn.items()
            for step, value in self._losses.get(trial_id, ())
        ]
        if points:
            seed = next(row.trials[0].seed for row in group.rows if row.trials)
            yield Chart(
                title=f"Training loss, seed {seed}",
                description=f"{group.title}: the loss that each model was trained with, over its training steps. Losses"
                " of different strategies are different functions; the shape tells, not the height.",
                spec=charts.curves(points, axis="loss"),
            )

    def _distributions(self, group: Group) -> Iterator[Chart]:
        """How toxic the worst sample of a prompt is, over prompts and seeds."""
        points = []
        for name, ids in self._writers(group).items():
            table = self.store.scores(sorted(ids), splits=[group.rows[0].split])
            table = table.filter(pc.equal(table["scorer"], group.rows[0].scorer))
            if table.num_rows:
                worst = table.group_by(["trial_id", "item_id"]).aggregate([("value", "max")])["value_max"].to_numpy()
                marks = np.quantile(worst, [0.05, 0.25, 0.5, 0.75, 0.95])
                names = ("q05", "q25", "q50", "q75", "q95")
                points.append(
                    {"name": name, **{key: round(float(mark), 4) for key, mark in zip(names, marks, strict=True)}}
                )
        if points:
            yield Chart(
                title="Toxicity of the worst sample of each prompt",
                description=f"{group.title}: over prompts and seeds, the 5 to 95% range as a line, the middle half as a"
                " bar, the median as a tick.",
                spec=charts.distributions(points, axis=f"score by {group.rows[0].scorer_name or 'scorer'}"),
            )

    @staticmethod
    def _writers(group: Group) -> dict[str, set[str]]:
        """Trials by the name of their row."""
        writers: dict[str, set[str]] = {}
        for row in group.rows:
            for seed in row.trials:
                writers.setdefault(f"weak {row.weak}", set()).add(seed.weak)
                writers.setdefault(f"ceiling {row.strong}", set()).add(seed.ceiling)
                writers.setdefault(row.strategy, set()).add(seed.student)
        return writers


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means of so many points as a chart shows."""
    parts = np.array_split(np.asarray(points, dtype=np.float64), min(_STEPS, len(points)))
    return [(int(part[:, 0].mean()), round(float(part[:, 1].mean()), 4)) for part in parts]


def numbers(row: Row) -> Iterator[tuple[str, float, float, float]]:
    """Metric, value and interval: the metric that ranks, and PGR where it is defined."""
    if row.student_score is not None and row.student_low is not None and row.student_high is not None:
        yield row.metric, row.student_score, row.student_low, row.student_high
    if row.pgr is not None and row.pgr_low is not None and row.pgr_high is not None:
        yield "pgr", row.pgr, row.pgr_low, row.pgr_high


def _command(row: Row) -> str:
    """What makes the row's numbers again."""
    if row.origin == "external":
        return shlex.join(["wtsbench", "import", "FILE", "--task", row.task, "--grid", row.grid])
    cell = ["--task", row.task, "--pair", f"{row.weak}:{row.strong}", "--strategy", row.strategy]
    return shlex.join(["wtsbench", "reproduce", row.grid, *cell])


def _task(row: Row) -> str:
    return f"{row.task}{SPLITS.get(row.split, '')}"
