"""From a grid file to results in the store: `prepare` looks, `submit` runs."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wtsbench.contract.operations import RunReport
from wtsbench.data import Dataset
from wtsbench.errors import ModelError, NoStore, SpecError
from wtsbench.execution.events import Done, Listener, Preparing
from wtsbench.execution.expected import Estimate, expected
from wtsbench.execution.external import require_labels
from wtsbench.execution.in_process import InProcessExecutor
from wtsbench.execution.job import Job
from wtsbench.execution.judging import ScorerPlace
from wtsbench.execution.known import done_trials, known_of, reuse_of
from wtsbench.execution.resolution import resolve
from wtsbench.execution.run_record import RunName, RunRecord, recorded
from wtsbench.execution.scheduler import Executor, Summary, run_jobs
from wtsbench.execution.supervise import sweep, tidy_up
from wtsbench.images.extras import require_packages
from wtsbench.models import external
from wtsbench.models.fetch import fetch
from wtsbench.models.work import Size
from wtsbench.planning.check import GridSource, given_grid
from wtsbench.planning.plan import Plan, make_plan
from wtsbench.planning.report import PlannedTrial, PlanReport, compare
from wtsbench.planning.stored import imported
from wtsbench.sandbox.base import Sandbox
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.scoring.trivial import with_trivial
from wtsbench.settings import data_mirror, named_spool, spool_folder
from wtsbench.spec.grid import Grid
from wtsbench.spec.trial import Split, TrialSpec
from wtsbench.store.client import Store, absolute, open_store, require_writable

__all__ = ["Options", "Session", "Summary", "prepare", "submit"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where a submission runs and where its results go; None takes the environment's value or the default."""

    store: str
    """Address of the store: a folder, or a server's."""
    sandbox: str = "auto"
    """`auto`, `process` or `docker`."""
    ray: str | None = None
    """Address of a Ray cluster; None starts Ray on this machine."""
    executor: Literal["ray", "in-process"] = "ray"
    mirror: Path | None = None
    """Folder that stands in for the canonical places of data and models."""
    trust: tuple[str, ...] = ()
    """Grids whose trials are taken though they were finished under tokens for these grids only."""
    autoscale: bool = False
    """Whether the cluster adds nodes where trials wait."""
    priority: int = 0
    """On one cluster, a run starts no trial while one of higher priority has some to start."""
    run: RunName | None = None
    """Which run this is; None for a new one."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """A grid, its plan, and how the store stands to it."""

    grid: Grid
    source: str
    """Path of the grid's file, or what stands for that."""
    yaml: str
    plan: Plan
    report: PlanReport
    datasets: dict[str, Dataset]
    """By digest."""
    scorers: dict[str, ScorerPlace]
    sandbox: Sandbox
    options: Options

    @property
    def estimate(self) -> Estimate:
        """About how long the trials take that are to run."""
        return self.estimate_of(trial for trial in self.report.trials if trial.state != "stored")

    def estimate_of(self, trials: Iterable[PlannedTrial]) -> Estimate:
        """About how long these of its trials take."""
        try:
            store = open_store(self.options.store)
        except NoStore:
            store = None
        specs = {trial.trial_id: trial.spec for trial in trials}
        return expected(store, specs, self._sizes, gpus=self.grid.resources.gpus)

    @property
    def _sizes(self) -> Mapping[str, Mapping[Split, Size]]:
        """How much there is of every split of each data set, by digest."""
        return {
            digest: {split: Size(items=data.size(split), characters=data.characters(split)) for split in Split}
            for digest, data in self.datasets.items()
        }


