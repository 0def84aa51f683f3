"""Loads YAML files as frozen models; reports all faults at once, with file, line, key path and nearest valid name."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from wtsbench.spec.faults import Fault, SpecFaults, nearest
from wtsbench.spec.wording import worded
from wtsbench.spec.yaml_tree import Node, parse, read

Model = TypeVar("Model", bound=BaseModel)
Checks = Callable[[Node], Iterable[Fault]]
"""Looks at a file's tree, which may be wrong in any way, and yields faults that the model cannot find: mostly names."""


_CALLED = {
    "grid": "a grid",
    "task": "a task's manifest",
    "model": "a model's manifest",
    "scorer": "a scorer's manifest",
    "published": "published figures",
}
"""What files there are."""
_TELLING = {
    **dict.fromkeys(("pairs", "strategies", "tasks", "seeds", "controls"), "grid"),
    **dict.fromkeys(("template", "label", "labels", "choices", "preference", "splits", "continuation"), "task"),
    **dict.fromkeys(("family", "parameters", "layers", "width"), "model"),
}
"""Keys that only files of one kind have."""
_SCORER_SOURCES = ("lexicon", "ngram")
_MODEL_SOURCES = ("embedded", "hub", "path", "labels", "endpoint")
"""Kinds of a scorer's source, and keys of a model's, which has no kind."""


def load(path: Path, model: type[Model], checks: Checks | None = None) -> Model:
    """The model that a YAML file holds.

    Args:
        path: the file.
        model: what it must be.
        checks: further faults to report together with the model's.

    Raises:
        SpecFaults: the file cannot be read, or is wrong; the error lists all faults.
    """
    tree, faults = read(path)
    found, wanted = kind_of(tree), _kind_of_model(model)
    if found is not None and found != wanted:
        raise SpecFaults([tree.fault(f"this is {_CALLED[found]}, not {_CALLED[wanted]}")])
    return _loaded(tree, faults, model, checks)


def load_text(text: str, name: str, model: type[Model], checks: Checks | None = None) -> Model:
    """The same for YAML that is not in a file; faults name it `name`."""
    return _loaded(*parse(text, name), model, checks)


def _loaded(tree: Node, faults: list[Fault], model: type[Model], checks: Checks | None) -> Model:
    loaded: Model | None = None
    try:
        loaded = model.model_validate(tree.value)
    except ValidationError as error:
        faults += faults_of(error, tree, model)
    faults += _misread(tree, [model])
    if checks is not None:
        known = {(fault.file, fault.path) for fault in faults}
        faults += [fault for fault in checks(tree) if (fault.file, fault.path) not in known]
    if faults or loaded is None:
        raise SpecFaults(faults)
    return loaded


def kind_of(tree: Node) -> str | None:
    """The kind of a file, by its key `kind` or by keys that only one kind has; None if unclear."""
    stated = tree.value.get("kind")
    if isinstance(stated, str) and stated in _CALLED:
        return stated
    kinds = {kind for key, kind in _TELLING.items() if key in tree.value}
    source = tree.value.get("source")
    if isinstance(source, dict) and not kinds:
        told = source.get("kind")
        if told in _SCORER_SOURCES or (told == "hub" and "hub" in source):
            return "scorer"
        if told is None and not source.keys().isdisjoint(_MODEL_SOURCES):
            return "model"
    return kinds.pop() if len(kinds) == 1 else None


def _kind_of_model(model: type[BaseModel]) -> str:
    kind = model.model_fields.get("kind")
    return "grid" if kind is None else str(kind.default)


def faults_of(error: ValidationError, node: Node, model: type[BaseModel]) -> list[Fault]:
    """The errors that pydantic found in the value of `node`, as faults with their places in the file.

    Args:
        error: from validating `node.value` (or a part of it: keys that the file does not have are skipped) as `model`.
        node: where the value stands.
        model: the model it was validated as; its fields are the names to suggest.
    """
    found: dict[tuple[str, int, int], list[Fault]] = {}
    for entry in error.errors(include_url=False):
        fault = _fault(dict(entry), node, model)
        if fault is None:
            continue
        found.setdefault((fault.path, fault.line or 0, fault.column or 0), []).append(fault)
    return [_united(faults) for faults in found.values()]


