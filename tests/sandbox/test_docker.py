"""The docker sandbox on a real engine, with a trial image built from the base image that CI makes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.trials import endless_trial, in_thread, run, short_trial, wait_for_progress
from tests.trial.folders import predictions_of, result_of
from tests.trial.processes import environment
from wtsbench.errors import SandboxError
from wtsbench.sandbox import reaper
from wtsbench.sandbox.base import classify, make_sandbox
from wtsbench.sandbox.container import container_arguments, fit_user
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.engine import connect, node
from wtsbench.sandbox.image import build
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import remove, sweep, trial_containers
from wtsbench.sandbox.pins import ImagePin, pins, write_pin
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.spec.failure import FailureClass

pytestmark = pytest.mark.docker

BASE = os.environ.get("WTSBENCH_TESTS_BASE_IMAGE", "wtsbench-base")
"""`.ci/docker-engine base` makes it."""
NOWHERE = "sha256:" + "0" * 64
LABELS = {"run": "test", "trial": "0" * 64, "attempt": "1"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> ImagePin:
    """The trial image, pinned in a folder of manifests of its own."""
    with connect() as client:
        if BASE not in {tag.removesuffix(":latest") for image in client.images.list() for tag in image.tags}:
            pytest.fail(f"the engine has no image {BASE}; `.ci/docker-engine base` makes it", pytrace=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WTSBENCH_MANIFESTS", str(tmp_path_factory.mktemp("built")))
        return build(base=BASE)


@pytest.fixture
def image(built: ImagePin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of the trial image, which is pinned under its usual name."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    write_pin("trial", built)
    return built.digest


@pytest.fixture
def client() -> Iterator[Any]:
    """The engine's client."""
    with connect() as found:
        yield found


def containers_below(client: Any, folder: Path) -> list[Any]:
    """Containers of the trials of a folder."""
    return [one for one in trial_containers(client) if one.labels["wtsbench.lease"].startswith(f"{folder}/")]


def test_container_and_process_give_the_same_numbers(tmp_path: Path, tiny_model: Path, image: str, client: Any) -> None:
    """A trial's predictions agree to the last bit, its log is kept, and no container is left."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    job = short_trial(inside, tiny_model)
    short_trial(outside, tiny_model)
    sandbox = make_sandbox("docker", image="trial")

    outcome = run(sandbox, inside)
    run(ProcessSandbox(), outside)

    assert classify(outcome, result_of(inside)) is None, outcome
    assert predictions_of(inside, job)
    assert predictions_of(inside, job) == predictions_of(outside, job)
    assert "done: loss" in outcome.log_tail
    assert (inside / "log.txt").read_text().endswith(outcome.log_tail)
    assert (sandbox.name, sandbox.image_digest, sandbox.notice) == ("docker", image, None)
    assert containers_below(client, tmp_path) == []
    assert reaper.running() is not None
    shutil.rmtree(inside)


def test_auto_takes_docker_where_it_can(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With engine and image it is docker; with an image that the engine lacks a process, and a word about it."""
    assert make_sandbox("auto").image_digest == image

    write_pin("trial", ImagePin(id=NOWHERE))
    sandbox = make_sandbox("auto")

    assert sandbox.name == "process"
    assert "wtsbench image build" in str(sandbox.notice)
    with pytest.raises(SandboxError, match="not on this Docker engine"):
        make_sandbox("docker")


