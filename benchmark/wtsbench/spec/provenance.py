"""Which code and libraries compute a result: facts about this installation, for every record."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import wtsbench
from wtsbench.settings import checkout
from wtsbench.spec.identity import digest

COMPUTING_PACKAGES = ("numpy", "peft", "pyarrow", "safetensors", "tokenizers", "torch", "transformers")
"""The packages that compute results; another version of one may give another result."""

_SOURCES = ("benchmark", "cli", "containers", "manifests", "pyproject.toml")
_GIT_SECONDS = 10.0


def provenance() -> dict[str, str | bool | None]:
    """`wtsbench_version`, `git_commit` and `git_dirty`; the latter two are None outside a git checkout."""
    commit, dirty = _git()
    return {"wtsbench_version": wtsbench.__version__, "git_commit": commit, "git_dirty": dirty}


def environment() -> dict[str, str]:
    """What the environment lock is the digest of: Python, the machine's architecture, the computing packages.

    Versions are read from the packages' metadata; nothing is imported. A package that is not installed is `absent`.
    """
    versions = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "machine": platform.machine()}
    return versions | {name: _version(name) for name in COMPUTING_PACKAGES}


@cache
def environment_lock() -> str:
    """SHA-256 over `environment()`: part of the identity of every trial that runs outside an image."""
    return digest(environment())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


@cache
def _git() -> tuple[str | None, bool | None]:
    root = checkout()
    return (None, None) if root is None else git_state(root)


@cache
def cpu_name() -> str:
    """What the processor of this machine calls itself."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Commit of a checkout, and whether its sources differ from it.

    Both are None if git is missing or fails, or `root` is not the top of a repository.
    """
    if not (root / ".git").exists():
        return None, None
    # In a git hook these variables name the hook's repository. Reading must not lock the index.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environ["GIT_OPTIONAL_LOCKS"] = "0"
    commit = _run(root, environ, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    status = _run(root, environ, "status", "--porcelain", "--", *_SOURCES)
    return commit.strip(), None if status is None else bool(status.strip())


def _run(root: Path, environ: Mapping[str, str], *arguments: str) -> str | None:
    try:
        process = subprocess.run(
            ["git", "-C", str(root), *arguments], env=environ, capture_output=True, text=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout if process.returncode == 0 else None
