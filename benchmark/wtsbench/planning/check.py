"""Checks of the names in a grid: tasks, models, strategies with their parameters, exclusions.

They work on the file's tree, so that faults have line numbers and are reported together with those of the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wtsbench.errors import SpecError
from wtsbench.images.pins import is_tag, tag_fault
from wtsbench.planning.points import expand
from wtsbench.settings import user_path
from wtsbench.spec import manifests
from wtsbench.spec.faults import Fault, SpecFaults, nearest
from wtsbench.spec.grid import Grid, load_grid
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.yaml_file import load_text
from wtsbench.spec.yaml_tree import Node
from wtsbench.strategies import registry

_MODEL_FIELDS = ("weak", "strong")


def load_checked_grid(source: str | Path) -> tuple[Grid, Path]:
    """A grid by name or path, checked as far as possible without reading data or weights; and its file.

    Raises:
        SpecError: there is no such grid, or it has faults, all of which are in the error; or it excludes everything, or
            a strategy does not fit a pair.
    """
    given = given_grid(manifests.find("grids", source))
    tasks = {task: manifests.load_task(task, base=given.base)[0] for task in given.grid.tasks}
    expand(given.grid, tasks, manifests.between(given.grid.pairs))
    return given.grid, Path(given.source)


@dataclass(frozen=True, kw_only=True)
class GivenGrid:
    """A checked grid and where it came from."""

    grid: Grid
    yaml: str
    """The text of its file, or of a file that would define it."""
    base: Path
    """Folder to which its paths are relative."""
    source: str
    """Path of its file, or a description in its place."""


GridSource = str | Path | Mapping[str, Any] | Grid | GivenGrid
"""A grid's name or path, its YAML as a text of several lines, its keys and values, or itself; `GivenGrid` also has the
folder for relative paths."""


def given_grid(source: GridSource) -> GivenGrid:
    """A grid given in any form, with every name checked. Paths are relative to its file, else to the working folder.

    Raises:
        SpecError: there is no such grid, or it has faults; all of them are in the error.
    """
    if isinstance(source, Path) or (isinstance(source, str) and "\n" not in source):
        path = manifests.find("grids", source)
        grid = load_grid(path, check=lambda tree: check_names(tree, path.parent))
        return GivenGrid(grid=grid, yaml=path.read_text(encoding="utf-8"), base=path.parent, source=str(path))
    if isinstance(source, GivenGrid):
        text, base, name = source.yaml, source.base, source.source
    else:
        text, base, name = source if isinstance(source, str) else as_yaml(source), Path.cwd(), "the grid"
    grid = load_text(text, name, Grid, lambda tree: check_names(tree, base))
    return GivenGrid(grid=grid, yaml=text, base=base, source=name)


def as_yaml(source: Mapping[str, Any] | Grid) -> str:
    """The YAML text of a grid.

    Raises:
        SpecError: it holds a value that YAML cannot express.
    """
    if isinstance(source, Grid):
        values: Any = source.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        values = {"apiVersion": source.api_version, **values}
    else:
        values = dict(source)
    try:
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        raise SpecError(
            f"the grid holds a value of type {type(error.args[-1]).__name__}, which YAML has not",
            remedy="give plain values: dict, list, str, int, float, bool.",
        ) from None


def check_names(tree: Node, base: Path) -> Iterator[Fault]:
    """Faults of unknown names in the grid; faults of its schema are reported elsewhere.

    Args:
        tree: the grid file.
        base: folder to which paths of models are relative.
    """
    yield from _tasks(tree, base)
    yield from _models(tree, base)
    yield from _strategies(tree)
    yield from _forms(tree, base)
    yield from _generation(tree, base)
    yield from _settings(tree)
    yield from _exclusions(tree)
    yield from _gate(tree, base)
    yield from _image(tree)


def _image(tree: Node) -> Iterator[Fault]:
    """An image must be named by its digest, or by a name in images.yaml; never by a tag."""
    node = tree.child("image")
    if node is not None and isinstance(node.value, str) and is_tag(node.value):
        message, remedy = tag_fault(node.value)
        yield node.fault(f"{message}; {remedy}, then write that name here")


def _tasks(tree: Node, base: Path) -> Iterator[Fault]:
    names = manifests.names("tasks")
    for node in tree.entries("tasks"):
        if not isinstance(node.value, str):
            continue
        if manifests.is_path(node.value) or node.value in names:
            yield from _opened(node, manifests.load_task, base)
        else:
            message = f"there is no task {node.value!r}; known are {', '.join(names)}"
            yield node.fault(message, suggestion=nearest(node.value, names))


def _models(tree: Node, base: Path) -> Iterator[Fault]:
    rungs = tree.entries("pairs", "ladder")
    every = [(field, pair.child(field)) for pair in tree.entries("pairs") for field in _MODEL_FIELDS]
    every += [("strong" if number else "weak", node) for number, node in enumerate(rungs)]
    for field, node in every:
        if node is None or not isinstance(node.value, str):
            continue
        faults = list(_model(node, base))
        yield from faults
        if field == "strong" and not faults and _gives_labels(node.value, base):
            yield node.fault(f"{node.value} is a source of labels, no model that wtsbench trains; take it as weak")


def _model(node: Node, base: Path) -> Iterator[Fault]:
    """Faults in the name of a model."""
    names = manifests.names("models")
    if node.value.startswith("hub:"):
        return
    if node.value in names or node.value.endswith(manifests.SUFFIXES):
        yield from _opened(node, manifests.load_model, base)
    elif "/" in node.value or node.value.startswith((".", "~")):
        yield from _folder(node, base)
    else:
        message = (
            f"there is no model {node.value!r}; known are {', '.join(names)}, a folder is written ./folder, "
            "a model of the hub hub:owner/name"
        )
        yield node.fault(message, suggestion=nearest(node.value, names))


def _folder(node: Node, base: Path) -> Iterator[Fault]:
    try:
        folder = base / user_path(node.value)
        if not folder.is_dir():
            yield node.fault(f"there is no folder {folder}")
    except SpecError as error:
        yield node.fault(error.message)


def _gives_labels(name: str, base: Path) -> bool:
    if name.startswith("hub:") or not (name.endswith(manifests.SUFFIXES) or name in manifests.names("models")):
        return False
    source = manifests.load_model(name, base=base)[0].source
    return source is not None and (source.labels is not None or source.endpoint is not None)


def _generation(tree: Node, base: Path) -> Iterator[Fault]:
    """Faults in the names of the scorer and of the perplexity's reference model."""
    scorer, reference = tree.child("generation", "scorer"), tree.child("generation", "reference")
    if reference is not None and isinstance(reference.value, str) and reference.value:
        yield from _model(reference, base)
    if scorer is None or not isinstance(scorer.value, str) or not scorer.value:
        return
    names = manifests.names("scorers")
    if scorer.value in names or scorer.value.endswith(manifests.SUFFIXES):
        yield from _opened(scorer, manifests.load_scorer, base)
    elif manifests.is_path(scorer.value):
        yield from _folder(scorer, base)
    else:
        message = f"there is no scorer {scorer.value!r}; known are {', '.join(names)}, a folder is written ./folder"
        yield scorer.fault(message, suggestion=nearest(scorer.value, names))


