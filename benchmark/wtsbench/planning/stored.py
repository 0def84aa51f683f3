"""Reading grids from the store, and selecting parts of them to run again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import yaml
from pydantic import ValidationError

from wtsbench.errors import SpecError, StoreError
from wtsbench.spec import manifests
from wtsbench.spec.cell import Cell
from wtsbench.spec.grid import MOST_SEEDS, Grid, Pair
from wtsbench.spec.trial import EXTERNAL

if TYPE_CHECKING:
    import pyarrow as pa

_Value = TypeVar("_Value")


class Submissions(Protocol):
    """A store of grids' submissions."""

    @property
    def uri(self) -> str:
        """Its address."""

    def grids(self) -> pa.Table:
        """All submissions of grids, by submission number."""


def stored_grid(store: Submissions, name: str) -> Grid:
    """The newest submission of the grid of this name.

    Raises:
        SpecError: the store holds no grid of that name.
        StoreError: this version of wtsbench cannot read the stored grid.
    """
    submitted = [row for row in store.grids().select(["name", "yaml"]).to_pylist() if row["name"] == name]
    if not submitted:
        raise SpecError(f"the store {store.uri} holds no grid {name!r}", remedy="`wtsbench status` lists those it has.")
    return grid_of(submitted[-1], store)


def grid_of(row: Mapping[str, Any], store: Submissions) -> Grid:
    """The grid of a submission.

    Raises:
        StoreError: this version of wtsbench cannot read it.
    """
    try:
        return Grid.model_validate(yaml.safe_load(row["yaml"]))
    except (yaml.YAMLError, ValidationError) as error:
        raise StoreError(
            f"grid {row['name']} in the store {store.uri} cannot be read by this version: {error}",
            remedy="submit it again with this version.",
        ) from None


def cells_of(row: Mapping[str, Any], store: Submissions) -> tuple[Cell, ...]:
    """The cells of a submission.

    Raises:
        StoreError: they cannot be read.
    """
    try:
        return Cell.listed(row["cells"])
    except ValueError:
        raise StoreError(
            f"the cells of submission {row['submission']} of grid {row['name']} cannot be read in {store.uri}",
            remedy="something else wrote them, or the store is damaged: submit the grid again, or name another grid or"
            " submission.",
        ) from None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A user's selection of stored trials: one by its id, or cells of a grid."""

    name: str
    """Name of a grid, or the beginning of a trial's id."""
    task: str | None = None
    """For a grid: only this task."""
    pair: str | None = None
    """Only this pair, written `weak:strong`."""
    strategy: str | None = None
    """Only this strategy, by its label, or this control."""
    seed: int | None = None


def chosen_cells(store: Submissions, wanted: Wanted) -> tuple[dict[str, Any], list[Cell], str | None]:
    """The newest submission that has the selection, its selected cells, and the id of the trial if one is named.

    Raises:
        SpecError: the store has no such grid, cell or trial, or more than one trial whose id begins so.
    """
    rows = store.grids().select(["name", "submission", "yaml", "cells"]).to_pylist()[::-1]
    row = next((row for row in rows if row["name"] == wanted.name), None)
    if row is not None:
        cells = [cell for cell in cells_of(row, store) if _meant(cell, wanted)]
        if not cells:
            raise SpecError(
                f"submission {row['submission']} of grid {wanted.name} has no such cell",
                remedy=f"`wtsbench leaderboard --grid {wanted.name}` shows its tasks, pairs and strategies.",
            )
        return row, cells, None
    beginning = wanted.name.strip().lower()
    submission_of = {trial_id: row for row in rows[::-1] for cell in _readable(row) for trial_id in cell.every_trial
             if trial_id.startswith(beginning)}  # fmt: skip
    if len(submission_of) != 1:
        several = ", ".join(trial_id[: len(beginning) + 6] for trial_id in sorted(submission_of)[:5])
        raise SpecError(
            f"{len(submission_of)} trials begin with {wanted.name!r}"
            if submission_of
            else f"the store {store.uri} has no grid {wanted.name!r}, and no trial of a grid whose id begins so",
            remedy=f"give more of one: {several}" if submission_of else "`wtsbench status` lists its grids.",
        )
    ((trial_id, row),) = submission_of.items()
    return row, [], trial_id


