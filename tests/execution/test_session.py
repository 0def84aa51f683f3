"""What a submission says while it gets ready."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pyarrow.compute as pc
import pytest

from tests.cli.watched import session as planned
from wtsbench.execution import session
from wtsbench.execution.events import Event, Preparing
from wtsbench.reports.contents import submissions
from wtsbench.spec.trial import ModelRef
from wtsbench.store.client import open_store


def test_what_is_waited_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """While models are fetched, a submission says which are not there yet, and of how many."""
    told: list[str] = []
    second, third = threading.Event(), threading.Event()
    wait_for = {"nano-1": second, "nano-2": third}

    def fetch(model: ModelRef) -> Path:
        assert wait_for[model.name].wait(timeout=60)
        return Path()

    def listen(event: Event) -> None:
        assert isinstance(event, Preparing)
        told.append(event.text)
        if event.text.startswith("waiting"):
            (second if len(told) == 3 else third).set()

    monkeypatch.setattr(session, "fetch", fetch)
    of = planned()
    of = dataclasses.replace(of, options=dataclasses.replace(of.options, executor="in-process"))
    executor = session._start(of, list(of.plan.trials.values()), listen)
    executor.close()
    assert told == [
        "models: nano-1, nano-2",
        "starting trials in process",
        "waiting for models (0 of 2 ready): nano-1, nano-2",
        "waiting for models (1 of 2 ready): nano-2",
    ]


def test_a_grid_with_draws_of_its_training_items(tmp_path: Path) -> None:
    """Each draw is prepared, and put into the store beside the others with the same test items."""
    grid = {
        "name": "g",
        "tasks": ["safety-mini"],
        "pairs": {"ladder": "nano"},
        "strategies": ["naive"],
        "seeds": [0],
        "data": {"seeds": [0, 1], "weak_train": 40, "transfer": 40, "test": 30},
    }
    options = session.Options(store=str(tmp_path / "store"), sandbox="process")
    of = session.prepare(grid, options, note=lambda text: None)
    assert len(of.datasets) == 2
    assert {cell.data_digest for cell in of.plan.cells} == set(of.datasets)
    store = open_store(options.store, create=True)
    session._put_inputs(of, store)
    tests = [store.items(digest).filter(pc.field("split") == "test") for digest in of.datasets]
    one, two = (table.drop_columns(["data_digest"]) for table in tests)
    assert one.num_rows == 30
    assert one.equals(two)
    (submission,) = submissions(store)
    assert submission.cells == of.plan.cells
