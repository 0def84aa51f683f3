"""Killing parts of a running submission at a chosen stage of a trial, and looking for what is left of it.

The parts: `worker` (the Ray worker that supervises the trial), `raylet` and `gcs` (Ray itself), `driver` (the command
that the user started), `trial` (the trial's own process), `fork_server` (its preloaded parent); with containers also
`dockerd`, `containerd`, `shim` (the container's keeper) and `reaper` (together with the worker).
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.end_to_end.conftest import Bench, open_files
from wtsbench.execution.spool import sandbox_folder
from wtsbench.images.docker_engine import address
from wtsbench.sandbox import reaper
from wtsbench.sandbox.container import LEASE_LABEL

LEASE_SECONDS = 3.0
TRIALS = 4
GRID = """\
apiVersion: wtsbench/v1
name: chaos
tasks: [safety-mini]
pairs:
  - {weak: nano-1, strong: nano-2}
strategies: [naive, logconf]
seeds: [0]
data: {weak_train: 60, transfer: 80, validation: 20, test: 60}
training: {epochs: 1}
"""
STAGES = ("created", "started", "training", "writing", "ended")
BOTH = ("worker", "raylet", "gcs", "driver", "trial", "fork server")
VICTIMS = {
    "process": BOTH,
    "docker": (*BOTH, "dockerd", "containerd", "shim", "reaper"),
}
ENGINES = ("dockerd", "containerd")
"""Victims that others than these tests may need."""
RAYS_OWN = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Of Ray's, which end themselves about a minute after their raylet, when they have given up on its GCS."""
ENGINE = Path(__file__).parents[2] / ".ci" / "docker-engine"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Who is killed, in which sandbox, and when."""

    sandbox: str
    victim: str
    stage: str
    trial: int
    """At which of the trials, in the order in which they come to the stage."""
    delay: float
    """Seconds after the stage was seen."""

    def __str__(self) -> str:
        return f"{self.sandbox}, {self.victim} when trial {self.trial + 1} is {self.stage}, after {self.delay:.3f} s"


def cases(seed: int) -> list[Case]:
    """Every combination once, in an order, at trials and with delays that the seed decides."""
    chance = random.Random(seed)
    found = [
        Case(
            sandbox=sandbox,
            victim=victim,
            stage=stage,
            trial=chance.randrange(TRIALS),
            delay=chance.uniform(0, 0.3) ** 2 * 10 / 3,
        )
        for sandbox, victims in VICTIMS.items()
        for victim in victims
        for stage in STAGES
    ]
    chance.shuffle(found)
    return found


@dataclass(kw_only=True)
class Disturbed:
    """A submission that is killed in part."""

    bench: Bench
    sandbox: str
    client: Any
    process: subprocess.Popen[str]
    seen: dict[tuple[int, float], str] = field(default_factory=dict)
    """Every process of the submission that was ever seen: id and start to name."""

    def until(self, case: Case) -> Path | None:
        """Wait for the stage; the attempt's folder, or None where the submission ended before."""
        reached: list[Path] = []
        while self.process.poll() is None:
            self.look()
            for folder in sorted(self.bench.store.glob("spool/*-*")):
                if folder not in reached and self._is(folder, case.stage):
                    reached.append(folder)
                    if len(reached) > case.trial:
                        time.sleep(case.delay)
                        self.look()
                        return folder
            time.sleep(0.01)
        return None

    def _is(self, folder: Path, stage: str) -> bool:
        trial = folder / "trial"
        try:
            if stage == "writing":
                return any((trial / "outbox").iterdir())
            named = {"created": "../attempt.json", "started": "log.txt", "training": "scratch/progress.json"}
            return (trial / named.get(stage, "outbox/result.json")).exists()
        except OSError:  # on its way into a container, or gone
            return False

    def look(self) -> None:
        """Note which processes there are."""
        try:
            driver = psutil.Process(self.process.pid)
            family = [driver, *driver.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        for one in family:
            try:
                self.seen[one.pid, one.create_time()] = one.name()
            except psutil.NoSuchProcess:
                continue

    def kill(self, victim: str, folder: Path) -> list[str]:
        """Kill a part of the submission; the names of what was killed."""
        pids = self._pids(victim, folder)
        killed = []
        for pid in pids:
            try:
                killed.append(psutil.Process(pid).name())
                os.kill(pid, 9)
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        if victim == "dockerd":
            time.sleep(0.5)
            start_engine()
        return killed

    def _pids(self, victim: str, folder: Path) -> list[int]:
        if victim == "driver":
            return [self.process.pid]
        if victim in ("raylet", "gcs"):
            named = "raylet" if victim == "raylet" else "gcs_server"
            return _children_called(named, self.process.pid)
        if victim == "worker":
            return _holders(folder / "owner")
        if victim == "reaper":
            return [pid for pid in (reaper.running(), *_holders(folder / "owner")) if pid is not None]
        if victim == "trial":
            return self._pids_of_trial(folder)
        if victim == "fork server" and self.sandbox == "docker":
            return self._fork_servers()
        if victim == "fork server":
            return [parent for pid in self._pids_of_trial(folder) if (parent := _parent(pid)) is not None]
        if victim == "dockerd":
            return [_dockerd()]
        if victim == "containerd":
            return _children_called("containerd", _dockerd())
        ids = {container["Id"] for container in self.containers()}
        return [
            one.pid
            for one in psutil.process_iter(["cmdline"])
            if "containerd-shim" in " ".join((one.info["cmdline"] or [""])[:1]) and ids & set(one.info["cmdline"])
        ]

    def _pids_of_trial(self, folder: Path) -> list[int]:
        """Of the process that computes; in containers of every trial's, or where none does yet of the fork servers."""
        if self.sandbox == "process":
            return [pid for pid in _holders(folder / "trial" / "log.txt") if pid not in _holders(folder / "owner")]
        servers = self._fork_servers()
        children = [child.pid for pid in servers for child in _children(pid)]
        return children or servers

    def _fork_servers(self) -> list[int]:
        """The first processes of the containers."""
        import docker.errors

        found = []
        for one in (one["Id"] for one in self.containers() if one["State"] == "running"):
            with suppress(docker.errors.NotFound):  # it was removed meanwhile
                found.append(int(self.client.api.inspect_container(one)["State"]["Pid"]))
        return [pid for pid in found if pid]  # 0: it has ended meanwhile

    def containers(self) -> list[dict[str, Any]]:
        """Containers of this submission's trials."""
        listed: list[dict[str, Any]] = self.client.api.containers(all=True, filters={"label": LEASE_LABEL})
        return [one for one in listed if one["Labels"][LEASE_LABEL].startswith(f"{self.bench.store}/")]

    def left(self) -> list[str]:
        """What there still is of the submission."""
        found = [f"container {one['Names']} {one['Status']}" for one in self.containers()]
        for pid, started in self.seen:
            try:
                one = psutil.Process(pid)
                named = (one.cmdline() or [one.name()])[0]
                if one.create_time() == started and one.status() != psutil.STATUS_ZOMBIE and named not in RAYS_OWN:
                    found.append(f"process {pid} {' '.join(one.cmdline())[:200]}")
            except psutil.NoSuchProcess:
                continue
        found += [f"process {pid} has a trial's log open" for pid in self.bench.trial_processes()]
        return found

    def until_nothing_is_left(self, seconds: float) -> tuple[float, list[str]]:
        """Wait; how long it took, and what was there still at the end of the time."""
        begun = time.monotonic()
        while (left := _patiently(self.left)) and time.monotonic() - begun < seconds:
            time.sleep(0.1)
        return time.monotonic() - begun, left


def folders(bench: Bench) -> list[str]:
    """What is in the spool: attempts that wait there, and what containers had."""
    spool = bench.store / "spool"
    found = [path for path in spool.iterdir() if path.is_dir() and path != sandbox_folder(spool)]
    if sandbox_folder(spool).is_dir():
        found += [path for path in sandbox_folder(spool).iterdir() if path.is_dir()]
    return [str(path.relative_to(spool)) for path in found]


def engine_may_be_killed() -> bool:
    """Whether the engine is one of `.ci/docker-engine`, which can be started again where it was."""
    return address().startswith("unix://") and (_engine_folder() / "dockerd.pid").is_file()


def start_engine() -> None:
    """Start the engine again after it was killed; it may take its dying containerd for a living one and give up."""
    for _ in range(3):
        if subprocess.run([ENGINE, "start", str(_engine_folder())], capture_output=True).returncode == 0:
            return
    raise AssertionError("the engine does not start again")


def _engine_folder() -> Path:
    return Path(address().removeprefix("unix://")).parent


def _dockerd() -> int:
    return int((_engine_folder() / "dockerd.pid").read_text())


def _holders(path: Path) -> list[int]:
    """Processes that have a file open."""
    processes = [one for one in Path("/proc").iterdir() if one.name.isdigit()]
    return [int(process.name) for process in processes if str(path) in open_files(process)]


def _parent(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).ppid())
    except psutil.NoSuchProcess:
        return None


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return []


def _children_called(name: str, pid: int) -> list[int]:
    found = []
    for child in _children(pid):
        with suppress(psutil.NoSuchProcess):
            if child.name() == name:
                found.append(child.pid)
    return found


def _patiently(ask: Callable[[], list[str]]) -> list[str]:
    """An engine that was just killed takes a moment to answer."""
    import docker.errors
    import requests.exceptions

    try:
        return ask()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        return [f"the engine does not answer: {error}"]
