"""Helpers that run the command line as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import called

GRID = """\
apiVersion: wtsbench/v1
name: small
tasks: [safety-mini]
pairs:
  - {weak: nano-1, strong: nano-2}
strategies: [naive, logconf]
seeds: [0]
data: {weak_train: 60, transfer: 80, validation: 20, test: 60}
training: {epochs: 1}
"""

Wtsbench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The tests' environment, with a store of its own and no terminal, CI or cluster that could change the output."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "COLUMNS", "CI")}
    return {**kept, "WTSBENCH_STORE": str(tmp_path / "store"), "NO_COLOR": "1"}


@pytest.fixture
def wtsbench(tmp_path: Path, environment: dict[str, str]) -> Wtsbench:
    """Runs `wtsbench ARGUMENTS` in an empty folder, in this process."""

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return called([*map(str, arguments)], folder=tmp_path, variables={**environment, **variables})

    return run


@pytest.fixture
def wtsbench_process(tmp_path: Path, environment: dict[str, str]) -> Wtsbench:
    """The same in a process of its own."""

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "wtsbench_cli", *map(str, arguments)],
            env={**environment, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A grid of four trials."""
    path = tmp_path / "small.yaml"
    path.write_text(GRID)
    return path
