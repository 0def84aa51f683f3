"""Results in the formats of others hold the numbers of the table, and validate by those formats' own rules."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import ModelCardData

from tests.reports.test_tables import MEANS, ONE, TWO, generative
from tests.reports.worlds import simple
from wtsbench.reports.eee import EveryEvalEver
from wtsbench.reports.exchange import Exchange
from wtsbench.reports.hub_results import eval_results
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


def test_scores_of_two_scorers_are_two_benchmarks(tmp_path: Path) -> None:
    """Neither takes the other's place under one name."""
    store = generative(MEANS, scorers=(ONE, TWO)).folder(tmp_path)
    board = leaderboard(store, resamples=50)
    found = Exchange(board, Runs(store, board)).bencher()
    assert len(found) == len(board.rows) == 4
    for row in board.rows:
        named = f"first/{row.task}/test/{row.weak}/{row.strong}/{row.strategy}/{str(row.scorer)[:12]}"
        assert found[named][row.metric]["value"] == row.student_score


def test_a_pgr_that_is_not_defined_is_left_out(tmp_path: Path) -> None:
    """No number stands for NA."""
    store = simple({"naive": 0.7}, weak=0.8, ceiling=0.8, seeds=(0, 1, 2, 3, 4)).folder(tmp_path)
    board = leaderboard(store, resamples=500)
    assert board.rows[0].pgr is None
    runs = Runs(store, board)
    assert all(set(measures) == {"accuracy"} for measures in Exchange(board, runs).bencher().values())
    ((_, text),) = EveryEvalEver(board, runs).files()
    assert len(json.loads(text)["evaluation_results"]) == 1


def test_the_same_store_gives_the_same_files(store: Store, exchange: Exchange) -> None:
    """Byte for byte, names included."""
    board = leaderboard(store, resamples=1_000)
    assert Exchange(board, Runs(store, board)).files() == exchange.files()


def test_records_of_every_eval_ever_follow_its_schemas(exchange: Exchange, tmp_path: Path) -> None:
    """Names, links and counts are what the format asks for; both schemas hold, where the data mirror has them."""
    classes = {name: json.loads(text) for name, text in EveryEvalEver(exchange.board, exchange.runs).files()}
    assert len(classes) == 2
    world = generative(MEANS, samples=2, prompts=20)
    for row in world.datasets:
        row["settings"] = json.dumps({**json.loads(row["settings"]), "threshold": 0.3})
    store = world.folder(tmp_path)
    board = leaderboard(store, resamples=200)
    for shown, runs, truths in ((exchange.board, exchange.runs, 1), (board, Runs(store, board), 0)):
        files = dict(EveryEvalEver(shown, runs, samples=True).files())
        uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
        records = {name: json.loads(text) for name, text in files.items() if name.endswith(".json")}
        assert records
        for name, record in records.items():
            assert re.fullmatch(rf"every_eval_ever/data/[\w-]+/[\w-]+/[\w-]+/{uuid}\.json", name)
            _validate(record, "eee_eval.schema.json")
            detailed = record["detailed_evaluation_results"]
            content = files[f"every_eval_ever/{detailed['file_path']}"]
            lines = [json.loads(line) for line in content.decode().splitlines()]
            assert detailed["checksum"] == hashlib.sha256(content).hexdigest()
            assert detailed["total_rows"] == len(lines) > 0
            assert len({line["sample_id"] for line in lines}) == len(lines)
            known = {each["evaluation_result_id"] for each in record["evaluation_results"]}
            assert {line["evaluation_result_id"] for line in lines} <= known
            assert all(len(line["input"]["reference"]) == truths for line in lines)
            for line in lines[:3]:
                _validate(line, "eee_instance.schema.json")
            for line in [] if truths else lines:  # as the data set's own threshold has it
                assert line["evaluation"]["is_correct"] is (line["evaluation"]["score"] < 0.3)
            if truths:  # accuracy is the mean over seeds of the share that is correct
                right = sum(line["evaluation"]["is_correct"] for line in lines) / len(lines)
                assert right == pytest.approx(record["evaluation_results"][0]["score_details"]["score"], abs=1e-6)


def _validate(record: dict[str, Any], name: str) -> None:
    schema = Path(os.environ.get("WTSBENCH_DATA_MIRROR", "/nowhere")) / "eee" / name
    if schema.exists():
        jsonschema.Draft7Validator(json.loads(schema.read_text())).validate(record)


def test_the_model_index_reads_back_as_the_table(exchange: Exchange) -> None:
    """A document a student, which the hub's own library reads; its numbers are those of the table."""
    documents = list(yaml.safe_load_all(exchange.files()["model-index.yaml"]))
    found = {}
    for each in documents:
        card = ModelCardData(**each)
        assert card.eval_results is not None
        found[card.model_name] = {one.metric_type: one.metric_value for one in card.eval_results}
    rows = exchange.board.rows
    assert sorted(map(str, found.values())) == sorted(
        str({"accuracy": row.student_score, "pgr": row.pgr}) for row in rows
    )


def test_evaluation_results_are_a_list_of_the_hubs_form(exchange: Exchange) -> None:
    """A file a strategy, whose values are those of the table; dates are text."""
    files = dict(eval_results(exchange.board, "2026-01-01"))
    assert len(files) == 2
    for text in files.values():
        (entry,) = yaml.safe_load(text)
        assert set(entry) == {"dataset", "value", "date", "notes"}
        (row,) = [row for row in exchange.board.rows if row.student_score == entry["value"]]
        assert entry["dataset"]["revision"] == row.data_digest  # another grid may have other items of the task
        assert f"grid {row.grid}" in entry["notes"]
        assert isinstance(entry["date"], str)
        assert entry["value"] in {row.student_score for row in exchange.board.rows}


def test_croissant_describes_the_file_beside_it(exchange: Exchange) -> None:
    """Its digest, and a field for each column."""
    files = exchange.files()
    described = json.loads(files["croissant.json"])
    (file,) = described["distribution"]
    assert "license" not in described  # nobody but the publisher can choose it
    assert file["sha256"] == hashlib.sha256(files["results.parquet"]).hexdigest()
    fields = [field["source"]["extract"]["column"] for field in described["recordSet"][0]["field"]]
    table = pq.read_table(io.BytesIO(files["results.parquet"]))
    assert fields == table.column_names
    assert table["student_score"].to_pylist() == [row.student_score for row in exchange.board.rows]
