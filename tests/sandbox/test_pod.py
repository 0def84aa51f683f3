"""Trials in a pod of Kubernetes: which image they say they ran in, and when it is not believed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from wtsbench.errors import SandboxError, SpecError
from wtsbench.execution.session import Options, prepare, submit
from wtsbench.sandbox.base import environment_of
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.spec.grid import Resources
from wtsbench.spec.provenance import environment_lock
from wtsbench.store.client import open_store

DIGEST, OTHER = f"sha256:{'1a' * 32}", f"sha256:{'2b' * 32}"
IMAGE = f"registry.lab.example:5000/wtsbench@{DIGEST}"
GRID = """\
apiVersion: wtsbench/v1
name: pod
tasks: [safety-mini]
pairs:
  - {weak: nano-1, strong: nano-2}
strategies: [naive]
seeds: [0]
data: {weak_train: 80, transfer: 80, validation: 20, test: 60}
"""


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a container finds in its environment, in a pod of our manifests."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("WTSBENCH_POD_IMAGE", IMAGE)


@pytest.mark.usefixtures("pod")
def test_a_process_in_a_pod_names_the_pod_and_its_image() -> None:
    """Isolation, digest and identity say it; the libraries that are found stand beside the image."""
    sandbox = make_sandbox("process")

    assert (sandbox.name, sandbox.image_digest, sandbox.notice) == ("process", DIGEST, None)
    assert f"in a pod of the image {IMAGE}" in sandbox.isolation
    assert "network and files of the pod within reach" in sandbox.isolation
    assert environment_of(sandbox, Resources()) == f"process:{DIGEST}:{environment_lock()}"
    assert environment_of(sandbox, Resources(gpus=1)) == f"process:{DIGEST}:{environment_lock()}:cuda"


@pytest.mark.usefixtures("pod")
def test_auto_without_an_engine_speaks_of_the_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What trials reach is the pod's, not the machine's."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    sandbox = make_sandbox("auto")

    assert sandbox.image_digest == DIGEST
    assert "reach this pod's network and files" in str(sandbox.notice)


@pytest.mark.parametrize(
    "named",
    ["wtsbench:latest", DIGEST, f"wtsbench@{DIGEST[:-1]}", f"wtsbench@{DIGEST} ", "wtsbench@sha256:YOUR-DIGEST"],
)
@pytest.mark.usefixtures("pod")
def test_only_a_digest_names_the_image_of_a_pod(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag, a placeholder or half a digest stops the submission before a record could hold it."""
    monkeypatch.setenv("WTSBENCH_POD_IMAGE", named)

    with pytest.raises(SpecError, match="names no image by its digest"):
        make_sandbox("process")


def test_an_image_of_a_pod_is_not_believed_outside_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable alone, as a shell's profile may set it, makes no pod."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("WTSBENCH_POD_IMAGE", IMAGE)

    with pytest.raises(SpecError, match="it is none"):
        make_sandbox("process")


@pytest.mark.slow
@pytest.mark.usefixtures("pod")
def test_every_record_of_a_pod_names_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with another image than the plan's runs nothing; in the plan's own the trials run, and say where."""
    (tmp_path / "pod.yaml").write_text(GRID)
    options = Options(store=str(tmp_path / "store"), sandbox="process", executor="in-process")
    planned = prepare(str(tmp_path / "pod.yaml"), options, note=lambda text: None)
    monkeypatch.setenv("WTSBENCH_POD_IMAGE", f"wtsbench@{OTHER}")

    with pytest.raises(SandboxError, match=f"would run trial .* in process:{OTHER}"):
        submit(planned, listener=lambda event: None, stop=threading.Event())

    assert open_store(options.store).trials().num_rows == 0
    monkeypatch.setenv("WTSBENCH_POD_IMAGE", IMAGE)
    options = Options(store=str(tmp_path / "again"), sandbox="process", executor="in-process")
    planned = prepare(str(tmp_path / "pod.yaml"), options, note=lambda text: None)
    assert submit(planned, listener=lambda event: None, stop=threading.Event()).done == 3

    for row in open_store(options.store).trials().to_pylist():
        assert (row["status"], row["sandbox"], row["image_digest"]) == ("done", "process", DIGEST)
        assert IMAGE in row["isolation"]
        assert row["environment_lock"] == environment_lock()
        assert row["environment"] == f"process:{DIGEST}:{environment_lock()}"
