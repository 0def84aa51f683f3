"""Manifests and parameters in words: what the verbs `tasks`, `models` and `strategies` have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from wtsbench_cli.terminal import print_table

if TYPE_CHECKING:
    from pydantic import BaseModel

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def parameters_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a pydantic model: name, type, default and description, as its JSON Schema tells them."""
    schema = model.model_json_schema(by_alias=True)
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "type": kind(field, schema.get("$defs", {})),
            "required": name in required,
            "default": field.get("default"),
            "description": " ".join(field.get("description", "").split()),  # of a docstring's lines
        }
        for name, field in schema.get("properties", {}).items()
    ]


def kind(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema type in a few words: `soft | hard`, `number > 0, <= 1`, `list of string`."""
    if "$ref" in field:
        return kind(definitions[field["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in field:
        return " | ".join(kind(option, definitions) for option in field["anyOf"])
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        return f"list of {kind(field['items'], definitions)}" if field.get("items") else "list"
    bounds = ", ".join(f"{sign} {field[key]:.15g}" for key, sign in _BOUNDS.items() if key in field)
    return " ".join(part for part in (field.get("type", "any"), bounds) if part)


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """The leaves of a nested record that say something, as dotted path and text."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in flat(item, f"{path}.{key}" if path else str(key))]
    if value is None or value == [] or value == ():
        return []
    if isinstance(value, list | tuple) and all(isinstance(item, dict) for item in value):
        return [leaf for place, item in enumerate(value) for leaf in flat(item, f"{path}[{place}]")]
    if isinstance(value, list | tuple):
        plain = all(isinstance(item, int | float) or (isinstance(item, str) and item.isprintable()) for item in value)
        return [(path, ", ".join(map(str, value)) if plain else json.dumps(value, ensure_ascii=False))]
    return [(path, str(value))]


def manifest_record(kind: Literal["tasks", "models", "scorers"], name: str) -> dict[str, Any]:
    """A manifest as its file would have it, with where it is and whether it is the user's own."""
    from wtsbench.settings import shipped
    from wtsbench.spec import manifests

    loads = {"tasks": manifests.load_task, "models": manifests.load_model, "scorers": manifests.load_scorer}
    manifest: BaseModel = loads[kind](name)[0]
    path = manifests.find(kind, name)
    own = not path.is_relative_to(shipped("manifests"))
    return {**manifest.model_dump(mode="json", by_alias=True), "path": str(path), "own": own}


def show_fields(record: dict[str, Any]) -> None:
    """A nested record as lines of dotted path and value."""
    print_table(("", ""), flat(record))


def text_of(value: Any) -> str:
    """A default as a grid file would write it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
