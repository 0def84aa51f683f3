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
"""Label of an image: the packages in it that are neither wtsbench nor in its lock, `name==version`, with commas."""


def unpack(wanted: Sequence[str], folder: Path, *, python: str, lock: Path) -> tuple[str, ...]:
    """Install packages into a folder, and nothing that they need; `name==version` of each, sorted.

    Args:
        wanted: `name==version`, wheels, or folders of sources.
        folder: made if it is not there.
        python: version of the image's Python, as `3.11`.
        lock: the requirements file of what is in the image anyhow.

    Raises:
        SpecError: one is named without its version, or needs what will not be in the image.
        SandboxError: pip cannot get or build one.
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
    for note in folder.glob("*.dist-info/direct_url.json"):  # a path of this machine
        record = note.with_name("RECORD")
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith(f"{note.parent.name}/{note.name},")))
        note.unlink()
    found = list(importlib.metadata.distributions(path=[str(folder)]))
    _require_all(found, lock)
    return tuple(sorted(f"{one.name}=={one.version}" for one in found))


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
    if not any(one.operator == "==" for one in requirement.specifier):
        raise SpecError(f"--with {wanted}: which version?", remedy=f"give {requirement.name}==VERSION.")
    return wanted


def _require_all(found: Sequence[importlib.metadata.Distribution], lock: Path) -> None:
    """What a package needs must be in the image: it is not fetched along, so that nothing comes in unnoticed."""
    lines = [line.partition("==")[0] for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    there = {canonicalize_name(name) for name in (*lines, *(one.name for one in found), "wtsbench")}
    for one in found:
        for text in one.requires or ():
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            if canonicalize_name(need.name) not in there:
                raise SpecError(
                    f"{one.name} {one.version} needs {need}, which is not in the trial image",
                    remedy=f"add --with {need.name}==VERSION.",
                )


def require_packages(image: str, wanted: Sequence[str]) -> None:
    """Make sure that an image holds packages, before its trials fail one after the other.

    Args:
        image: its id.
        wanted: `name==version` of each.

    Raises:
        SandboxError: it lacks one, or no engine answers.
    """
    if not wanted:
        return
    with connect() as client, said_by_engine("the Docker engine cannot look for the image"):
        labels = client.images.get(image).labels
    held = set(labels.get(LABEL, "").split(","))
    lacking = [package for package in wanted if package not in held]
    if lacking:
        options = " ".join(f"--with {package}" for package in wanted)
        raise SandboxError(
            f"the trial image does not hold {', '.join(lacking)}, which brings in a strategy of this grid",
            remedy=f"run `wtsbench image build {options}` (a wheel or a folder of sources will do), or use "
            "--sandbox process",
        )
