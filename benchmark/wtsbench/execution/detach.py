"""A submission as a Ray job, which goes on when the machine that submitted it is closed.

There is one job a run, whose id is the run's name, and the job runs `wtsbench submit` on the cluster. The store knows
the run before the job is submitted: who submits the same grid meanwhile, from wherever, joins the run that there is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from wtsbench.contract.operations import RunReport
from wtsbench.errors import ClusterError, SpecError
from wtsbench.execution.ray_access import settled
from wtsbench.execution.run_record import RunName
from wtsbench.execution.runs import StoredRun, stored_runs
from wtsbench.execution.session import Options
from wtsbench.planning.check import GivenGrid, GridSource, given_grid
from wtsbench.settings import manifest_folders
from wtsbench.spec.manifests import SUFFIXES
from wtsbench.store.client import Store, open_store

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_CARRIED_BYTES = 200 * 2**20
"""Of the files that travel with a grid."""
_ALIVE = ("PENDING", "RUNNING")


@dataclass(frozen=True, kw_only=True)
class Detached:
    """A run that goes on without this process."""

    run: str
    how: Literal["new", "joined", "resumed"]
    """`joined`: the grid is being run already; `resumed`: it was, and its job had died."""


def detach(source: GridSource, options: Options) -> Detached:
    """Have a cluster run a grid, and return at once.

    Args:
        source: the grid.
        options: `ray` is the cluster's address, that of its head or of its dashboard; the store is a server.

    Raises:
        SpecError: the grid has faults, the store is a folder, or no cluster is named.
        ClusterError: the cluster does not take jobs.
        StoreError: the store cannot be reached or written.
    """
    if options.ray is None:
        raise SpecError("a detached run needs a cluster", remedy="name it with --ray ADDRESS, or set RAY_ADDRESS.")
    if "://" not in options.store:
        raise SpecError(
            f"a detached run needs a store that the cluster reaches, and {options.store} is a folder",
            remedy="serve it (wtsbench store serve), and name the server: --store grpc+tls://HOST:PORT.",
        )
    given = given_grid(source)
    store = open_store(options.store)
    with jobs_of(options.ray) as client:
        name, how = _which(given, store, client)
        if how != "joined":
            _submit(given, options, store, client, name)
    return Detached(run=name.name, how=how)


@contextmanager
def jobs_of(address: str) -> Iterator[JobSubmissionClient]:
    """The jobs of a cluster.

    Args:
        address: of the head (HOST:PORT), or of the dashboard (http://HOST:PORT).

    Raises:
        ClusterError: no cluster answers there, it wants another token, or it takes no jobs.
    """
    with settled(address):
        from ray.job_submission import JobSubmissionClient

        for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):  # or they tell of each file that is uploaded
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            client = JobSubmissionClient(address)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ClusterError(
                f"the cluster at {address} takes no jobs: {error}",
                remedy="Ray's dashboard does; it runs on the head where ray[default] is installed: "
                "pip install 'wtsbench[cluster]'.",
            ) from error
        yield client


def _which(
    given: GivenGrid, store: Store, client: JobSubmissionClient
) -> tuple[RunName, Literal["new", "joined", "resumed"]]:
    """The run that a submission is: the one that there is of this grid file, or the next."""
    digest = hashlib.sha256(f"{given.grid.name}\n{given.yaml}".encode()).hexdigest()[:8]
    begin = f"{given.grid.name}-{digest}-"
    before = {int(run.run.removeprefix(begin)): run for run in stored_runs(store) if run.run.startswith(begin)}
    last = before[max(before)] if before else None
    if last is None or last.ended:
        return RunName.of_job(f"{begin}{max(before, default=0) + 1}", 0), "new"
    if last.state == "running" if last.job is None else _job_lives(last, client):
        return RunName.of_job(last.run, last.resumed), "joined"
    return RunName.of_job(last.run, last.resumed + 1), "resumed"


def _job_lives(run: StoredRun, client: JobSubmissionClient) -> bool:
    """Whether the cluster has the run's job, and it has not ended; it may wait for a node."""
    try:
        return run.job is not None and client.get_job_status(run.job).value in _ALIVE
    except RuntimeError:  # the cluster does not know it: its head was started anew
        return False


def _submit(given: GivenGrid, options: Options, store: Store, client: JobSubmissionClient, name: RunName) -> None:
    assert name.job is not None
    report = RunReport(
        run=name.name,
        grid=given.grid.name,
        cluster=options.ray,
        job=name.job,
        host=platform.node(),
        priority=options.priority,
        state="queued",
        yaml=given.yaml,
        resumed=name.resumed,
    )
    store.report_run(report)
    with tempfile.TemporaryDirectory(prefix="wtsbench-") as folder:
        grid = _carried(given, Path(folder))
        try:
            client.submit_job(
                entrypoint=shlex.join(_command(grid, options, name)),
                submission_id=name.job,
                runtime_env={"working_dir": folder},
                metadata={"wtsbench_run": name.name, "wtsbench_grid": given.grid.name},
            )
        except (RuntimeError, ValueError, OSError) as error:
            if _taken(client, name.job):  # somebody submitted the same run at the same moment
                return
            raise ClusterError(f"the cluster does not take the job: {error}") from error


def _taken(client: JobSubmissionClient, job: str) -> bool:
    try:
        client.get_job_status(job)
    except RuntimeError:
        return False
    return True


def _command(grid: str, options: Options, name: RunName) -> list[str]:
    """The job's command line. Ray tells a job its cluster, by RAY_ADDRESS; a node's own token file opens the store."""
    words = ["python", "-m", "wtsbench_cli", "submit", grid, "--store", options.store, "--sandbox", options.sandbox]
    words += ["--run", name.name, "--resumed", str(name.resumed), "--priority", str(options.priority)]
    words += ["--autoscale"] if options.autoscale else []
    words += [] if options.mirror is None else ["--mirror", str(options.mirror)]
    return words + [word for grid_name in options.trust for word in ("--trust", grid_name)]


def _carried(given: GivenGrid, folder: Path) -> str:
    """Copy a grid file into a folder with the files that it names, and those that they name; how to call it there.

    Raises:
        SpecError: they are too large, or outside of the grid's folder.
    """
    source = Path(given.source)
    if source.is_file() and any(source.parent == place / "grids" for place in manifest_folders()[1:]):
        return source.stem  # shipped with wtsbench
    name = source.name if source.is_file() else "grid.yaml"
    (folder / name).write_text(given.yaml, encoding="utf-8")
    carried = 0
    waiting = [given.yaml]
    while waiting:
        for text in _texts(yaml.safe_load(waiting.pop())):
            path = given.base / text
            if not text or "\n" in text or Path(text).is_absolute() or not _exists(path):
                continue
            place = folder / os.path.normpath(text)
            if not place.is_relative_to(folder) or ".." in Path(os.path.normpath(text)).parts:
                raise SpecError(
                    f"{given.source} names {text}, which is outside of its folder and cannot travel to the cluster",
                    remedy="move it beside the grid.",
                )
            if place.exists():
                continue
            carried += _copied(path, place)
            if carried > _CARRIED_BYTES:
                raise SpecError(
                    f"the files that {given.source} names are larger than {_CARRIED_BYTES // 2**20} MiB",
                    remedy="put them where the nodes reach them (a hub, or a mirror folder on every node).",
                )
            if path.suffix in SUFFIXES and path.is_file():
                waiting.append(path.read_text(encoding="utf-8"))
    return name


def _exists(path: Path) -> bool:
    try:
        return path.exists() and path.resolve() != path.parent.resolve()
    except (OSError, ValueError):
        return False


def _copied(path: Path, place: Path) -> int:
    """Copy a file or folder; its bytes."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, place)
        return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    shutil.copy2(path, place)
    return place.stat().st_size


def _texts(value: Any) -> Iterator[str]:
    """Every text in a YAML document that may be a path."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
