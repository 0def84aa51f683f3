"""The bases of all specs, and the types of fields that several of them have."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _below(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path!r} must be below the mirror folder")
    return path


Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""The name of a grid or manifest, which its file has too."""
HubId = Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
"""A model or dataset of the Hugging Face hub, as owner/name."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MirrorPath = Annotated[Text, AfterValidator(_below)]
"""A file or folder below `WTSBENCH_DATA_MIRROR`."""


class Frozen(BaseModel):
    """An immutable value; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)


class Document(Frozen):
    """What a whole YAML file holds."""

    api_version: Annotated[Literal["wtsbench/v1"], Field(alias="apiVersion")] = "wtsbench/v1"
    """The form of the file."""


def described_by(base: type[Frozen]) -> Callable[[dict[str, Any]], None]:
    """`json_schema_extra` of a spec whose fields override those of `base`: describes them as `base` does."""

    def describe(schema: dict[str, Any]) -> None:
        for name, told in schema["properties"].items():
            field = base.model_fields.get(name)
            if field is not None and "description" not in told:
                told["description"] = f"{field.description} Default, where nothing says it: {field.default}."

    return describe