def _meant(cell: Cell, wanted: Wanted) -> bool:
    of_cell = {
        "task": cell.task,
        "pair": f"{cell.weak}:{cell.strong}",
        "strategy": cell.strategy,
        "seed": cell.seed,
    }
    return all(getattr(wanted, name) in (None, value) for name, value in of_cell.items())


def _readable(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    """The cells of a submission; none where they cannot be read."""
    try:
        return Cell.listed(row["cells"])
    except ValueError:
        return ()


def imported(store: Submissions, name: str) -> bool | None:
    """Whether the grid's predictions were made by other code; None if the store has no cell of a grid of that name."""
    submitted = store.grids().select(["name", "cells"]).to_pylist()
    cells = [cell for row in submitted if row["name"] == name for cell in _readable(row)]
    return any(_marked(cell.strategy) for cell in cells) if cells else None


def _marked(label: str) -> bool:
    return label.startswith(f"{EXTERNAL}:")


def again(
    grid: Grid,
    *,
    tasks: Collection[str],
    pairs: Collection[tuple[str, str]],
    entries: Collection[str],
) -> Grid:
    """A part of a grid under another name, with the same number of seeds, all of them new.

    Settings and exclusions for omitted parts are omitted too. Tasks and models that a grid names by path are kept,
    because tables have the names in their manifests instead.

    Args:
        grid: the whole.
        tasks: the tasks to keep.
        pairs: the weak and strong models to keep.
        entries: labels of strategies and names of controls to keep; if there is no strategy among them, the first one
            is kept for its weak supervisors and ceilings.

    Raises:
        SpecError: the grid was imported, or no seeds are left.
    """
    if any(_marked(call.name) for call in grid.strategies):
        raise SpecError(
            f"grid {grid.name} was imported: only the code that made its predictions can run it again",
            remedy="run it there with fresh seeds, and import those under a name of their own.",
        )
    first = max(grid.seeds) + 1
    if first + len(grid.seeds) > MOST_SEEDS:
        raise SpecError(
            f"grid {grid.name} leaves no {len(grid.seeds)} seeds below {MOST_SEEDS} that it has not had",
            remedy="give it smaller seeds.",
        )
    chosen = tuple(pair for pair in grid.pairs if (pair.weak, pair.strong) in pairs or _by_path(pair))
    strategies = tuple(call for call in grid.strategies if {call.label, f"random_filter({call.label})"} & set(entries))
    gone = {
        "task": {task for task in grid.tasks if task not in tasks and not manifests.is_path(task)},
        "weak": {pair.weak for pair in grid.pairs} - {pair.weak for pair in chosen},
        "strong": {pair.strong for pair in grid.pairs} - {pair.strong for pair in chosen},
    }
    strategies = strategies or grid.strategies[:1]
    controls = tuple(control for control in grid.controls if any(each.startswith(control) for each in entries))
    labels = {name for call in strategies for name in (call.name, call.label)} | set(controls)
    unused = (gone["weak"] | gone["strong"]) - {name for pair in chosen for name in (pair.weak, pair.strong)}
    known = manifests.names("models")  # models that a strategy may ask for
    return grid.model_copy(
        update={
            "name": f"{grid.name[:90]}-confirm",
            "tasks": tuple(task for task in grid.tasks if task not in gone["task"]),
            "pairs": chosen,
            "strategies": strategies,
            "controls": controls,
            "seeds": tuple(range(first, first + len(grid.seeds))),
            "data": grid.data.model_copy(update={"tasks": _without(grid.data.tasks, gone["task"])}),
            "training": grid.training.model_copy(
                update={
                    "tasks": _without(grid.training.tasks, gone["task"]),
                    "models": _without(grid.training.models, unused - set(known)),
                }
            ),
            "exclude": tuple(
                rule
                for rule in grid.exclude
                if rule.seed is None
                and (rule.strategy is None or rule.strategy in labels)
                and not any(getattr(rule, field) in names for field, names in gone.items())
            ),
        }
    )


def _by_path(pair: Pair) -> bool:
    """Whether a model of the pair is not a name in manifests/models."""
    return any(manifests.is_path(name) or name.startswith((".", "hub:")) for name in (pair.weak, pair.strong))


def _without(settings: Mapping[str, _Value], names: Collection[str]) -> dict[str, _Value]:
    return {name: value for name, value in settings.items() if name not in names}
