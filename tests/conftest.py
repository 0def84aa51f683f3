"""What all tests share: an environment free of the user's settings, and what their markers need."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

with suppress(ModuleNotFoundError):  # a machine lent for its GPU may lack it, and the tests marked so do without
    from hypothesis import settings

    # A busy machine is slow now and then, and a failure must come back the same: no deadline, no chance.
    settings.register_profile("wtsbench", deadline=None, derandomize=True, max_examples=100)
    settings.load_profile("wtsbench")

# Threads that add a few numbers together wait for each other most of the time, and compute nothing meanwhile: on a
# machine that runs other tests as well, ten times as long as one would take. Trials have as many as their grid says.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

REQUIRE = "WTSBENCH_TESTS_REQUIRE"
"""Markers, separated by commas, whose needs must be met: without them a test fails in place of being skipped."""


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The store, manifests and cluster of whoever runs the tests are not touched."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WTSBENCH_STORE", "RAY_ADDRESS", "WTSBENCH_LEASE_SECONDS", "WTSBENCH_POD_IMAGE"):
            patch.delenv(name, raising=False)
        patch.setenv("WTSBENCH_MANIFESTS", str(tmp_path_factory.mktemp("manifests")))
        yield


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu`, import no module without such a test: most need packages that the trial room does without."""
    if config.option.markexpr != "gpu" or not (collection_path.is_dir() or collection_path.name.startswith("test_")):
        return None
    modules = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    marked = re.compile(r"mark\.gpu|\bDEVICES\b")  # the latter are those of `tests.trial.devices`
    return None if any(marked.search(module.read_text()) for module in modules) else True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or where required fail, a test whose marker names something that is not here."""
    for marker, there in (("docker", docker_answers), ("gpu", gpu_answers), ("browser", browser_is_there)):
        if item.get_closest_marker(marker) is not None and not there():
            if marker in os.environ.get(REQUIRE, "").split(","):
                pytest.fail(f"{marker} is required here ({REQUIRE}) and does not answer", pytrace=False)
            pytest.skip(f"{marker} does not answer here")


@cache
def docker_answers() -> bool:
    """Whether an engine that can hold trials answers where the environment says."""
    from wtsbench.errors import SandboxError
    from wtsbench.images.docker_engine import probe

    try:
        probe()
    except SandboxError:
        return False
    return True


@cache
def gpu_answers() -> bool:
    """Whether torch sees a GPU."""
    if shutil.which("nvidia-smi") is None:  # which spares everybody else an import of seconds
        return False
    import torch

    return torch.cuda.is_available()


@cache
def browser_is_there() -> bool:
    """Whether a browser that runs without a screen is installed."""
    return any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "firefox")))
