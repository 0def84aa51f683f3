"""From a grid file to results in the store: `prepare` looks, `submit` runs."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wtsbench.data import Dataset
from wtsbench.errors import ModelError, NoStore, SpecError
from wtsbench.execution.events import Done, Listener, Preparing
from wtsbench.execution.external import require_labels
from wtsbench.execution.in_process import InProcessExecutor
from wtsbench.execution.job import Job
from wtsbench.execution.judging import ScorerPlace
from wtsbench.execution.known import done_trials, known_of, reuse_of
from wtsbench.execution.resolution import resolve
from wtsbench.execution.scheduler import Executor, Summary, run_jobs
from wtsbench.execution.supervise import sweep, tidy_up
from wtsbench.images.extras import require_packages
from wtsbench.models import external
from wtsbench.models.fetch import fetch
from wtsbench.models.work import Size, Work, work
from wtsbench.planning.check import GridSource, given_grid
from wtsbench.planning.plan import Plan, make_plan
from wtsbench.planning.report import PlannedTrial, PlanReport, compare
from wtsbench.planning.stored import imported
from wtsbench.sandbox.base import Sandbox
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.scoring.trivial import with_trivial
from wtsbench.settings import data_mirror, spool_folder
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
    def sandbox_name(self) -> str:
        """`process` or `docker`."""
        return self.sandbox.name

    @property
    def work(self) -> Work:
        """About how long the trials take that are to run."""
        sizes = {
            digest: {split: Size(items=data.size(split), characters=data.characters(split)) for split in Split}
            for digest, data in self.datasets.items()
        }
        missing = (trial.spec for trial in self.report.trials if trial.state != "stored")
        return work(missing, sizes, gpus=self.grid.resources.gpus)

    @property
    def notice(self) -> str | None:
        """What the user should know once about the sandbox chosen."""
        return self.sandbox.notice


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
    require_labels(report.trials, resolved.datasets)
    return Session(
        grid=grid,
        source=given.source,
        yaml=given.yaml,
        plan=plan,
        report=report,
        datasets=dict(resolved.datasets),
        scorers=dict(resolved.scorers),
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
    with _only_submission(session):
        _put_inputs(session, store)
        sweep(_spool(session), store)
        done = done_trials(store, [trial.trial_id for trial in session.report.trials])
        for trial in session.report.trials:
            if trial.trial_id in done and trial.state != "stored":
                listener(Done(trial=trial.spec, how="kept"))
        missing = [trial for trial in session.report.trials if trial.trial_id not in done]
        summary = Summary(total=session.report.total, stored=session.report.total - len(missing))
        if not missing:
            return summary
        jobs = _jobs(session, missing)
        try:
            executor = _start(session, [trial.spec for trial in missing], listener)
        except ModelError:
            if stop.is_set():  # the same Ctrl-C that stops us ends a model's build
                return replace(summary, cancelled=len(missing))
            raise
        try:
            return run_jobs(jobs, executor, session.grid.retry, listener=listener, stop=stop, summary=summary)
        finally:
            executor.close()
            if session.options.ray is None:
                tidy_up(_spool(session))


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


@contextmanager
def _only_submission(session: Session) -> Iterator[None]:
    """Two submissions of one grid into one store would run every trial twice: refuse the second while one lives."""
    path = _spool(session) / f"{session.grid.name}.submission"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode(errors="replace").strip()
            raise SpecError(
                f"grid {session.grid.name} is being submitted to this store already, by process {owner}",
                remedy="follow it with `wtsbench status`, or stop it first.",
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


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


def run_name(grid: str) -> str:
    """Name of a submission, for people, and for servers whose tokens are for one grid."""
    return f"{grid}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"


def _jobs(session: Session, missing: list[PlannedTrial]) -> dict[str, Job]:
    baselines = session.plan.baselines()
    run = run_name(session.grid.name)
    return {
        trial.trial_id: Job(
            spec=trial.spec,
            labels=tuple(session.datasets[trial.spec.data_digest].labels),
            store=absolute(session.options.store),
            spool=str(_spool(session)),
            sandbox=session.sandbox.name,
            image=session.sandbox.image_digest,
            resources=session.grid.resources,
            run=run,
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
    executor = RayExecutor(session.options.ray, resources, question)
    for left_out in executor.left_out:
        listener(left_out)
    return executor
