"""Results in the formats of others hold the numbers of the table, and validate by those formats' own rules."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest
import yaml

from tests.reports.worlds import simple
from wtsbench.reports.exchange import Exchange
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.runs import Runs
from wtsbench.store.client import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A real store of a task whose gap is proven."""
    return simple({"naive": 0.7, "logconf(max_weight=0.5)": 0.8}, seeds=(0, 1, 2, 3, 4)).folder(
        tmp_path_factory.mktemp("exchange")
    )


@pytest.fixture(scope="module")
def exchange(store: Store) -> Exchange:
    """Its leaderboard for other tools."""
    board = leaderboard(store, resamples=1_000)
    return Exchange(board, Runs(store, board))


def test_bencher_has_the_numbers_of_the_table(exchange: Exchange) -> None:
    """A benchmark a row, a measure a number, with both ends of its interval."""
    found = exchange.bencher()
    assert len(found) == 2
    for row in exchange.board.rows:
        measure = found[f"first/colours/test/small/large/{row.strategy}"]
        assert measure["accuracy"] == {
            "value": row.student_score, "lower_value": row.student_low, "upper_value": row.student_high,
        }  # fmt: skip
        assert measure["pgr"]["value"] == row.pgr


def test_a_pgr_that_is_not_defined_is_left_out(tmp_path: Path) -> None:
    """No number stands for NA."""
    store = simple({"naive": 0.7}, weak=0.8, ceiling=0.8, seeds=(0, 1, 2, 3, 4)).folder(tmp_path)
    board = leaderboard(store, resamples=500)
    assert board.rows[0].pgr is None
    exchange = Exchange(board, Runs(store, board))
    assert all(set(measures) == {"accuracy"} for measures in exchange.bencher().values())
    assert all(len(record["evaluation_results"]) == 1 for _, record in exchange.every_eval_ever())


def test_the_same_store_gives_the_same_files(store: Store, exchange: Exchange) -> None:
    """Byte for byte, names included."""
    board = leaderboard(store, resamples=1_000)
    assert Exchange(board, Runs(store, board)).files() == exchange.files()


def test_names_of_records_are_what_the_format_asks_for(exchange: Exchange) -> None:
    """A folder of a collection, a developer and a model, and a UUID of version 4."""
    names = [name for name, _ in exchange.every_eval_ever()]
    assert len(set(names)) == 2
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    pattern = rf"every_eval_ever/data/[\w-]+/[\w-]+/[\w-]+/{uuid}\.json"
    assert all(re.fullmatch(pattern, name) for name in names)


def test_records_follow_the_published_schema(exchange: Exchange) -> None:
    """Each validates by the JSON Schema of Every Eval Ever, where the data mirror has it."""
    schema = Path(os.environ.get("WTSBENCH_DATA_MIRROR", "/nowhere")) / "eee" / "eee_eval.schema.json"
    if not schema.exists():
        pytest.skip("no eee/eee_eval.schema.json in WTSBENCH_DATA_MIRROR")
    validator = jsonschema.Draft7Validator(json.loads(schema.read_text()))
    for _, record in exchange.every_eval_ever():
        validator.validate(record)


def test_evaluation_results_are_a_list_of_the_hubs_form(exchange: Exchange) -> None:
    """A file a strategy, whose values are those of the table; dates are text."""
    files = dict(exchange.eval_results())
    assert len(files) == 2
    for text in files.values():
        (entry,) = yaml.safe_load(text)
        assert set(entry) == {"dataset", "value", "date", "notes"}
        assert isinstance(entry["date"], str)
        assert entry["value"] in {row.student_score for row in exchange.board.rows}


def test_croissant_describes_the_file_beside_it(exchange: Exchange) -> None:
    """Its digest, and a field for each column."""
    files = exchange.files()
    described = json.loads(files["croissant.json"])
    (file,) = described["distribution"]
    assert file["sha256"] == hashlib.sha256(files["results.parquet"]).hexdigest()
    fields = [field["source"]["extract"]["column"] for field in described["recordSet"][0]["field"]]
    table = pq.read_table(io.BytesIO(files["results.parquet"]))
    assert fields == table.column_names
    assert table["student_score"].to_pylist() == [row.student_score for row in exchange.board.rows]
