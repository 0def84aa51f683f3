"""From source columns to rows with a text and a label or target; violations of the manifest are reported row by row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from wtsbench.data.expansion import Cells, Labelled, expand
from wtsbench.data.normalise import comparable, content_key, is_blank
from wtsbench.data.reading import Columns
from wtsbench.errors import DataError
from wtsbench.spec.control_tokens import unmarked
from wtsbench.spec.source import meaning
from wtsbench.spec.task import TaskManifest

_SHOWN = 3
_MAY_BE_EMPTY = "context"


@dataclass(frozen=True)
class Row:
    """The checked row of an item."""

    texts: tuple[str, ...]
    """Texts of the template's columns, in its order."""
    text: str
    """The template filled in."""
    label: int | None
    target: str | None
    """The continuation that may be learned from."""
    groups: tuple[str, ...]
    """Values of the group columns."""
    similar: tuple[str, ...]
    """A comparable text for each set of columns that is compared for near-identical items."""


def rows_of(
    manifest: TaskManifest, columns: Columns, values: Mapping[str, str], where: str
) -> tuple[list[Row], dict[str, int]]:
    """Rows with text and label or target, and counts of rows read and left out.

    Args:
        manifest: the task.
        columns: its source columns.
        values: value of the label column to class name; empty if it holds class names.
        where: name of the source in messages.

    Raises:
        DataError: a label is not one of the allowed values, or a text is not text; rows count from 1, without a header.
    """
    total = len(next(iter(columns.values())))
    faults: list[str] = []
    counts: Counter[str] = Counter(rows=total, empty_rows_dropped=0)
    cells: list[tuple[int, Cells]] = []
    # White space at the ends of a prompt and its continuation affects their tokens: it is kept.
    read = _exact if manifest.form == "generation" else _stripped
    for place in range(total):
        found = {name: columns[name][place] for name in manifest.columns}
        nested = [name for name, cell in found.items() if isinstance(cell, list | dict | bytes)]
        if nested:
            kind = type(found[nested[0]]).__name__
            faults.append(f"row {place + 1}: column {nested[0]!r} holds a {kind}, not a text")
        elif any(is_blank(_exact(found[name])) for name in manifest.text_columns if name in found):
            counts["empty_rows_dropped"] += 1
        else:
            cells.append((place, {name: read(cell) for name, cell in found.items()}))
    rows: list[Row] = []
    if manifest.form == "generation":
        for place, row in cells:
            try:
                target = _target(manifest, row)
            except ValueError as fault:
                faults.append(f"row {place + 1}: {fault}")
            else:
                rows.append(_row(manifest, row, None, target, ()))
        counts["rows_without_target"] = sum(row.target is None for row in rows)
    else:
        classes = {name: index for index, name in enumerate(manifest.labels)}
        meant = values if manifest.expansion is None else manifest.expansion.values
        label_of = {value: classes[name] for value, name in meant.items()} or classes
        for labelled in _labelled(manifest, cells, label_of, faults, counts):
            if not any(is_blank(labelled.cells[name]) for name in manifest.text_columns if name != _MAY_BE_EMPTY):
                rows.append(_row(manifest, labelled.cells, label_of[labelled.said], None, labelled.ties))
            else:
                counts["empty_rows_dropped"] += 1
        if faults and manifest.label is not None:
            allowed = ", ".join(repr(value) for value in label_of)
            _tell(where, faults, f". Column {manifest.label.column!r} may hold {allowed}", "label.values")
    if faults:
        _tell(where, faults, "", "its columns")
    if not rows:
        raise DataError(
            f"{where}: no row with text in it, of {total}", remedy="check the file, and template in the manifest."
        )
    return rows, dict(counts)


def _labelled(
    manifest: TaskManifest,
    cells: list[tuple[int, Cells]],
    label_of: Mapping[str, int],
    faults: list[str],
    counts: Counter[str],
) -> list[Labelled]:
    if manifest.expansion is not None:
        return expand(manifest, cells, faults, counts)
    assert manifest.label is not None, "the manifest's own validator refuses a classification without labels"
    result: list[Labelled] = []
    spelled = {value: value for value in label_of}
    for place, row in cells:
        label = row[manifest.label.column]
        matched = meaning(spelled, label)
        if matched is not None:
            result.append(Labelled(row, matched))
        else:
            faults.append(f"row {place + 1}: label is {label!r}" if label else f"row {place + 1}: label is empty")
    return result


def _row(manifest: TaskManifest, cells: Cells, label: int | None, target: str | None, ties: tuple[str, ...]) -> Row:
    texts = tuple(cells[name] for name in manifest.text_columns)
    tied = (f"{name}\n{value}" for name in manifest.group.columns if (value := comparable(cells[name])))
    similar = [" ".join(comparable(cells[name]) for name in columns) for columns in manifest.similar_columns]
    return Row(
        texts=texts,
        text=manifest.fill(cells),
        label=label,
        target=target,
        groups=(*tied, *ties),
        similar=tuple(text or content_key(texts) for text in similar),
    )


def _target(manifest: TaskManifest, cells: Cells) -> str | None:
    """The continuation, if there is one that may be learned from.

    Raises:
        ValueError: what decides about that is not a number.
    """
    if manifest.continuation is None:
        return None
    continuation, rule = cells[manifest.continuation.column], manifest.demonstrations
    if not continuation.strip():
        return None
    if rule is None:
        return continuation
    text = cells[rule.column].strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{rule.column} is {text!r}, not a number") from error
    return continuation if math.isfinite(value) and rule.allow(value) else None


def _tell(where: str, faults: list[str], allowed: str, part: str) -> None:
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    raise DataError(
        f"{where}: {'; '.join(faults[:_SHOWN])}{more}{allowed}", remedy=f"mend the data, or {part} in the manifest."
    )


def _stripped(cell: object) -> str:
    """A cell as text: stripped, with normalised line ends; "" for None."""
    return _exact(cell).replace("\r\n", "\n").strip()


def _exact(cell: object) -> str:
    """A cell as unchanged text, without characters that are reserved for marks; NaN counts as an empty cell."""
    return "" if cell is None or cell != cell else unmarked(str(cell))