def test_an_image_with_other_code_is_pointed_out(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that has changed since the image was built is not run unnoticed."""
    monkeypatch.setattr("wtsbench.sandbox.docker.code_digest", lambda: "other")

    assert "wtsbench image build" in str(make_sandbox("docker").notice)


def test_building_unchanged_code_gives_the_same_image(
    built: ImagePin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image id is part of a trial's identity, so it must not change where nothing else does."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path))

    assert build(base=BASE).id == built.id
    assert pins()["trial"].id == built.id


PROBE = """
import importlib.util, json, os, pathlib, socket
def tried(call):
    try:
        call()
    except OSError as error:
        return type(error).__name__
    return "allowed"
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "network": tried(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2)),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "root": tried(lambda: pathlib.Path("/opt/x").write_text("x")),
    "inputs": tried(lambda: pathlib.Path("/trial/inputs/x").write_text("x")),
    "spec": tried(lambda: pathlib.Path("/trial/spec.json").write_text("x")),
    "lease": tried(lambda: os.utime("/trial/lease")),
    "model": tried(lambda: pathlib.Path("/trial/model/x").write_text("x")),
    "outbox": tried(lambda: pathlib.Path("/trial/outbox/x").write_text("x")),
    "scratch": tried(lambda: pathlib.Path("/trial/scratch/x").write_text("x")),
    "temporary": tried(lambda: pathlib.Path("/tmp/x").write_text("x")),
    "uid": os.getuid(),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"],
    "packages": [name for name in ("ray", "docker", "duckdb", "datasets", "pip") if importlib.util.find_spec(name)],
    "secrets": [name for name, value in os.environ.items() if "secret" in value],
}))
"""


def test_the_walls_hold(
    tmp_path: Path, tiny_model: Path, image: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From inside there is no network, no right, no token, and nothing writable but outbox, scratch and /tmp."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    folder = tmp_path / "trial"
    short_trial(folder, tiny_model)
    with Renewal(folder / "lease"):
        arguments = container_arguments(
            folder, fit_user(folder), image=image, threads=1, gpus=(), memory=256 << 20, labels=LABELS
        )
        probing = {"entrypoint": ["python", "-c", PROBE], "command": []}
        container = DockerSandbox(image).create(client, arguments | probing)
        try:
            container.start()
            assert container.wait()["StatusCode"] == 0, container.logs()
            seen = json.loads(container.logs())
            container.reload()
        finally:
            remove(container)

    denied = {"network", "root", "inputs", "spec", "lease", "model"}
    assert {name: seen[name] for name in denied if seen[name] == "allowed"} == {}
    assert [seen[name] for name in ("outbox", "scratch", "temporary")] == ["allowed"] * 3
    assert seen["interfaces"] == ["lo"]
    assert seen["uid"] != 0
    assert seen["capabilities"] == 0
    assert seen["no_new_privileges"] == "1"
    assert seen["packages"] == []
    assert seen["secrets"] == []
    host = container.attrs["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 256 << 20
    assert host["PidsLimit"] == 512
    assert host["LogConfig"]["Config"]["max-size"]
    assert container.labels["wtsbench.run"] == "test"
    assert container.labels["wtsbench.trial"] == LABELS["trial"]
    assert container.labels["wtsbench.attempt"] == "1"
    assert container.labels["wtsbench.node"] == node()
    assert container.labels["wtsbench.lease"] == str(folder / "lease")


def test_limits_and_stops_are_told_apart(tmp_path: Path, tiny_model: Path, image: str, client: Any) -> None:
    """Time, memory and the user each end a container in their own way, and none of them leaves it behind."""
    sandbox = DockerSandbox(image)
    cancelled = threading.Event()
    for name in ("late", "large", "stopped"):
        endless_trial(tmp_path / name, tiny_model)

    def stop() -> None:
        wait_for_progress(tmp_path / "stopped", seconds=300)
        cancelled.set()

    stopper = in_thread(stop)
    late = run(sandbox, tmp_path / "late", seconds=0.5)
    large = run(sandbox, tmp_path / "large", memory=48 << 20)
    stopped = run(sandbox, tmp_path / "stopped", cancelled=cancelled)
    stopper.join()

    found = [failure.failure_class for one in (late, large, stopped) if (failure := classify(one, None)) is not None]
    assert found == [FailureClass.TIMEOUT, FailureClass.OUT_OF_MEMORY, FailureClass.CANCELLED]
    assert stopped.log_tail
    assert containers_below(client, tmp_path) == []


def test_a_failing_trial_tells_its_class(tmp_path: Path, tiny_model: Path, image: str) -> None:
    """Exit code and result come out of the container as they are, as files of the trial folder's owner."""
    folder = tmp_path / "trial"
    short_trial(folder, tiny_model)
    (folder / "inputs" / "items.arrow").write_bytes(b"no arrow")
    if os.getuid() == 0:  # as if another user had submitted it
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 12345, 12345, follow_symlinks=False)

    outcome = run(DockerSandbox(image), folder)
    failure = classify(outcome, result_of(folder))

    assert (folder / "outbox" / "result.json").stat().st_uid == folder.stat().st_uid
    assert outcome.exit_code == 1
    assert failure is not None
    assert failure.failure_class is FailureClass.TRIAL_ERROR
    assert "Traceback" in outcome.log_tail


