"""Stored trials once more, from what the store has of them alone: same specification, items, image, code and hardware.

What is run is a plan of just these trials and all that they come from, by the same path as every submission, into a
store of its own. Nothing of the grid's file, its task or its data source is read: items and seeds are the stored ones,
and weights are held against the revision that the record names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtsbench.data import Dataset
from wtsbench.errors import SpecError, StoreError, UserError
from wtsbench.execution.judging import ScorerPlace, scorer_at
from wtsbench.execution.node_facts import listed_gpus
from wtsbench.execution.session import Options, Session
from wtsbench.planning.plan import Plan
from wtsbench.planning.report import PlannedTrial, PlanReport
from wtsbench.planning.stored import Wanted, chosen_cells, grid_of
from wtsbench.sandbox.base import Sandbox, environment_of
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.settings import data_mirror
from wtsbench.spec.cell import Cell
from wtsbench.spec.grid import Grid
from wtsbench.spec.provenance import cpu_name, provenance
from wtsbench.spec.trial import EXTERNAL, TrialSpec
from wtsbench.store.client import Store
from wtsbench.store.upkeep.verify import digest_of
from wtsbench.strategies import registry

_COLUMNS = ("trial_id", "status", "spec", "parents", "wtsbench_version", "git_commit", "git_dirty", "device",
            "device_name", "threads")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Stored trials, ready to run again."""

    session: Session
    """Of a plan of them, parents first."""
    ids: Mapping[str, str]
    """By the id in the store, the id under which it runs here: the same one, unless something that decides results
    is another here."""
    submission: int
    """Of the grid, in the store."""
    reasons: tuple[str, ...]
    """Why equal results cannot be expected here; empty where they can."""


class CannotReproduce(UserError):
    """What ran a trial is not what would run it here."""


def reproduction(store: Store, wanted: Wanted, *, into: str, sandbox: str | None = None) -> Reproduction:
    """Plan stored trials anew.

    Args:
        store: where the records are.
        wanted: which of them.
        into: address of an empty store for the results.
        sandbox: what to run in; by default what the record says.

    Raises:
        SpecError: there is no such trial or cell, other code made its predictions, or it needs something that is not
            installed here.
        StoreError: the store lacks what a record refers to, or holds items that are not those of their digest.
        UserError: the sandbox, the image or a scorer cannot be had here.
    """
    row, cells, trial = chosen_cells(store, wanted)
    asked = [one for cell in cells for one in cell.every_trial] if trial is None else [trial]
    records = _records(store, asked)
    specs = {trial_id: _spec(record) for trial_id, record in records.items()}
    first = next((records[one] for one in reversed(records) if specs[one].model.trained), next(iter(records.values())))
    grid = _with_threads(grid_of(row, store), first)
    place = _sandbox(sandbox, specs[first["trial_id"]])
    here = _planned_here(specs, environment_of(place, grid.resources))
    ids = {trial_id: spec.trial_id for trial_id, spec in here.items()}
    plan = Plan(
        grid=grid,
        trials={spec.trial_id: spec for spec in here.values()},
        cells=tuple(_renamed(cell, ids) for cell in cells),
        uses={},
    )
    planned = (
        PlannedTrial(trial_id=trial_id, spec=spec, uses=1, state="new", reason="")
        for trial_id, spec in plan.trials.items()
    )
    mirror = data_mirror()
    datasets = [_dataset(store, digest) for digest in dict.fromkeys(spec.data_digest for spec in specs.values())]
    session = Session(
        grid=grid,
        source=f"grid {grid.name}",
        yaml=row["yaml"],
        plan=plan,
        report=PlanReport(trials=tuple(planned)),
        datasets={dataset.data_digest: dataset for dataset in datasets},
        scorers=dict(_scorers(specs.values(), mirror)),
        sandbox=place,
        options=Options(store=into, executor="ray" if grid.resources.gpus else "in-process", mirror=mirror),
    )
    reasons = tuple(dict.fromkeys(_reasons(records, specs, here)))
    return Reproduction(session=session, ids=ids, submission=row["submission"], reasons=reasons)


