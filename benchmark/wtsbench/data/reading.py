"""Columns out of local files, through the `datasets` library."""

from __future__ import annotations

import csv
import difflib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtsbench.data.libraries import LibraryFault, disk_fault, library_faults, quiet
from wtsbench.errors import DataError
from wtsbench.spec.files import open_plain
from wtsbench.spec.paths import cache_folder
from wtsbench.spec.source import FileFormat

if TYPE_CHECKING:
    import datasets

Columns = dict[str, list[Any]]
"""Column name to its values, rows aligned."""
_SEPARATORS = {"csv": ",", "tsv": "\t"}


def read_file(
    path: Path, form: FileFormat, columns: Sequence[str], where: str, header: Sequence[str] | None = None
) -> Columns:
    """The named columns of a local file; csv and tsv values all as text, "NA" and "" included.

    Args:
        path: the file.
        form: its format.
        columns: their names in the file.
        where: how messages call the file.
        header: the names of all columns, where the file itself has no line of names.

    Raises:
        DataError: it is not of its format, or lacks a column.
    """
    try:
        with open_plain(path) as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror}", remedy="name a file that can be read.") from error
    if empty:
        raise DataError(f"{where}: the file is empty", remedy="fetch or write it again.")
    first = _first_line(path, _SEPARATORS[form], where) if form in _SEPARATORS else None
    if first is not None and header is not None and len(first) != len(header):
        raise DataError(
            f"{where}: its first line has {len(first)} columns, the manifest names {len(header)}",
            remedy="name every column of the file in the manifest's `columns`.",
        )
    if first is not None:
        check_columns(columns, header or first, where)
    with _scratch() as scratch, quiet():
        import datasets

        options: dict[str, Any] = {"data_files": str(path), "split": "train", "cache_dir": scratch}
        if first is not None:
            features = datasets.Features({name: datasets.Value("string") for name in columns})
            # Not `usecols`: with it, a row of too many fields would pass, cut short.
            options |= {"sep": _SEPARATORS[form], "features": features, "keep_default_na": False}
            options |= {} if header is None else {"column_names": list(header)}
        elif form == "jsonl":
            options |= {"parse_agent_traces": False}
        builder = {"csv": "csv", "tsv": "csv", "jsonl": "json", "parquet": "parquet"}[form]
        try:
            with library_faults():
                return pick(datasets.load_dataset(builder, **options), columns, where)
        except LibraryFault as fault:
            if "corresponds to no data" in fault.reason:
                return {name: [] for name in columns}
            if fault.memory:
                raise DataError(
                    f"{where}: to read it takes more memory than there is: {fault.reason}",
                    remedy="see whether it is the file that it should be; give fewer rows, or more memory.",
                ) from fault
            if form != "parquet":
                _require_text(path, where)
            raise DataError(
                f"{where}: cannot be read as {form}: {fault.reason}", remedy="give the right format, or mend the file."
            ) from fault


def pick(table: datasets.Dataset, columns: Sequence[str], where: str) -> Columns:
    """These columns of a loaded table, as Python values; a name with dots may lead into structures.

    Raises:
        DataError: one is missing.
    """
    if any("." in name and name not in table.column_names for name in columns):
        table = table.flatten()
    check_columns(columns, table.column_names, where)
    return {name: list(table[name]) for name in columns}


def check_columns(wanted: Sequence[str], found: Sequence[str], where: str) -> None:
    """Raise DataError where a wanted column is missing, naming those found and the nearest."""
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    hints = []
    for name in missing:
        lowered = {other.casefold(): other for other in reversed(found)}
        near = difflib.get_close_matches(name.casefold(), list(lowered), n=1)
        hints.append(f"{name!r}" + (f" (nearest: {lowered[near[0]]!r})" if near else ""))
    columns = ", ".join(repr(name) for name in found) or "none"
    raise DataError(
        f"{where}: no column {', '.join(hints)}; expected {', '.join(map(repr, wanted))}, found {columns}",
        remedy="name the columns in the manifest as the data does.",
    )


def _first_line(path: Path, separator: str, where: str) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return next(csv.reader(stream, delimiter=separator), [])
    except (UnicodeDecodeError, csv.Error) as error:
        _require_text(path, where)
        raise DataError(f"{where}: its first line cannot be read: {error}", remedy="save it as UTF-8 text.") from error


def _require_text(path: Path, where: str) -> None:
    """Raise DataError, with its line, where a file is not UTF-8 text."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise DataError(
                    f"{where}: line {number} is not UTF-8 text (byte 0x{byte:02x})", remedy="save it as UTF-8 text."
                ) from None


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for what `datasets` writes while it reads a file: in its own cache every file would stay once more."""
    parent = cache_folder() / "data"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".reading-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise disk_fault(error) from error
    with folder as name:
        yield name
