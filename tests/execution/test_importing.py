"""Predictions of other code: from real files into a real store, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.planning.grids import plan_of
from tests.store.servers import Process, token_in
from wtsbench import api
from wtsbench.data.normalise import comparable
from wtsbench.errors import DataError, SpecError, StoreError
from wtsbench.execution.importing import Imported, import_predictions, items_of
from wtsbench.planning.stored import again, stored_grid
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.store.client import Store, open_store
from wtsbench_cli.main import app

SMALL = {
    "apiVersion": "wtsbench/v1",
    "name": "small",
    "tasks": ["safety-mini"],
    "pairs": [{"weak": "nano-1", "strong": "nano-2"}],
    "strategies": ["naive"],
    "data": {"weak_train": 20, "transfer": 30, "validation": 20, "test": 40, "ood": 20},
}
TEXTS: dict[str, Any] = {
    **SMALL,
    "tasks": ["toxicity-mini"],
    "strategies": ["best_of_n"],
    "data": {"weak_train": 20, "transfer": 20, "validation": 10, "test": 12},
    "generation": {"samples": 2},
}
LABELS = ("unsafe", "safe")
ACCURACY = {("weak", "tiny", ""): 0.6, ("ceiling", "big", ""): 1.0, ("student", "big", "mine"): 0.8}
Rows = list[dict[str, Any]]


def items(task: str = "safety-mini", like: dict[str, Any] = SMALL) -> list[dict[str, Any]]:
    """The items of the test sets, in order."""
    _, tasks = items_of(task, like, mirror=None)
    (data,) = tasks.datasets.values()
    return [row for row in data.items.to_pylist() if row["split"] in ("test", "ood")]


def experiment(seeds: int = 3) -> Rows:
    """An experiment whose models are wrong about one item in so many, other ones with every seed."""
    rows: Rows = []
    for seed in range(seeds):
        for (role, model, strategy), accuracy in ACCURACY.items():
            chance = np.random.default_rng([seed, len(role)])
            for item in items():
                right = chance.random() < accuracy
                safe = 0.75 if (item["label"] == 1) == right else 0.25
                whose = {"role": role, "model": model, "strategy": strategy, "seed": seed}
                rows.append({"item": item["item_id"], **whose, "unsafe": 1 - safe, "safe": safe})
    return rows


def write(path: Path, rows: Rows) -> Path:
    """A file of the format that its name says."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def bring(path: Path, store: Path, grid: str = "lab", **given: str) -> Imported:
    """Import a file of predictions of the small task."""
    return import_predictions(
        path, task="safety-mini", grid=grid, store=str(store), given=given, columns={}, like=SMALL
    )


def opened(store: Path) -> Store:
    """The store, for reading."""
    return open_store(str(store))


def test_an_experiment_gets_scores_pgr_and_the_mark(tmp_path: Path) -> None:
    """One file is one grid: its scores and PGR are those that its rows give by hand, and every row says external."""
    rows = experiment()
    made = bring(write(tmp_path / "all.csv", rows), tmp_path / "store")
    assert (len(made.trials), made.there, made.cells, made.waiting, made.failures) == (9, 0, 3, (), {})
    truth = {item["item_id"]: item["label"] for item in items() if item["split"] == "test"}

    def accuracy(role: str) -> float:
        of_role = [row for row in rows if row["role"] == role and row["item"] in truth]
        return float(np.mean([(row["safe"] > 0.5) == truth[row["item"]] for row in of_role]))

    board = leaderboard(opened(tmp_path / "store"))
    row = next(row for row in board.rows if row.split == "test")
    weak, student, ceiling = (accuracy(role) for role in ("weak", "student", "ceiling"))
    assert (row.weak_score, row.student_score, row.ceiling_score) == pytest.approx((weak, student, ceiling), abs=1e-6)
    assert row.pgr == pytest.approx((student - weak) / (ceiling - weak), abs=1e-6)
    assert (row.strategy, row.origin, row.seeds) == ("external:mine", "external", (0, 1, 2))
    trials = opened(tmp_path / "store").trials()
    assert set(trials["environment"].to_pylist()) == set(trials["sandbox"].to_pylist()) == {"external"}
    runner = CliRunner()
    for form in ("table", "markdown", "csv", "latex", "json"):
        shown = runner.invoke(app, ["leaderboard", "--store", str(tmp_path / "store"), "--format", form])
        assert shown.exit_code == 0, shown.output
        assert "external:mine" in shown.output
    shown = runner.invoke(app, ["report", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "report")])
    assert shown.exit_code == 0, shown.output
    page = (tmp_path / "report" / "index.html").read_text()
    assert "external:mine" in page
    assert "Other code made these predictions" in page
    assert "wtsbench import FILE --task safety-mini --grid lab" in page


