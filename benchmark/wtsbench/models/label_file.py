"""A file of labels as a weak supervisor: from rows of items and annotators to one distribution per item.

Shapes: N rows of the file, C classes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtsbench.data.normalise import comparable
from wtsbench.data.reading import read_file
from wtsbench.errors import DataError, ModelError
from wtsbench.files import sha256
from wtsbench.models import agreement
from wtsbench.settings import user_path
from wtsbench.spec.identity import digest
from wtsbench.spec.model import LabelFile
from wtsbench.spec.source import format_of, meaning

Floats = NDArray[np.float64]
_TOLERANCE = 1e-3
"""How far the probabilities of an item may be from adding up to 1."""
_NOBODY = ""
"""The annotator of a file that names none."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The content of a file: for every item, a distribution from each annotator."""

    by_item: Mapping[str, Mapping[str, Floats]]
    """Item key (see `key_of`) to annotator to distribution [C]."""
    by_text: bool
    """Whether items are identified by their text, else by their id."""
    rows: int

    def key_of(self, item_id: str, text: str) -> str:
        """The key of a task's item in `by_item`."""
        return comparable(text) if self.by_text else item_id

    def distribution(self, key: str) -> Floats | None:
        """[C], the mean over the item's annotators; None if the file does not have the item."""
        by_annotator = self.by_item.get(key)
        return None if by_annotator is None else np.mean(list(by_annotator.values()), axis=0)


def file_path(source: LabelFile, folder: Path) -> Path:
    """Path of the file; a relative one starts from the manifest's folder."""
    return folder / user_path(source.path)


def revision(source: LabelFile, folder: Path, *, what: str) -> str:
    """Digest of the file's content and of how it is read.

    Raises:
        ModelError: the file does not exist or cannot be read.
    """
    reading = source.model_dump(mode="json", exclude={"path", *(() if source.order else ("order",))})
    return digest({"sha256": file_sha256(source, folder, what=what), "reading": reading})


def file_sha256(source: LabelFile, folder: Path, *, what: str) -> str:
    """Digest of the file's content.

    Raises:
        ModelError: the file does not exist or cannot be read.
    """
    path = file_path(source, folder)
    try:
        return sha256(path)
    except OSError as error:
        raise ModelError(
            f"{what}: the file of labels {path} cannot be read: {error.strerror}",
            remedy="check `labels.path`; it starts from the manifest's folder.",
        ) from None


def load(source: LabelFile, folder: Path, labels: Sequence[str], *, what: str) -> Labels:
    """Read the whole file.

    Args:
        source: which columns mean what.
        folder: the manifest's.
        labels: the task's class names.
        what: the model's name in messages.

    Raises:
        ModelError: it cannot be read, or a row is no label of the task, or an annotator labels an item twice.
    """
    path = file_path(source, folder)
    form = source.format or format_of(source.path)
    assert form is not None, "the manifest's checks ask for a format"
    try:
        columns = read_file(path, form, source.columns, where=f"{what}: {path.name}")
    except DataError as error:
        raise ModelError(error.message, remedy=error.remedy) from error
    key = source.item_id or source.text
    assert key is not None, "the manifest's checks ask for one of the two"
    keys = [str(value) for value in columns[key]]
    if source.text is not None:
        keys = [comparable(text) for text in keys]
    annotators = [str(value) for value in columns[source.annotator]] if source.annotator else [_NOBODY] * len(keys)
    by_item: dict[str, dict[str, Floats]] = defaultdict(dict)
    for row, (item, annotator, distribution) in enumerate(
        zip(keys, annotators, distributions(source, columns, labels, what), strict=True), start=1
    ):
        if annotator in by_item[item]:
            raise ModelError(
                f"{what}: row {row} of {path.name} labels an item again"
                + (f" for annotator {annotator!r}" if annotator else ""),
                remedy="keep one row for each item and annotator; name the column of annotators with `annotator`.",
            )
        by_item[item][annotator] = distribution
    return Labels(by_item=by_item, by_text=source.text is not None, rows=len(keys))


