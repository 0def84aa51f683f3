"""Where a task's rows are: a public address, the hub, the user's own file or code, wtsbench's generators, a mirror."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from wtsbench.spec.frozen import Frozen

Column = Annotated[str, Field(min_length=1)]
"""A column's name. A dot leads into a structure: `prompt.text` is the field `text` of the column `prompt`, where no
column is called `prompt.text` itself."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileFormat = Literal["csv", "tsv", "jsonl", "parquet"]

_SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
HEADED = ("csv", "tsv")
"""Formats whose columns are named by a first line, which may be missing."""


def format_of(path: str) -> FileFormat | None:
    """The format a file's name stands for; None where it stands for none."""
    return _SUFFIXES.get(PurePosixPath(path).suffix.lower())


def _text_keys(value: Any) -> Any:
    """YAML reads `True:` and `1:` as a boolean and a number; source values are compared as text."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value


LabelValues = Annotated[dict[str, str], BeforeValidator(_text_keys)]
"""Value in the source, as text, to class name. Several values may stand for one class."""
_Meaning = TypeVar("_Meaning")


def meaning(values: Mapping[str, _Meaning], value: str) -> _Meaning | None:
    """What a value of the source stands for; None where it is none of those known.

    Files and YAML write the same thing in several ways: `true`, `True` and `TRUE`; and `1.0` where a column of whole
    numbers with a gap was saved as one of fractions.
    """
    whole = value.removesuffix(".0")
    for known in (value, whole if whole.removeprefix("-").isdecimal() else value):
        if known in values:
            return values[known]
    if value.lower() in ("true", "false"):
        return next((found for known, found in values.items() if known.lower() == value.lower()), None)
    return None


Header = Annotated[tuple[Column, ...], Field(min_length=1)] | None
"""Names of all columns, in order, of a csv or tsv file that has no line of names; None where it has one."""


def _check_header(columns: tuple[str, ...] | None, form: FileFormat | None) -> None:
    if columns is None:
        return
    if form not in HEADED:
        raise ValueError(f"columns: a {form} file names its columns itself")
    if len(set(columns)) != len(columns):
        raise ValueError("columns: a name occurs twice")


class FileSource(Frozen):
    """A single file at a public address, pinned by its content."""

    kind: Literal["file"] = "file"
    url: Annotated[str, Field(pattern=r"^https?://")]
    """Address of the file."""
    sha256: Sha256
    """Digest of its content: another file is refused."""
    format: FileFormat
    """How it is read."""
    columns: Header = None
    """Names of all columns, of a csv or tsv file that has no line of names."""

    @model_validator(mode="after")
    def _headed(self) -> "FileSource":
        _check_header(self.columns, self.format)
        return self


class HubSource(Frozen):
    """A dataset of the Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    id: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    """Name of the dataset, as owner/name."""
    config: str | None = None
    """Its configuration, where it has several."""
    data_dir: Annotated[str, Field(min_length=1)] | None = None
    """A folder of the dataset, where it is no configuration but a folder that parts it."""
    splits: Annotated[tuple[str, ...], Field(min_length=1)] = ("train",)
    """The hub's splits to take, one after the other; the benchmark makes its own splits of all their rows. A slice such
    as `train[:20000]` takes some of a split's rows."""
    revision: str = "main"
    """A commit, or a branch or tag; the latter are resolved to a commit when used, which the report names."""


class PathSource(Frozen):
    """A file of the user's own."""

    kind: Literal["path"] = "path"
    path: Annotated[str, Field(min_length=1)]
    """Relative to the manifest's folder, or absolute."""
    format: FileFormat | None = None
    """Where the file's name does not tell."""
    columns: Header = None
    """Names of all columns, of a csv or tsv file that has no line of names."""

    @model_validator(mode="after")
    def _formatted(self) -> "PathSource":
        form = self.format or format_of(self.path)
        if form is None:
            raise ValueError(f"{self.path!r} does not tell its format; give format: csv, tsv, jsonl or parquet")
        _check_header(self.columns, form)
        return self


class SyntheticSource(Frozen):
    """Items made by wtsbench itself."""

    kind: Literal["synthetic"] = "synthetic"
    generator: str
    """A name in wtsbench.data.synthetic."""
    items: Annotated[int, Field(ge=8)]
    """Rows to generate, before deduplication."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the generator; another seed gives other rows."""


class CodeSource(Frozen):
    """Rows that a function of another package makes."""

    kind: Literal["code"] = "code"
    entry_point: Annotated[str, Field(min_length=1)]
    """A name in the entry point group `wtsbench.tasks`: a function that yields rows, each a dict of column to value."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments."""


Source = Annotated[FileSource | HubSource | PathSource | SyntheticSource | CodeSource, Field(discriminator="kind")]


class MirrorFile(Frozen):
    """One of several files of a mirror."""

    path: Annotated[str, Field(min_length=1)]
    """Below the mirror folder."""
    sha256: Sha256 | None = None
    """Digest of its content: another file is refused."""


class Mirror(Frozen):
    """The same rows in a mirror folder, perhaps with other column names and label values."""

    path: Annotated[str, Field(min_length=1)] | None = None
    """Below the mirror folder."""
    sha256: Sha256 | None = None
    """Digest of its content: another file is refused."""
    paths: Annotated[tuple[MirrorFile, ...], Field(min_length=1)] | None = None
    """In place of `path` and `sha256`: several files, one after the other."""
    format: FileFormat
    """How the files are read."""
    columns: Header = None
    """Names of all columns, of a csv or tsv file that has no line of names."""
    rename: dict[Column, Column] = Field(default_factory=dict)
    """Column of the mirror's file to column of the manifest."""
    values: LabelValues | None = None
    """In place of the manifest's, where the mirror writes labels otherwise."""
    partial: bool = False
    """Holds some of the canonical rows only: items and digest are others, and the report says so."""

    @property
    def files(self) -> tuple[MirrorFile, ...]:
        """The file or files."""
        return self.paths or (MirrorFile(path=self.path or "", sha256=self.sha256),)

    @model_validator(mode="after")
    def _below(self) -> "Mirror":
        if (self.path is None) == (self.paths is None) or (self.paths is not None and self.sha256 is not None):
            raise ValueError("give path, with sha256, or paths: [{path, sha256}, …]")
        for file in self.files:
            parts = PurePosixPath(file.path)
            if parts.is_absolute() or ".." in parts.parts:
                raise ValueError(f"path {file.path!r} must be below the mirror folder")
        _check_header(self.columns, self.format)
        return self
