"""Locating a task's rows: the choice between canonical source and mirror."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from wtsbench.data.code import rows_of_code
from wtsbench.data.download import Download, sha256
from wtsbench.data.hub import read_hub, resolve_revision
from wtsbench.data.reading import Columns, check_columns, read_file
from wtsbench.errors import DataError
from wtsbench.settings import user_path
from wtsbench.spec.source import (
    CodeSource,
    FileFormat,
    FileSource,
    HubSource,
    Mirror,
    PathSource,
    Source,
    SyntheticSource,
    format_of,
)
from wtsbench.spec.task import TaskManifest

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Rows(Protocol):
    """A located source of rows, not yet read."""

    @property
    def where(self) -> str:
        """Name of the source in messages."""

    @property
    def report(self) -> dict[str, Any]:
        """The rows' exact source, with the digest of their content if known; equal for equal rows."""

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns, named as in the manifest."""


def locate(manifest: TaskManifest, mirror: Path | None, folder: Path | None) -> Rows:
    """The source: the mirror if a mirror folder is set and the manifest names a place in it, else the canonical one.

    Reads no rows and downloads nothing; a local file is hashed, a hub's branch is resolved to its commit.

    Args:
        manifest: the task.
        mirror: the mirror folder.
        folder: the manifest's folder, for a `path` source.

    Raises:
        DataError: there is no such file, it has another digest than it should, or the hub cannot be reached.
    """
    source = manifest.source
    task = f"task {manifest.name}"
    if mirror is not None and manifest.mirror is not None:
        return _mirrored(task, manifest.mirror, mirror, canonical(source))
    match source:
        case FileSource():
            return Download(task, source)
        case HubSource():
            return HubDataset.at(task, source)
        case PathSource():
            path = user_path(source.path)
            path = path if path.is_absolute() or folder is None else folder / path
            form = source.format or format_of(source.path)
            if not path.is_file():
                raise DataError(
                    f"{task}: no file {path}",
                    remedy="mend source.path in the manifest; it is relative to the manifest.",
                )
            if form is None:
                raise AssertionError(f"{path} has no format")  # the manifest's own validator refuses it
            report = {"kind": "path", "path": source.path, "sha256": _hashed(task, path)}
            return LocalFiles(task, (path,), form, report, source.columns)
        case SyntheticSource():
            return Generated(task, source)
        case CodeSource():
            report, rows = rows_of_code(source, f"{task}: entry point {source.entry_point}")
            return Coded(f"{task}: entry point {source.entry_point}", report, rows)


def canonical(source: Source) -> str:
    """The canonical place as text."""
    match source:
        case FileSource():
            return source.url
        case HubSource():
            return (
                f"hub dataset {source.id}"
                + (f", {source.config}" if source.config else "")
                + (f", folder {source.data_dir}" if source.data_dir else "")
                + f", at {source.revision}"
            )
        case PathSource():
            return source.path
        case SyntheticSource():
            return f"generator {source.generator}"
        case CodeSource():
            return f"entry point {source.entry_point}"


def _mirrored(task: str, mirror: Mirror, folder: Path, place: str) -> LocalFiles:
    files: list[dict[str, str]] = []
    for file in mirror.files:
        path = folder / file.path
        if not path.is_file():
            raise DataError(
                f"{task}: no file {path} in the data mirror; its canonical place is {place}",
                remedy="put it there, or unset WTSBENCH_DATA_MIRROR to use the canonical place.",
            )
        content = _hashed(task, path)
        if file.sha256 is not None and content != file.sha256:
            raise DataError(
                f"{task}: {path} has sha256 {content}, its manifest says {file.sha256}",
                remedy=f"fetch the file again; its canonical place is {place}.",
            )
        files.append({"path": file.path, "sha256": content})
    report: dict[str, Any] = {"kind": "mirror", **(files[0] if len(files) == 1 else {"files": files})}
    report |= {"canonical": place, **({"partial": True} if mirror.partial else {})}
    paths = tuple(folder / file.path for file in mirror.files)
    return LocalFiles(task, paths, mirror.format, report, mirror.columns, mirror.rename)


@dataclass(frozen=True)
class LocalFiles:
    """Local files, read one after the other."""

    task: str
    paths: tuple[Path, ...]
    form: FileFormat
    report: dict[str, Any]
    header: tuple[str, ...] | None = None
    """Names of the columns, if the files have no header line."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Column of the files to column of the manifest."""

    @property
    def where(self) -> str:
        """The file, or the first of them."""
        more = "" if len(self.paths) == 1 else f" and {len(self.paths) - 1} more"
        return f"{self.task}: {self.paths[0]}{more}"

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns, renamed to the manifest's names."""
        in_file = {name: other for other, name in self.rename.items()}
        result: Columns = {name: [] for name in columns}
        for path in self.paths:
            file_columns = [in_file.get(name, name) for name in columns]
            read_columns = read_file(path, self.form, file_columns, f"{self.task}: {path}", self.header)
            for name in columns:
                result[name].extend(read_columns[in_file.get(name, name)])
        return result


@dataclass(frozen=True)
class HubDataset:
    """A dataset of the hub at a commit."""

    task: str
    source: HubSource
    commit: str

    @classmethod
    def at(cls, task: str, source: HubSource) -> HubDataset:
        """The dataset with its revision resolved to a commit."""
        if _COMMIT.fullmatch(source.revision):
            return cls(task, source, source.revision)
        return cls(task, source, resolve_revision(source, f"{task}: {canonical(source)}"))

    @property
    def where(self) -> str:
        """The dataset with its revision."""
        return f"{self.task}: {canonical(self.source)}"

    @property
    def report(self) -> dict[str, Any]:
        """The dataset with its commit."""
        named = {"id": self.source.id, "config": self.source.config, "splits": list(self.source.splits)}
        named |= {} if self.source.data_dir is None else {"data_dir": self.source.data_dir}
        return {"kind": "hub", **named, "revision": self.source.revision, "commit": self.commit}

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns of all its splits, one after the other."""
        return read_hub(self.source, self.commit, columns, self.where)


@dataclass(frozen=True)
class Generated:
    """Rows that wtsbench makes itself."""

    task: str
    source: SyntheticSource

    @property
    def where(self) -> str:
        """The generator."""
        return f"{self.task}: generator {self.source.generator}"

    @property
    def report(self) -> dict[str, Any]:
        """The generator and its arguments."""
        return self.source.model_dump()

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns of the generated rows."""
        from wtsbench.data.synthetic import generate

        rows = generate(self.source.generator, items=self.source.items, seed=self.source.seed)
        check_columns(columns, list(rows[0]) if rows else [], self.where)
        return {name: [row[name] for row in rows] for name in columns}


@dataclass(frozen=True)
class Coded:
    """Rows that another package's function has made."""

    where: str
    report: dict[str, Any]
    rows: list[dict[str, Any]]

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns of the rows; None if a row lacks one."""
        check_columns(columns, list(dict.fromkeys(name for row in self.rows for name in row)), self.where)
        return {name: [row.get(name) for row in self.rows] for name in columns}


def _hashed(task: str, path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{task}: {path} cannot be read: {error.strerror}", remedy="check its permissions.") from error
