"""The trial image for tests that submit with containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox.conftest import built
from wtsbench.images.pins import ImagePin, write_pin

__all__ = ["built", "trial_image"]


@pytest.fixture
def trial_image(built: ImagePin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of the trial image, which is pinned under its usual name for this test."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    write_pin("trial", built)
    return built.digest
