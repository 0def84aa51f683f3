"""The wheels that an image is built from, fetched by the host's pip, so that the build itself needs no network."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import wtsbench
from wtsbench.errors import SandboxError
from wtsbench.files import made_once, sha256
from wtsbench.images.code import checkout_digest
from wtsbench.settings import cache_folder, checkout
from wtsbench.spec.identity import digest

_PIP_SETTINGS = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "TORCH_INDEX_URL")
"""Settings that decide where packages come from, and so which builds of them are found."""


def wheelhouse(requirements: Path, *, python: str, gpu: bool, note: Callable[[str], None]) -> Path:
    """A folder with the wheels of pinned requirements and of all they need, fetched once and kept in the cache.

    Without `gpu`, torch's CPU build is taken if pip finds one (`TORCH_INDEX_URL` names a further index), else the
    ordinary build.

    Args:
        requirements: a requirements file with pinned versions.
        python: version the wheels are for, as `3.11`.
        gpu: whether the image is meant for GPUs.
        note: called with a line about what takes time.

    Raises:
        SandboxError: pip cannot fetch a wheel of some package.
    """
    text = requirements.read_text()
    choices = [text] if gpu else [re.sub(r"(?m)^(torch==[^+\s]+)$", r"\1+cpu", text), text]
    folder = _folder("", [text, python, gpu])

    def fetch(wheels: Path) -> None:
        note("fetching the packages of the trial image")
        complaint = None
        for choice in choices:
            complaint = _download(choice, wheels, python)
            if complaint is None:
                break
        if complaint is not None:
            message = f"pip cannot fetch the packages of the trial image: {complaint}"
            raise SandboxError(message, remedy="check pip's settings and the network")
        if gpu and any(wheels.glob("torch-*+cpu-*")):
            raise SandboxError(
                "pip finds no build of torch with CUDA: the one that it finds is for CPUs only",
                remedy="name an index that has one with TORCH_INDEX_URL, or build with --cpu",
            )

    made_once(folder, fetch)
    return folder


def contents(wheels: Path) -> dict[str, str]:
    """SHA-256 of every wheel in a folder, by name."""
    return {path.name: sha256(path) for path in sorted(wheels.iterdir())}


def node_wheels(*, note: Callable[[str], None]) -> Path:
    """A folder with the wheels of the installed wtsbench and of all that it needs, at the versions installed here.

    They are for the Python and the machine that this runs on; fetched once and kept in the cache.

    Raises:
        SandboxError: pip cannot fetch or build one.
    """
    pinned = sorted(needed_by("wtsbench"))
    root = checkout()
    ours = [wtsbench.__version__, "" if root is None else checkout_digest(root)]
    folder = _folder("nodes-", [pinned, ours, platform.python_version_tuple()[:2]])

    def fetch(wheels: Path) -> None:
        note(f"fetching the packages of wtsbench itself ({len(pinned)})")
        own = f"wtsbench=={wtsbench.__version__}" if root is None else str(root)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        complaint = _download("\n".join(pinned), wheels, version, "--no-deps") or pip(
            "wheel", "--quiet", "--no-deps", f"--wheel-dir={wheels}", own
        )
        if complaint is not None:
            raise SandboxError(
                f"pip cannot fetch the packages of wtsbench: {complaint}",
                remedy="check pip's settings and the network, or leave them out with --no-wheels",
            )

    made_once(folder, fetch)
    return folder


def _folder(prefix: str, wanted: Sequence[object]) -> Path:
    """Where the cache has wheels for this machine, of what is wanted and from where pip takes packages now."""
    places = [os.environ.get(name, "") for name in _PIP_SETTINGS]
    return cache_folder() / "wheels" / f"{prefix}{digest([*wanted, platform.machine(), *places])[:16]}"


def needed_by(package: str) -> set[str]:
    """All direct and indirect dependencies of an installed package, as `name==version`."""
    versions: dict[str, str] = {}
    waiting = [(package, "")]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise SandboxError(
                f"{name} is not installed here, so its version cannot be bundled",
                remedy="install wtsbench, or leave the packages out with --no-wheels",
            ) from error
        versions[name] = installed.version
        for text in installed.requires or ():
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            new = {(canonicalize_name(need.name), name_of_extra) for name_of_extra in ("", *need.extras)} - seen
            seen |= new
            waiting += new
    return {f"{name}=={version}" for name, version in versions.items() if name != package}


def _download(requirements: str, wheels: Path, python: str, *options: str) -> str | None:
    """Fetch the wheels of a requirements file's text; None if that succeeds, else pip's error."""
    extra = os.environ.get("TORCH_INDEX_URL")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        return pip(
            "download",
            "--quiet",
            "--only-binary=:all:",
            f"--python-version={python}",
            f"--dest={wheels}",
            *options,
            *([f"--extra-index-url={extra}"] if extra else []),
            f"--requirement={file.name}",
        )


def pip(*arguments: str) -> str | None:
    """Run pip with the host's own settings; None if it succeeds, else its error in one line."""
    process = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if process.returncode == 0:
        return None
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "pip failed")
