"""Columns that hold JSON may hold anything: a store takes what its clients send. Reports say what they cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reports.test_tables import MEANS, generative
from tests.reports.worlds import World, simple, trial_name
from wtsbench.errors import StoreError
from wtsbench.planning.stored import Wanted, chosen_cells, imported
from wtsbench.reports.baseline import measured
from wtsbench.reports.contents import submissions
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.publish import publish
from wtsbench.reports.renderers import render
from wtsbench.reports.status import status

QUICK = 200
NO_OBJECT = ["", "no JSON", "[1]", "null", "[" * 100_000]
CEILING = trial_name("ceiling", "colours", "large", 1)


def two_seeds() -> World:
    """A table of two seeds and one strategy."""
    return simple({"naive": 0.7}, seeds=[0, 1], items=40)


def test_measurements_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Scores are as they were, and the report, the baseline and the status are there; the report names the trials."""
    texts = [*NO_OBJECT, '{"parameters": "many"}', '{"weights_sha256": 1}', '{"seconds": [1]}']
    world = simple({"naive": 0.7}, items=40)
    rows = leaderboard(world.memory(), resamples=QUICK).rows
    for row, text in zip(world.trials, texts, strict=False):
        row["measurements"] = text
    store = world.folder(tmp_path)
    board = leaderboard(store, resamples=QUICK)
    assert board.rows == rows
    page = publish(store, board, tmp_path / "out")[0].read_text()
    for row in world.trials[: len(texts)]:
        told = f"cannot be read: the measurements of trial {row['trial_id'][:12]} ({row['role']} colours {row['model']}"
        assert told in page
        assert told in render(board, "plain")
    assert len(board.unread) == len(texts) < len(world.trials)
    assert {len(entry.runs) for entry in measured(store, "first").entries} == {3}
    assert status(store).grids[0].trials.done == len(world.trials)


def test_numbers_that_are_none_are_shown_as_such(tmp_path: Path) -> None:
    """Measurements may be infinite or NaN, which JSON does not know: the page has them as text."""
    world = two_seeds()
    (row,) = (row for row in world.trials if row["trial_id"] == CEILING)
    row["measurements"] = '{"final_loss": Infinity, "seconds": {"train": NaN}, "transformers": null}'
    store = world.folder(tmp_path)
    board = leaderboard(store, resamples=QUICK)
    assert not board.unread
    page = publish(store, board, tmp_path / "out")[0].read_text()
    assert '"final_loss":"Infinity"' in page
    assert '"seconds":{"train":"NaN"}' in page


@pytest.mark.parametrize("text", [*NO_OBJECT, '{"trivial": {"test": {"majority": 0.5}}}', '{"trivial": 1}'])
def test_a_data_report_that_cannot_be_read_is_told(text: str) -> None:
    """The table is there without trivial classifiers, and a line says why."""
    world = two_seeds()
    world.datasets[0]["report"] = text
    board = leaderboard(world.memory(), resamples=QUICK)
    assert board.rows == leaderboard(two_seeds().memory(), resamples=QUICK).rows
    assert f"cannot be read: the report of data set {board.rows[0].data_digest[:12]}" in render(board, "plain")


def test_trivial_scores_by_other_metrics_alone_are_none() -> None:
    """A classifier without a score by the table's metric is left out."""
    world = two_seeds()
    world.datasets[0]["report"] = json.dumps({"trivial": {"test": {"a": {"f1": 0.5}, "b": {"accuracy": 0.5}}}})
    assert leaderboard(world.memory(), resamples=QUICK).rows[0].trivial == {"b": 0.5}


@pytest.mark.parametrize("text", [*NO_OBJECT, '{"scorer": 1, "generation": 2}'])
def test_a_specification_that_cannot_be_read_leaves_the_scorer_without_a_name(text: str) -> None:
    """Texts are compared as before, under the digest of what scored them."""
    world = generative(MEANS)
    known = leaderboard(world.memory(), resamples=QUICK).rows
    for row in world.trials:
        row["spec"] = text
    rows = leaderboard(world.memory(), resamples=QUICK).rows
    assert [(row.scorer, row.student_score) for row in rows] == [(row.scorer, row.student_score) for row in known]
    assert {row.scorer_name for row in rows} == {None}


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"threshold": "high"}'])
def test_settings_that_cannot_be_read_are_an_error(text: str) -> None:
    """Without a threshold there is no score of toxicity."""
    world = generative(MEANS)
    world.datasets[0]["settings"] = text
    with pytest.raises(StoreError, match=r"the settings of data set .* cannot be read"):
        leaderboard(world.memory(), resamples=QUICK)


@pytest.mark.parametrize("text", [*NO_OBJECT, '[{"task": "colours"}]', '{"cells": []}'])
def test_cells_that_cannot_be_read_are_an_error_of_their_submission(text: str) -> None:
    """Whoever asks for the grid is told what to do; other submissions, grids and trials are reached as before."""
    world = two_seeds()
    world.grids.append({**world.grids[0], "submission": 2, "cells": text})
    store = world.memory()
    for read in (submissions, status, leaderboard):
        with pytest.raises(StoreError, match="the cells of submission 2 of grid first cannot be read"):
            read(store)
    with pytest.raises(StoreError, match="submission 2"):
        chosen_cells(store, Wanted(name="first"))
    assert leaderboard(store, submission=1, resamples=QUICK).rows
    row, _, trial_id = chosen_cells(store, Wanted(name=CEILING[:12]))
    assert (row["submission"], trial_id) == (1, CEILING)
    assert imported(store, "first") is False
