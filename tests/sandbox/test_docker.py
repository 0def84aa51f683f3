"""The docker sandbox on a real engine, with a trial image built from the base image that CI makes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.conftest import BASE
from tests.sandbox.trials import (
    NODE,
    endless_trial,
    in_thread,
    on_a_node_without_a_reaper,
    run,
    short_trial,
    wait_for_progress,
)
from tests.trial.folders import last_word_of, predictions_of
from tests.trial.processes import environment
from wtsbench.contract.folder import ExitCode
from wtsbench.errors import SandboxError
from wtsbench.images.build import _Build, build
from wtsbench.images.pins import Built, ImagePin, pins, write_pin
from wtsbench.sandbox import reaper
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.sandbox.classify import classify
from wtsbench.sandbox.contained import ContainerChannel, create
from wtsbench.sandbox.container import Need, container_arguments, fit_user
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import remove, sweep, sweep_folders, trial_containers
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.sandbox.staging import ContainerFolder, reclaim
from wtsbench.sandbox.usage import _kill_counters, kernel_kills
from wtsbench.spec.failure import FailureClass

pytestmark = pytest.mark.docker

NOWHERE = "sha256:" + "0" * 64
LABELS = {"run": "test", "trial": "0" * 64, "attempt": "1"}


def containers_below(client: Any, folder: Path) -> list[Any]:
    """Containers of the trials of a folder."""
    return [one for one in trial_containers(client) if one.labels["wtsbench.lease"].startswith(f"{folder}/")]


def test_every_sandbox_gives_the_same_numbers(tmp_path: Path, tiny_model: Path, image: str, client: Any) -> None:
    """A process, a container and one that was made ahead agree to the last bit, and say which they are."""
    outside = tmp_path / "process"
    job = short_trial(outside, tiny_model)
    run(ProcessSandbox(), outside)
    expected = predictions_of(outside, job)
    assert expected
    sandbox = make_sandbox("docker", place=tmp_path / "place")
    for turn in ("first", "second"):  # the second in a container that was made ahead
        folder = tmp_path / turn
        short_trial(folder, tiny_model)
        outcome = run(sandbox, folder)
        assert classify(outcome, last_word_of(folder)) is None, outcome
        assert predictions_of(folder, job) == expected
        assert "done: loss" in outcome.log_tail
        assert (folder / "log.txt").read_text().endswith(outcome.log_tail)
        assert not {path.name for path in folder.rglob("*") if path.is_symlink()} - {"model"}
    assert (sandbox.name, sandbox.image_digest, sandbox.notice) == ("docker", image, None)
    assert sandbox.isolation.startswith("container, no")
    assert reaper.running() is not None
    sandbox.close()
    assert containers_below(client, tmp_path) == []
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["lock"]


def test_closing_waits_for_a_container_that_is_being_made(
    tmp_path: Path, tiny_model: Path, image: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next trial's container, which comes after the last trial has ended, is not left behind."""
    coming = threading.Event()

    def late(client: Any, arguments: dict[str, Any]) -> Any:
        if not arguments["labels"]["wtsbench.trial"]:
            coming.set()
            time.sleep(2)
        return create(client, arguments)

    monkeypatch.setattr("wtsbench.sandbox.contained.create", late)
    short_trial(tmp_path / "trial", tiny_model)
    sandbox = DockerSandbox(image, place=tmp_path / "place")
    run(sandbox, tmp_path / "trial")
    assert coming.wait(60)
    sandbox.close()
    assert containers_below(client, tmp_path) == []
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["lock"]


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


def test_a_build_leaves_no_image_without_a_name(tmp_path: Path, client: Any) -> None:
    """What is built on the way is gone afterwards, and so is what a build that failed had made; the base stays."""
    once = os.urandom(8).hex()
    about = Built(wtsbench="0", code=once, base="x")
    base = client.images.get(BASE)
    bench = _Build(client=client, base=base, context=tmp_path, scratch=tmp_path, key=once, built=about)
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE\nFROM ${BASE} AS settings\nARG CODE\nLABEL code=${CODE}\n"
        "FROM settings AS wrong\nRUN touch /made\nRUN exit 3\n"
    )
    bench._stage("settings")
    with pytest.raises(SandboxError, match="cannot be built"):
        bench._stage("wrong")
    made = set(bench.made)
    assert len(made) == 2
    bench.clear()
    held = {image.id for image in client.images.list(all=True)}
    assert base.id in held
    assert not any(name.removeprefix("sha256:") in image for image in held for name in made)
    assert not client.images.list(filters={"dangling": True, "label": f"code={once}"})


