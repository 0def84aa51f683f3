"""How trials in containers end badly: each end is provoked for real, and its record says what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.attack import attack, seen_by, with_attackers
from tests.sandbox.trials import in_thread, on_a_node_without_a_reaper, run
from tests.trial.folders import last_word_of
from tests.trial.processes import wait_for
from wtsbench.sandbox.classify import classify
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.leftovers import sweep, sweep_folders
from wtsbench.spec.failure import FailureClass

pytestmark = pytest.mark.docker


@pytest.fixture(autouse=True)
def _attackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials of this module run code of the test."""
    with_attackers(monkeypatch)


ENDS = {
    "exit code": ("os._exit(3)", FailureClass.TRIAL_ERROR, "exit code 3"),
    "no result": ("os._exit(0)", FailureClass.INFRASTRUCTURE, "left no result"),
    "crash": ("ctypes.string_at(0)", FailureClass.TRIAL_ERROR, "SIGSEGV"),
    "abort": ("os.abort()", FailureClass.TRIAL_ERROR, "SIGABRT"),
    "killed": ("os.kill(os.getpid(), 9)", FailureClass.INFRASTRUCTURE, "SIGKILL"),
    "bus error": ("os.kill(os.getpid(), 7)", FailureClass.INFRASTRUCTURE, "SIGBUS"),
    "driver": (
        "print('Failed to initialize NVML: Unknown Error', flush=True); os._exit(1)",
        FailureClass.INFRASTRUCTURE,
        "the node failed it",
    ),
    "gpu memory": (
        "print('torch.OutOfMemoryError: CUDA out of memory.', flush=True); os.abort()",
        FailureClass.OUT_OF_MEMORY,
        "ran out of memory",
    ),
    "memory": ("raise MemoryError", FailureClass.OUT_OF_MEMORY, "MemoryError"),
    "gpu memory, said": ("raise RuntimeError('CUDA out of memory. Tried')", FailureClass.OUT_OF_MEMORY, "CUDA out of"),
    "driver, said": ("raise RuntimeError('NVML_SUCCESS == r')", FailureClass.INFRASTRUCTURE, "NVML"),
    "bug": ("raise KeyError('x')", FailureClass.TRIAL_ERROR, "KeyError"),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_end_is_told_apart(tmp_path: Path, image: str, name: str) -> None:
    """The class is the one whose retry helps or not, the message names the end, and what was printed is kept."""
    code, expected, words = ENDS[name]
    folder = attack(tmp_path / "trial", f"import ctypes, os\nprint('so far', flush=True)\n{code}")

    outcome = run(DockerSandbox(image, ahead=False), folder)

    result = folder / "outbox" / "result.json"
    failure = classify(outcome, last_word_of(folder) if result.exists() else None)
    assert failure is not None
    assert failure.failure_class is expected
    assert words in failure.message
    assert failure.detail
    assert "so far" in outcome.log_tail


def test_a_trial_outlives_its_engine_and_cleaning_up_fails_no_trial(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch, client: Any
) -> None:
    """An engine that goes away under a running trial costs nothing: it ends well, and a later sweep clears up."""
    on_a_node_without_a_reaper(monkeypatch)
    wait = """
        import os, time
        (folder / "scratch" / "progress.json").touch()
        while not (folder / "scratch" / "go").exists():
            time.sleep(0.02)
    """
    folder = attack(tmp_path / "trial", wait)
    found = []
    thread = in_thread(lambda: found.append(run(DockerSandbox(image, ahead=False), folder)))
    wait_for(lambda: (folder / "scratch" / "progress.json").exists())
    with monkeypatch.context() as gone:
        gone.setenv("DOCKER_HOST", f"unix://{tmp_path}/gone.sock")
        gone.setattr("wtsbench.images.docker_engine.AWAY_SECONDS", 1.0)
        (folder / "scratch" / "go").touch()
        thread.join(timeout=60)
        later = classify(run(DockerSandbox(image, ahead=False), attack(tmp_path / "later", "")), None)

    [outcome] = found
    assert outcome.exit_code == 0
    assert seen_by(folder) == {}
    assert later is not None
    assert later.failure_class is FailureClass.INFRASTRUCTURE
    assert "no Docker engine runs" in later.message
    assert sweep(client)
    sweep_folders(tmp_path / ".containers")
    assert [path.name for path in (tmp_path / ".containers").iterdir()] == ["lock"]
