"""Manifests and grids by name: the user's own folder first, then the shipped ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wtsbench.errors import SpecError
from wtsbench.settings import manifest_folders, user_manifests, user_path
from wtsbench.spec.faults import nearest
from wtsbench.spec.grid import Grid
from wtsbench.spec.yaml_file import Checks, load
from wtsbench.spec.yaml_tree import Node, shown

if TYPE_CHECKING:
    from wtsbench.spec.model import ModelManifest
    from wtsbench.spec.scorer import ScorerManifest
    from wtsbench.spec.task import TaskManifest

Kind = Literal["tasks", "models", "grids", "scorers"]
SUFFIXES = (".yaml", ".yml")
"""Suffixes of the files of manifests and grids."""


def names(kind: Kind) -> tuple[str, ...]:
    """All names that `find` knows, sorted.

    Raises:
        SpecError: a folder of manifests exists but cannot be read.
    """
    return tuple(sorted(_files(kind)))


def find(kind: Kind, name: str | Path, *, base: Path | None = None) -> Path:
    """The file of a manifest or grid.

    Args:
        kind: which folder of the manifests.
        name: a name, or a path: whatever has a slash or ends in .yaml or .yml.
        base: the folder that relative paths start from; None is the working folder.

    Raises:
        SpecError: there is none; the remedy names similar ones.
    """
    if is_path(name):
        path = Path(base or "", user_path(name))
        if not os.path.lexists(path):
            raise _no_such_file(kind, path)
        return path
    files = _files(kind)
    file = files.get(str(name))
    if file is None:
        near = nearest(str(name), files)
        hint = "" if near is None else f"did you mean {near!r}? "
        local = next((near_file for suffix in SUFFIXES if os.path.isfile(near_file := f"{name}{suffix}")), None)  # noqa: PTH113
        hint = hint if local is None else f"did you mean the file {local}? "
        raise SpecError(
            f"no {kind[:-1]} is called {str(name)!r}",
            remedy=f"{hint}Known: {', '.join(files) or 'none'}. Your own go into {user_manifests() / kind}, "
            "or are named by their path.",
        )
    return file


def is_path(name: str | Path) -> bool:
    """Whether this is a file's path rather than a name."""
    return isinstance(name, Path) or "/" in name or name.endswith(SUFFIXES)


def load_task(name: str | Path, *, base: Path | None = None) -> tuple[TaskManifest, Path]:
    """A task's manifest and the folder its relative paths start from.

    Raises:
        SpecError: there is none of this name, or it is wrong.
    """
    from wtsbench.spec.task import TaskManifest

    path = find("tasks", name, base=base)
    return load(path, TaskManifest, None if is_path(name) else _require_name(path.stem)), path.parent


def load_model(name: str | Path, *, base: Path | None = None) -> tuple[ModelManifest, Path]:
    """A model's manifest and the folder its relative paths start from.

    Raises:
        SpecError: there is none of this name, or it is wrong.
    """
    from wtsbench.spec.model import ModelManifest

    path = find("models", name, base=base)
    return load(path, ModelManifest, None if is_path(name) else _require_name(path.stem)), path.parent


def load_scorer(name: str | Path, *, base: Path | None = None) -> tuple[ScorerManifest, Path]:
    """A scorer's manifest and the folder its relative paths start from.

    Raises:
        SpecError: there is none of this name, or it is wrong.
    """
    from wtsbench.spec.scorer import ScorerManifest

    path = find("scorers", name, base=base)
    return load(path, ScorerManifest, None if is_path(name) else _require_name(path.stem)), path.parent


def load_grid(source: str | Path, *, check: Checks | None = None) -> Grid:
    """A grid by name or path, as in its file.

    Args:
        source: a name, or a path.
        check: further faults, reported together with those of the grid's form.

    Raises:
        SpecError: there is none, or it is wrong; the error lists every fault.
    """
    return load(find("grids", source), Grid, check)


def grid_json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of grid files, their short forms included.

    It describes the form; only `wtsbench validate` knows which names of tasks, models and strategies are valid.
    """
    schema = Grid.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "wtsbench grid"}


def _files(kind: Kind) -> dict[str, Path]:
    """Every name and its file, in the order of names; a user's file takes precedence over a shipped one."""
    file_of: dict[str, Path] = {}
    for folder in reversed(manifest_folders()):
        try:
            with os.scandir(folder / kind) as entries:
                files = sorted((Path(entry.path) for entry in entries), reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SpecError(f"the folder {folder / kind} cannot be read: {error.strerror}") from None
        file_of.update({path.stem: path for path in files if path.suffix in SUFFIXES and not path.name.startswith(".")})
    return dict(sorted(file_of.items()))


def _require_name(name: str) -> Checks:
    """A check that a manifest found by its file's name has that name."""

    def check(tree: Node) -> Any:
        node = tree.child("name")
        if node is not None and node.value != name:
            yield node.fault(f"must be {name!r}, as the file is called", suggestion=name)

    return check


def _no_such_file(kind: Kind, path: Path) -> SpecError:
    folder = path.parent
    if not folder.is_dir():
        return SpecError(f"there is no file {shown(path)}", remedy=f"there is no folder {shown(folder)} either.")
    siblings = sorted(entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES)
    near = nearest(path.name, siblings)
    if near is not None:
        return SpecError(f"there is no file {shown(path)}", remedy=f"did you mean {shown(folder / near)}?")
    valid = names(kind)
    stem = nearest(path.stem, valid)
    hint = "" if stem is None else f"did you mean {stem!r}, without a path? "
    return SpecError(f"there is no file {shown(path)}", remedy=f"{hint}Known by name: {', '.join(valid) or 'none'}.")
