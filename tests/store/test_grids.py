"""Grids on their way to a server: of any number of cells, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.store.servers import asking_with, serving, token_in
from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.spec.cell import Cell, grid_digest
from wtsbench.store import wire
from wtsbench.store.client import Store, open_store
from wtsbench.store.remote import RemoteEngine
from wtsbench.store.server.bounds import MESSAGE_BYTES
from wtsbench.store.server.serving import Running
from wtsbench.store.wire import StoreRefused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a served store."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    """A server for all tests of this module."""
    with serving(folder) as server, asking_with(token_in(folder, "append")):
        yield server


@pytest.fixture
def store(running: Running) -> Store:
    """The store behind it."""
    return open_store(running.listen)


def cells(count: int) -> list[Cell]:
    """So many cells of one task and pair."""
    return [
        Cell(
            task="täsk",
            weak="weak",
            strong="strong",
            strategy="naive",
            seed=0,
            weak_trial=f"w{number:063d}",
            ceiling_trial=f"c{number:063d}",
            student_trial=f"s{number:063d}",
            data_digest="d" * 64,
        )
        for number in range(count)
    ]


def test_a_grid_of_more_cells_than_one_message_holds_is_stored(store: Store) -> None:
    """Its cells come back as they were, once, however often they are sent."""
    many = cells(40_000)
    records = [cell.record() for cell in many]
    assert len(json.dumps(records)) > MESSAGE_BYTES
    for _ in range(2):
        store.put_grid(name="large", grid_digest=grid_digest("large", records), yaml="", cells=records)
    (row,) = [row for row in store.grids().to_pylist() if row["name"] == "large"]
    assert list(Cell.listed(row["cells"])) == many


def test_a_grid_that_was_cut_off_is_refused(running: Running, store: Store) -> None:
    """Neither fewer bytes than were promised, nor bytes that are no text, nor other columns become a grid."""
    asked = {"op": "grid", "name": "cut", "grid_digest": "g", "yaml": "", "schema_version": SCHEMA_VERSION}
    other = pa.schema([("piece", pa.string())])
    with RemoteEngine.open(running.listen) as engine:
        for schema, piece, size, why in (
            (wire.CELLS, b"[]", 3, "2 of 3 bytes came"),
            (wire.CELLS, b"\xff\xff", 2, "no UTF-8"),
            (other, "[]", 2, "other columns"),
        ):
            batch = pa.record_batch({"piece": [piece]}, schema=schema)
            with pytest.raises(StoreRefused, match=why):
                engine._put({**asked, "bytes": size}, schema, [batch])
    assert "cut" not in store.grids()["name"].to_pylist()


def test_a_token_for_one_grid_cannot_spoil_reports(running: Running, folder: Path) -> None:
    """Cells that no report can read are refused from it; they would stand between others and all of their grids."""
    with asking_with(token_in(folder, "append:mine")):
        mine = open_store(running.listen)
        with pytest.raises(StoreRefused, match="cannot be read"):
            mine.put_grid(name="mine", grid_digest="g", yaml="", cells=[{"seed": "x"}])
        mine.put_grid(name="mine", grid_digest="g", yaml="", cells=[cells(1)[0].record()])


def test_more_cells_than_a_server_takes_are_refused_before_they_are_sent() -> None:
    """The error says how many MiB are too many, and what to do."""
    with pytest.raises(StoreRefused, match="256 MiB") as caught:
        next(wire.pack_cells(bytes(wire.REQUEST_BYTES + 2**20)))
    assert "several grids" in str(caught.value.remedy)
