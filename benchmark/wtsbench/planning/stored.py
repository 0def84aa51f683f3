"""Grids as the store keeps them, and parts of them to run again."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

import yaml
from pydantic import ValidationError

from wtsbench.errors import SpecError, StoreError
from wtsbench.spec.grid import Grid
from wtsbench.spec.trial import EXTERNAL

if TYPE_CHECKING:
    import pyarrow as pa


class Submissions(Protocol):
    """Where submissions of grids are."""

    @property
    def uri(self) -> str:
        """Where it is."""

    def grids(self) -> pa.Table:
        """All submissions of grids, by submission number."""


def stored_grid(store: Submissions, name: str) -> Grid:
    """The grid of this name as it was last submitted.

    Raises:
        SpecError: the store holds no grid of that name.
        StoreError: what it holds is no grid that this version of wtsbench knows.
    """
    submitted = store.grids().select(["name", "yaml"]).to_pylist()
    texts = [row["yaml"] for row in submitted if row["name"] == name]
    if not texts:
        raise SpecError(f"the store {store.uri} holds no grid {name!r}", remedy="`wtsbench status` lists those it has.")
    try:
        return Grid.model_validate(yaml.safe_load(texts[-1]))
    except (yaml.YAMLError, ValidationError) as error:
        raise StoreError(
            f"grid {name} in the store {store.uri} cannot be read by this version: {error}",
            remedy="submit it again with this version.",
        ) from None


def imported(store: Submissions, name: str) -> bool | None:
    """Whether the grid's predictions were made by other code; None where the store holds no grid of that name."""
    submitted = store.grids().select(["name", "cells"]).to_pylist()
    cells = [cell for row in submitted if row["name"] == name for cell in json.loads(row["cells"])]
    return any(_marked(cell["strategy"]) for cell in cells) if cells else None


def _marked(label: str) -> bool:
    return label.startswith(f"{EXTERNAL}:")


def again(
    grid: Grid,
    *,
    name: str,
    tasks: Collection[str],
    pairs: Collection[tuple[str, str]],
    entries: Collection[str],
) -> Grid:
    """A part of a grid under another name, with as many seeds, none of which it had.

    Args:
        grid: the whole.
        name: of the part.
        tasks: that are needed.
        pairs: weak and strong models that are needed.
        entries: labels of strategies and names of controls that are needed; where none is, the first strategy stands
            for the weak supervisors and ceilings.

    Raises:
        SpecError: the grid was imported.
    """
    if any(_marked(call.name) for call in grid.strategies):
        raise SpecError(
            f"grid {grid.name} was imported: only the code that made its predictions can run it again",
            remedy="run it there with fresh seeds, and import those under a name of their own.",
        )
    strategies = tuple(call for call in grid.strategies if call.label in entries)
    first = max(grid.seeds) + 1
    return grid.model_copy(
        update={
            "name": name,
            "tasks": tuple(task for task in grid.tasks if task in tasks),
            "pairs": tuple(pair for pair in grid.pairs if (pair.weak, pair.strong) in pairs),
            "strategies": strategies or grid.strategies[:1],
            "controls": tuple(
                control for control in grid.controls if any(each.startswith(control) for each in entries)
            ),
            "seeds": tuple(range(first, first + len(grid.seeds))),
        }
    )
