"""Predictions of other code become trials of a grid of the store, and are scored there like all others.

Such a trial has the environment `external` and a model whose revision is the digest of the predictions, and it counts
for the grid into which it was imported only: no plan can ask for it. What a grid holds is built up by any number of
imports, a later one taking the place of what it imports again.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract import schemas
from wtsbench.contract.measurements import TrialResult
from wtsbench.contract.outbox import Outbox
from wtsbench.data import Dataset
from wtsbench.errors import DataError, SpecError, StoreError
from wtsbench.execution.ending import end, writable
from wtsbench.execution.imported_file import Made, Predictions, predictions, read_columns
from wtsbench.execution.judging import ScorerPlace
from wtsbench.execution.known import done_trials
from wtsbench.execution.resolution import Tasks, resolve_tasks, task_manifests
from wtsbench.execution.run_record import RunName
from wtsbench.execution.session import put_datasets
from wtsbench.execution.spool import AttemptFolder, AttemptNote
from wtsbench.execution.supervise import sweep
from wtsbench.planning.check import GridSource, as_yaml, given_grid
from wtsbench.planning.stored import cells_of, imported
from wtsbench.settings import spool_folder
from wtsbench.spec.cell import Cell, grid_digest
from wtsbench.spec.failure import Failure
from wtsbench.spec.grid import Grid, Pair
from wtsbench.spec.identity import digest
from wtsbench.spec.provenance import environment_lock
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Training
from wtsbench.spec.trial import EXTERNAL, LABELLED_SPLITS, ModelRef, Role, TrialJob, TrialSpec
from wtsbench.store.client import Store, open_store, require_writable

_SWEEP_SECONDS = 30.0
"""For a sweep that took the folder just made for one left over to be done with it."""
ISOLATION = "none: other code made the predictions, nothing was run"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import brought."""

    grid: str
    trials: dict[str, str]
    """Id to what people call it; those of the file."""
    there: int
    """How many of them the store had before."""
    cells: int
    """Of the grid, now."""
    waiting: tuple[str, ...]
    """Students and controls that no table shows, for their model has no ceiling of their seed yet."""
    left_out: int
    """Rows of the file that are of other items than those of the test sets."""
    failures: dict[str, Failure]
    """By id, why a trial could not be scored."""


def items_of(task: str, like: GridSource | None, *, mirror: Path | None, name: str = "import") -> tuple[Grid, Tasks]:
    """The prepared items of a task, and what scores its texts.

    Args:
        task: name or path.
        like: a grid whose `data` and `generation` say which items; None takes the task's own.
        mirror: folder that stands in for the canonical places.
        name: of the grid that is made.

    Raises:
        UserError: the task, the grid or the data is not as it must be.
    """
    given = None if like is None else given_grid(like)
    asked: dict[str, Any] = {} if given is None else {"data": given.grid.data, "generation": given.grid.generation}
    if given is not None and given.grid.data.seeds:
        raise SpecError(
            f"grid {given.grid.name} has several draws of its training items (data.seeds); what is imported is of one",
            remedy="give a grid with data.seed in place of data.seeds.",
        )
    unknown = Pair(weak=EXTERNAL, strong=EXTERNAL)
    grid = Grid(name=name, tasks=(task,), pairs=(unknown,), strategies=(StrategyCall(name=EXTERNAL),), **asked)
    base = Path.cwd() if given is None else given.base
    return grid, resolve_tasks(grid, base, task_manifests(grid, base), mirror=mirror, note=lambda text: None)


def item_lines(data: Dataset) -> str:
    """A task's items as JSONL: id, split, text, and the class of those that models may learn from."""
    known = set().union(*LABELLED_SPLITS.values())
    rows = data.items.select(["item_id", "split", "text", "label"]).to_pylist()
    return "".join(
        json.dumps(
            {"item": row["item_id"], "split": row["split"], "text": row["text"]}
            | ({"class": data.labels[row["label"]]} if data.labels and row["split"] in known else {}),
            ensure_ascii=False,
        )
        + "\n"
        for row in rows
    )