def _united(faults: list[Fault]) -> Fault:
    """One fault for the errors that each member of a union reports at the same place."""
    message = ", or ".join(dict.fromkeys(fault.message for fault in faults))
    hint = next((fault.suggestion for fault in faults if fault.suggestion is not None), None)
    return replace(faults[0], message=message, suggestion=hint)


def _fault(entry: dict[str, Any], node: Node, model: type[BaseModel]) -> Fault | None:
    kind, location = entry["type"], list(entry["loc"])
    context = entry.get("ctx") or {}
    if "index" in context:  # a check of a list that names the entry by `index`
        location.append(context["index"])
    missing = location.pop() if kind in ("missing", "extra_forbidden") else None
    annotations: list[Any] = [model]
    for part in location:
        annotations = _below(annotations, part)
        if part == "[key]" and node.keys:
            continue
        node = node.children.get(part, node)
    names = sorted(_keys(annotations))
    if kind == "missing":
        typos = (key for key in node.keys if key not in names and nearest(str(key), names) == missing)
        typo = next(typos, None)
        if typo is not None:
            return node.key_fault(typo, "unknown key", suggestion=missing)
        return node.key_fault(missing, "is required")
    if kind == "extra_forbidden":
        hint = nearest(str(missing), names)
        known = "" if hint is not None or not names else f"; known here: {', '.join(names)}"
        return node.key_fault(missing, f"unknown key{known}", suggestion=hint)
    if kind == "union_tag_not_found":
        return node.key_fault(context["discriminator"].strip("'"), "is required")
    if kind == "too_short" and len(node.value) >= context["min_length"]:
        return None  # there are enough entries; each wrong one has its own fault
    message, hint = worded(entry)
    owner, colon, rest = message.partition(": ")
    *above, last = owner.split(".")  # "zero_shot.answers: ..." is about the key `answers` below the key `zero_shot`
    parent = node.child(*above)
    if colon and parent is not None and parent.child(last) is not None:
        return parent.key_fault(last, rest, suggestion=hint)
    return node.fault(message, suggestion=hint)


def _misread(node: Node, annotations: list[Any]) -> Iterator[Fault]:
    """Faults that pydantic accepts: `true` for a number, and a field by its Python name."""
    flat = list(_flat(annotations))
    if isinstance(node.value, bool):
        if {int, float} & set(flat) and not {bool, str, Any} & set(flat) and not any(_choices(a) for a in flat):
            yield node.fault(f"must be a number, not {str(node.value).lower()}")
        return
    for part, child in node.children.items():
        for model in flat:
            if _is_model(model) and part in model.model_fields:
                alias = model.model_fields[part].alias
                if alias not in (None, part):
                    yield node.key_fault(part, "unknown key", suggestion=alias)
        yield from _misread(child, _below(annotations, part))


def _below(annotations: list[Any], part: Any) -> list[Any]:
    """The types of the value under `part`; a part that names a member of a union narrows the types instead."""
    flat = list(_flat(annotations))
    found: list[Any] = []
    for one in flat:
        arguments = get_args(one)
        if _is_model(one):
            found += [info.annotation for name, info in one.model_fields.items() if part in (name, info.alias)]
        elif get_origin(one) in (tuple, list, set, frozenset) and isinstance(part, int):
            found += [arguments[0 if arguments[-1] is Ellipsis or part >= len(arguments) else part]]
        elif get_origin(one) is dict:
            found += [arguments[1]]
    if found:
        return found
    tagged = [one for one in flat if _is_model(one) and part in _tags(one)]
    return tagged or annotations


def _flat(annotations: Iterable[Any]) -> Iterator[Any]:
    for one in annotations:
        origin = get_origin(one)
        if origin is Annotated:
            yield from _flat(get_args(one)[:1])
        elif origin in (Union, types.UnionType):
            yield from _flat(get_args(one))
        else:
            yield one


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _tags(model: type[BaseModel]) -> set[Any]:
    """How pydantic names a member of a union: by its discriminator's value, or by its class name."""
    return {model.__name__, *(tag for info in model.model_fields.values() for tag in _choices(info.annotation))}


def _keys(annotations: list[Any]) -> set[str]:
    """The keys a mapping of these types may have, as the file writes them."""
    models = [one for one in _flat(annotations) if _is_model(one)]
    return {info.alias or name for model in models for name, info in model.model_fields.items()}
