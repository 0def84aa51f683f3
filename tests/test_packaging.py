"""What the package declares is what its code needs, and the commands of the Makefile fail clearly."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import wtsbench

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"wtsbench": ROOT / "benchmark" / "wtsbench", "wtsbench_cli": ROOT / "cli" / "wtsbench_cli"}


def project() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def canonical(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    """Names of requirements."""
    return {canonical(re.split(r"[ <>=!~;\[]", requirement)[0]) for requirement in requirements}


PARTS = {"pydantic-core"}
"""Distributions that are a part of a declared one, which pins them exactly."""


def imported() -> set[str]:
    """Distributions that the code imports anywhere, inside functions too."""
    modules: set[str] = set()
    for folder in ROOMS.values():
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(), str(path))):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules.add(node.module.partition(".")[0])
    owners = metadata.packages_distributions()
    outside = modules - set(sys.stdlib_module_names) - set(ROOMS)
    assert outside <= set(owners), f"imported and not installed: {outside - set(owners)}"
    chosen = declared(project()["project"]["dependencies"])
    named = ([canonical(owner) for owner in owners[module]] for module in outside)
    # Several distributions may share a namespace (google): then a declared one among them is what is meant.
    return {next((name for name in names if name in chosen), names[0]) for names in named} - PARTS


def test_dependencies_are_those_imported() -> None:
    """No import relies on another package's dependencies, and nothing is declared that is not used."""
    assert declared(project()["project"]["dependencies"]) == imported()


def test_every_dependency_has_a_reason() -> None:
    """Each requirement stands on its own line, with why it is there."""
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in [
        *project()["project"]["dependencies"],
        *(line for lines in project()["project"]["optional-dependencies"].values() for line in lines),
    ]:
        assert re.search(rf'^    "{re.escape(requirement)}", +# \w', text, re.MULTILINE), requirement


def pins() -> dict[str, str]:
    """Version by distribution, as constraints.txt has them."""
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): version for name, version in pairs}


def test_everything_is_pinned() -> None:
    """The constraints hold every package that the project and its development need, down to the last."""
    packaging = pytest.importorskip("packaging.requirements")
    build = project()["build-system"]["requires"]
    waiting = [packaging.Requirement(line) for line in [*(metadata.requires("wtsbench") or ()), *build]]
    needed: set[str] = set()
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonical(requirement.name)
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", "dev"))
        if str(requirement) in seen or not wanted:
            continue
        seen.add(str(requirement))
        needed.add(name)
        if name not in declared(build):  # what builds the wheel is not part of the environment
            extras = requirement.extras or {""}
            waiting += [
                child
                for child in map(packaging.Requirement, metadata.requires(name) or ())
                if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras)
            ]
    optional = {name for name in needed - set(pins()) if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    assert needed - optional <= set(pins()), "run in a fresh environment and add what is missing"


def test_pins_meet_the_ranges() -> None:
    """Every pinned version is one that pyproject.toml allows."""
    packaging = pytest.importorskip("packaging.requirements")
    for line in [*project()["project"]["dependencies"], *project()["project"]["optional-dependencies"]["dev"]]:
        requirement = packaging.Requirement(line)
        assert requirement.specifier.contains(pins()[canonical(requirement.name)]), line


def test_version_has_one_source() -> None:
    """The installed package has the version that the code says."""
    assert project()["project"]["dynamic"] == ["version"]
    assert metadata.version("wtsbench") == wtsbench.__version__


def test_wheel_takes_what_code_looks_for() -> None:
    """Every shipped folder is mapped into the package, and both packages say that they are typed."""
    mapped = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["sources"]
    for folder in ("manifests", "containers"):
        assert mapped[folder] == f"wtsbench/{folder}"
        assert (ROOT / folder).is_dir()
    assert all((folder / "py.typed").is_file() for folder in ROOMS.values())


def test_every_room_is_in_the_layers() -> None:
    """A new package of the library needs a place in the layering that the linter checks."""
    layers = " ".join(project()["tool"]["importlinter"]["contracts"][0]["layers"])
    rooms = {path.parent.name for path in ROOMS["wtsbench"].glob("*/__init__.py")}
    assert {f"wtsbench.{room}" for room in rooms} <= set(re.findall(r"[\w.]+", layers))


def test_every_test_folder_is_a_package() -> None:
    """Test files of one name in two folders would hide each other otherwise."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMakefile:
    """The recipes, without their downloads."""

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        of_an_outer_make = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTEST", "PYTHON", "VENV"}
        environ = {name: value for name, value in os.environ.items() if name not in of_an_outer_make}
        command = ["make", "--no-print-directory", "-C", str(ROOT), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    def test_no_python(self, tmp_path: Path) -> None:
        """Where no Python fits, the message says which is needed and how to name one; no environment is begun."""
        done = self.make(f"VENV={tmp_path}/venv", "PYTHON=", "quickstart")
        assert done.returncode != 0
        assert "Python 3.11" in done.stderr
        assert "PYTHON=" in done.stderr
        assert not list(tmp_path.iterdir())

    def test_failed_install_leaves_no_stamp(self, tmp_path: Path) -> None:
        """What was interrupted or failed is done again by the next make."""
        fake = tmp_path / "bin" / "python"
        fake.parent.mkdir()
        fake.write_text('#!/bin/sh\ncase "$*" in *install*) exit 1;; esac\nexit 0\n')
        fake.chmod(0o755)
        for _ in range(2):
            done = self.make(f"VENV={tmp_path}", f"PYTHON={fake}", "test")
            assert done.returncode != 0
            assert "installing torch" in done.stdout
        assert {path.name for path in tmp_path.glob(".wtsbench-*")} == {".wtsbench-venv"}

    def test_second_time_installs_nothing(self, tmp_path: Path) -> None:
        """With all stamps in place, make goes straight to the work."""
        for name in ("venv", "torch", "dev", "run"):
            (tmp_path / f".wtsbench-{name}").touch()
        done = self.make("-n", f"VENV={tmp_path}", "test")
        assert done.stdout.strip().splitlines()[-1] == f"{tmp_path}/bin/python -m pytest"
        assert "pip" not in done.stdout