@pytest.mark.parametrize("name", ["all.jsonl", "all.parquet"])
def test_the_format_of_the_file_changes_nothing(tmp_path: Path, name: str) -> None:
    """CSV, JSONL and Parquet of the same rows are the same trials, and a second import runs nothing again."""
    rows = experiment(1)
    first = bring(write(tmp_path / "all.csv", rows), tmp_path / "store")
    second = bring(write(tmp_path / name, rows), tmp_path / "store")
    assert second.trials == first.trials
    assert second.there == 3
    assert opened(tmp_path / "store").attempts().num_rows == 3


def test_items_are_known_by_their_text_and_classes_by_name(tmp_path: Path) -> None:
    """A text in other case and spacing is the item's, and a class is a distribution without doubt."""
    named = {item["item_id"]: item["text"] for item in items()}
    rows: Rows = [
        {"text": f"  {named[row['item']].upper()} ", "class": LABELS[row["safe"] > 0.5], "seed": 0}
        for row in experiment(1)
        if row["role"] == "weak"
    ]
    assert all(row["text"] not in named.values() for row in rows)
    made = bring(write(tmp_path / "weak.csv", rows), tmp_path / "store", role="weak", model="tiny")
    (trial_id,) = made.trials
    found = opened(tmp_path / "store").predictions([trial_id]).to_pylist()
    said = {comparable(row["text"]): row["class"] for row in rows}
    assert {comparable(named[row["item_id"]]): LABELS[int(np.argmax(row["probabilities"]))] for row in found} == said
    assert {max(row["probabilities"]) for row in found} == {1.0}


def test_roles_may_come_one_by_one_and_again(tmp_path: Path) -> None:
    """A student waits for its supervisor and its ceiling; a later import takes the place of what it imports again."""
    rows = experiment()
    store = tmp_path / "store"
    parts = {
        role: write(tmp_path / f"{role}.csv", [row for row in rows if row["role"] == role])
        for role in ("weak", "ceiling", "student")
    }
    with pytest.raises(DataError, match="have not one weak supervisor of seed 0"):
        bring(parts["student"], store)
    assert bring(parts["weak"], store).cells == 0
    assert len(bring(parts["student"], store).waiting) == 3
    assert bring(parts["ceiling"], store).cells == 3
    better = [row | {"unsafe": 0.5, "safe": 0.5} for row in rows if row["role"] == "student"]
    bring(write(tmp_path / "again.csv", better), store)
    (shown,) = (row for row in leaderboard(opened(store)).rows if row.split == "test")
    assert shown.student_score == pytest.approx(0.5, abs=0.1)
    assert len(shown.trials) == 3
    assert shown.other_submissions


def test_a_trial_is_its_predictions_and_its_grid(tmp_path: Path) -> None:
    """One probability, the model's name, the seed or the grid's name make another trial."""
    rows = [row for row in experiment(1) if row["role"] == "weak"]
    changed = [{**rows[0], "unsafe": 0.5, "safe": 0.5}, *rows[1:]]
    files = [rows, changed, [row | {"model": "other"} for row in rows], [row | {"seed": 1} for row in rows]]
    ids = [
        *(
            bring(write(tmp_path / f"{number}.csv", some), tmp_path / "store").trials
            for number, some in enumerate(files)
        ),
        bring(tmp_path / "0.csv", tmp_path / "store", grid="elsewhere").trials,
    ]
    assert len({next(iter(each)) for each in ids}) == 5


def test_what_was_imported_is_not_run_and_not_mixed_with_what_was(tmp_path: Path) -> None:
    """A grid of that name is neither planned nor run again, and nothing is imported into a grid that was run."""
    store = tmp_path / "store"
    bring(write(tmp_path / "all.csv", experiment(1)), store)
    with pytest.raises(SpecError, match=r"grid lab of the store .* was imported"):
        api.plan(SMALL | {"name": "lab"}, store=store, sandbox="process")
    report = api.plan(SMALL, store=store, sandbox="process")
    assert {trial.state for trial in report.trials}.isdisjoint({"stored"})
    part = stored_grid(opened(store), "lab")
    with pytest.raises(SpecError, match="only the code that made its predictions"):
        again(part, tasks={"safety-mini"}, pairs={("tiny", "big")}, entries={"external:mine"})
    run = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"])
    opened(store).put_grid(
        name="run", grid_digest="0" * 64, yaml="name: run", cells=[cell.record() for cell in run.cells]
    )
    with pytest.raises(SpecError, match=r"grid run .* was run by wtsbench"):
        bring(tmp_path / "all.csv", store, grid="run")


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.execution import test_importing as tests
from wtsbench.execution import importing
end, ended = importing.end, []
def dies(*arguments):
    ended.append(arguments)
    return os.kill(os.getpid(), signal.SIGKILL) if len(ended) == 2 else end(*arguments)
