"""Parts of grids that are run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from wtsbench.errors import SpecError
from wtsbench.planning.check import GivenGrid, as_yaml, given_grid
from wtsbench.planning.stored import again
from wtsbench.spec.grid import Grid

GRID = Grid.model_validate(
    {
        "name": "all",
        "tasks": ["safety-mini", "legal-mini", "toxicity-mini"],
        "pairs": [{"weak": "nano-1", "strong": "nano-2"}, {"weak": "nano-2", "strong": "nano-3"}],
        "strategies": ["naive", "logconf", "confidence_filter"],
        "controls": ["random_filter", "zero_shot"],
        "seeds": [3, 7],
        "data": {"tasks": {"legal-mini": {"test": 50}, "safety-mini": {"test": 60}}},
        "training": {"tasks": {"legal-mini": {"epochs": 2}}, "models": {"nano-3": {"epochs": 1}}},
        "exclude": [
            {"seed": 3, "task": "safety-mini"},
            {"task": "legal-mini", "strategy": "naive"},
            {"weak": "nano-2"},
            {"strategy": "logconf", "task": "safety-mini"},
            {"strategy": "zero_shot", "task": "safety-mini"},
        ],
    }
)


def part(*entries: str) -> Grid:
    """Of the smallest pair at one task, checked as a submission checks it."""
    grid = again(GRID, tasks={"safety-mini"}, pairs={("nano-1", "nano-2")}, entries=set(entries))
    return given_grid(grid).grid


def test_a_part_is_a_grid_that_can_be_submitted() -> None:
    """Settings and exclusions of what is left out go with it; the seeds are others, as many."""
    grid = part("naive", "weak")
    assert (grid.name, grid.tasks, grid.seeds) == ("all-confirm", ("safety-mini",), (8, 9))
    assert [call.name for call in grid.strategies] == ["naive"]
    assert grid.data.tasks.keys() == {"safety-mini"}
    assert not grid.training.tasks
    assert not grid.exclude
    assert not grid.controls


def test_a_random_filter_comes_with_what_it_is_like() -> None:
    """The control of a strategy that filters needs the strategy."""
    grid = part("random_filter(confidence_filter)")
    assert [call.name for call in grid.strategies] == ["confidence_filter"]
    assert grid.controls == ("random_filter",)


def test_seeds_end_somewhere() -> None:
    """A grid that has had the largest seeds cannot have fresh ones, and says so."""
    grid = GRID.model_copy(update={"seeds": (998, 999)})
    with pytest.raises(SpecError, match="leaves no 2 seeds"):
        again(grid, tasks=grid.tasks, pairs=set(), entries=())


def test_relative_paths_start_where_the_grid_is(tmp_path: Path) -> None:
    """A grid out of a store is run from its file's folder, wherever the process is; tasks by paths stay in the part."""
    (tmp_path / "model").mkdir()
    text = """apiVersion: wtsbench/v1
name: mine
tasks: [./mine.yaml]
pairs: [{weak: ./model, strong: nano-2}]
strategies: [naive]
seeds: [0]
"""
    from wtsbench.spec import manifests

    mini = manifests.find("tasks", "safety-mini").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(mini.replace("name: safety-mini", "name: mine"), encoding="utf-8")
    given = GivenGrid(grid=GRID, yaml=text, base=tmp_path, source="grid mine")
    found = given_grid(given)
    grid = again(found.grid, tasks={"mine"}, pairs={("model", "nano-2")}, entries={"naive"})
    there = GivenGrid(grid=grid, yaml=as_yaml(grid), base=tmp_path, source="grid mine")
    assert given_grid(there).grid.tasks == ("./mine.yaml",)
    with pytest.raises(SpecError, match=r"mine\.yaml"):
        given_grid(grid)


def test_a_threshold_that_nothing_reads_is_a_fault() -> None:
    """A misspelt metric in `gate` is found before anything runs; so is a threshold that no loss reaches."""
    with pytest.raises(SpecError, match="accuracy"):
        given_grid(GRID.model_copy(update={"gate": {"acuracy": 0.02}}))
    with pytest.raises(SpecError, match="finite"):
        given_grid(as_yaml(GRID) + "gate: {accuracy: .inf}\n")
    with pytest.raises(SpecError, match="2 would let every loss pass"):
        given_grid(as_yaml(GRID) + "gate: {accuracy: 2}\n")
