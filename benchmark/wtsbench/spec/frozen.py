"""The base of every spec: frozen, keyword-only, unknown keys refused."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)


def described_by(base: type[Frozen]) -> Callable[[dict[str, Any]], None]:
    """`json_schema_extra` of a spec whose fields replace some of another's: what that says of each, and its default."""

    def describe(schema: dict[str, Any]) -> None:
        for name, told in schema["properties"].items():
            field = base.model_fields.get(name)
            if field is not None and "description" not in told:
                told["description"] = f"{field.description} Default, where nothing says it: {field.default}."

    return describe
