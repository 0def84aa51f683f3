"""A strategy as a grid calls it: its name, and the parameters that differ from its defaults."""

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from wtsbench.spec.frozen import Frozen, Text


def _short_forms(schema: dict[str, Any]) -> None:
    """In a grid file a strategy is a name, or a mapping of its name and its parameters."""
    properties = schema.pop("properties")
    name = {**properties["name"], "description": "A name that `wtsbench strategies` lists."}
    parameters = {**properties["parameters"], "description": "The parameters may also be written here."}
    mapping = {
        "type": "object",
        "properties": {"name": name, "parameters": parameters},
        "required": ["name"],
        "additionalProperties": {"description": "A parameter of the strategy."},
    }
    for key in ("type", "required", "additionalProperties"):
        schema.pop(key, None)
    schema["anyOf"] = [name, mapping]


class StrategyCall(Frozen):
    """A strategy by name, with the parameters that differ from its defaults."""

    model_config = ConfigDict(json_schema_extra=_short_forms)

    name: Text
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """How tables call it: `logconf`, or `logconf(max_weight=0.5)` where parameters were given."""
        if not self.parameters:
            return self.name
        given = ",".join(f"{key}={_plain(value)}" for key, value in sorted(self.parameters.items()))
        return f"{self.name}({given})"

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        """`naive`, `{name: logconf, max_weight: 0.5}` and the stored form are one thing."""
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "name" not in value:
            return {}  # what its other keys mean, only the name could tell
        if isinstance(value, dict):
            rest = {key: item for key, item in value.items() if key not in ("name", "parameters")}
            nested = value.get("parameters") or {}
            if not isinstance(nested, dict):
                return {"name": value["name"], "parameters": nested}
            return {"name": value["name"], "parameters": {**nested, **rest}}
        return value

    def __str__(self) -> str:
        return self.label


def _plain(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:  # a strategy within a strategy
        return StrategyCall.model_validate(value).label
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