def prepare(source: GridSource, options: Options, *, note: Callable[[str], None]) -> Session:
    """Load and check a grid, prepare its data, resolve its models, plan it and hold the plan against the store.

    Creates no store and runs no trial.

    Raises:
        UserError: the grid, a task's data, a model, the sandbox or the store is not as it must be.
    """
    given = given_grid(source)
    grid = given.grid
    sandbox = make_sandbox(options.sandbox, image=grid.image)
    resolved = resolve(grid, given.base, sandbox, mirror=options.mirror or data_mirror(), note=note)
    store = _submittable(options.store, grid.name)
    note("planning")
    plan = make_plan(resolved.entries, resolved.inputs, reuse_of(store, resolved.inputs, options.trust))
    note("looking for its trials in the store")
    report = compare(plan, *known_of(store, plan))
    require_labels(report.trials, resolved.tasks.datasets)
    return Session(
        grid=grid,
        source=given.source,
        yaml=given.yaml,
        plan=plan,
        report=report,
        datasets=dict(resolved.tasks.datasets),
        scorers=dict(resolved.tasks.scorers),
        sandbox=sandbox,
        options=options,
    )


def submit(session: Session, *, listener: Listener, stop: threading.Event) -> Summary:
    """Run what the store lacks of a session's plan.

    Args:
        session: from `prepare`.
        listener: told of everything that happens.
        stop: set it to stop cleanly; what is finished is kept, and submitting again goes on from there.

    Raises:
        UserError: a key is missing, the store cannot be written, or the cluster cannot be reached. What the store
            acknowledged is kept, and attempts that could not be delivered stay in the spool for the next submission.
    """
    require_writable(session.options.store)
    _require_access(session)
    if session.sandbox.name == "docker" and session.sandbox.image_digest is not None:
        asked = {trial.spec.strategy_package for trial in session.report.trials if trial.state != "stored"}
        require_packages(session.sandbox.image_digest, sorted(package for package in asked if package is not None))
    store = open_store(session.options.store, create=True)
    _put_inputs(session, store)
    sweep(_spool(session), store)
    done = done_trials(store, [trial.trial_id for trial in session.report.trials])
    for trial in session.report.trials:
        if trial.trial_id in done and trial.state != "stored":
            listener(Done(trial=trial.spec, how="kept"))
    missing = [trial for trial in session.report.trials if trial.trial_id not in done]
    summary = Summary(total=session.report.total, stored=session.report.total - len(missing))
    run = session.options.run or RunName.of_grid(session.grid.name)
    if not missing and run.job is None:
        return summary
    with recorded(session.options.store, _first_report(session, run, summary)) as record:
        if missing:
            summary = _run(session, run, missing, summary, record, listener=listener, stop=stop)
        record.end(summary)
    return summary


def _run(
    session: Session,
    run: RunName,
    missing: list[PlannedTrial],
    summary: Summary,
    record: RunRecord,
    *,
    listener: Listener,
    stop: threading.Event,
) -> Summary:
    """Run the trials that the store lacks."""
    specs = [trial.spec for trial in missing]
    jobs = _jobs(session, missing, run)
    seconds = session.estimate_of(missing).seconds
    if len(seconds) == len(specs):
        summary = replace(summary, expected_seconds=sum(seconds.values()))
    try:
        executor = _start(session, specs, listener)
    except ModelError:
        if stop.is_set():  # the same Ctrl-C that stops us ends a model's build
            return replace(summary, cancelled=len(missing))
        raise
    record.runs_on(executor.cluster)
    try:
        return run_jobs(
            jobs,
            executor,
            session.grid.retry,
            listener=listener,
            stop=stop,
            summary=summary,
            record=record,
            seconds=seconds,
        )
    finally:
        executor.close()
        if session.options.ray is None:
            tidy_up(_spool(session))


def _first_report(session: Session, run: RunName, summary: Summary) -> RunReport:
    return RunReport(
        run=run.name,
        grid=session.grid.name,
        job=run.job,
        host=platform.node(),
        priority=session.options.priority,
        total=summary.total,
        stored=summary.stored,
        waiting=summary.total - summary.stored,
        yaml=session.yaml,
        resumed=run.resumed,
    )


def _require_access(session: Session) -> None:
    """Look for the keys that trials will need, before they have trained for hours.

    The nodes of a cluster have keys of their own.
    """
    if session.options.ray is not None:
        return
    missing = [trial.spec for trial in session.report.trials if trial.state != "stored"]
    for model in {spec.model.revision: spec.model for spec in missing if not spec.model.trained}.values():
        external.require_access(model)


