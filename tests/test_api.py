"""The Python face: one call for each thing, the same on folders and servers, and nothing heavy on import."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import wtsbench
from tests.reports.test_tables import MEANS, generative
from tests.reports.worlds import simple
from tests.store.servers import asking_with, serving, token_in
from wtsbench import api
from wtsbench.errors import SpecError, StoreError
from wtsbench.planning.check import given_grid
from wtsbench.spec.grid import load_grid
from wtsbench.spec.manifests import names

ROOT = Path(__file__).parents[1]
TINY = {
    "name": "tiny",
    "tasks": ["safety-mini"],
    "pairs": [{"weak": "nano-1", "strong": "nano-2"}],
    "strategies": ["naive"],
    "seeds": [0],
    "data": {"weak_train": 60, "transfer": 60, "validation": 20, "test": 60},
    "resources": {"cpus": 1, "time": "5m"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of twelve trials."""
    path = tmp_path_factory.mktemp("api")
    simple({"naive": 0.7, "logconf": 0.8}, seeds=[0, 1, 2], items=50).folder(path)
    return path / "store"


def test_the_package_hands_on_what_api_has() -> None:
    """Every public name of `wtsbench.api` is one of `wtsbench`; other names are not there."""
    for name in api.__all__:
        assert getattr(wtsbench, name) is getattr(api, name)
        assert getattr(api, name).__doc__
    assert set(wtsbench.__all__) == {*api.__all__, "__version__"} <= set(dir(wtsbench))
    with pytest.raises(AttributeError, match="no attribute 'submitt'"):
        wtsbench.submitt  # noqa: B018


def test_a_store_gives_the_same_tables_from_a_folder_and_from_a_server(folder: Path) -> None:
    """Trials, predictions, metrics, items and SQL are Arrow tables of equal content."""
    question = "SELECT task, count(*) AS trials FROM trials WHERE role <> ? GROUP BY ALL ORDER BY ALL"

    def asked(store: api.Store) -> list[object]:
        tables = [store.trials(), store.predictions(), store.predictions(splits=["test"]), store.metrics()]
        return [*tables, store.items(), store.sql(question, ["weak"])]

    here = asked(wtsbench.open_store(folder))
    assert [table.num_rows for table in here] == [12, 12 * 51, 12 * 50, 0, 53, 1]  # type: ignore[attr-defined]
    assert here[-1].to_pylist() == [{"task": "colours", "trials": 9}]  # type: ignore[attr-defined]
    with serving(folder) as running, asking_with(token_in(folder, "read")):
        assert asked(wtsbench.open_store(running.listen)) == here
        assert asked(wtsbench.open_store(folder)) == here  # the folder goes through the server now


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE datasets", "SELECT 1; SELECT 2", "SELECT * FROM read_csv('x.csv')", "SELECT * FROM store", "SELECT"],
)
def test_sql_only_reads_the_published_tables(folder: Path, statement: str) -> None:
    """On a folder the same SQL is refused as at a server, and nothing changes."""
    store = wtsbench.open_store(folder)
    with pytest.raises(StoreError):
        store.sql(statement)
    assert store.trials().num_rows == 12


