"""What all requests together may take of a server, on a server that lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.making import fill_outbox, predictions, seal, trial_id_of
from tests.store.servers import asking_with, half_sent, serving, token_in
from wtsbench.errors import StoreError
from wtsbench.store.client import open_store
from wtsbench.store.courier import deliver
from wtsbench.store.lock import StoreBusy
from wtsbench.store.remote import RemoteEngine
from wtsbench.store.server import bounds
from wtsbench.store.server.live import Limits

A, B = trial_id_of("a"), trial_id_of("b")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_for_what_is_received_is_bounded_over_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds no room is told to come again, and a courier does; what was begun is finished, and one alone may."""
    monkeypatch.setattr(bounds, "RECEIVED_BYTES", 100)  # less than any record has
    folder = tmp_path / "store"
    with serving(folder) as running:
        token = token_in(folder, "append")
        with asking_with(token), half_sent(running, token) as end:
            _until(lambda: running.core.room.held > 100)
            store = open_store(running.listen)
            records = [predictions(B, 1, 1, "x" * 5_000_000), seal(B, 1, 2)]  # a stream, not one message
            with pytest.raises(StoreBusy, match="receives more than"):
                store.append(records)
            outbox = fill_outbox(tmp_path / "outbox", records)
            courier = threading.Thread(target=deliver, args=(outbox.folder, open_store(running.listen)))
            courier.start()
            assert end() == ["stored"] * 4
            courier.join()
            assert store.trials().num_rows == 2
        _until(lambda: running.core.room.held == 0)


def test_an_answer_is_bounded_in_bytes(tmp_path: Path) -> None:
    """Few rows may be large; named tables have no such bound, for they come in pieces."""
    folder = tmp_path / "store"
    with (
        serving(folder, limits=Limits(bytes=100_000, readers=1)) as running,
        asking_with(token_in(folder, "append")),
        RemoteEngine.open(running.listen) as engine,
    ):
        engine.append([predictions(A, 1, 1, *(f"{number:0100d}" for number in range(2000))), seal(A, 1, 2)])
        for _ in range(2):  # whoever is refused gives the only reader's place back
            with pytest.raises(StoreError, match=r"larger than 0\.09\d+ MiB"):
                engine.sql("SELECT item_id FROM predictions")
        assert engine.sql("SELECT item_id FROM predictions LIMIT 100").num_rows == 100
        assert open_store(running.listen).predictions([A]).num_rows == 2000


def test_requests_at_once_are_bounded(tmp_path: Path) -> None:
    """One more than the server works on is told to come again, whatever it asks; then there is a place."""
    folder = tmp_path / "store"
    with serving(folder, limits=Limits(requests=2)) as running:
        token = token_in(folder, "append")
        other = token_in(folder, "append")
        with asking_with(token), half_sent(running, token) as one, half_sent(running, other) as two:
            _until(lambda: running.core.busy == 2)
            with pytest.raises(StoreBusy, match="works on 2 requests already"):
                open_store(running.listen)
            assert sorted([one()[0], two()[0]]) == ["duplicate", "stored"]
            assert open_store(running.listen, wait=10).trials().num_rows == 1


def test_one_token_does_not_take_all_requests(tmp_path: Path) -> None:
    """Half of what a server works on is for others, whatever one of them sends."""
    folder = tmp_path / "store"
    with serving(folder, limits=Limits(requests=4, of_one=1)) as running:
        token, other = token_in(folder, "append"), token_in(folder, "append:other")
        with half_sent(running, token) as end:
            _until(lambda: running.core.busy == 1)
            with asking_with(token), pytest.raises(StoreBusy, match="works on 1 requests already"):
                open_store(running.listen)
            with asking_with(other):
                assert open_store(running.listen).trials().num_rows == 0
            assert end() == ["stored"] * 4
