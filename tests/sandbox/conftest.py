"""A model folder for all tests of this room."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trial.tiny import write_tiny_model
from wtsbench.sandbox import reaper


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model folder with random weights, which anybody may read, as containers of root's are not root."""
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_reaper_is_left() -> Iterator[None]:
    """The reaper that these tests start ends with them; one that ran before goes on."""
    before = reaper.running()
    yield
    started = reaper.running()
    if started is not None and started != before:
        os.kill(started, signal.SIGTERM)