def _start(session: Session, specs: list[TrialSpec], listener: Listener) -> Executor:
    """Start the executor, and meanwhile have every model's weights on this machine.

    Both take seconds and neither needs the other. The nodes of a cluster fetch their own models.
    """
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    executor: Executor | None = None
    fetching: dict[str, Future[Path]] = {}
    try:
        if session.options.ray is None:
            used = [model for spec in specs for model in (spec.model, spec.reference) if model is not None]
            models = {model.revision: model for model in used if model.trained}
            listener(Preparing(text=f"models: {', '.join(sorted(model.name for model in models.values()))}"))
            fetching = {model.name: pool.submit(fetch, model) for model in models.values()}
        listener(Preparing(text=_starting(session)))
        executor = _executor(session, listener)
        waiting = dict(fetching)
        while waiting:
            for name in [name for name, future in waiting.items() if future.done()]:
                waiting.pop(name).result()
            if waiting:
                ready = f"{len(fetching) - len(waiting)} of {len(fetching)} ready"
                listener(Preparing(text=f"waiting for models ({ready}): {', '.join(sorted(waiting))}"))
                wait(waiting.values(), return_when=FIRST_COMPLETED)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        if executor is not None:
            executor.close()
        raise
    pool.shutdown()
    return executor


def _submittable(uri: str, grid: str) -> Store | None:
    """The store at an address; None where there is none yet.

    Raises:
        SpecError: what it has under the grid's name was imported.
    """
    try:
        store = open_store(uri)
    except NoStore:
        return None
    if imported(store, grid):
        raise SpecError(
            f"grid {grid} of the store {uri} was imported: its predictions were made by other code, which wtsbench "
            "cannot run",
            remedy=f"give your grid another name, or see what is there: wtsbench leaderboard --grid {grid}.",
        )
    return store


def _spool(session: Session) -> Path:
    return spool_folder(session.options.store)


def _put_inputs(session: Session, store: Store) -> None:
    """What the leaderboard is a function of beside the trials: the items, and the cells that were asked for."""
    put_datasets(store, session.datasets.values())
    store.put_grid(
        name=session.grid.name,
        grid_digest=session.plan.grid_digest,
        yaml=session.yaml,
        cells=[cell.record() for cell in session.plan.cells],
    )


def put_datasets(store: Store, datasets: Iterable[Dataset]) -> None:
    """Store the items that trials are scored on, with what trivial classifiers score, where they are not there yet."""
    for dataset in datasets:
        if not store.has_dataset(dataset.data_digest):
            store.put_dataset(
                data_digest=dataset.data_digest,
                task=dataset.task,
                form=dataset.form,
                settings=dataset.settings,
                labels=list(dataset.labels),
                metric=dataset.metric,
                report=with_trivial(dataset.report, dataset.items, len(dataset.labels)),
                items=dataset.items,
            )


def _jobs(session: Session, missing: list[PlannedTrial], run: RunName) -> dict[str, Job]:
    baselines = session.plan.baselines()
    return {
        trial.trial_id: Job(
            spec=trial.spec,
            labels=tuple(session.datasets[trial.spec.data_digest].labels),
            store=absolute(session.options.store),
            sandbox=session.sandbox.name,
            image=session.sandbox.image_digest,
            resources=session.grid.resources,
            run=run.name,
            named_spool=named_spool(),
            baselines=baselines.get(trial.trial_id, {}),
            scorer=session.scorers.get(trial.spec.task),
        )
        for trial in missing
    }


def _starting(session: Session) -> str:
    if session.options.executor == "in-process":
        return "starting trials in process"
    return f"connecting to Ray at {session.options.ray}" if session.options.ray else "starting Ray on this machine"


def _executor(session: Session, listener: Listener) -> Executor:
    resources = session.grid.resources
    if session.options.executor == "in-process":
        return InProcessExecutor.of(resources)
    from wtsbench.execution.preflight import question_for  # importing ray takes half a second
    from wtsbench.execution.ray_executor import RayExecutor

    question = question_for(session)
    executor = RayExecutor(session.options.ray, resources, question, autoscale=session.options.autoscale)
    for left_out in executor.left_out:
        listener(left_out)
    return executor
