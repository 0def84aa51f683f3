"""Stores with known content for the tests of reports: in memory, or a real folder."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wtsbench.contract import schemas
from wtsbench.contract.digests import grid_digest_of
from wtsbench.contract.operations import RUNNING
from wtsbench.contract.outbox import Outbox, read_batch
from wtsbench.store.client import Store, open_store
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.remote import RemoteEngine
from wtsbench.store.upkeep.verify import digest_of

START = datetime(2026, 1, 1, tzinfo=UTC)
Rows = list[dict[str, Any]]


def name(*parts: object) -> str:
    """64 hexadecimal digits that stand for something."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass
class World:
    """The rows of a store, written down one by one."""

    items: dict[str, Rows] = field(default_factory=dict)
    datasets: Rows = field(default_factory=list)
    grids: Rows = field(default_factory=list)
    attempts: Rows = field(default_factory=list)
    leases: Rows = field(default_factory=list)
    trials: Rows = field(default_factory=list)
    predictions: Rows = field(default_factory=list)
    generations: Rows = field(default_factory=list)
    scores: Rows = field(default_factory=list)

    def dataset(
        self,
        task: str,
        labels: Sequence[int],
        *,
        metric: str = "accuracy",
        classes: int = 2,
        ood: Sequence[int] = (),
    ) -> str:
        """Add a data set whose test items have these labels, and a few others; its digest."""
        digest = name(task, tuple(labels), metric)
        splits = [("test", label) for label in labels] + [("ood", label) for label in ood]
        splits += [("transfer", 0), ("transfer", 1), ("validation", 1)]
        self.items[digest] = [
            {
                "data_digest": digest,
                "item_id": f"{split}-{number:05d}",
                "group_id": str(number),
                "split": split,
                "text": f"text {number}",
                "label": int(label),
                "target": None,
            }
            for number, (split, label) in enumerate(splits)
        ]
        self.datasets.append(
            {
                "data_digest": digest,
                "task": task,
                "form": "classification",
                "settings": None,
                "labels": [f"class {index}" for index in range(classes)],
                "metric": metric,
                "report": "{}",
                "created_at": START,
            }
        )
        return digest

    def prompts(self, task: str, texts: Sequence[str], *, metric: str = "toxicity") -> str:
        """Add a data set of a generative task with these test prompts; its digest."""
        digest = name(task, tuple(texts), metric)
        self.items[digest] = [
            {
                "data_digest": digest,
                "item_id": f"test-{number:05d}",
                "group_id": str(number),
                "split": "test",
                "text": text,
                "label": None,
                "target": "a continuation",
            }
            for number, text in enumerate(texts)
        ]
        self.datasets.append(
            {
                "data_digest": digest,
                "task": task,
                "form": "generation",
                "settings": json.dumps({"threshold": 0.5, "scorer": "words"}),
                "labels": [],
                "metric": metric,
                "report": "{}",
                "created_at": START,
            }
        )
        return digest

    def drawn(
        self,
        trial_id: str,
        digest: str,
        texts: Sequence[Sequence[str]],
        scores: Mapping[str, NDArray[np.float64]],
        *,
        nll: NDArray[np.float64] | None = None,
    ) -> None:
        """What a trial generated for the test prompts [N][n], with the scores [N, n] of each scorer (by digest).

        Args:
            trial_id: the trial, which is made with `trial` and no predictions.
            digest: of its data.
            texts: continuations.
            scores: by digest of the scorer.
            nll: negative log-likelihood [N, n] under the reference, each over as many tokens as words, if it was taken.
        """
        ids = [item["item_id"] for item in self.items[digest] if item["split"] == "test"]
        for number, (item_id, continuations) in enumerate(zip(ids, texts, strict=True)):
            for sample, text in enumerate(continuations):
                key = {"trial_id": trial_id, "attempt": 1, "split": "test", "item_id": item_id, "sample": sample}
                self.generations.append(
                    {
                        **key,
                        "text": text,
                        "tokens": len(text.split()),
                        "finished": True,
                        "logprobs": None,
                        "base_logprobs": None,
                        "reference_nll": None if nll is None else float(nll[number, sample]),
                        "reference_tokens": None if nll is None else len(text.split()),
                    }
                )
                for scorer, values in scores.items():
                    self.scores.append({**key, "scorer": scorer, "value": float(values[number, sample])})

    def trial(
        self,
        role: str,
        task: str,
        model: str,
        seed: int,
        digest: str,
        *,
        strategy: str | None = None,
        predicted: Sequence[int] | NDArray[np.int64] | None = None,
        predicted_ood: Sequence[int] | NDArray[np.int64] = (),
        spec: Mapping[str, Any] | None = None,
        failure: tuple[str, str] | None = None,
        attempt: int = 1,
        day: int = 0,
        classes: int = 2,
    ) -> str:
        """Add a sealed attempt, done with these predictions on the test items, or failed; the trial's id.

        Of a trial with a `spec` (of a generative task) what it generated is added with `drawn`.
        """
        trial_id = trial_name(role, task, model, seed, strategy)
        begun = START + timedelta(days=day)
        self.begin(trial_id, attempt=attempt, lease=False)
        self.trials.append(
            {
                "trial_id": trial_id,
                "attempt": attempt,
                "status": "failed" if failure else "done",
                "failure_class": failure[0] if failure else None,
                "failure_message": failure[1] if failure else None,
                "failure_detail": "a traceback" if failure else None,
                "role": role,
                "task": task,
                "model": model,
                "strategy": strategy,
                "strategy_json": None,
                "seed": seed,
                "data_seed": 0,
                "data_digest": digest,
                "parents": [],
                "environment": "process:lock",
                "baselines": "{}",
                "spec": json.dumps(spec or {}),
                "wtsbench_version": "0",
                "environment_lock": "lock",
                "sandbox": "process",
                "isolation": "none",
                "model_revision": "0",
                "host": f"host {day}",
                "records_digest": name(trial_id, attempt, day),
                "started_at": begun,
                "finished_at": begun,
                "duration_s": 1.0 + day,
                "measurements": "{}",
            }
        )
        if failure is None and spec is None:
            assert predicted is not None, "a trial that is done has predictions"
            splits = [("test", predicted), ("ood", predicted_ood)]
            ids = {split: [i["item_id"] for i in self.items[digest] if i["split"] == split] for split, _ in splits}
            asked = [(s, *pair) for s, answers in splits for pair in zip(ids[s], answers, strict=True)]
            for split, item_id, made in asked:
                self.predictions.append(
                    {
                        "trial_id": trial_id,
                        "attempt": attempt,
                        "split": split,
                        "item_id": item_id,
                        "probabilities": [0.9 if index == made else 0.1 / (classes - 1) for index in range(classes)],
                    }
                )
            self.predictions.append(
                {
                    "trial_id": trial_id,
                    "attempt": attempt,
                    "split": "transfer",
                    "item_id": "transfer-x",
                    "probabilities": [0.5] * classes,
                }
            )
        return trial_id

    def begin(self, trial_id: str, *, attempt: int = 1, lease: bool = True, age: float = 5.0) -> None:
        """Add an attempt that was begun, and is being run where it has a lease."""
        self.attempts.append({"trial_id": trial_id, "attempt": attempt, "run": "test", "started_at": START})
        if lease:
            times = dict.fromkeys(("started_at", "seen_at", "until"), START)
            row = {"trial_id": trial_id, "attempt": attempt, "run": "test", "host": "node", "share": 0.25, "age_s": age}
            self.leases.append({**row, **times})

    def grid(
        self,
        grid: str,
        tasks: Mapping[str, str],
        strategies: Sequence[str],
        seeds: Sequence[int],
        *,
        pairs: Sequence[tuple[str, str]] = (("small", "large"),),
        submission: int = 1,
        controls: Sequence[str] = (),
    ) -> None:
        """Add a submission over tasks (name to data digest)."""
        cells = [
            {
                "task": task,
                "weak": weak,
                "strong": strong,
                "strategy": strategy,
                "kind": kind,
                "seed": seed,
                "weak_trial": trial_name("weak", task, weak, seed),
                "ceiling_trial": trial_name("ceiling", task, strong, seed),
                "student_trial": trial_name("student" if kind == "strategy" else kind, task, strong, seed, strategy),
                "data_digest": digest,
            }
            for task, digest in tasks.items()
            for weak, strong in pairs
            for kind, labels in (("strategy", strategies), ("control", controls))
            for strategy in labels
            for seed in seeds
        ]
        self.grids.append(
            {
                "name": grid,
                "grid_digest": name(grid, submission),
                "submission": submission,
                "yaml": "",
                "cells": json.dumps(cells, sort_keys=True),
                "submitted_at": START,
            }
        )

    def cells(self, grid: str) -> list[dict[str, Any]]:
        """The cells of a grid's newest submission."""
        found: list[dict[str, Any]] = json.loads([row for row in self.grids if row["name"] == grid][-1]["cells"])
        return found

    def with_true_digests(self) -> World:
        """The same rows, but data sets and submissions have the digests of what is in them, as merging demands."""
        for row in self.datasets:
            before = row["data_digest"]
            items = self.items.pop(before)
            digest = digest_of(row, pa.Table.from_pylist(items, schema=schemas.ITEMS))
            self.items[digest] = items
            for one in (row, *items, *(trial for trial in self.trials if trial["data_digest"] == before)):
                one["data_digest"] = digest
            for grid in self.grids:
                grid["cells"] = grid["cells"].replace(before, digest)
        for grid in self.grids:
            grid["grid_digest"] = grid_digest_of(grid["name"], grid["cells"])
        return self

    def memory(self, *, shuffle: int | None = None) -> MemoryStore:
        """A store in memory, its rows in another order where a number to shuffle by is given."""
        return MemoryStore(self, shuffle)

    def folder(self, path: Path) -> Store:
        """A real store in a folder, filled the way a submission fills it, but in one transaction."""
        store = open_store(str(path / "store"), create=True)
        with store._engine() as engine:
            self._fill(Opened(store.uri, engine), path / "outbox")
        return store

    def _fill(self, store: Store, outboxes: Path) -> None:
        for row in self.datasets:
            table = pa.Table.from_pylist(self.items[row["data_digest"]], schema=schemas.ITEMS)
            fields = {key: row[key] for key in ("data_digest", "task", "form", "labels", "metric")}
            settings = None if row["settings"] is None else json.loads(row["settings"])
            store.put_dataset(**fields, settings=settings, report={}, items=table)
        for row in sorted(self.grids, key=lambda row: int(row["submission"])):
            store.put_grid(
                name=row["name"], grid_digest=row["grid_digest"], yaml=row["yaml"], cells=json.loads(row["cells"])
            )
        for row in sorted(self.attempts, key=lambda row: int(row["attempt"])):
            key = (row["trial_id"], row["attempt"])
            lease = key in {(leased["trial_id"], leased["attempt"]) for leased in self.leases}
            given = store.begin_attempt(row["trial_id"], run=row["run"], host="node", lease=lease)
            assert given == row["attempt"]
        for row in sorted(self.trials, key=lambda row: int(row["attempt"])):
            key = (row["trial_id"], row["attempt"])
            outbox = Outbox(outboxes / f"{key[0]}-{key[1]}", trial_id=key[0], attempt=key[1])
            made = [line for line in self.predictions if (line["trial_id"], line["attempt"]) == key]
            if made:
                outbox.append("predictions", pa.Table.from_pylist(made, schema=schemas.PREDICTIONS))
            for table, rows in (("generations", self.generations), ("scores", self.scores)):
                some = [line for line in rows if (line["trial_id"], line["attempt"]) == key]
                if some:
                    outbox.append(table, pa.Table.from_pylist(some, schema=schemas.RECORD_TABLES[table]))
            ended = {**row, "records": len(outbox.pending()) + 1}
            outbox.append("trials", pa.Table.from_pylist([ended], schema=schemas.TRIALS))
            store.append([read_batch(file.path) for file in outbox.pending()])


