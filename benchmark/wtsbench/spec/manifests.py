"""Manifests by name: the user's own folder first, then the shipped ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wtsbench.errors import SpecError
from wtsbench.settings import manifest_folders, user_manifests, user_path
from wtsbench.spec.faults import Fault, nearest
from wtsbench.spec.model import ModelManifest
from wtsbench.spec.published import Published
from wtsbench.spec.scorer import ScorerManifest
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.yaml_file import Model, load
from wtsbench.spec.yaml_tree import Node, shown

if TYPE_CHECKING:
    from wtsbench.spec.grid import Pair

Kind = Literal["tasks", "models", "grids", "scorers", "published"]
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
    found = files.get(str(name))
    if found is None:
        near = nearest(str(name), files)
        hint = "" if near is None else f"did you mean {near!r}? "
        here = next((file for suffix in SUFFIXES if os.path.isfile(file := f"{name}{suffix}")), None)  # noqa: PTH113
        hint = hint if here is None else f"did you mean the file {here}? "
        raise SpecError(
            f"no {kind[:-1]} is called {str(name)!r}",
            remedy=f"{hint}Known: {', '.join(files) or 'none'}. Your own go into {user_manifests() / kind}, "
            "or are named by their path.",
        )
    return found


def is_path(name: str | Path) -> bool:
    """Whether this is a file's path rather than a name."""
    return isinstance(name, Path) or "/" in name or name.endswith(SUFFIXES)


def load_task(name: str | Path, *, base: Path | None = None) -> tuple[TaskManifest, Path]:
    """A task's manifest and the folder its relative paths start from.

    Raises:
        SpecError: there is none of this name, or it is wrong.
    """
    return _loaded("tasks", TaskManifest, name, base)


def load_model(name: str | Path, *, base: Path | None = None) -> tuple[ModelManifest, Path]:
    """A model's manifest and the folder its relative paths start from.

    Raises:
        SpecError: there is none of this name, or it is wrong.
    """
    return _loaded("models", ModelManifest, name, base)


def load_scorer(name: str | Path, *, base: Path | None = None) -> tuple[ScorerManifest, Path]:
    """A scorer's manifest and the folder its relative paths start from.

    Raises:
        SpecError: there is none of this name, or it is wrong.
    """
    return _loaded("scorers", ScorerManifest, name, base)


def load_published(name: str | Path) -> Published:
    """Figures that others published.

    Raises:
        SpecError: there are none of this name, or the file is wrong.
    """
    return _loaded("published", Published, name, None)[0]


def ladders() -> dict[str, dict[str, int]]:
    """By family, the models whose size is known with their number of weights, smallest first.

    Raises:
        SpecError: a model's manifest is wrong.
    """
    sized: dict[str, list[tuple[int, str]]] = {}
    for name in names("models"):
        model, _ = load_model(name)
        if model.family is not None and model.parameters is not None:
            sized.setdefault(model.family, []).append((model.parameters, name))
    return {family: {name: size for size, name in sorted(models)} for family, models in sorted(sized.items())}


def between(pairs: Iterable[Pair]) -> dict[Pair, tuple[str, ...]]:
    """For each pair, the models of its family strictly between weak and strong by size, smallest first.

    Empty where the two are not of one family, or are not both known by a manifest.
    """
    wanted = list(pairs)
    named = {name for pair in wanted for name in (pair.weak, pair.strong)} & set(names("models"))
    found: dict[Pair, tuple[str, ...]] = dict.fromkeys(wanted, ())
    for ladder in ladders().values() if len(named) > 1 else ():
        for pair in wanted:
            if pair.weak in ladder and pair.strong in ladder:
                low, high = ladder[pair.weak], ladder[pair.strong]
                found[pair] = tuple(name for name, size in ladder.items() if low < size < high)
    return found


def _loaded(kind: Kind, model: type[Model], name: str | Path, base: Path | None) -> tuple[Model, Path]:
    """A manifest and its folder; one that is looked up by its file's name must have that name."""
    path = find(kind, name, base=base)

    def misnamed(tree: Node) -> Iterator[Fault]:
        node = tree.child("name")
        if node is not None and node.value != path.stem and not is_path(name):
            yield node.fault(f"must be {path.stem!r}, as the file is called", suggestion=path.stem)

    return load(path, model, misnamed), path.parent


def _files(kind: Kind) -> dict[str, Path]:
    """Every name and its file, in the order of names; a user's own file hides a shipped one."""
    found: dict[str, Path] = {}
    for folder in reversed(manifest_folders()):
        try:
            with os.scandir(folder / kind) as entries:
                files = sorted((Path(entry.path) for entry in entries), reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SpecError(f"the folder {folder / kind} cannot be read: {error.strerror}") from None
        found.update({path.stem: path for path in files if path.suffix in SUFFIXES and not path.name.startswith(".")})
    return dict(sorted(found.items()))


def _no_such_file(kind: Kind, path: Path) -> SpecError:
    folder = path.parent
    if not folder.is_dir():
        return SpecError(f"there is no file {shown(path)}", remedy=f"there is no folder {shown(folder)} either.")
    beside = sorted(entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES)
    near = nearest(path.name, beside)
    if near is not None:
        return SpecError(f"there is no file {shown(path)}", remedy=f"did you mean {shown(folder / near)}?")
    known = names(kind)
    stem = nearest(path.stem, known)
    hint = "" if stem is None else f"did you mean {stem!r}, without a path? "
    return SpecError(f"there is no file {shown(path)}", remedy=f"{hint}Known by name: {', '.join(known) or 'none'}.")