def distributions(
    source: LabelFile, columns: Mapping[str, Sequence[Any]], labels: Sequence[str], what: str
) -> Iterator[Floats]:
    """A distribution [C] for each row."""
    if source.label is not None:
        yield from _hard(source, columns[source.label], labels, what)
        return
    shares = source.probabilities
    if isinstance(shares, dict):
        if set(shares) != set(labels):
            raise ModelError(
                f"{what}: probabilities are given for {', '.join(shares)}; the task's classes are {', '.join(labels)}",
                remedy="name a column for each class of the task.",
            )
        rows: Iterator[Any] = zip(*(columns[shares[label]] for label in labels), strict=True)
    else:
        assert shares is not None, "the manifest's checks ask for label or probabilities"
        rows = iter(columns[shares])
    order = tuple(labels) if isinstance(shares, dict) else source.order
    for row, value in enumerate(rows, start=1):
        if isinstance(value, list) and sorted(order) != sorted(labels):
            raise ModelError(
                f"{what}: row {row}: a list of probabilities, and order names {', '.join(order) or 'no classes'}; "
                f"the task's classes are {', '.join(labels)}",
                remedy="name each class of the task in `labels.order`, as they stand in the list.",
            )
        listed = isinstance(value, list | tuple) and len(value) == len(order)
        named = value if isinstance(value, Mapping) else dict(zip(order, value, strict=True)) if listed else {}
        try:
            distribution = np.array([float(named.get(label, 0.0)) for label in labels])
        except (TypeError, ValueError):
            distribution = np.array([math.nan])
        unknown = set(named) - set(labels)
        total = float(distribution.sum())
        if unknown or (distribution < 0).any() or not abs(total - 1) <= _TOLERANCE:
            raise ModelError(
                f"{what}: row {row}: {value!r} is not a distribution over {', '.join(labels)}",
                remedy="probabilities are not negative and add up to 1.",
            )
        yield distribution / total


def _hard(source: LabelFile, values: Sequence[Any], labels: Sequence[str], what: str) -> Iterator[Floats]:
    classes = source.values or {label: label for label in labels}
    unknown = sorted(set(classes.values()) - set(labels))
    if unknown:
        raise ModelError(
            f"{what}: {', '.join(unknown)} is no class of the task; there are {', '.join(labels)}",
            remedy="correct `labels.values`.",
        )
    one_hot = np.eye(len(labels))
    for row, value in enumerate(values, start=1):
        label = None if value is None else meaning(classes, str(value))
        if label is None:
            raise ModelError(
                f"{what}: row {row}: {value!r} is no label; there are {', '.join(classes)}",
                remedy="say with `labels.values` which class each value of the column stands for.",
            )
        yield one_hot[list(labels).index(label)]


def statistics(file_labels: Labels, used: Sequence[str], classes: int) -> dict[str, Any]:
    """How far annotators agree on all items of the task together.

    Args:
        file_labels: the file's labels.
        used: keys of the task's items that the file has.
        classes: number of classes C.

    Returns:
        Counts and shares; a coefficient is None where it is not defined. Distributions count as their likeliest class.
    """
    labels_of_items = [file_labels.by_item[key] for key in dict.fromkeys(used)]
    counts = np.zeros((len(labels_of_items), classes), dtype=np.int64)
    by_annotator: dict[str, dict[int, int]] = defaultdict(dict)
    for index, labels in enumerate(labels_of_items):
        for annotator, distribution in labels.items():
            label = int(distribution.argmax())
            counts[index, label] += 1
            by_annotator[annotator][index] = label
    items_by_label_count = Counter(len(labels) for labels in labels_of_items)
    return {
        "rows": file_labels.rows,
        "unused_items": len(file_labels.by_item) - len(labels_of_items),
        "annotators": len(by_annotator),
        "labels_per_item": float(counts.sum() / len(labels_of_items)) if labels_of_items else None,
        "one_annotator_share": items_by_label_count[1] / len(labels_of_items) if labels_of_items else None,
        "class_shares": [float(share) for share in counts.sum(axis=0) / max(1, counts.sum())],
        "pairwise_agreement": agreement.pairwise_agreement(counts),
        "cohen_kappa": _cohen(list(by_annotator.values()), classes),
        "fleiss_kappa": agreement.fleiss_kappa(counts),
        "krippendorff_alpha": agreement.krippendorff_alpha(counts),
    }


def _cohen(annotators: list[dict[int, int]], classes: int) -> float | None:
    """Of two annotators, on the items that both labelled; None where there are not two."""
    if len(annotators) != 2:
        return None
    first, second = annotators
    both = sorted(set(first) & set(second))
    return agreement.cohen_kappa(
        np.array([first[index] for index in both], dtype=np.int64),
        np.array([second[index] for index in both], dtype=np.int64),
        classes,
    )
