"""Hostile trials: everything around them is real, only what the trial computes is somebody's own code.

A strategy from a plugin, a model's custom code or a bug in a library can do what it likes in a trial's process. So the
fork server of these containers forks a child that runs `inputs/attack.py` in place of a trial, and loads no libraries.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.trial.folders import result_of
from wtsbench.sandbox import contained
from wtsbench.sandbox.container import container_arguments

FORK_SERVER = """
import json, runpy, sys, traceback, types
from wtsbench.worker import fork_server
from wtsbench.trial.faults import failure_of

def run_folder(folder):
    seen = {}
    def tried(name, call):
        try:
            call()
        except BaseException as error:
            seen[name] = type(error).__name__
        else:
            seen[name] = "allowed"
    failure = None
    try:
        runpy.run_path(str(folder / "inputs" / "attack.py"), {"folder": folder, "seen": seen, "tried": tried})
    except Exception as error:
        traceback.print_exc()
        failure = failure_of(error).model_dump(mode="json")
    result = {"status": "failed" if failure else "done", "failure": failure, "seen": seen}
    (folder / "outbox" / "result.json").write_text(json.dumps(result))
    return 1 if failure else 0

fork_server.preload = lambda: None
module = types.ModuleType("wtsbench.trial.run")
module.run_folder = run_folder
sys.modules["wtsbench.trial.run"] = module
sys.exit(fork_server.main(sys.argv[1:]))
"""


def with_attackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on containers run attacks."""

    def arguments(*given: Any, **named: Any) -> dict[str, Any]:
        return container_arguments(*given, **named) | {"entrypoint": ["python", "-P", "-c", FORK_SERVER]}

    monkeypatch.setattr(contained, "container_arguments", arguments)


def attack(folder: Path, code: str) -> Path:
    """A trial folder whose trial is this code; `tried(name, call)` notes how a call ended."""
    for name in ("inputs", "outbox", "scratch"):
        (folder / name).mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    (folder / "inputs" / "attack.py").write_text(textwrap.dedent(code))
    return folder


def seen_by(folder: Path) -> dict[str, Any]:
    """What an attack noted."""
    noted = result_of(folder)["seen"]
    assert isinstance(noted, dict)
    return noted
