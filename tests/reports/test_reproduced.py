"""A run held against its repetition: what counts as equal, and what follows for ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reports.worlds import World, simple, trial_name
from wtsbench.reports.reproduced import Agreement, agreement


def repeated(tmp_path: Path, then: World, now: World) -> Agreement:
    """The agreement of all trials of a world with those of another, which has them under ids of its own."""
    ids = {row["trial_id"]: row["trial_id"][::-1] for row in now.trials}
    for row in (*now.trials, *now.predictions, *now.attempts):
        row["trial_id"] = ids[row["trial_id"]]
    return agreement(then.folder(tmp_path / "then"), now.folder(tmp_path / "now"), ids, 1, resamples=200)


def test_equal_runs_agree_bit_for_bit(tmp_path: Path) -> None:
    """Every trial within 0, and ranks without computing them."""
    worlds = [simple({"naive": 0.7, "logconf": 0.8}, items=40) for _ in range(2)]
    found = repeated(tmp_path, *worlds)
    assert found.agrees(0.0)
    assert len(found.trials) == 12
    assert {(trial.outputs, trial.difference) for trial in found.trials} == {(41, 0.0)}
    assert found.entries == 2


def test_rounding_agrees_within_what_it_is(tmp_path: Path) -> None:
    """A probability that is 1e-7 off makes a trial agree within 1e-6 and not within 1e-8, and moves no rank."""
    then, now = (simple({"naive": 0.7, "logconf": 0.8}, items=40) for _ in range(2))
    row = next(row for row in now.predictions if row["split"] == "test")
    row["probabilities"] = [value + sign * 1e-7 for value, sign in zip(row["probabilities"], (1, -1), strict=True)]
    found = repeated(tmp_path, then, now)
    assert found.agrees(1e-6)
    assert not found.agrees(1e-8)
    assert max(trial.largest for trial in found.trials) == pytest.approx(1e-7)
    assert not found.ranks


def test_other_predictions_never_agree_and_their_ranks_are_told(tmp_path: Path) -> None:
    """Predictions of another class are no rounding, whatever is allowed; the strategies that swap ranks are named."""
    then = simple({"naive": 0.6, "logconf": 0.85}, items=200)
    now = simple({"naive": 0.85, "logconf": 0.6}, items=200)
    found = repeated(tmp_path, then, now)
    assert not found.agrees(1.0)
    by_trial = {trial.trial_id: trial for trial in found.trials}
    assert by_trial[trial_name("student", "colours", "large", 0, "naive")].other > 40
    assert sorted(found.ranks.values()) == [(1, 2), (2, 1)]
    record = json.loads(json.dumps(found.record(1.0)))
    assert (record["agrees"], record["entries"]) == (False, 2)


def test_what_was_not_repeated_keeps_its_rank(tmp_path: Path) -> None:
    """One strategy alone, now worse: the table is that of the store but for it."""
    then = simple({"naive": 0.65, "logconf": 0.85}, items=200)
    now = simple({"logconf": 0.5}, items=200)
    now.trials = [row for row in now.trials if row["role"] == "student"]
    kept = {row["trial_id"] for row in now.trials}
    now.predictions = [row for row in now.predictions if row["trial_id"] in kept]
    now.attempts = [row for row in now.attempts if row["trial_id"] in kept]
    now.grids = []
    found = repeated(tmp_path, then, now)
    assert len(found.trials) == 3
    assert {name.rpartition("|")[2]: ranks for name, ranks in found.ranks.items()} == {
        "logconf": (1, 2),
        "naive": (2, 1),
    }
