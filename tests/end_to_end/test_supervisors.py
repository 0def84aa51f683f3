"""Weak supervisors that wtsbench does not train, through whole submissions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.conftest import Bench
from tests.models.endpoint_server import Reply, completion, serve
from wtsbench.data import prepare
from wtsbench.spec import manifests
from wtsbench.spec.grid import DataSettings
from wtsbench.store.client import open_store

DATA = {"weak_train": 60, "transfer": 100, "validation": 40, "test": 100}
LABELS = ("unsafe", "safe")


def truth() -> dict[str, int]:
    """The label of every text of the grid's task."""
    manifest, folder = manifests.load_task("safety-mini")
    items = prepare(manifest, DataSettings(**DATA), mirror=None, folder=folder).items
    return dict(zip(items["text"].to_pylist(), items["label"].to_pylist(), strict=True))


def write_grid(folder: Path, weak: list[str]) -> Path:
    """A probe on the smallest model, taught by each supervisor."""
    grid = {
        "apiVersion": "wtsbench/v1",
        "name": "supervisors",
        "tasks": ["safety-mini"],
        "pairs": [{"weak": name, "strong": "nano-1"} for name in weak],
        "strategies": [{"name": "naive", "finetune": "linear_probe"}],
        "seeds": [0, 1],
        "data": DATA,
        "training": {"finetune": "linear_probe"},
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid))
    return path


def write_model(folder: Path, name: str, source: dict[str, Any]) -> None:
    """A manifest beside the grid."""
    manifest = {"name": name, "kind": "model", "summary": "s", "source": source}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(manifest))


def measured(bench: Bench) -> dict[str, dict[str, Any]]:
    """Measurements of the finished weak trials, by the supervisor's name."""
    table = open_store(str(bench.store)).trials().to_pylist()
    done = [row for row in table if row["status"] == "done" and row["role"] == "weak"]
    return {json.loads(row["spec"])["model"]["name"]: json.loads(row["measurements"]) for row in done}


@pytest.mark.slow
def test_people_and_a_prompted_model_teach(bench: Bench) -> None:
    """Annotators' labels and an endpoint's answers become weak trials, once for all seeds, with their statistics."""
    known = truth()
    with (bench.folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label", "who"])
        for place, (text, label) in enumerate(known.items()):
            for who in range(3):
                rows.writerow([text, LABELS[label if (place + who) % 5 else 1 - label], f"annotator {who}"])
    columns = {"path": "labels.csv", "text": "text", "label": "label", "annotator": "who"}
    write_model(bench.folder, "people", {"labels": columns})

    def answer(body: dict[str, Any]) -> Reply:
        return completion(LABELS[known[body["messages"][0]["content"]]])

    with serve(answer) as server:
        endpoint = {"url": server.url, "model": "m", "prompt": "{text}", "answers": {label: label for label in LABELS}}
        write_model(bench.folder, "judge", {"endpoint": endpoint})
        grid = write_grid(bench.folder, ["./people.yaml", "./judge.yaml"])
        first = bench.run("submit", grid, "--executor", "in-process", "--sandbox", "process")
        assert first.returncode == 0, first.stdout + first.stderr
        asked = len(server.requests)
        assert 0 < asked <= len(known)
        again = bench.ask("submit", grid, "--executor", "in-process", "--sandbox", "process")
        assert "were stored already" in again.stdout
        assert len(server.requests) == asked
    statistics = {name: values["supervisor"] for name, values in measured(bench).items()}
    assert statistics["people"]["annotators"] == 3
    assert 0 < statistics["people"]["krippendorff_alpha"] < 1
    assert statistics["judge"]["text"] == statistics["judge"]["answers"] == asked
    scores = {row["weak"]: row["weak_score"] for row in json.loads(bench.leaderboard())}
    assert scores == {"people": 1.0, "judge": 1.0}  # two of three annotators are always right
    assert all(len(statuses) == 1 for statuses in bench.attempts().values())
    assert len(bench.attempts()) == 2 + 2 + 4  # weak, ceilings, students


def test_supervisors_that_cannot_label_are_refused_before_anything_runs(bench: Bench) -> None:
    """A file without labels for some items, and an endpoint of other classes: both are said, and nothing is stored."""
    known = truth()
    write_model(bench.folder, "people", {"labels": {"path": "labels.csv", "text": "text", "label": "label"}})
    endpoint = {"url": "http://localhost:9/v1", "model": "m", "prompt": "{text}", "answers": {"safe": "a", "bad": "b"}}
    write_model(bench.folder, "judge", {"endpoint": endpoint})
    lines = [json.dumps(text) + f",{LABELS[label]}" for text, label in known.items() if '"' not in text]
    (bench.folder / "labels.csv").write_text("text,label\n" + "\n".join(lines[:50]))
    grid = write_grid(bench.folder, ["./people.yaml", "./judge.yaml"])
    refused = bench.ask("submit", grid, "--executor", "in-process", "--sandbox", "process")
    assert refused.returncode == 2, refused.stderr
    assert "labels.csv has no label for" in refused.stderr
    assert "items of transfer" in refused.stderr
    assert "answers are given for bad, safe; the task's classes are unsafe, safe" in refused.stderr
    assert not bench.store.exists()


def test_a_key_that_is_not_there_is_told_before_anything_runs(bench: Bench) -> None:
    """An endpoint's key: a plan needs none, and a submission says at once that it is missing."""
    endpoint = {"url": "http://localhost:9/v1", "model": "m", "prompt": "{text}", "key_env": "NO_SUCH_KEY"}
    write_model(bench.folder, "judge", {"endpoint": {**endpoint, "answers": {label: label for label in LABELS}}})
    grid = write_grid(bench.folder, ["./judge.yaml"])
    assert bench.ask("plan", grid, "--sandbox", "process").returncode == 0
    refused = bench.ask("submit", grid, "--executor", "in-process", "--sandbox", "process")
    assert (refused.returncode, "the environment has no NO_SUCH_KEY" in refused.stderr) == (2, True), refused.stderr
    assert not bench.store.exists()
