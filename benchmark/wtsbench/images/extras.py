"""Packages of others in the trial image: strategies that `wtsbench image build --with` puts into it."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wtsbench.errors import SandboxError, SpecError
from wtsbench.images.docker_engine import connect, said_by_engine
from wtsbench.images.wheelhouse import pip
from wtsbench.settings import user_path

LABEL = "wtsbench.strategies"
"""Label of an image: its packages besides wtsbench and those in its lock, `name==version` joined by commas."""


def unpack(wanted: Sequence[str], folder: Path, *, python: str, lock: Path) -> tuple[str, ...]:
    """Install packages without their dependencies into a folder; returns `name==version` of each, sorted.

    Args:
        wanted: `name==version`, wheels, or folders of sources.
        folder: created if it does not exist.
        python: version of the image's Python, as `3.11`.
        lock: the requirements file of what the image holds in any case.

    Raises:
        SpecError: a package is named without its version, or needs one that will not be in the image.
        SandboxError: pip cannot fetch or build a package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not wanted:
        return ()
    complaint = pip(
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        f"--python-version={python}",
        f"--target={folder}",
        *map(_named, wanted),
    )
    if complaint is not None:
        raise SandboxError(f"pip cannot install {' '.join(wanted)}: {complaint}", remedy="check names and versions")
    shutil.rmtree(folder / "bin", ignore_errors=True)  # scripts name the Python of this machine
    for origin in folder.glob("*.dist-info/direct_url.json"):  # names a path of this machine
        record = origin.with_name("RECORD")
        lines = record.read_text().splitlines(keepends=True)
        record.write_text(
            "".join(line for line in lines if not line.startswith(f"{origin.parent.name}/{origin.name},"))
        )
        origin.unlink()
    installed = list(importlib.metadata.distributions(path=[str(folder)]))
    _require_dependencies(installed, lock)
    return tuple(sorted(f"{package.name}=={package.version}" for package in installed))


def _named(wanted: str) -> str:
    path = user_path(wanted)
    if path.exists():
        return str(path.resolve())
    try:
        requirement = Requirement(wanted)
    except InvalidRequirement:
        raise SpecError(
            f"--with {wanted}: no such file or folder", remedy="give NAME==VERSION, a wheel, or a folder of sources."
        ) from None
    if not any(clause.operator == "==" for clause in requirement.specifier):
        raise SpecError(f"--with {wanted} names no exact version", remedy=f"give {requirement.name}==VERSION.")
    return wanted


def _require_dependencies(installed: Sequence[importlib.metadata.Distribution], lock: Path) -> None:
    """Dependencies must be in the image already: they are not fetched too, so that nothing gets in unnoticed."""
    lines = [line.partition("==")[0] for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    available = {canonicalize_name(name) for name in (*lines, *(package.name for package in installed), "wtsbench")}
    for package in installed:
        for text in package.requires or ():
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            if canonicalize_name(need.name) not in available:
                raise SpecError(
                    f"{package.name} {package.version} needs {need}, which is not in the trial image",
                    remedy=f"add --with {need.name}==VERSION.",
                )


def require_packages(image: str, wanted: Sequence[str]) -> None:
    """Make sure that an image holds packages, before its trials fail one after the other.

    Args:
        image: its id.
        wanted: `name==version` of each.

    Raises:
        SandboxError: the image lacks a package, or no engine answers.
    """
    if not wanted:
        return
    with connect() as client, said_by_engine("the Docker engine cannot look for the image"):
        labels = client.images.get(image).labels
    present = set(labels.get(LABEL, "").split(","))
    lacking = [package for package in wanted if package not in present]
    if lacking:
        options = " ".join(f"--with {package}" for package in wanted)
        raise SandboxError(
            f"the trial image does not hold {', '.join(lacking)}, which brings in a strategy of this grid",
            remedy=f"run `wtsbench image build {options}` (a wheel or a folder of sources will do), or use "
            "--sandbox process",
        )
