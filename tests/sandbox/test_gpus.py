"""Which GPU a container is given, from what a cluster assigns to what the engine is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.test_docker import LABELS
from tests.sandbox.trials import run, short_trial
from wtsbench.errors import SandboxError
from wtsbench.sandbox.classify import classify
from wtsbench.sandbox.contained import create
from wtsbench.sandbox.container import Need, container_arguments, fit_user
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.gpus import cdi_names, uuids_of
from wtsbench.sandbox.leftovers import remove
from wtsbench.sandbox.staging import ContainerFolder
from wtsbench.spec.failure import FailureClass

UUIDS = [f"GPU-{number}0000000-0000-0000-0000-000000000000" for number in range(3)]


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program in the place of `nvidia-smi`, which prints what the driver's own does."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_an_index_becomes_the_uuid_that_the_driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indices are looked up; UUIDs, also of parts of GPUs, are taken as they are."""
    lines = f"0, {UUIDS[0]}, [N/A]\\n1, {UUIDS[1]}, Disabled\\n2, {UUIDS[2]}, Enabled\\n"
    driver(tmp_path, monkeypatch, f"printf '{lines}'")

    assert uuids_of(["1", "0"]) == (UUIDS[1], UUIDS[0])
    assert uuids_of(["MIG-a", "1"]) == ("MIG-a", UUIDS[1])
    with pytest.raises(SandboxError, match="GPU 2, which is divided into parts"):
        uuids_of(["2"])
    with pytest.raises(SandboxError, match="GPU 7, and nvidia-smi lists no such GPU here"):
        uuids_of(["7"])


def test_a_driver_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nvidia-smi says of itself is in the message; where there is none, that is."""
    driver(tmp_path, monkeypatch, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    with pytest.raises(SandboxError, match="NVML: Driver/library version mismatch"):
        uuids_of(["0"])

    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(SandboxError, match="nvidia-smi"):
        uuids_of(["0"])
    assert uuids_of(UUIDS) == tuple(UUIDS)


def test_an_engine_that_knows_devices_by_name_is_asked_by_name(tmp_path: Path) -> None:
    """Where the engine has found these very GPUs through CDI, their names there are asked for, else the UUIDs."""
    found = [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in ("0", *UUIDS[:2], "all")]

    names = cdi_names({"DiscoveredDevices": found}, UUIDS[:2])

    assert names == tuple(f"nvidia.com/gpu={uuid}" for uuid in UUIDS[:2])
    assert cdi_names({"DiscoveredDevices": found}, UUIDS) == ()
    assert cdi_names({"CDISpecDirs": []}, UUIDS) == ()
    need = Need(image="i", user=fit_user(tmp_path), threads=1, gpus=tuple(UUIDS[:2]), cdi=names, place=tmp_path)
    arguments = container_arguments(need, inside=tmp_path, outside=tmp_path, lease=tmp_path, labels=LABELS)
    [request] = arguments["device_requests"]
    assert (request["Driver"], request["DeviceIDs"], request["Count"]) == ("cdi", list(names), 0)


@pytest.mark.docker
def test_the_engine_is_asked_for_these_very_gpus(tmp_path: Path, image: str, client: Any) -> None:
    """The container that the engine made carries the request by UUID, and no variable that would hide a GPU."""
    folder = ContainerFolder.create(tmp_path)
    need = Need(image=image, user=fit_user(tmp_path), threads=1, gpus=tuple(UUIDS[:2]), place=tmp_path)
    made = create(
        client,
        container_arguments(need, inside=folder.inside, outside=folder.outside, lease=folder.lease, labels=LABELS),
    )
    try:
        made.reload()
        [request] = made.attrs["HostConfig"]["DeviceRequests"]
        variables = {line.partition("=")[0] for line in made.attrs["Config"]["Env"]}
    finally:
        remove(made)

    assert (request["DeviceIDs"], request["Count"], request["Capabilities"]) == (UUIDS[:2], 0, [["gpu"]])
    assert "CUDA_VISIBLE_DEVICES" not in variables


@pytest.mark.docker
def test_an_engine_without_gpus_is_an_infrastructure_failure(
    tmp_path: Path, tiny_model: Path, image: str, client: Any
) -> None:
    """The failure says what the node lacks, and nothing is left of the container."""
    if "nvidia" in client.info().get("Runtimes", {}):
        pytest.skip("this engine can give GPUs")
    short_trial(tmp_path / "trial", tiny_model)

    failure = classify(run(DockerSandbox(image, ahead=False), tmp_path / "trial", gpus=UUIDS[:1]), None)

    assert failure is not None
    assert failure.failure_class is FailureClass.INFRASTRUCTURE
    assert "cannot give GPUs" in failure.message
    assert "NVIDIA Container Toolkit" in failure.message
    assert [path.name for path in (tmp_path / ".containers").iterdir()] == ["lock"]