def test_limits_and_stops_are_told_apart(tmp_path: Path, tiny_model: Path, image: str, client: Any) -> None:
    """Time, memory and the user each end a container in their own way, and none of them leaves it behind."""
    sandbox = DockerSandbox(image, ahead=False)
    cancelled = threading.Event()
    for name in ("late", "large", "stopped"):
        endless_trial(tmp_path / name, tiny_model)

    def stop() -> None:
        wait_for_progress(tmp_path / "stopped", seconds=300)
        cancelled.set()

    stopper = in_thread(stop)
    late = run(sandbox, tmp_path / "late", time=0.5)
    kills = kernel_kills()
    large = run(sandbox, tmp_path / "large", memory=48 << 20)
    if any(path.exists() for path in _kill_counters()):  # a kill in a container is none of this process's group
        assert kernel_kills() == kills
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

    outcome = run(DockerSandbox(image, ahead=False), folder)
    failure = classify(outcome, last_word_of(folder))

    assert (folder / "outbox" / "result.json").stat().st_uid == folder.stat().st_uid
    assert outcome.exit_code == 1
    assert failure is not None
    assert failure.failure_class is FailureClass.TRIAL_ERROR
    assert "Traceback" in outcome.log_tail


def test_an_image_that_is_gone_is_an_infrastructure_failure(tmp_path: Path, tiny_model: Path) -> None:
    """An engine that has lost the image fails the attempt, not the run."""
    short_trial(tmp_path / "trial", tiny_model)

    failure = classify(run(DockerSandbox(NOWHERE, ahead=False), tmp_path / "trial"), None)

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
    outcome = run(DockerSandbox(image, ahead=False), tmp_path / "trial")
    thief.join()
    failure = classify(outcome, None)

    assert failure is not None
    assert failure.failure_class is FailureClass.INFRASTRUCTURE


def test_a_sweep_takes_stale_containers_only(
    tmp_path: Path, image: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose lease nobody holds or that is gone is removed; one whose lease is held is somebody's."""
    on_a_node_without_a_reaper(monkeypatch)
    made = {}
    with contextlib.ExitStack() as held, contextlib.ExitStack() as let_go:
        for name in ("dead", "gone", "living"):
            folder = ContainerFolder.create(tmp_path / name)
            (held if name == "living" else let_go).enter_context(Renewal(folder.lease))
            need = Need(image=image, user=fit_user(tmp_path), threads=1, place=tmp_path)
            arguments = container_arguments(
                need, inside=folder.inside, outside=folder.outside, lease=folder.lease, labels=LABELS
            )
            made[name] = create(client, arguments | {"entrypoint": ["sleep"], "command": ["600"]})
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
from wtsbench.sandbox import container, reaper
from wtsbench.sandbox.docker import DockerSandbox
reaper.ensure = lambda: None
container.node = lambda: sys.argv[3]
run(DockerSandbox(sys.argv[2], ahead=False), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 0), (signal.SIGSTOP, ExitCode.NO_RESULT)])
def test_a_container_ends_itself_with_its_supervisor(
    tmp_path: Path,
    tiny_model: Path,
    image: str,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    """It stops at once where the supervisor is killed, within the lease's time where it hangs; a sweep removes it."""
    on_a_node_without_a_reaper(monkeypatch)
    endless_trial(tmp_path / "trial", tiny_model)
    monkeypatch.setenv("WTSBENCH_LEASE_SECONDS", "3")
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "trial"), image, NODE],
        env=environment(),
    )
    with supervisor:
        try:
            wait_for_progress(tmp_path / "trial")
            supervisor.send_signal(number)
            [container] = containers_below(client, tmp_path)
            assert container.wait(timeout=60)["StatusCode"] == code
        finally:
            supervisor.kill()
    assert container.id in sweep(client)
    reclaim(tmp_path / "trial")
    assert list((tmp_path / "trial" / "outbox").iterdir()) == []
    sweep_folders(tmp_path / ".containers")
    assert [path.name for path in (tmp_path / ".containers").iterdir()] == ["lock"]


def test_a_container_that_still_loads_ends_with_its_supervisor(tmp_path: Path, image: str, client: Any) -> None:
    """Nobody has to wait until libraries are loaded for a trial that will not come."""
    need = Need(image=image, user=fit_user(tmp_path), threads=1, place=tmp_path)
    channel = ContainerChannel(need, LABELS)
    assert channel.container is not None
    try:
        time.sleep(0.5)  # it has opened its requests, and imports
        channel.hang_up()
        ended = client.api.wait(channel.container.id, timeout=60)
        answers = list(channel.answers())
    finally:
        channel.close()

    assert ended["StatusCode"] == 0
    assert answers == []