class Opened(Store):
    """A store whose database is open for one transaction: to open it anew for every row takes most of the time."""

    def __init__(self, uri: str, engine: Engine | RemoteEngine) -> None:
        self._uri, self._open = uri, engine

    @property
    def uri(self) -> str:
        return self._uri

    def _engine(self, *, read_only: bool = False) -> AbstractContextManager[Engine | RemoteEngine]:
        return nullcontext(self._open)


def trial_name(role: str, task: str, model: str, seed: int, strategy: str | None = None) -> str:
    """The id of a trial."""
    return name(role, task, model, seed, strategy)


class MemoryStore(Store):
    """The reading half of a store, over Arrow tables in the store's schemas."""

    @property
    def uri(self) -> str:
        return "memory"

    def _engine(self, *, read_only: bool = False) -> AbstractContextManager[Any]:
        raise NotImplementedError("a store in memory has no engine")

    def __init__(self, world: World, shuffle: int | None) -> None:
        self._chance = None if shuffle is None else random.Random(shuffle)
        self._items = {digest: self._table(rows, schemas.ITEMS) for digest, rows in world.items.items()}
        self._datasets = self._table(world.datasets, schemas.DATASETS)
        self._grids = self._table(world.grids, schemas.GRIDS)
        self._attempts = self._table(world.attempts, schemas.ATTEMPTS)
        self._leases = self._table(world.leases, RUNNING)
        self._trials = self._table(world.trials, schemas.TRIALS)
        self._predictions = self._table(world.predictions, schemas.PREDICTIONS)
        self._generations = self._table(world.generations, schemas.GENERATIONS)
        self._scores = self._table(world.scores, schemas.SCORES)
        self.largest_read = 0
        """Trials asked for in one call of `predictions`, at most."""

    def _table(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        ordered = list(rows)
        if self._chance is not None:
            self._chance.shuffle(ordered)
        return pa.Table.from_pylist(ordered, schema=schema)

    def grids(self) -> pa.Table:
        return self._grids

    def datasets(self) -> pa.Table:
        return self._datasets

    def items(self, data_digest: str) -> pa.Table:
        return self._items[data_digest]

    def attempts(self, trial_ids: Sequence[str] | None = None) -> pa.Table:
        return _among(self._attempts, trial_ids)

    def running(self) -> pa.Table:
        return self._leases

    def trials(
        self, trial_ids: Sequence[str] | None = None, *, columns: Sequence[str] = (), **options: Any
    ) -> pa.Table:
        assert not options
        return _among(self._trials, trial_ids).select(list(columns) or self._trials.column_names)

    def predictions(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        self.largest_read = max(self.largest_read, len(trial_ids))
        return _of_splits(_among(self._predictions, trial_ids), splits)

    def contents(self, trial_ids: Sequence[str]) -> dict[str, str]:
        parts = (self._predictions, self._generations, self._scores)
        rows = [row for part in parts for row in _among(part, trial_ids).to_pylist()]
        mine = {one: sorted(repr(row) for row in rows if row["trial_id"] == one) for one in trial_ids}
        items = {digest: sorted(map(repr, table.to_pylist())) for digest, table in self._items.items()}
        return {key: hashlib.sha256(repr(one).encode()).hexdigest() for key, one in (*mine.items(), *items.items())}

    def generations(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        return _of_splits(_among(self._generations, trial_ids), splits)

    def scores(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        return _of_splits(_among(self._scores, trial_ids), splits)


def _of_splits(table: pa.Table, splits: Sequence[str] | None) -> pa.Table:
    return table if splits is None else table.filter(pc.is_in(table["split"], pa.array(splits)))


def _among(table: pa.Table, trial_ids: Sequence[str] | None) -> pa.Table:
    if trial_ids is None:
        return table
    return table.filter(pc.is_in(table["trial_id"], pa.array(list(trial_ids), pa.string())))


def right_with(chance: np.random.Generator, labels: NDArray[np.int64], accuracy: float) -> NDArray[np.int64]:
    """Predictions of which exactly this share (rounded) is right, at random places; two classes."""
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[chance.permutation(len(labels))[: round((1 - accuracy) * len(labels))]] = True
    return np.where(wrong, 1 - labels, labels)


def simple(
    accuracies: Mapping[str, float],
    *,
    weak: float = 0.6,
    ceiling: float = 0.9,
    seeds: Sequence[int] = (0, 1, 2),
    items: int = 200,
    metric: str = "accuracy",
    task: str = "colours",
    grid: str = "first",
    skip: Sequence[tuple[str, int]] = (),
) -> World:
    """One task and pair; every strategy of this accuracy in every seed.

    Args:
        accuracies: by strategy.
        weak: accuracy of the weak supervisors.
        ceiling: accuracy of the ceilings.
        seeds: of the grid.
        items: test items.
        metric: of the task.
        task: its name.
        grid: its name.
        skip: (strategy, `weak` or `ceiling`; seed) of trials that are not there.
    """
    world = World()
    chance = np.random.default_rng(5)
    labels = chance.integers(0, 2, items)
    digest = world.dataset(task, labels.tolist(), metric=metric)
    world.grid(grid, {task: digest}, list(accuracies), list(seeds))
    for seed in seeds:
        for role, model, accuracy in (("weak", "small", weak), ("ceiling", "large", ceiling)):
            if (role, seed) not in skip:
                world.trial(role, task, model, seed, digest, predicted=right_with(chance, labels, accuracy))
        for strategy, accuracy in accuracies.items():
            if (strategy, seed) not in skip:
                made = right_with(chance, labels, accuracy)
                world.trial("student", task, "large", seed, digest, strategy=strategy, predicted=made)
    return world