def import_predictions(
    path: Path,
    *,
    task: str,
    grid: str,
    store: str,
    given: Mapping[str, str],
    columns: Mapping[str, str],
    like: GridSource | None = None,
    mirror: Path | None = None,
) -> Imported:
    """Put a file of predictions into a store, as trials of a grid. Nothing is stored where a row is wrong.

    Args:
        path: see `imported_file`.
        task: name or path of the task.
        grid: the grid that tables show them in.
        store: where it is; made where there is none.
        given: role, model, strategy, weak and seed, as far as the file has no such column.
        columns: what a column of the file stands for, where its own name does not say so.
        like: see `items_of`.
        mirror: folder that stands in for the canonical places.

    Raises:
        UserError: the file does not fit the task, the grid's name is that of a grid that was run, a student's weak
            supervisor is not known, or the store cannot be written.
    """
    asked, tasks = items_of(task, like, mirror=mirror, name=grid)
    (data,), (about,) = tasks.datasets.values(), tasks.resolved.values()
    found, left_out = predictions(read_columns(path, columns), given, data, path.name)
    require_writable(store)
    opened = open_store(store, create=True)
    if imported(opened, grid) is False:
        raise SpecError(
            f"grid {grid} of the store {store} was run by wtsbench", remedy="import under another name: --grid NAME."
        )
    before = _imported_before(opened, grid)
    names = {spec.trial_id: spec.model.name for spec in before}
    latest = {_key(spec, names): spec for spec in before}
    made: dict[str, tuple[TrialSpec, pa.Table]] = {}
    for whose in sorted(found, key=lambda each: (each.role is not Role.WEAK, str(each))):
        rows = _rows(found[whose])
        parents = (_supervisor(whose, data, latest.values()),) if whose.strategy is not None else ()
        spec = TrialSpec(
            role=whose.role,
            task=data.task,
            data_digest=data.data_digest,
            data_seed=asked.data.seed,
            model=ModelRef(name=whose.model, kind="external", id=whose.model, revision=digest(rows.to_pylist())),
            strategy=None if whose.strategy is None else StrategyCall(name=f"{EXTERNAL}:{whose.strategy}"),
            form=about.manifest.form,
            generation=about.manifest.generation,
            scorer=about.scorer,
            training=Training(),
            seed=whose.seed,
            parents=parents,
            environment=EXTERNAL,
            grid=grid,
        )
        made[spec.trial_id] = spec, rows
        names[spec.trial_id] = spec.model.name
        latest[_key(spec, names)] = spec
    put_datasets(opened, [data])
    sweep(spool_folder(store), opened)
    there = done_trials(opened, list(made))
    failures: dict[str, Failure] = {}
    for trial_id, (spec, rows) in made.items():
        if trial_id not in there:
            scorer = tasks.scorers.get(data.task)
            failure = _deliver(spec, rows, data, opened, spool_folder(store), RunName.of_grid(grid).name, scorer)
            failures |= {} if failure is None else {trial_id: failure}
    cells, waiting = _cells([spec for spec in latest.values() if spec.trial_id not in failures], names)
    if cells:
        _put_grid(opened, asked, cells)
    return Imported(
        grid=grid,
        trials={trial_id: _title(spec) for trial_id, (spec, _) in made.items()},
        there=len(there),
        cells=len(cells),
        waiting=tuple(waiting),
        left_out=left_out,
        failures=failures,
    )


def _key(spec: TrialSpec, names: Mapping[str, str]) -> tuple[object, ...]:
    """What a later import takes the place of: whose predictions they are, but not what was predicted."""
    supervisors = tuple(names.get(parent, parent) for parent in spec.parents)
    return spec.task, spec.data_digest, spec.role, spec.model.name, _label(spec), supervisors, spec.seed


def _label(spec: TrialSpec) -> str | None:
    return None if spec.strategy is None else spec.strategy.name


def _imported_before(store: Store, grid: str) -> list[TrialSpec]:
    """What a grid's earlier imports brought, oldest first; what its newest submission shows comes last."""
    rows = store.grids().select(["name", "submission", "cells"]).to_pylist()
    submitted = [row for row in rows if row["name"] == grid]
    cells = cells_of(submitted[-1], store) if submitted else ()
    shown = {trial_id for cell in cells for trial_id in cell.trials.values()}
    table = store.trials(columns=["trial_id", "status", "environment", "spec", "finished_at"])
    table = table.filter((pc.field("environment") == EXTERNAL) & (pc.field("status") == "done"))
    rows = sorted(table.to_pylist(), key=lambda row: (row["trial_id"] in shown, row["finished_at"]))
    return [spec for row in rows if (spec := TrialSpec.model_validate_json(row["spec"])).grid == grid]