def test_an_image_that_is_gone_is_an_infrastructure_failure(tmp_path: Path, tiny_model: Path) -> None:
    """An engine that has lost the image fails the attempt, not the run."""
    short_trial(tmp_path / "trial", tiny_model)

    failure = classify(run(DockerSandbox(NOWHERE), tmp_path / "trial"), None)

    assert failure is not None
    assert failure.failure_class is FailureClass.INFRASTRUCTURE
    assert NOWHERE in failure.message


def test_a_container_that_is_taken_away_is_an_infrastructure_failure(
    tmp_path: Path, tiny_model: Path, image: str, client: Any
) -> None:
    """Somebody who removes a running container is told of, and cleaning up what is gone breaks nothing."""
    endless_trial(tmp_path / "trial", tiny_model)

    def take_away() -> None:
        wait_for_progress(tmp_path / "trial")
        for container in containers_below(client, tmp_path):
            container.remove(force=True)

    thief = in_thread(take_away)
    outcome = run(DockerSandbox(image), tmp_path / "trial")
    thief.join()
    failure = classify(outcome, None)

    assert failure is not None
    assert failure.failure_class is FailureClass.INFRASTRUCTURE


def test_a_sweep_takes_stale_containers_only(tmp_path: Path, tiny_model: Path, image: str, client: Any) -> None:
    """A container whose lease nobody holds or that is gone is removed; one whose lease is held is somebody's."""
    made = {}
    with contextlib.ExitStack() as held, contextlib.ExitStack() as let_go:
        for name in ("dead", "gone", "living"):
            folder = tmp_path / name
            short_trial(folder, tiny_model)
            (held if name == "living" else let_go).enter_context(Renewal(folder / "lease"))
            arguments = container_arguments(
                folder, fit_user(folder), image=image, threads=1, gpus=(), memory=None, labels=LABELS
            )
            sleeping = {"entrypoint": ["sleep"], "command": ["600"]}
            made[name] = DockerSandbox(image).create(client, arguments | sleeping)
            held.callback(remove, made[name])
            made[name].start()
        assert not {container.id for container in made.values()} & set(sweep(client))
        let_go.close()
        shutil.rmtree(tmp_path / "gone")

        swept = set(sweep(client))
        left = {container.id for container in containers_below(client, tmp_path)}

    assert {made["dead"].id, made["gone"].id} <= swept
    assert left == {made["living"].id}


SUPERVISOR = """
import sys
from pathlib import Path
from tests.sandbox.trials import run
from wtsbench.sandbox import reaper
from wtsbench.sandbox.docker import DockerSandbox
reaper.ensure = lambda: None
run(DockerSandbox(sys.argv[2]), Path(sys.argv[1]))
"""


def test_a_container_ends_itself_when_its_supervisor_is_killed(
    tmp_path: Path, tiny_model: Path, image: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no reaper runs it has stopped computing within the lease's time, and the next sweep removes it."""
    endless_trial(tmp_path / "trial", tiny_model)
    monkeypatch.setenv("WTSBENCH_LEASE_SECONDS", "3")
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "trial"), image],
        env=environment(),
    )
    with supervisor:
        wait_for_progress(tmp_path / "trial")
        supervisor.kill()
    [container] = containers_below(client, tmp_path)

    assert container.wait(timeout=60)["StatusCode"] == 70
    assert container.id in sweep(client)
