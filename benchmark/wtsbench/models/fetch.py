"""Fetches exact weights into a folder on this machine, or says whether that could be done."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Literal

import wtsbench
from wtsbench.errors import ModelError
from wtsbench.files import made_once
from wtsbench.models import external, hub
from wtsbench.models.embedded import recipe_digest
from wtsbench.models.layout import check_folder, file_digests, folder_revision, needed
from wtsbench.settings import cache_folder
from wtsbench.spec.trial import ModelRef

Standing = Literal["here", "reachable", "not asked"]
"""Where a model is for this machine: on it, or where it can be fetched or built when it is needed."""
_READ_BYTES = 2**30
"""A model folder up to this size is read to see whether it is the one that was planned."""


def fetch(model: ModelRef) -> Path:
    """A folder on this machine with the model's weights, configuration and tokenizer, for reading.

    Hub: downloaded into the hub's own cache if necessary; large files are checked against their names, which are their
    SHA-256. Folder: checked to be as it was planned. Embedded: built into wtsbench's cache on first use.

    Raises:
        ModelError: the model cannot be fetched or built here, or has changed since planning.
    """
    assert model.trained, "a model that wtsbench does not train has no weights"
    if model.kind == "hub":
        return _verified(hub.snapshot(model.id, model.revision), model)
    if model.kind == "folder":
        return _folder(model)
    return _embedded(model)


def standing(model: ModelRef, *, ask: bool) -> Standing:
    """Whether a trial here would have a model. Fetches and builds nothing.

    Args:
        model: any, those that are not trained included: of them the manifest, the labels and the key must be here.
        ask: whether the hub is asked for a model that is not in its cache, and a folder of up to a gibibyte is read.

    Raises:
        ModelError: it would not; or a folder is not as it was planned.
    """
    if not model.trained:
        external.require_access(model)
        return "here"
    if model.kind == "hub":
        if hub.is_cached(model.id, model.revision):
            return "here"
        if not ask:
            return "not asked"
        hub.require_reachable(model.id, model.revision)
        return "reachable"
    if model.kind == "folder":
        assert model.path is not None, "a folder model has a path"
        folder, what = Path(model.path), f"model {model.name}"
        names = check_folder(folder, what=what)
        if ask and sum((folder / name).stat().st_size for name in names) <= _READ_BYTES:
            _folder(model)
        return "here"
    return "here" if _shelf(model).is_dir() else "reachable"


def _verified(folder: Path, model: ModelRef) -> Path:
    """A snapshot in the hub's cache, checked: its files are links to files that are named by their content."""
    names = needed(path.name for path in folder.iterdir())
    for name, content_sha256 in file_digests(folder, names, what=f"model {model.name}").items():
        blob = (folder / name).resolve()
        if blob.parent.name == "blobs" and len(blob.name) == len(content_sha256) and blob.name != content_sha256:
            raise ModelError(
                f"model {model.name}: {blob} has changed since it was downloaded: its name is not its SHA-256",
                remedy="delete it, and it will be fetched again.",
            )
    return folder


def _folder(model: ModelRef) -> Path:
    assert model.path is not None, "a folder model has a path"
    folder = Path(model.path)
    if folder_revision(folder, what=f"model {model.name}") != model.revision:
        raise ModelError(
            f"model {model.name}: the files in {folder} have changed since the grid was planned",
            remedy="submit the grid again; nodes of a cluster need the same files.",
        )
    return folder


def _shelf(model: ModelRef) -> Path:
    """Where an embedded model is kept once it was built."""
    if recipe_digest(model.id) != model.revision:
        raise ModelError(
            f"model {model.name}: this installation builds another {model.id} than the plan asks for",
            remedy="run the same version of wtsbench on all nodes.",
        )
    return cache_folder() / "models" / "embedded" / f"{model.id}-{model.revision[:16]}"


def _embedded(model: ModelRef) -> Path:
    folder = _shelf(model)
    try:
        made_once(folder, partial(_build, model))
    except OSError as error:
        raise ModelError(
            f"model {model.name}: the cache {folder.parent} cannot be written: {error.strerror or error}",
            remedy="name another cache folder with WTSBENCH_CACHE.",
        ) from error
    return folder


def _build(model: ModelRef, folder: Path) -> None:
    root = str(Path(wtsbench.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    process = subprocess.run(
        [sys.executable, "-m", "wtsbench.trial.nano", model.id, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if process.returncode:
        last_lines = process.stdout.strip().splitlines()[-15:]
        raise ModelError(
            f"model {model.name} could not be built (exit code {process.returncode})",
            remedy="\n  ".join(["its last output:", *last_lines]) if last_lines else None,
        )
    check_folder(folder, what=f"model {model.name}")
