"""Locating a task's rows: the choice between canonical source and mirror."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtsbench.data.code import rows_of_code
from wtsbench.data.download import downloaded
from wtsbench.data.hub import read_hub, resolve_revision
from wtsbench.data.reading import Columns, check_columns, read_file
from wtsbench.data.synthetic import generate
from wtsbench.errors import DataError
from wtsbench.files import sha256
from wtsbench.settings import user_path
from wtsbench.spec.source import (
    CodeSource,
    FileSource,
    HubSource,
    Mirror,
    PathSource,
    Source,
    SyntheticSource,
    format_of,
)
from wtsbench.spec.task import TaskManifest


@dataclass(frozen=True)
class Rows:
    """A located source of rows, not yet read."""

    where: str
    """Name of the source in messages."""
    report: dict[str, Any]
    """The rows' exact source, with the digest of their content if known; equal for equal rows."""
    read: Callable[[Sequence[str]], Columns]
    """Reads columns, named as in the manifest."""


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
    source, task = manifest.source, f"task {manifest.name}"
    if mirror is not None and manifest.mirror is not None:
        return _mirrored(task, manifest.mirror, mirror, canonical(source))
    where = f"{task}: {canonical(source)}"
    match source:
        case FileSource():
            return Rows(
                where,
                {"kind": "file", "url": source.url, "sha256": source.sha256},
                lambda columns: read_file(downloaded(source, where), source.format, columns, where, source.columns),
            )
        case HubSource():
            commit = resolve_revision(source, where)
            report = {"kind": "hub", "id": source.id, "config": source.config, "splits": list(source.splits)}
            report |= {} if source.data_dir is None else {"data_dir": source.data_dir}
            report |= {"revision": source.revision, "commit": commit}
            return Rows(where, report, lambda columns: read_hub(source, commit, columns, where))
        case PathSource():
            path = (folder or Path()) / user_path(source.path)
            form = source.format or format_of(source.path)
            if not path.is_file():
                raise DataError(
                    f"{task}: no file {path}",
                    remedy="mend source.path in the manifest; it is relative to the manifest.",
                )
            assert form is not None, "the manifest's own validator refuses a file without a format"
            report = {"kind": "path", "path": source.path, "sha256": _hashed(task, path)}
            where = f"{task}: {path}"
            return Rows(where, report, lambda columns: read_file(path, form, columns, where, source.columns))
        case SyntheticSource():
            generator, items, seed = source.generator, source.items, source.seed
            return Rows(
                where,
                source.model_dump(),
                lambda columns: _columns_of(generate(generator, items=items, seed=seed), columns, where),
            )
        case CodeSource():
            report, rows = rows_of_code(source, where)
            return Rows(where, report, lambda columns: _columns_of(rows, columns, where))


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


def _mirrored(task: str, mirror: Mirror, folder: Path, place: str) -> Rows:
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
    more = "" if len(files) == 1 else f" and {len(files) - 1} more"
    where = f"{task}: {folder / mirror.files[0].path}{more}"
    return Rows(where, report, lambda columns: _read_mirror(task, mirror, folder, columns))


def _read_mirror(task: str, mirror: Mirror, folder: Path, columns: Sequence[str]) -> Columns:
    """These columns of all files, one after the other, renamed to the manifest's names."""
    in_file = {name: other for other, name in mirror.rename.items()}
    wanted = [in_file.get(name, name) for name in columns]
    result: Columns = {name: [] for name in columns}
    for file in mirror.files:
        path = folder / file.path
        found = read_file(path, mirror.format, wanted, f"{task}: {path}", mirror.columns)
        for name, other in zip(columns, wanted, strict=True):
            result[name].extend(found[other])
    return result


def _columns_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], where: str) -> Columns:
    """These columns of the rows; None where a row lacks one."""
    check_columns(columns, list(dict.fromkeys(name for row in rows for name in row)), where)
    return {name: [row.get(name) for row in rows] for name in columns}


def _hashed(task: str, path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{task}: {path} cannot be read: {error.strerror}", remedy="check its permissions.") from error