def _opened(node: Node, load: Callable[..., object], base: Path) -> Iterator[Fault]:
    """Faults of the manifest that a value names: those in the manifest's file, or one of the value."""
    try:
        load(node.value, base=base)
    except SpecFaults as error:
        yield from error.faults
    except SpecError as error:
        yield node.fault(f"{error.message}. {error.remedy}" if error.remedy else error.message)


def _strategies(tree: Node) -> Iterator[Fault]:
    for node in tree.entries("strategies"):
        call = _call(node)
        if call is None:
            continue
        try:
            registry.resolve(call)
        except registry.StrategyFaults as error:
            for path, message, suggestion in error.faults:
                yield _at(node, path).fault(message, suggestion=suggestion)
        except SpecError as error:
            yield node.fault(error.message)


def _forms(tree: Node, base: Path) -> Iterator[Fault]:
    """Faults of strategies that suit none of the grid's tasks, and would silently do nothing."""
    forms = {manifest.name: manifest.form for manifest in _manifests(tree, base)}
    tasks = ", ".join(f"{name} ({form})" for name, form in forms.items())
    for node in tree.entries("strategies"):
        call = _call(node)
        try:
            strategy = None if call is None else registry.resolve(call)
        except SpecError:  # reported as a fault of the strategy
            continue
        if strategy is None or set(strategy.suits) & set(forms.values()) or not forms:
            continue
        if set(strategy.forms) & set(forms.values()):  # so a parameter is the cause
            name = "labels" if strategy.parameters.labels == "hard" else "finetune"
            value = getattr(strategy.parameters, name)
            yield _at(node, (name,)).fault(f"{name}: {value} is for classification tasks; the grid has {tasks}")
        else:
            yield node.fault(
                f"strategy {strategy.name} is for {' and '.join(strategy.forms)} tasks; the grid has {tasks}"
            )


