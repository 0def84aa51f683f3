"""A whole submission: tasks of both forms, strategies that need more than the weak labels, and every control."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Bench
from wtsbench.store.client import open_store

pytestmark = pytest.mark.slow
RECOMPUTE = Path(__file__).with_name("recompute.py")
GRID = """\
apiVersion: wtsbench/v1
name: forms
tasks: [safety-mini, toxicity-mini]
pairs:
  - {weak: nano-1, strong: nano-2}
strategies:
  - naive
  - {name: adaboost, rounds: 2}                # weak supervisors that build on others, and a vote of them
  - {name: reliability, wordings: 2}           # supervisors asked in several wordings
  - {name: confidence_filter, top: 0.5}
  - {name: mix, budget: 20}                    # a budget of ground truth
  - {name: trust, labelled: 20}                # a weak model that says something of such a budget
  - {name: selective, labelled: 20}            # asks the strong model before it is trained
  - best_of_n                                  # looks at the scores of what the weak model wrote
  - wspo                                       # needs the weak model's log-probabilities
  - contrastive_decoding                       # has the weak model write in another way
controls: [zero_shot, random_labels, weak_equals_strong, strong_on_weak_train, random_filter, self_labels]
seeds: [0]
data: {weak_train: 60, transfer: 60, validation: 20, test: 60, ood: 40}
generation: {samples: 4, samples_transfer: 2, samples_validation: 1, max_new_tokens: 8}
training: {epochs: 2}
"""


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, list[dict[str, Any]]]:
    """The grid, submitted, and the rows of its leaderboard."""
    bench = Bench(tmp_path_factory.mktemp("forms"))
    grid = bench.folder / "forms.yaml"
    grid.write_text(GRID)
    result = bench.run("submit", grid, "--executor", "in-process", timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    return bench, json.loads(bench.leaderboard())


def test_every_row_is_whole(forms: tuple[Bench, list[dict[str, Any]]]) -> None:
    """Strategies and controls are in the tables of the tasks that they are for, each with its seed."""
    _, rows = forms
    assert {row["seeds_done"] for row in rows} == {1}
    found: dict[tuple[str, str], set[str]] = {(row["task"], row["split"]): set() for row in rows}
    for row in rows:
        found[row["task"], row["split"]].add(row["strategy"])
    controls = {"zero_shot", "weak_equals_strong", "strong_on_weak_train"}
    labels = {
        *("naive", "adaboost(rounds=2)", "reliability(wordings=2)", "confidence_filter(top=0.5)", "mix(budget=20)"),
        *("trust(labelled=20)", "selective(labelled=20)", "self_labels", "random_filter(trust(labelled=20))"),
        *("random_labels", "random_filter(confidence_filter(top=0.5))", "random_filter(reliability(wordings=2))"),
        *controls,
    }
    texts = {"naive", "best_of_n", "wspo", "contrastive_decoding", *controls}
    assert found == {
        ("safety-mini", "test"): labels,
        ("safety-mini", "ood"): labels,
        ("toxicity-mini", "test"): texts,
    }
    assert all(row["rank"] is None for row in rows if row["kind"] == "control")


def test_every_number_is_recomputed(forms: tuple[Bench, list[dict[str, Any]]]) -> None:
    """The script that shares no code with the reports finds the same numbers in the stored records."""
    bench, _ = forms
    command = [sys.executable, str(RECOMPUTE), str(bench.store)]
    told = subprocess.run(command, env=bench.environment, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "agree" in told.stdout


def test_generative_records_are_whole(forms: tuple[Bench, list[dict[str, Any]]]) -> None:
    """Each prompt has its samples, each sample its score by the one scorer and its likelihood under the one model.

    Log-probabilities are kept where a strategy asked for them, and only there.
    """
    bench, _ = forms
    store = open_store(str(bench.store))
    trials = [row for row in store.trials().to_pylist() if row["task"] == "toxicity-mini"]
    scorers = set()
    for trial in trials:
        spec = json.loads(trial["spec"])
        made = store.generations([trial["trial_id"]]).to_pylist()
        counts = Counter((row["split"], row["item_id"]) for row in made)
        expected = {"test": 4, "validation": 1}
        if trial["role"] == "weak":
            expected["transfer"] = 2
        assert {split: count for (split, _), count in counts.items()} == expected
        assert all(count == expected[split] for (split, _), count in counts.items())
        scores = store.scores([trial["trial_id"]]).to_pylist()
        keys = [(row["split"], row["item_id"], row["sample"]) for row in scores]
        assert keys == [(row["split"], row["item_id"], row["sample"]) for row in made]
        scorers |= {row["scorer"] for row in scores} | {spec["scorer"]}
        assert all((row["reference_nll"] is None) == (not row["text"]) for row in made)
        told = {row["split"] for row in made if row["logprobs"] is not None}
        asked = (spec["recipe"] or {}).get("name") == "scored_tokens"
        assert told == ({"transfer"} if asked else set())
        assert json.loads(trial["measurements"])["scorer"]["name"] == "toxicity-mini"
    assert len(scorers) == 1


def test_no_role_saw_more_ground_truth_than_it_may(forms: tuple[Bench, list[dict[str, Any]]]) -> None:
    """Students of all strategies have only students, weak supervisors and controls' own trials as parents."""
    bench, _ = forms
    trials = {row["trial_id"]: row for row in open_store(str(bench.store)).trials().to_pylist()}
    for row in trials.values():
        for parent in row["parents"]:
            assert trials[parent]["role"] in ("weak", "student"), (row["role"], trials[parent]["role"])
        if row["role"] == "control":
            assert (len(row["parents"]) == 1) == (json.loads(row["spec"])["recipe"]["name"] == "random_labels")


def test_submitted_again_nothing_runs(forms: tuple[Bench, list[dict[str, Any]]]) -> None:
    """Every trial, recipe and control is found again by its id; the leaderboard stays byte for byte the same."""
    bench, rows = forms
    before = bench.attempts()
    result = bench.ask("submit", bench.folder / "forms.yaml")
    assert result.returncode == 0, result.stderr
    assert bench.attempts() == before
    assert json.loads(bench.leaderboard()) == rows
