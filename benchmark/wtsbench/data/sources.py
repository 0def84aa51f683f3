"""Where a task's rows are: the one place that chooses between canonical source and mirror."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from wtsbench.data.hub import read_hub, resolve_revision
from wtsbench.data.libraries import disk_fault
from wtsbench.data.reading import Columns, check_columns, read_file
from wtsbench.errors import DataError
from wtsbench.spec.paths import cache_folder
from wtsbench.spec.source import (
    FileFormat,
    FileSource,
    HubSource,
    Mirror,
    PathSource,
    SyntheticSource,
    format_of,
)
from wtsbench.spec.task import TaskManifest

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 60
_CHUNK = 1 << 20


class Source(Protocol):
    """Rows, not yet read."""

    @property
    def where(self) -> str:
        """How messages call it."""

    @property
    def report(self) -> dict[str, Any]:
        """Where exactly the rows come from, down to their content where that is known; equal for equal rows."""

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns, by the manifest's names."""


def locate(manifest: TaskManifest, mirror: Path | None, folder: Path | None) -> Source:
    """The source: the mirror where a mirror folder is set and the manifest has a place in it, else the canonical.

    Reads no rows and downloads nothing; a local file is found and hashed, a hub's branch is resolved to its commit.

    Args:
        manifest: the task.
        mirror: the mirror folder.
        folder: the manifest's folder, for a `path` source.

    Raises:
        DataError: there is no such file, it is not the file it should be, or the hub cannot be reached.
    """
    source = manifest.source
    task = f"task {manifest.name}"
    if mirror is not None and manifest.mirror is not None:
        return _mirror_file(task, manifest.mirror, mirror, canonical(source))
    match source:
        case FileSource():
            return Download(task, source)
        case HubSource():
            return HubDataset.at(task, source)
        case PathSource():
            path = Path(source.path).expanduser()
            path = path if path.is_absolute() or folder is None else folder / path
            form = source.format or format_of(source.path)
            if not path.is_file():
                raise DataError(
                    f"{task}: no file {path}",
                    remedy="mend source.path in the manifest; it is relative to the manifest.",
                )
            if form is None:
                raise AssertionError(f"{path} has no format")  # the manifest's own validator refuses it
            return LocalFile(
                f"{task}: {path}", path, form, {"kind": "path", "path": source.path, "sha256": _hashed(task, path)}
            )
        case SyntheticSource():
            return Generated(task, source)


def canonical(source: FileSource | HubSource | PathSource | SyntheticSource) -> str:
    """The canonical place in words."""
    match source:
        case FileSource():
            return source.url
        case HubSource():
            return (
                f"hub dataset {source.id}" + (f", {source.config}" if source.config else "") + f", at {source.revision}"
            )
        case PathSource():
            return source.path
        case SyntheticSource():
            return f"generator {source.generator}"


def _mirror_file(task: str, mirror: Mirror, folder: Path, place: str) -> LocalFile:
    path = folder / mirror.path
    if not path.is_file():
        raise DataError(
            f"{task}: no file {path} in the data mirror; its canonical place is {place}",
            remedy="put it there, or unset WTSBENCH_DATA_MIRROR to use the canonical place.",
        )
    found = _hashed(task, path)
    if mirror.sha256 is not None and found != mirror.sha256:
        raise DataError(
            f"{task}: {path} has sha256 {found}, its manifest says {mirror.sha256}",
            remedy=f"fetch the file again; its canonical place is {place}.",
        )
    report = {"kind": "mirror", "path": mirror.path, "sha256": found, "canonical": place}
    return LocalFile(f"{task}: {path}", path, mirror.format, report, mirror.rename)


@dataclass(frozen=True)
class LocalFile:
    """A file that is there."""

    where: str
    path: Path
    form: FileFormat
    report: dict[str, Any]
    rename: Mapping[str, str] = field(default_factory=dict)
    """Column of the file to column of the manifest."""

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns, renamed to the manifest's names."""
        in_file = {name: other for other, name in self.rename.items()}
        found = read_file(self.path, self.form, [in_file.get(name, name) for name in columns], self.where)
        return {name: found[in_file.get(name, name)] for name in columns}


@dataclass(frozen=True)
class Download:
    """A file at a public address, kept in the cache folder once it was fetched and found right."""

    task: str
    source: FileSource

    @property
    def where(self) -> str:
        """The address."""
        return f"{self.task}: {self.source.url}"

    @property
    def report(self) -> dict[str, Any]:
        """The address and the content."""
        return {"kind": "file", "url": self.source.url, "sha256": self.source.sha256}

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns, after a download where need be."""
        return read_file(self._fetch(), self.source.format, columns, self.where)

    def _fetch(self) -> Path:
        kept = cache_folder() / "data" / "files" / f"{self.source.sha256}.{self.source.format}"
        if kept.is_file() and sha256(kept) == self.source.sha256:
            return kept
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".fetch-", dir=kept.parent)
        except OSError as error:
            raise disk_fault(error) from error
        try:
            with os.fdopen(handle, "wb") as sink:
                self._stream(sink)
            found = sha256(Path(name))
            if found != self.source.sha256:
                raise DataError(
                    f"{self.where} has sha256 {found}, its manifest says {self.source.sha256}",
                    remedy="the file was changed or cut short: try again, or use a mirror (WTSBENCH_DATA_MIRROR).",
                )
            Path(name).replace(kept)
        finally:
            Path(name).unlink(missing_ok=True)
        return kept

    def _stream(self, sink: Any) -> None:
        try:
            response = urllib.request.urlopen(self.source.url, timeout=_TIMEOUT)  # http(s) only: the manifest's pattern
        except urllib.error.HTTPError as error:
            with error:
                raise DataError(
                    f"{self.where}: the server answers {error.code} {error.reason}",
                    remedy="check source.url, or set WTSBENCH_DATA_MIRROR to a folder that holds the data.",
                ) from error
        except OSError as error:
            raise self._unreachable(error) from error
        with response:
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except OSError as error:
                    raise self._unreachable(error) from error
                if not chunk:
                    return
                try:
                    sink.write(chunk)
                except OSError as error:
                    raise disk_fault(error) from error

    def _unreachable(self, error: OSError) -> DataError:
        reason = getattr(error, "reason", error)
        return DataError(
            f"{self.where} cannot be reached: {reason}",
            remedy="set WTSBENCH_DATA_MIRROR to a folder that holds the data.",
        )


@dataclass(frozen=True)
class HubDataset:
    """A dataset of the hub at a commit."""

    task: str
    source: HubSource
    commit: str

    @classmethod
    def at(cls, task: str, source: HubSource) -> HubDataset:
        """With its revision resolved; a commit is one already."""
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


def _hashed(task: str, path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{task}: {path} cannot be read: {error.strerror}", remedy="check its permissions.") from error


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
