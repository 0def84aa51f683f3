"""A model folder for all tests of this room, and for those with an engine the trial image."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.trial.tiny import write_tiny_model
from wtsbench.images.build import build
from wtsbench.images.docker_engine import connect
from wtsbench.images.pins import ImagePin, write_pin
from wtsbench.sandbox import reaper

BASE = os.environ.get("WTSBENCH_TESTS_BASE_IMAGE", "wtsbench-base")
"""`.ci/docker-engine base` makes it."""


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
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(started, signal.SIGTERM)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> ImagePin:
    """The trial image, pinned in a folder of manifests of its own."""
    with connect() as client:
        if BASE not in {tag.removesuffix(":latest") for image in client.images.list() for tag in image.tags}:
            pytest.fail(f"the engine has no image {BASE}; `.ci/docker-engine base` makes it", pytrace=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WTSBENCH_MANIFESTS", str(tmp_path_factory.mktemp("built")))
        return build(base=BASE)


@pytest.fixture
def image(built: ImagePin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of the trial image, which is pinned under its usual name."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    write_pin("trial", built)
    return built.digest


@pytest.fixture
def client() -> Iterator[Any]:
    """The engine's client."""
    with connect() as found:
        yield found