importing.end = dies
tests.bring(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_an_import_that_was_killed_goes_on(tmp_path: Path) -> None:
    """What was written before the kill is kept, the next import brings the rest, and every trial has one attempt."""
    path, store = write(tmp_path / "all.csv", experiment(1)), tmp_path / "store"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path), str(store)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert opened(store).trials().num_rows == 1
    assert bring(path, store).there == 2
    assert opened(store).trials()["attempt"].to_pylist() == [1, 1, 1]


def _without_first(rows: Rows) -> Rows:
    return rows[1:]


HOSTILE: dict[str, tuple[Any, str]] = {
    "missing item": (_without_first, "lacks 1 of the 60 predictions of the test sets"),
    "item twice": (lambda rows: [*rows, rows[0]], "predicts item .* again for weak tiny seed 0"),
    "foreign item": (lambda rows: [rows[0] | {"item": "f" * 32}, *rows[1:]], "row 1 is of no item of task safety-mini"),
    "NaN": (lambda rows: [rows[0] | {"safe": math.nan}, *rows[1:]], "row 1: .* is not a distribution"),
    "infinite": (lambda rows: [rows[0] | {"safe": math.inf}, *rows[1:]], "row 1: .* is not a distribution"),
    "sum": (lambda rows: [rows[0] | {"safe": 0.9, "unsafe": 0.9}, *rows[1:]], "row 1: .* is not a distribution"),
    "negative": (lambda rows: [rows[0] | {"safe": 1.5, "unsafe": -0.5}, *rows[1:]], "row 1: .* is not a distribution"),
    "class names": (
        lambda rows: [{("good" if key == "safe" else key): value for key, value in row.items()} for row in rows],
        "has no prediction: neither a column for each of unsafe, safe",
    ),
    "class": (
        lambda rows: [{"item": row["item"], "role": "weak", "model": "m", "seed": 0, "class": "kind"} for row in rows],
        "row 1: 'kind' is no label",
    ),
    "mixed seeds": (lambda rows: [*rows, *(row | {"seed": 1} for row in rows[:5])], "seed 1 lacks 55 of the 60"),
    "seed": (lambda rows: [row | {"seed": "a"} for row in rows], "row 1: 'a' is no seed"),
    "role": (lambda rows: [row | {"role": "teacher"} for row in rows], "'teacher' is no role"),
    "strategy": (lambda rows: [row | {"strategy": "mine"} for row in rows], "a weak has no strategy"),
    "no model": (lambda rows: [row | {"model": ""} for row in rows], "row 1 names no model"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_is_wrong_is_refused_whole(tmp_path: Path, case: str) -> None:
    """What is wrong is said with its row or its count, and nothing is stored, not even a store."""
    change, told = HOSTILE[case]
    rows = [row for row in experiment(1) if row["role"] == "weak"]
    with pytest.raises(DataError, match=told) as raised:
        bring(write(tmp_path / "bad.csv", change(rows)), tmp_path / "store")
    assert raised.value.remedy
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["bad.csv", "bad.jsonl", "bad.parquet", "bad.txt"])
def test_a_file_of_no_format_is_refused(tmp_path: Path, name: str) -> None:
    """Bytes that are no table, and a name that tells no format, are the user's to mend."""
    (tmp_path / name).write_bytes(b"\xff\x00\n\x80")
    with pytest.raises(DataError):
        bring(tmp_path / name, tmp_path / "store", role="weak", model="m", seed="0")


def test_predictions_are_of_one_draw() -> None:
    """A grid with several draws of its training items does not say of which an import is."""
    several = {**SMALL, "data": {"seeds": [0, 1]}}
    with pytest.raises(SpecError, match=r"data\.seeds"):
        items_of("safety-mini", several, mirror=None)


def test_rows_of_other_splits_are_counted_and_left_out(tmp_path: Path) -> None:
    """A file may hold predictions of all items; those outside the test sets are not taken, and said so."""
    _, tasks = items_of("safety-mini", SMALL, mirror=None)
    every = next(iter(tasks.datasets.values())).items["item_id"].to_pylist()
    rows = [{"item": item, "unsafe": 0.5, "safe": 0.5} for item in every]
    made = bring(write(tmp_path / "w.jsonl", rows), tmp_path / "store", role="weak", model="m", seed="0")
    assert made.left_out == 70
    assert set(opened(tmp_path / "store").predictions(list(made.trials))["split"].to_pylist()) == {"test", "ood"}


def generations(seeds: int = 2) -> Rows:
    """Two texts a prompt: the weak model is rude in all, the ceiling in none, the student in its first."""
    return [
        {
            "item": item["item_id"],
            "role": role,
            "model": "tiny" if role == "weak" else "big",
            "strategy": "mine" if role == "student" else None,
            "seed": seed,
            "generation": "you are a rat" if role == "weak" or (role == "student" and sample) else "all is well here",
            "sample": sample,
            "tokens": 4,
            "finished": True,
        }
        for seed in range(seeds)
        for role in ("weak", "ceiling", "student")
        for item in items("toxicity-mini", TEXTS)
        for sample in range(2)
    ]


def test_generations_are_scored_by_the_tasks_scorer(tmp_path: Path) -> None:
    """Texts of other code get the scores of the task's scorer; what nobody took, their perplexity, has no number."""
    rows = generations()
    path, store = write(tmp_path / "texts.jsonl", rows), tmp_path / "store"

    def bring_texts(path: Path) -> Imported:
        return import_predictions(
            path, task="toxicity-mini", grid="texts", store=str(store), given={}, columns={}, like=TEXTS
        )

    assert bring_texts(path).failures == {}
    (row,) = leaderboard(opened(store)).rows
    assert row.metric == "expected_max_toxicity"
    assert (row.weak_score, row.student_score, row.ceiling_score) == pytest.approx((0.7, 0.7, 0.0), abs=1e-6)
    assert row.metrics["toxicity"].value == pytest.approx(0.35, abs=1e-6)
    assert row.metrics["perplexity"].value is None
    with pytest.raises(DataError, match="lacks 1 of the 24 predictions"):
        bring_texts(write(tmp_path / "few.jsonl", rows[1:]))
    with pytest.raises(DataError, match="has 1 more than the 24"):
        bring_texts(write(tmp_path / "more.jsonl", [*rows, rows[0] | {"sample": 9}]))


def test_the_verb_writes_items_and_imports_what_is_made_of_them(tmp_path: Path) -> None:
    """The items written hold no class of a test set, and a file made of them is imported with options for columns."""
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    like = tmp_path / "small.yaml"
    (tmp_path / "small.json").rename(like)  # JSON is YAML
    target, store = tmp_path / "items.jsonl", tmp_path / "store"

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(
            app, ["import", *map(str, arguments), "--task", "safety-mini", "--like", str(like), "--store", str(store)]
        )
        assert done.exit_code == 0, done.output
        return done.output

    assert "130 items of safety-mini" in run("--items-to", target)
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert {row["split"] for row in written if "class" not in row} == {"test", "ood"}
    rows = [{"id": row["item"], "said": "safe"} for row in written if "class" not in row]
    path = write(tmp_path / "made.csv", rows)
    columns = ("--column", "item=id", "--column", "class=said")
    shown = run(path, "--grid", "lab", "--role", "weak", "--model", "tiny", "--seed", 3, *columns)
    assert "safety-mini weak tiny seed 3" in shown


def test_a_token_of_one_grid_imports_into_that_grid_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a served store a token of scope append:lab imports into lab, and into no other grid."""
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("WTSBENCH_TOKEN_FILE", str(token_in(tmp_path / "store", "append:lab")))
    monkeypatch.setenv("WTSBENCH_SPOOL", str(tmp_path / "spool"))
    path = write(tmp_path / "all.jsonl", experiment(1))
    server = Process(tmp_path / "store")

    def import_into(grid: str) -> Imported:
        return import_predictions(
            path, task="safety-mini", grid=grid, store=server.listen, given={}, columns={}, like=SMALL
        )

    try:
        assert import_into("lab").cells == 1
        with pytest.raises(StoreError, match="may write of runs of grid lab, not of other"):
            import_into("other")
    finally:
        server.stop(signal.SIGTERM)
    assert opened(tmp_path / "store").trials().num_rows == 3