def _supervisor(made: Made, data: Dataset, specs: Iterable[TrialSpec]) -> str:
    """The weak trial of a student's or control's own seed."""
    weak = {
        spec.model.name: spec.trial_id
        for spec in specs
        if spec.role is Role.WEAK and spec.data_digest == data.data_digest and spec.seed == made.seed
    }
    if made.weak is None and len(weak) == 1:
        return next(iter(weak.values()))
    if made.weak is None or made.weak not in weak:
        wanted = "one weak supervisor" if made.weak is None else f"weak supervisor {made.weak}"
        raise DataError(
            f"{made}: the file and the grid have not {wanted} of seed {made.seed}, but {', '.join(weak) or 'none'}",
            remedy="import the weak supervisor's predictions with them, or before; where there are several, say which "
            "in a column weak, or with --weak.",
        )
    return weak[made.weak]


def _rows(found: Predictions) -> pa.Table:
    """Columns of `predictions` or `generations` but the trial's own two, in the order of the items."""
    places = sorted(found)
    return pa.Table.from_pylist([{"split": place[0].value, "item_id": place[1], **found[place]} for place in places])


def _deliver(
    spec: TrialSpec, rows: pa.Table, data: Dataset, store: Store, spool: Path, run: str, scorer: ScorerPlace | None
) -> Failure | None:
    """Write the records of a trial as if it had run, then end it as every attempt ends."""
    attempt = store.begin_attempt(spec.trial_id, run=run, shared_id=spec.shared_id)
    folder = AttemptFolder.of(spool, spec.trial_id, attempt)
    note = AttemptNote(
        job=TrialJob(trial_id=spec.trial_id, attempt=attempt, spec=spec, labels=data.labels),
        run=run,
        baselines={},
        scorer=scorer,
        sandbox=EXTERNAL,
        isolation=ISOLATION,
        image_digest=None,
        environment_lock=environment_lock(),
        host=platform.node(),
        started_at=time.time(),
    )
    table = schemas.MADE_TABLES[spec.form]
    known = {name: rows[name] for name in rows.column_names}
    known["trial_id"], known["attempt"] = pa.repeat(spec.trial_id, len(rows)), pa.repeat(attempt, len(rows))
    whole = {
        column.name: known.get(column.name, pa.nulls(len(rows), column.type)) for column in schemas.RECORD_TABLES[table]
    }
    with writable(folder), folder.owned(wait=_SWEEP_SECONDS) as owned:
        if not owned:
            raise StoreError(f"another process holds the new attempt folder {folder.path}", remedy="import again.")
        folder.create(note)
        Outbox(folder.trial.outbox, trial_id=spec.trial_id, attempt=attempt).append(table, pa.table(whole))
        result = TrialResult(status="done")
        folder.trial.result.write_text(result.text())
        return end(folder, note, store, None, result).failure


def _cells(specs: Sequence[TrialSpec], names: Mapping[str, str]) -> tuple[list[Cell], list[str]]:
    """Every student and control with its supervisor and its ceiling; and those that have no ceiling."""
    ceilings = {
        (spec.data_digest, spec.model.name, spec.seed): spec.trial_id for spec in specs if spec.role is Role.CEILING
    }
    cells, waiting = [], []
    for spec in specs:
        label = _label(spec)
        if label is None:
            continue
        ceiling = ceilings.get((spec.data_digest, spec.model.name, spec.seed))
        if ceiling is None:
            waiting.append(_title(spec))
            continue
        (weak,) = spec.parents
        cells.append(
            Cell(
                task=spec.task,
                weak=names[weak],
                strong=spec.model.name,
                strategy=label,
                kind="control" if spec.role is Role.CONTROL else "strategy",
                seed=spec.seed,
                weak_trial=weak,
                ceiling_trial=ceiling,
                student_trial=spec.trial_id,
                data_digest=spec.data_digest,
            )
        )
    return sorted(cells, key=lambda cell: (cell.task, cell.weak, cell.strong, cell.strategy, cell.seed)), waiting


def _put_grid(store: Store, asked: Grid, cells: Sequence[Cell]) -> None:
    """What tables show of the grid, and the grid as a file would have it."""
    grid = asked.model_copy(
        update={
            "tasks": tuple(dict.fromkeys(cell.task for cell in cells)),
            "pairs": tuple(dict.fromkeys(Pair(weak=cell.weak, strong=cell.strong) for cell in cells)),
            "strategies": tuple(StrategyCall(name=name) for name in dict.fromkeys(cell.strategy for cell in cells)),
            "seeds": tuple(sorted({cell.seed for cell in cells})),
        }
    )
    records = [cell.record() for cell in cells]
    store.put_grid(
        name=grid.name,
        grid_digest=grid_digest(grid.name, records),
        yaml=as_yaml(grid),
        cells=records,
    )


def _title(spec: TrialSpec) -> str:
    label = _label(spec)
    return f"{spec.task} {Made(spec.role, spec.model.name, label and label.partition(':')[2], None, spec.seed)}"
