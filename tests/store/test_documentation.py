"""The examples of docs/store.md run as they stand."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pyarrow.dataset
import pytest

from tests.reports.worlds import simple
from tests.store.making import batch, trial_id_of
from tests.store.servers import asking_with, serving, token_in
from wtsbench.contract.schemas import TABLES
from wtsbench.store.upkeep import verbs as upkeep

TEXT = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and an export of it."""
    path = tmp_path_factory.mktemp("docs")
    store = simple({"naive": 0.7}, seeds=[0, 1], items=50).folder(path)
    trial_id = trial_id_of("with metrics")
    metric = {"name": "accuracy", "split": "test", "step": None, "value": 0.9}
    ended = {"status": "done", "task": "colours"}
    store.append([batch("metrics", trial_id, 1, 1, [metric]), batch("trials", trial_id, 1, 2, [ended])])
    upkeep.export(store.uri, path / "export", "parquet")
    return path


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each example prints something out of the store, in about ten lines."""
    example = EXAMPLES[number]
    assert len(example.splitlines()) <= 14
    monkeypatch.chdir(folder)
    with serving(folder / "store") as running, asking_with(token_in(folder / "store", "read")):
        monkeypatch.setenv("WTSBENCH_STORE", running.listen)
        exec(compile(example, f"docs/store.md example {number}", "exec"), {})  # noqa: S102  # it is our own text
    assert "colours" in capsys.readouterr().out


def test_every_tool_that_is_promised_has_an_example() -> None:
    """pandas, polars, duckdb and plain Flight."""
    for module in ("pandas", "polars", "duckdb", "pyarrow.flight"):
        assert any(f"import {module}" in example for example in EXAMPLES)


def test_every_table_of_an_export_is_read_as_a_folder(folder: Path) -> None:
    """Each tool reads the folder of each table at once, with the rows and the columns of the store."""
    pd, pl, duckdb = (importlib.import_module(name) for name in ("pandas", "polars", "duckdb"))
    for table in sorted(path for path in (folder / "export").iterdir() if path.is_dir()):
        rows = {
            "pandas": len(pd.read_parquet(table)),
            "polars": pl.scan_parquet(f"{table}/**/*.parquet").collect().height,
            "polars, hive": pl.scan_parquet(table, hive_partitioning=True).collect().height,
            "duckdb": duckdb.read_parquet(f"{table}/**/*.parquet").count("*").fetchall()[0][0],
            "pyarrow": pyarrow.dataset.dataset(table, partitioning="hive").count_rows(),
        }
        assert len(set(rows.values())) == 1, (table.name, rows)
        if table.name in TABLES:
            assert set(TABLES[table.name].names) <= set(pd.read_parquet(table).columns)
            assert set(TABLES[table.name].names) <= set(pl.scan_parquet(f"{table}/**/*.parquet").collect_schema())
