"""A strategy of another package, in the trial image."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import GRID, Wtsbench, environment, wtsbench_process  # noqa: F401  # fixtures
from tests.sandbox.conftest import BASE

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PLUGIN = Path(__file__).parents[2] / "examples" / "strategy-plugin" / "wtsbench_example_strategy"


def test_a_strategy_of_another_package_runs_in_an_image_that_holds_it(
    tmp_path: Path,
    wtsbench_process: Wtsbench,  # noqa: F811
) -> None:
    """Without it the grid is refused before anything runs, with the command that builds it in; with it, it runs."""
    wheel = tmp_path / "wtsbench_example_strategy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in PLUGIN.glob("*.py"):
            archive.write(file, f"{PLUGIN.name}/{file.name}")
        info = f"{PLUGIN.name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: wtsbench-example-strategy\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/entry_points.txt",
            "[wtsbench.strategies]\nsmoothed = wtsbench_example_strategy.smoothed:Smoothed\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.replace("[naive, logconf]", "[smoothed]"))
    here = {"WTSBENCH_MANIFESTS": str(tmp_path / "manifests"), "PYTHONPATH": _path(tmp_path / "installed")}
    options = ("--sandbox", "docker", "--executor", "in-process")

    assert wtsbench_process("image", "build", "--base", BASE, **here).returncode == 0
    refused = wtsbench_process("submit", grid, *options, **here)
    assert refused.returncode == 5, refused.stderr
    assert "wtsbench image build --with wtsbench-example-strategy==1.0" in refused.stderr

    built = wtsbench_process("image", "build", "--base", BASE, "--with", wheel, **here)
    assert built.returncode == 0, built.stderr
    done = wtsbench_process("submit", grid, *options, **here)
    assert done.returncode == 0, done.stderr
    assert "smoothed" in done.stdout


def _path(folder: Path) -> str:
    return os.pathsep.join(part for part in (str(folder), os.environ.get("PYTHONPATH")) if part)