def _records(store: Store, asked: Collection[str]) -> dict[str, dict[str, Any]]:
    """The attempts that succeeded of the trials asked for and of all that they come from, parents first."""
    found: dict[str, dict[str, Any]] = {}
    waiting = list(dict.fromkeys(asked))
    while waiting:
        rows = store.trials(waiting, columns=_COLUMNS).to_pylist()
        found |= {row["trial_id"]: row for row in rows if row["status"] == "done"}
        lacking = [trial_id for trial_id in waiting if trial_id not in found]
        if lacking:
            raise SpecError(
                f"trial {lacking[0][:12]} has no result in the store {store.uri}, so there is nothing to compare with",
                remedy=f"see `wtsbench logs {lacking[0][:12]}`, or submit its grid.",
            )
        waiting = [each for one in dict.fromkeys(waiting) for each in found[one]["parents"] if each not in found]
    ordered: dict[str, dict[str, Any]] = {}

    def add(trial_id: str) -> None:
        for parent in found[trial_id]["parents"]:
            add(parent)
        ordered.setdefault(trial_id, found[trial_id])

    for trial_id in asked:
        add(trial_id)
    return ordered


def _spec(record: Mapping[str, Any]) -> TrialSpec:
    """What a trial was.

    Raises:
        SpecError: other code made its predictions, or this version cannot read it.
    """
    try:
        spec = TrialSpec.model_validate(json.loads(record["spec"]))
    except ValueError:
        raise SpecError(
            f"this version of wtsbench cannot read the specification of trial {record['trial_id'][:12]}",
            remedy=f"use version {record['wtsbench_version']}, commit {record['git_commit'] or 'unknown'}.",
        ) from None
    if spec.environment == EXTERNAL:
        raise SpecError(
            f"other code made the predictions of trial {record['trial_id'][:12]}, and they were imported",
            remedy="only that code can make them again.",
        )
    return spec


def _with_threads(grid: Grid, record: Mapping[str, Any]) -> Grid:
    """With as many threads as the trial had, which decide the order of its sums."""
    threads = record["threads"] or grid.resources.cpus
    return grid.model_copy(update={"resources": grid.resources.model_copy(update={"cpus": threads})})


def _sandbox(name: str | None, spec: TrialSpec) -> Sandbox:
    """What a trial ran in, with the very image; or the sandbox of a name."""
    kind, _, image = spec.environment.removesuffix(":cuda").partition(":")
    return make_sandbox(name or kind, image=image if kind == "docker" else None)


def _planned_here(specs: Mapping[str, TrialSpec], environment: str) -> dict[str, TrialSpec]:
    """By stored id, parents first: the trials as this installation would plan them."""
    here: dict[str, TrialSpec] = {}
    for trial_id, spec in specs.items():
        parents = tuple(here[parent].trial_id for parent in spec.parents)
        here[trial_id] = spec.model_copy(update={"parents": parents, "environment": environment})
    return here


def _renamed(cell: Cell, ids: Mapping[str, str]) -> Cell:
    return cell._replace(
        weak_trial=ids[cell.weak_trial],
        ceiling_trial=ids[cell.ceiling_trial],
        student_trial=ids[cell.student_trial],
        others=tuple(sorted(ids[each] for each in cell.others)),
    )


def _dataset(store: Store, digest: str) -> Dataset:
    """A stored data set.

    Raises:
        StoreError: it is not there, or its items are not those that its digest is of.
    """
    row = next((row for row in store.datasets().to_pylist() if row["data_digest"] == digest), None)
    if row is None:
        raise StoreError(f"the store {store.uri} lacks the data set {digest[:12]} that its trials used")
    items = store.items(digest)
    if (found := digest_of(row, items)) != digest:
        raise StoreError(
            f"the items of data set {digest[:12]} are not those that its trials used: their digest is {found[:12]}",
            remedy="the store was changed; restore it from a copy.",
        )
    return Dataset(
        data_digest=digest,
        task=row["task"],
        form=row["form"],
        labels=tuple(row["labels"]),
        metric=row["metric"],
        settings=None if row["settings"] is None else json.loads(row["settings"]),
        items=items,
        report=json.loads(row["report"]),
    )


