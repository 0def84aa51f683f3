"""Where a task's rows come from: a public address, the hub, a file or code of the user, a generator, a mirror."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from wtsbench.spec.frozen import Frozen, HubId, MirrorPath, Sha256, Text

Column = Text
"""A column's name. A dot leads into a structure: `prompt.text` is the field `text` of the column `prompt`, unless a
column is called `prompt.text`."""
FileFormat = Literal["csv", "tsv", "jsonl", "parquet"]

_SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
HEADED = ("csv", "tsv")
"""Formats whose first line may name the columns."""


def format_of(path: str) -> FileFormat | None:
    """The format that a file's suffix stands for; None if it stands for none."""
    return _SUFFIXES.get(PurePosixPath(path).suffix.lower())


def _text_keys(value: Any) -> Any:
    """YAML reads `True:` and `1:` as a boolean and a number; source values are compared as text."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value


LabelValues = Annotated[dict[str, str], BeforeValidator(_text_keys)]
"""From a value in the source, as text, to a class name. Several values may mean the same class."""
_Meaning = TypeVar("_Meaning")


def meaning(values: Mapping[str, _Meaning], value: str) -> _Meaning | None:
    """What a value of the source means; None if it is not among `values`.

    Files and YAML write the same value in several ways: `true`, `True` and `TRUE`; or `1.0`, when a column of integers
    with missing values was saved as floats.
    """
    whole = value.removesuffix(".0")
    for key in (value, whole if whole.removeprefix("-").isdecimal() else value):
        if key in values:
            return values[key]
    if value.lower() in ("true", "false"):
        return next((meant for key, meant in values.items() if key.lower() == value.lower()), None)
    return None


Header = Annotated[tuple[Column, ...], Field(min_length=1)] | None
"""Names of all columns, in order, of a csv or tsv file without a header line; None if it has one."""


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
    id: HubId
    """Name of the dataset, as owner/name."""
    config: str | None = None
    """Its configuration, where it has several."""
    data_dir: Text | None = None
    """A folder of the dataset to read, for datasets that are divided into folders in place of configurations."""
    splits: Annotated[tuple[str, ...], Field(min_length=1)] = ("train",)
    """The hub's splits to read, in order; wtsbench splits all their rows anew. A slice such as `train[:20000]` reads
    part of a split."""
    revision: str = "main"
    """A commit, or a branch or tag; the latter are resolved to a commit when used, which the report names."""


class PathSource(Frozen):
    """A file of the user's."""

    kind: Literal["path"] = "path"
    path: Text
    """Relative to the manifest's folder, or absolute."""
    format: FileFormat | None = None
    """Needed if the file's name does not tell."""
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
    entry_point: Text
    """A name in the entry point group `wtsbench.tasks`: a function that yields rows, each a dict of column to value."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments."""


Source = Annotated[FileSource | HubSource | PathSource | SyntheticSource | CodeSource, Field(discriminator="kind")]


class MirrorFile(Frozen):
    """One of several files of a mirror."""

    path: MirrorPath
    """Below the mirror folder."""
    sha256: Sha256 | None = None
    """Digest of its content: another file is refused."""


class Mirror(Frozen):
    """The same rows in a mirror folder, perhaps with other column names and label values."""

    path: MirrorPath | None = None
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
    """Replaces the manifest's values if the mirror writes labels differently."""
    partial: bool = False
    """The mirror holds only some of the source's rows: items and digest differ, and the report says so."""

    @property
    def files(self) -> tuple[MirrorFile, ...]:
        """The file or files."""
        return self.paths or (MirrorFile(path=self.path or "", sha256=self.sha256),)

    @model_validator(mode="after")
    def _whole(self) -> "Mirror":
        if (self.path is None) == (self.paths is None) or (self.paths is not None and self.sha256 is not None):
            raise ValueError("give path, with sha256, or paths: [{path, sha256}, …]")
        _check_header(self.columns, self.format)
        return self
