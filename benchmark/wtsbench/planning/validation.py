"""Validating files of every kind (`wtsbench validate`), and their JSON Schemas for editors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel, TypeAdapter

from wtsbench.errors import SpecError
from wtsbench.images.pins import ImagePin, load_pins
from wtsbench.planning.check import load_checked_grid
from wtsbench.spec import manifests
from wtsbench.spec.faults import SpecFaults, nearest
from wtsbench.spec.grid import Grid
from wtsbench.spec.model import ModelManifest
from wtsbench.spec.scorer import ScorerManifest
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.yaml_file import kind_of
from wtsbench.spec.yaml_tree import Node, read

FileKind = Literal["grid", "task", "model", "scorer", "images"]
KINDS: tuple[FileKind, ...] = get_args(FileKind)
"""Kinds of files."""
_MODELS: dict[FileKind, Any] = {
    "grid": Grid,
    "task": TaskManifest,
    "model": ModelManifest,
    "scorer": ScorerManifest,
    "images": dict[str, ImagePin],
}
_FOLDERS: dict[FileKind, manifests.Kind] = {"grid": "grids", "task": "tasks", "model": "models", "scorer": "scorers"}
_LOADERS: dict[FileKind, Callable[[str], tuple[Any, Path]]] = {
    "task": manifests.load_task,
    "model": manifests.load_model,
    "scorer": manifests.load_scorer,
}


@dataclass(frozen=True, kw_only=True)
class Valid:
    """A valid file."""

    kind: FileKind
    path: Path
    content: Grid | TaskManifest | ModelManifest | ScorerManifest | Mapping[str, ImagePin]

    def record(self) -> Any:
        """Its content as JSON values, with all defaults."""
        if isinstance(self.content, BaseModel):
            return self.content.model_dump(mode="json", by_alias=True)
        return {name: pin.model_dump(mode="json") for name, pin in self.content.items()}


def validated(source: str, kind: FileKind | None = None) -> Valid:
    """Validate a file, or a manifest or grid by its name.

    Args:
        source: a path, or a name.
        kind: the expected kind; None infers it from the file's `kind` and keys, or from the name.

    Raises:
        SpecError: there is no such file, or its kind cannot be inferred.
        SpecFaults: it is invalid; every fault is in the error.
    """
    if kind is None:
        kind = _kind_of_path(source) if manifests.is_path(source) else _kind_of_name(source)
    if kind == "grid":
        grid, path = load_checked_grid(source)
        return Valid(kind=kind, path=path, content=grid)
    if kind == "images":
        path = manifests.find("grids", Path(source))
        return Valid(kind=kind, path=path, content=load_pins(path))
    return Valid(kind=kind, path=manifests.find(_FOLDERS[kind], source), content=_LOADERS[kind](source)[0])


def json_schema(kind: FileKind) -> dict[str, Any]:
    """JSON Schema (2020-12) of files of a kind, short forms included, with a description of each key.

    It covers the form only; names of tasks, models and strategies are checked by `validated`.
    """
    schema = TypeAdapter(_MODELS[kind]).json_schema(by_alias=True)
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, told in part.get("properties", {}).items():
            if "const" in told:
                told.setdefault("description", f"`{told['const']}`, and nothing else.")
            if told.get("type") == "object" and name not in part.get("required", ()):
                told.setdefault("default", {})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"wtsbench {kind}"}


def _kind_of_path(source: str) -> FileKind:
    path = manifests.find("grids", Path(source))
    tree, faults = read(path)
    if faults and not tree.value:
        raise SpecFaults(faults)
    stated = tree.value.get("kind")
    if isinstance(stated, str) and stated not in KINDS:
        message = f"there is no kind of file {stated!r}; known are task, model and scorer"
        raise SpecFaults([tree.fault(message, suggestion=nearest(stated, KINDS))])
    found = kind_of(tree) or ("images" if _are_pins(path, tree) else None)
    if found is None:
        raise SpecError(
            f"{path} does not tell what it is: a grid, a task, a model, a scorer or images",
            remedy="write `kind: task` (or model, scorer) into it, or say it: --kind.",
        )
    return cast(FileKind, found)


def _are_pins(path: Path, tree: Node) -> bool:
    """Whether a file lists images: by its name, or because every value names a digest."""
    pins = [isinstance(value, dict) and not {"id", "reference"}.isdisjoint(value) for value in tree.value.values()]
    return path.stem == "images" or (bool(pins) and all(pins))


def _kind_of_name(name: str) -> FileKind:
    """The kind of the file of this name; `grid` if there is none."""
    found = [kind for kind, folder in _FOLDERS.items() if name in manifests.names(folder)]
    if len(found) > 1:
        raise SpecError(f"{name} is the name of a {' and of a '.join(found)}", remedy=f"say which: --kind {found[0]}.")
    return found[0] if found else "grid"