def test_a_leaderboard_in_every_form(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Typed rows, Arrow, a data frame, Markdown and what a notebook and `print` show say the same."""
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path))
    board = wtsbench.leaderboard(folder)
    table, frame = board.to_arrow(), board.to_pandas()
    assert table["strategy"].to_pylist() == [row.strategy for row in board.rows] == frame["strategy"].tolist()
    assert table["student_score"].to_pylist() == [row.student_score for row in board.rows]
    assert str(table.schema.field("seeds").type) == "list<element: int64>" or table["seeds"][0].as_py() == [0, 1, 2]
    shown = re.sub(r"<[^>]*>", "", board._repr_html_())
    for text in (board.to_markdown(), shown, str(board)):
        assert "logconf" in text
        assert f"{board.rows[0].student_score:.3f}" in text
    monkeypatch.setenv("WTSBENCH_STORE", str(folder))
    assert wtsbench.leaderboard(grid="first") == board
    pairs = wtsbench.compare(folder, metric="f1")
    assert pairs.to_pandas()["p"].tolist() == [pair.p for pair in pairs]
    for text in (pairs._repr_html_(), str(pairs)):
        assert "better than" in text or "not told apart" in text
    with pytest.raises(SpecError, match="no grid 'second'"):
        wtsbench.leaderboard(folder, "second")


def test_an_empty_board_is_an_empty_table(tmp_path: Path) -> None:
    """Columns and types are there without rows."""
    store = generative(MEANS, seeds=[0]).folder(tmp_path)
    board = wtsbench.leaderboard(store.uri)
    empty = api.Leaderboard(rows=()).to_arrow()
    assert (empty.num_rows, empty.schema) == (0, board.to_arrow().schema)


@pytest.mark.parametrize("name", names("grids"))
def test_a_grid_is_the_same_in_every_form(name: str) -> None:
    """Name, path, text, dict and model give one grid."""
    grid = load_grid(name)
    given = given_grid(name)
    assert given.grid == given_grid(Path(given.source)).grid == given_grid(given.yaml).grid == given_grid(grid).grid
    assert given_grid(grid.model_dump(mode="json", by_alias=True, exclude_unset=True)).grid == grid


def test_a_plan_is_shown_in_a_few_lines(tmp_path: Path) -> None:
    """How many trials, and why the first twenty would run."""
    plan = wtsbench.plan({**TINY, "seeds": [*range(10)]}, store=tmp_path / "store", sandbox="process")
    assert repr(plan) == f"<plan of {plan.total} trials: 0 stored, {plan.total} to run>"
    first, *lines, last = str(plan).splitlines()
    assert first.startswith(f"{plan.total} trials: 0 stored, {plan.total} to run; ")
    assert (len(lines), last) == (20, f"  and {plan.total - 20} more")
    assert lines[0].endswith("seed 0: never run")


def test_faults_of_a_dict_name_their_keys() -> None:
    """As in a file: every fault, with the path of its key and the nearest valid name."""
    wrong = {**TINY, "strategies": ["naiv"], "sed": [1]}
    with pytest.raises(SpecError, match=r"strategies\[0\].*\n?.*naive") as error:
        wtsbench.plan(wrong)
    assert "sed" in str(error.value)
    with pytest.raises(SpecError, match="holds a value of type PosixPath"):
        wtsbench.plan({**TINY, "tasks": [Path("task.yaml")]})


PROGRAM = """\
import json, os, sys
import wtsbench
grid = json.loads(sys.argv[1])
def tell(event):
    print(type(event).__name__, flush=True)
listener = tell if "tell" in sys.argv else None
summary = wtsbench.submit(grid, store="store", executor="in-process", sandbox="process", on_event=listener)
print("summary", json.dumps([summary.total, summary.stored, summary.done, summary.cancelled > 0]), flush=True)
"""


def _program(folder: Path, grid: object, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(grid), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_one_call_submits_a_dict_and_an_interruption_stops_it_cleanly(tmp_path: Path) -> None:
    """Ctrl-C in the middle returns a summary; the same call goes on with the rest, and a bar shows it."""
    process = _program(tmp_path, {**TINY, "seeds": [0, 1]}, "tell")
    assert process.stdout is not None
    for line in process.stdout:
        if line == "Done\n":  # the first trial
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    total, stored, done, cancelled = json.loads(out.rsplit("summary", 1)[1])
    assert (total, stored, cancelled) == (6, 0, True)
    assert 1 <= done < 6
    again = _program(tmp_path, {**TINY, "seeds": [0, 1]})
    out, err = again.communicate(timeout=300)
    assert json.loads(out.rsplit("summary", 1)[1]) == [6, done, 6 - done, False]
    assert "6/6" in err
    store = wtsbench.open_store(tmp_path / "store")
    assert set(store.trials().to_pandas().query("status == 'done'")["role"]) == {"weak", "ceiling", "student"}
    assert {row.seeds_done for row in wtsbench.leaderboard(store).rows} == {2}  # in and out of the distribution


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    """The quickstart as a script, and the grid on a task of one's own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for arguments in (
        [str(ROOT / "examples" / "quickstart.py")],
        ["-m", "wtsbench_cli", "submit", str(ROOT / "examples" / "grid.yaml"), "--executor", "in-process"],
    ):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr
        assert "logconf" in done.stdout
