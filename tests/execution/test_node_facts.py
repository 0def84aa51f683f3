"""What a node says of itself: this machine, asked as a node of a cluster would be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.images.registries import make_image, registry_is_there, running_registry
from tests.models.folders import write_model_folder
from wtsbench.execution.node_answers import Facts, Question
from wtsbench.execution.node_facts import facts, store_file
from wtsbench.execution.node_faults import Node
from wtsbench.images.docker_engine import connect
from wtsbench.models.layout import folder_revision
from wtsbench.spec.provenance import environment_lock
from wtsbench.spec.trial import ModelRef
from wtsbench.store.client import open_store


def asked(tmp_path: Path, **changed: Any) -> Facts:
    """The answer to a question; it survives the way back as JSON."""
    base = {
        "sandbox": "process",
        "environment": f"process:{environment_lock()}",
        "store": str(tmp_path / "store"),
        "named_spool": str(tmp_path / "absent" / "spool"),
    }
    said = facts(Question.model_validate(base | changed))
    assert Facts.model_validate(json.loads(said.model_dump_json())) == said
    return said


def lacks(said: Facts) -> dict[str, str]:
    """What was found lacking, by what it is about."""
    return {lack.about: lack.found for lack in said.lacks}


def test_this_machine(tmp_path: Path) -> None:
    """Trials would run here in the environment that a plan made here names; nothing is made in looking."""
    said = asked(tmp_path)
    assert said.environment == f"process:{environment_lock()}"
    assert lacks(said) == {}
    assert said.spool.writable
    assert said.spool.free > 0
    assert 0 < said.memory_free <= said.memory
    assert said.store is not None
    assert said.store.file is None
    assert list(tmp_path.iterdir()) == []
    open_store(str(tmp_path / "store"), create=True)
    there = asked(tmp_path).store
    assert there is not None
    assert there.file == store_file(str(tmp_path / "store")) is not None


def test_a_node_has_a_disk_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its settings name a folder for attempts, that one is looked at, and not the one of who asks."""
    assert asked(tmp_path).spool.path == str(tmp_path / "absent" / "spool")
    monkeypatch.setenv("WTSBENCH_SPOOL", str(tmp_path / "own"))
    assert asked(tmp_path).spool.path == str(tmp_path / "own")
    assert asked(tmp_path, store="grpc://127.0.0.1:1").spool.path.startswith(str(tmp_path / "own"))
    monkeypatch.setenv("WTSBENCH_SPOOL", "/proc/none")
    assert asked(tmp_path).spool.free == 0  # a file system of another kind


def test_a_node_judges_itself_by_who_asked(tmp_path: Path) -> None:
    """As a worker does on a node that joined later: it refuses what was planned for other libraries."""
    from wtsbench.execution.preflight import refusal, this_machine

    open_store(str(tmp_path / "store"), create=True)
    node = Node(id="0", name="here", address="127.0.0.1", offers={"CPU": 1}, runs_trials=True)
    question = Question(
        sandbox="process",
        environment=f"process:{environment_lock()}",
        store=str(tmp_path / "store"),
        store_file=store_file(str(tmp_path / "store")),
    )
    here = this_machine()
    assert refusal(node, question, here) is None
    refused = refusal(node, question.model_copy(update={"environment": "process:other"}), here)
    assert refused is not None
    assert refused.startswith("other libraries")
    elsewhere = replace(here, installation=here.installation.model_copy(update={"wtsbench": "0.0.1"}))
    assert "and 0.0.1 here" in str(refusal(node, question, elsewhere))


def test_what_is_lacking_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine, no strategy's package, no model folder or another than planned, no server: each by itself."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    docker = asked(tmp_path, sandbox="docker", image="sha256:" + "0" * 64)
    assert docker.environment is None
    assert docker.image is None
    assert "no Docker engine runs" in lacks(docker)["image"]
    packages = asked(tmp_path, strategies=["not-there==1.0", "numpy==0.0.1"])
    assert [lack.about for lack in packages.lacks] == ["strategies", "strategies"]
    assert "not-there==1.0 of a strategy is not installed" in packages.lacks[0].found
    assert lacks(asked(tmp_path, store="grpc://127.0.0.1:1")).keys() == {"store"}

    folder = write_model_folder(tmp_path / "model")
    revision = folder_revision(folder, what="it")
    model = ModelRef(name="./model", kind="folder", id="model", revision=revision, path=str(folder))
    assert asked(tmp_path, models=[model]).models == {"./model": "here"}
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert "have changed since" in lacks(asked(tmp_path, models=[model]))["models"]
    assert asked(tmp_path, models=[model], thorough=False).models == {"./model": "here"}  # which reads nothing
    gone = model.model_copy(update={"path": str(tmp_path / "gone")})
    assert "there is no folder" in lacks(asked(tmp_path, models=[gone], thorough=False))["models"]


HEADER = "| NVIDIA-SMI 570.86.15      Driver Version: 570.86.15      CUDA Version: 12.8     |"


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver prints is read: each GPU, its memory, and the newest CUDA; without a driver there is none."""
    program = tmp_path / "nvidia-smi"
    rows = "NVIDIA H200, 570.86.15, 143771\\nNVIDIA H200, 570.86.15, [N/A]\\n"
    program.write_text(f"#!/bin/sh\nif [ $# = 0 ]; then echo '{HEADER}'; else printf '{rows}'; fi\n")
    program.chmod(0o755)
    assert asked(tmp_path, thorough=False).gpus == ()  # trials without GPUs do not wait for a driver
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    said = asked(tmp_path, gpus=1)
    assert [(gpu.name, gpu.driver, gpu.memory) for gpu in said.gpus] == [
        ("NVIDIA H200", "570.86.15", 143771 * 2**20),
        ("NVIDIA H200", "570.86.15", 0),
    ]
    assert said.driver_cuda == "12.8"
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML'; exit 18\n")
    assert asked(tmp_path, gpus=1).gpus == ()


@pytest.mark.docker
def test_the_image(tmp_path: Path) -> None:
    """An image is here by its id; one that only its registry has can be pulled, and until then trials would fail."""
    if not registry_is_there():
        pytest.skip("docker-registry is not installed")
    with running_registry(tmp_path) as registry, connect() as client:
        name = f"{registry.address}/trial:1"
        image = make_image(client, tmp_path, name)
        client.images.push(name)
        (reference,) = client.images.get(image).attrs["RepoDigests"]
        question = {"sandbox": "docker", "image": image, "image_reference": reference}
        try:
            here = asked(tmp_path, **question)
            assert (here.image, here.environment, lacks(here)) == ("here", f"docker:{image}", {})
            assert here.engine is not None
        finally:
            client.images.remove(image, force=True)
        away = asked(tmp_path, **question)
        assert (away.image, away.environment) == ("pullable", None)
        assert away.lacks[0].remedy == f"docker pull {reference}"
        assert asked(tmp_path, **question, thorough=False).image is None
        registry.stop()
        assert asked(tmp_path, **question).image is None
