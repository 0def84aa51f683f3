"""Reading columns of local files: csv and tsv with the standard library, for line numbers; others with `datasets`."""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtsbench.data.libraries import LibraryFault, disk_fault, library_faults, quiet
from wtsbench.errors import DataError
from wtsbench.files import open_plain
from wtsbench.settings import cache_folder
from wtsbench.spec.faults import nearest
from wtsbench.spec.source import FileFormat

if TYPE_CHECKING:
    import datasets

Columns = dict[str, list[Any]]
"""Column name to its values, rows aligned."""
_SEPARATORS = {"csv": ",", "tsv": "\t"}
_QUOTING = "put a field that holds the separator, a quote or a line break in quotes, and write a quote in it twice."


def read_file(
    path: Path, form: FileFormat, columns: Sequence[str], where: str, header: Sequence[str] | None = None
) -> Columns:
    """The named columns of a local file; csv and tsv values all as text, "NA" and "" included.

    Args:
        path: the file.
        form: its format.
        columns: their names in the file.
        where: name of the file in messages.
        header: the names of all columns, if the file itself has no header line.

    Raises:
        DataError: the file is not of its format, lacks a column or names it twice, or a row of csv or tsv has more or
            fewer fields than there are columns.
    """
    try:
        with open_plain(path) as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror}", remedy="name a file that can be read.") from error
    if empty:
        raise DataError(f"{where}: the file is empty", remedy="fetch or write it again.")
    if form in _SEPARATORS:
        return _read_separated(path, form, columns, where, header)
    with _scratch() as scratch, quiet():
        import datasets

        options: dict[str, Any] = {"data_files": str(path), "split": "train", "cache_dir": scratch}
        options |= {"parse_agent_traces": False} if form == "jsonl" else {}
        builder = {"jsonl": "json", "parquet": "parquet"}[form]
        try:
            with library_faults():
                return pick(datasets.load_dataset(builder, **options), columns, where)
        except LibraryFault as fault:
            if "corresponds to no data" in fault.reason:
                return {name: [] for name in columns}
            if "MemoryError" in fault.names:  # even a small damaged file may claim to hold terabytes
                raise DataError(
                    f"{where}: to read it takes more memory than there is: {fault.reason}",
                    remedy="see whether it is the file that it should be; give fewer rows, or more memory.",
                ) from fault
            if form != "parquet":
                _require_text(path, where)
            raise DataError(
                f"{where}: cannot be read as {form}: {fault.reason}", remedy="give the right format, or mend the file."
            ) from fault


def column_names(path: Path, form: FileFormat, where: str) -> list[str]:
    """The names of a file's columns; for jsonl those of its first row.

    Raises:
        DataError: the file cannot be read, or is not of its format.
    """
    try:
        if form == "parquet":
            import pyarrow.parquet as pq

            with open_plain(path) as file:
                return list(pq.read_schema(file).names)
        with open_plain(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            if form in _SEPARATORS:
                return next(csv.reader(text, delimiter=_SEPARATORS[form]), [])
            return list(dict(json.loads(text.readline())))
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror}", remedy="name a file that can be read.") from error
    except (ValueError, TypeError, csv.Error) as error:  # ArrowInvalid is a ValueError
        raise DataError(f"{where}: is not {form}: {error}", remedy="give it the name of its format.") from error


def _read_separated(
    path: Path, form: FileFormat, columns: Sequence[str], where: str, header: Sequence[str] | None
) -> Columns:
    """The columns of a csv or tsv file, whose rows must have as many fields as names; blank lines are skipped."""
    csv.field_size_limit(sys.maxsize)  # a field may be a whole document
    reached = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            # Strict, because an unclosed quote would swallow rows, and one inside a field would vanish.
            reader = csv.reader(stream, delimiter=_SEPARATORS[form], strict=True)
            names = next(reader, []) if header is None else list(header)
            _check_named_once(columns, names, where)
            check_columns(columns, names, where)
            places = [(name, names.index(name)) for name in columns]
            result: Columns = {name: [] for name in columns}
            reached = reader.line_num
            for row in reader:
                if len(row) == len(names):
                    for name, place in places:
                        result[name].append(row[place])
                elif any(field.strip() for field in row):
                    raise _uneven(row, names, where, reached + 1, named_by_file=header is None)
                reached = reader.line_num
            return result
    except UnicodeDecodeError as error:
        _require_text(path, where)
        raise DataError(f"{where}: cannot be read: {error}", remedy="save it as UTF-8 text.") from error
    except csv.Error as error:
        raise DataError(
            f"{where}: cannot be read as {form}: the row that begins in line {reached + 1}: {error}", remedy=_QUOTING
        ) from error


def _check_named_once(wanted: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raise DataError if the header has a wanted column twice, which is ambiguous."""
    several = [name for name in wanted if names.count(name) > 1]
    if several:
        raise DataError(
            f"{where}: the header names column {several[0]!r} {names.count(several[0])} times: "
            f"{', '.join(map(repr, names))}",
            remedy="give each column a name of its own.",
        )


def _uneven(row: Sequence[str], names: Sequence[str], where: str, line: int, *, named_by_file: bool) -> DataError:
    """The error for the first row with more or fewer fields than there are columns."""
    named = "the header names" if named_by_file else "the manifest's `columns` name"
    more = len(row) > len(names)
    return DataError(
        f"{where}: line {line} has {len(row)} fields, {named} {len(names)}: {', '.join(map(repr, names))}",
        remedy=_QUOTING if more and named_by_file else f"give every row a field for each column that {named}.",
    )


def pick(table: datasets.Dataset, columns: Sequence[str], where: str) -> Columns:
    """These columns of a loaded table, as Python values; a name with dots may select a nested field.

    Raises:
        DataError: one is missing.
    """
    if any("." in name and name not in table.column_names for name in columns):
        table = table.flatten()
    check_columns(columns, table.column_names, where)
    return {name: list(table[name]) for name in columns}


def check_columns(wanted: Sequence[str], found: Sequence[str], where: str) -> None:
    """Raise DataError if a wanted column is missing, naming those found and the nearest."""
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    hints = []
    for name in missing:
        near = nearest(name, found)
        hints.append(f"{name!r}" if near is None else f"{name!r} (nearest: {near!r})")
    columns = ", ".join(repr(name) for name in found) or "none"
    raise DataError(
        f"{where}: no column {', '.join(hints)}; expected {', '.join(map(repr, wanted))}, found {columns}",
        remedy="name the columns in the manifest as the data does.",
    )


def _require_text(path: Path, where: str) -> None:
    """Raise DataError with the line if a file is not UTF-8 text."""
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
    """A temporary cache folder for `datasets`, whose own cache would keep a copy of every file."""
    parent = cache_folder() / "data"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".reading-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise disk_fault(error) from error
    with folder as name:
        yield name
