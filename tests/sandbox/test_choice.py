"""Which sandbox is taken, and what is said about it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wtsbench.errors import SandboxError, SpecError
from wtsbench.sandbox.choice import make_sandbox


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a Docker engine."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")


@pytest.mark.usefixtures("no_engine")
def test_auto_without_an_engine_takes_processes_and_says_so() -> None:
    """The notice is one sentence with what it means and what to do."""
    sandbox = make_sandbox("auto", image="trial")

    assert sandbox.name == "process"
    assert sandbox.image_digest is None
    assert sandbox.notice is not None
    assert "no Docker engine" in sandbox.notice
    assert "network and files" in sandbox.notice
    assert "start Docker" in sandbox.notice
    assert sandbox.notice.count(". ") == 0


@pytest.mark.usefixtures("no_engine")
def test_docker_without_an_engine_is_an_error() -> None:
    """Who asks for containers gets containers or an error."""
    with pytest.raises(SandboxError, match="no Docker engine") as missing:
        make_sandbox("docker", image="trial")

    assert "DOCKER_HOST" in str(missing.value.remedy)


def test_process_is_taken_without_a_word() -> None:
    """Who asks for processes knows what they are."""
    assert make_sandbox("process").notice is None


@pytest.mark.usefixtures("no_engine")
def test_an_unknown_sandbox_is_refused() -> None:
    """The valid names are told."""
    with pytest.raises(SpecError, match="'podman'") as unknown:
        make_sandbox("podman")
    assert "process or docker" in str(unknown.value.remedy)


def test_an_engine_on_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not see the trial folders, which are here."""
    monkeypatch.setenv("DOCKER_HOST", "ssh://somebody@elsewhere.example")

    with pytest.raises(SandboxError, match="another machine"):
        make_sandbox("docker")


def test_an_engine_that_hangs_does_not_hang_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that takes connections and never answers counts as no engine."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        server.listen()
        chosen: list[str | None] = []
        thread = threading.Thread(target=lambda: chosen.append(make_sandbox("auto").notice), daemon=True)
        thread.start()
        thread.join(timeout=30)

    assert len(chosen) == 1
    assert "no Docker engine answers" in str(chosen[0])


def test_a_process_sandbox_costs_no_heavy_import() -> None:
    """Choosing a sandbox where no engine is imports neither docker nor torch."""
    code = (
        "import os, sys; os.environ['DOCKER_HOST'] = 'unix:///nowhere/docker.sock'\n"
        "from wtsbench.sandbox.choice import make_sandbox\n"
        "make_sandbox('auto'); make_sandbox('process')\n"
        "print([name for name in ('docker', 'torch', 'ray', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
