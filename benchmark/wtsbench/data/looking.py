"""Inspecting a task's data before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from wtsbench.data.dataset import Dataset
from wtsbench.data.prepare import prepare
from wtsbench.spec import manifests
from wtsbench.spec.control_tokens import unmarked
from wtsbench.spec.grid import DataSettings, Grid
from wtsbench.spec.trial import Split


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prepared item."""

    item_id: str
    text: str
    """The template filled in, as models get it; they cut it off at their `max_length`."""
    target: str | None
    """For generation: the continuation that is learned."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Example items of `weak_train`, of one class or of a generative task."""

    label: str | None
    whole: int
    """Number of all such items."""
    items: tuple[Example, ...]


def look(source: str, *, mirror: Path | None) -> Dataset:
    """The data of a task, by name or path, prepared with a grid's default settings.

    Raises:
        UserError: the manifest is wrong, or the data cannot be read, does not fit the manifest, or is too small.
    """
    manifest, folder = manifests.load_task(source)
    return prepare(manifest, DataSettings(), mirror=mirror, folder=folder)


def look_at_all(grid: Grid, base: Path, *, mirror: Path | None) -> Iterator[Dataset]:
    """The data of a grid's tasks, with the grid's settings.

    Args:
        grid: a checked grid.
        base: the folder that its relative paths start from.
        mirror: folder with data to use in place of its canonical source.

    Raises:
        DataError: as `look`.
    """
    for written in grid.tasks:
        manifest, folder = manifests.load_task(written, base=base)
        yield prepare(manifest, grid.data.of(written), mirror=mirror, folder=folder)


def examples(dataset: Dataset, each: int) -> Iterator[Examples]:
    """The first `each` items of each class, in the order of their ids, which are hashes of their texts.

    They are from `weak_train`, so that nobody chooses a template by looking at test items.
    """
    learned = dataset.items.filter(pc.equal(dataset.items["split"], Split.WEAK_TRAIN.value))
    for number, label in enumerate(dataset.labels or (None,)):
        of_class = learned if label is None else learned.filter(pc.equal(learned["label"], number))
        rows = of_class.slice(0, each).select(["item_id", "text", "target"]).to_pylist()
        items = (Example(item_id=row["item_id"], text=unmarked(row["text"]), target=row["target"]) for row in rows)
        yield Examples(label=label, whole=of_class.num_rows, items=tuple(items))
