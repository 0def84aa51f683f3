"""Engines other than Docker as root: Podman from its own socket, and those that cannot hold a trial."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REQUIRE
from tests.sandbox.conftest import BASE
from wtsbench.errors import SandboxError
from wtsbench.images.docker_engine import connect, probe, shortcoming
from wtsbench.sandbox.contained import create
from wtsbench.sandbox.container import Need, container_arguments, fit_user
from wtsbench.sandbox.granted import not_granted
from wtsbench.sandbox.leftovers import remove
from wtsbench.sandbox.staging import ContainerFolder

# What engines answer to GET /info, as far as it matters: Podman 4.3.1 as a user and as root, Docker 20.10 as root.
PODMAN_AS_USER = {
    "MemoryLimit": True, "PidsLimit": True, "CgroupVersion": "1", "Rootless": True,
    "SecurityOptions": ["name=seccomp,profile=default"],
}  # fmt: skip
PODMAN_AS_ROOT = PODMAN_AS_USER | {"Rootless": False}
DOCKER_AS_ROOT = {
    "MemoryLimit": True, "PidsLimit": True, "CgroupVersion": "1", "SecurityOptions": ["name=seccomp,profile=default"],
}  # fmt: skip


def test_an_engine_that_cannot_hold_a_trial_is_refused() -> None:
    """A rootless engine maps users, and on old control groups leaves the limits out without a word."""
    assert shortcoming(PODMAN_AS_ROOT) is None
    assert shortcoming(DOCKER_AS_ROOT) is None
    for about in (PODMAN_AS_USER, DOCKER_AS_ROOT | {"SecurityOptions": ["name=seccomp", "name=rootless"]}):
        refused = shortcoming(about)
        assert refused is not None
        assert "rootless" in refused.message
        assert "would not limit them" in refused.message
        assert "DOCKER_HOST" in str(refused.remedy)
        newer = shortcoming(about | {"CgroupVersion": "2"})
        assert newer is not None
        assert "limit" not in newer.message
    refused = shortcoming(DOCKER_AS_ROOT | {"MemoryLimit": False})
    assert refused is not None
    assert "limit the memory of a trial" in refused.message


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Podman service as root, with an empty storage of its own and the base image; its address is in the settings."""
    if shutil.which("podman") is None or os.getuid() != 0:
        if "docker" in os.environ.get(REQUIRE, ""):
            pytest.fail("podman is required here, and is not installed", pytrace=False)
        pytest.skip("podman is not installed, or this is not root")
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/images"\nrunroot = "{tmp_path}/run"\n'
    )
    runtime = 'runtime = "runc"\n' if shutil.which("runc") else ""  # crun refuses to run in mixed control groups
    (tmp_path / "containers.conf").write_text(f'[engine]\ncgroup_manager = "cgroupfs"\n{runtime}')
    settings = {
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
        "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
    }
    engine = os.environ.get("DOCKER_HOST")
    address = f"unix://{tmp_path}/podman.sock"
    service = subprocess.Popen(
        ["podman", "system", "service", "--time=0", address],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "podman.sock").exists():
            assert time.monotonic() < deadline
            assert service.poll() is None
            time.sleep(0.1)
        image = _saved(engine)
        monkeypatch.setenv("DOCKER_HOST", address)
        with connect() as client:
            client.images.load(image)
        yield address
    finally:
        os.killpg(service.pid, signal.SIGKILL)
        service.wait()
        subprocess.run(["podman", "system", "reset", "--force"], env=os.environ | settings, capture_output=True)


def _saved(engine: str | None) -> bytes:
    """The base image, out of the Docker engine that other tests use."""
    import docker

    client = docker.DockerClient(engine, timeout=60) if engine else docker.from_env(timeout=60)
    try:
        return b"".join(client.images.get(BASE).save(named=True))
    finally:
        client.close()