def _scorers(specs: Collection[TrialSpec], mirror: Path | None) -> Iterator[tuple[str, ScorerPlace]]:
    """By task, what judges its texts.

    Raises:
        SpecError: what has this name here is another scorer.
        ScorerError: it cannot be had.
    """
    for task, (name, digest) in {
        spec.task: (spec.generation.scorer, spec.scorer) for spec in specs if spec.generation is not None
    }.items():
        place = ScorerPlace(name=name, base=str(Path.cwd()), mirror=None if mirror is None else str(mirror))
        if (found := scorer_at(place).digest) != digest:
            raise SpecError(
                f"scorer {name} is {found[:12]} here, and the record of task {task} says {str(digest)[:12]}",
                remedy="use the same version of it; where a path names it, run this from the folder it starts from.",
            )
        yield task, place


def _reasons(
    records: Mapping[str, Mapping[str, Any]], specs: Mapping[str, TrialSpec], here: Mapping[str, TrialSpec]
) -> Iterator[str]:
    """Why the same numbers cannot be expected, each in words."""
    code, processors = provenance(), [cpu_name()]
    on_gpus = any(record["device"] not in (None, "cpu") for record in records.values())
    gpus = sorted({gpu.name for gpu in listed_gpus()[0]}) if on_gpus else []
    for trial_id, record in records.items():
        was, now = specs[trial_id], here[trial_id]
        yield from _other_code(record, code)
        if was.environment != now.environment:
            yield f"it ran in {_named(was.environment)}; here it would run in {_named(now.environment)}"
        elif was.parents == now.parents and now.trial_id != trial_id:
            yield "this version of wtsbench computes results otherwise than the one that ran it (SCIENCE_VERSION)"
        if was.strategy is not None and registry.resolve(was.strategy).revision() != was.strategy_version:
            yield f"strategy {was.strategy.name} is another version here"
        if was.strategy is not None and registry.package_of(was.strategy.name) != was.strategy_package:
            yield f"strategy {was.strategy.name} came from {was.strategy_package}, which is not what is installed here"
        devices = processors if record["device"] == "cpu" else gpus
        if record["device_name"] not in (None, *devices):
            yield f"it ran on {record['device_name']}; this machine has {', '.join(devices) or 'no GPU'}"


def _other_code(record: Mapping[str, Any], code: Mapping[str, str | bool | None]) -> Iterator[str]:
    then, now = record["git_commit"], code["git_commit"]
    if then != now or record["wtsbench_version"] != code["wtsbench_version"]:
        yield (
            f"wtsbench {record['wtsbench_version']} ran it, commit {then or 'unknown'}; here is "
            f"{code['wtsbench_version']}, commit {now or 'unknown'}"
        )
    elif record["git_dirty"]:
        yield f"it ran with changes on top of commit {then}, which no record holds"
    elif code["git_dirty"]:
        yield f"the checkout here has changes on top of commit {now}"


def _named(environment: str) -> str:
    """`image sha256:0123456789ab`, or `a process with libraries of digest 0123456789ab`, or both for a pod."""
    kind, _, digest = environment.partition(":")
    device = " on a GPU" if digest.endswith(":cuda") else ""
    digest = digest.removesuffix(":cuda")
    if kind == "docker":
        return f"image {digest[:19]}{device}"
    image, _, lock = digest.rpartition(":")
    pod = f" in a pod of image {image[:19]}" if image else ""
    return f"a process{pod} with Python and libraries of digest {lock[:12]}{device}"