def _gate(tree: Node, base: Path) -> Iterator[Fault]:
    """Faults of thresholds that would silently do nothing: of metrics that rank no task, and beyond any loss."""
    node = tree.child("gate")
    if node is None or not isinstance(node.value, dict):
        return
    ranking = {manifest.metric for manifest in _manifests(tree, base)}
    if not ranking:
        return
    for name, points in node.value.items():
        if isinstance(points, int | float) and points >= 1:  # all that rank go from 0 to 1
            yield node.key_fault(name, f"{points} would let every loss pass: it must be below 1")
        if name not in ranking:
            message = f"no task of the grid is ranked by {name!r}; they are by {', '.join(sorted(ranking))}"
            yield node.key_fault(name, message, suggestion=nearest(str(name), ranking))


def _manifests(tree: Node, base: Path) -> list[TaskManifest]:
    """Those of the grid's tasks; none if one of them has faults, which are reported as faults of the task."""
    names = [node.value for node in tree.entries("tasks")]
    if not all(isinstance(name, str) for name in names):
        return []
    try:
        return [manifests.load_task(name, base=base)[0] for name in names]
    except SpecError:
        return []


def _call(node: Node) -> StrategyCall | None:
    try:
        return StrategyCall.model_validate(node.value)
    except ValidationError:  # reported as a fault of the schema
        return None


def _at(node: Node, path: tuple[str | int, ...]) -> Node:
    """The node of a parameter, which may be under `parameters` or beside the name; else the strategy's node."""
    for start in (node, node.child("parameters")):
        child = start
        for part in path:
            child = None if child is None else child.child(part)
        if child is not None:
            return child
    return node


def _settings(tree: Node) -> Iterator[Fault]:
    """Faults of settings for tasks and models that the grid does not use."""
    tasks = [task.value for task in tree.entries("tasks") if isinstance(task.value, str)]
    models = sorted({name for names in _paired(tree).values() for name in names if isinstance(name, str)})
    known = manifests.names("models")  # which a strategy may ask for
    for path, used, allowed, lacks in (
        (("training", "models"), models, known, "uses no model"),
        (("data", "tasks"), tasks, (), "has no task"),
        (("training", "tasks"), tasks, (), "has no task"),
    ):
        node = tree.child(*path)
        if node is None or not isinstance(node.value, dict):
            continue
        for name in node.value:
            if name not in used and name not in allowed:
                yield node.key_fault(name, f"the grid {lacks} {name!r}", suggestion=nearest(str(name), used))


def _exclusions(tree: Node) -> Iterator[Fault]:
    calls = [call for node in tree.entries("strategies") if (call := _call(node)) is not None]
    names = {  # lists: a wrong file may hold anything here, a list or a mapping too
        **_paired(tree),
        "task": [node.value for node in tree.entries("tasks")],
        "strategy": [
            *(name for call in calls for name in (call.name, call.label)),
            *(node.value for node in tree.entries("controls")),
        ],
        "seed": [node.value for node in tree.entries("seeds")] or list(Grid.model_fields["seeds"].default),
    }
    for rule in tree.entries("exclude"):
        for field, known in names.items():
            node = rule.child(field)
            if node is not None and isinstance(node.value, str | int) and node.value not in known:
                message = f"the grid has no {field} {node.value!r}, so this excludes nothing"
                yield node.fault(message, suggestion=nearest(str(node.value), [str(name) for name in known]))


def _paired(tree: Node) -> dict[str, list[Any]]:
    """The grid's weak and strong models; lists, because a wrong file may hold unhashable values here."""
    node = tree.child("pairs", "ladder")
    if node is None:
        nodes = {field: [pair.child(field) for pair in tree.entries("pairs")] for field in _MODEL_FIELDS}
        return {field: [node.value for node in some if node is not None] for field, some in nodes.items()}
    if isinstance(node.value, str):
        rungs: list[Any] = list(manifests.ladders().get(node.value, ()))
    else:
        rungs = [rung.value for rung in tree.entries("pairs", "ladder")]
    return {"weak": rungs[:-1], "strong": rungs[1:]}