def asked_for(folder: Path, image: str, *, memory: int | None = None, run: str = "") -> dict[str, Any]:
    """The container of a trial."""
    made = ContainerFolder.create(folder)
    (made.outside / "n").mkdir()
    (made.outside / "n").chmod(0o777)
    need = Need(image=image, user=fit_user(folder), threads=1, memory=memory, place=folder)
    return container_arguments(need, inside=made.inside, outside=made.outside, lease=made.lease, labels={"run": run})


SEEN = r"""
cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null | head -1
ls /sys/class/net | tr '\n' ' '; echo
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\t' | tr '\n' ' '; echo
closed=closed
for path in /opt/x /trial/in/x /trial/in/lease; do touch $path 2>/dev/null && closed=$path; done
echo $closed
touch /trial/out/n/x && id -u
"""


@pytest.mark.docker
@pytest.mark.slow
def test_podman_holds_a_trial_as_docker_does(podman: str, tmp_path: Path) -> None:
    """Its Docker-compatible socket makes the container that was asked for, and the limits and walls are real."""
    probe()
    with connect() as client:
        image = str(client.images.get(BASE).id)
        arguments = asked_for(tmp_path, image, memory=96 << 20)
        container = create(client, arguments | {"entrypoint": ["sh", "-c", SEEN], "command": []})
        try:
            container.start()
            code = container.wait(timeout=60)["StatusCode"]
            lines = container.logs().decode().splitlines()
        finally:
            remove(container)

    assert code == 0, lines
    assert lines[0] == str(96 << 20)
    assert lines[1].split() == ["lo"]
    assert lines[2].split() == [
        "CapEff:0000000000000000", "CapBnd:0000000000000000", "NoNewPrivs:1", "Seccomp:2",
    ]  # fmt: skip
    assert lines[3] == "closed"
    assert lines[4] == str(fit_user(tmp_path).uid)


@pytest.mark.docker
def test_what_an_engine_left_out_is_seen(tmp_path: Path) -> None:
    """A container without its limits, its user or its walls is told from one that has them."""
    with connect() as client:
        image = str(client.images.get(BASE).id)
        asked = asked_for(tmp_path, image, memory=96 << 20)
        whole = client.containers.create(**asked)
        bare = client.containers.create(image, ["true"], labels=asked["labels"])
        try:
            found = not_granted(asked, bare.attrs)
            assert not_granted(asked, whole.attrs) == []
        finally:
            for one in (whole, bare):
                remove(one)

    told = " ".join(found)
    for what in (
        "Memory",
        "MemorySwap",
        "PidsLimit",
        "NetworkMode",
        "ReadonlyRootfs",
        "user",
        "capabilities",
        "a mount at",
        "the limit nproc",
        "noexec for /tmp",
        "size=",
    ):
        assert what in told
    for name, kind in (("PidMode", "process"), ("IpcMode", "IPC")):
        shared = {**whole.attrs, "HostConfig": {**whole.attrs["HostConfig"], name: "host"}}
        assert not_granted(asked, shared) == [f"{kind} namespace of its own"]
    open_ended = {**whole.attrs, "Mounts": [{**one, "RW": True} for one in whole.attrs["Mounts"]]}
    assert any("it is writable" in one for one in not_granted(asked, open_ended))


@pytest.mark.docker
def test_a_container_without_its_limits_never_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own description of what it made is what counts."""
    seen: list[dict[str, Any]] = []
    with connect() as client:
        image = str(client.images.get(BASE).id)
        asked = asked_for(tmp_path, image, run="unlimited")

        def left_out(arguments: dict[str, Any], attributes: dict[str, Any]) -> list[str]:
            seen.append(attributes)
            return not_granted(arguments | {"mem_limit": 64 << 20}, attributes)

        monkeypatch.setattr("wtsbench.sandbox.contained.not_granted", left_out)
        with pytest.raises(SandboxError, match="without Memory"):
            create(client, asked)
        left = client.containers.list(all=True, filters={"label": "wtsbench.run=unlimited"})

    assert seen
    assert left == []
