"""Attempt numbers of a writer that stays: the same that the database would tell."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from tests.store.making import seal, trial_id_of
from wtsbench.store.client import open_store
from wtsbench.store.folder import DATABASE
from wtsbench.store.numbers import Numbers
from wtsbench.store.server import durable
from wtsbench.store.server.durable import Durable

A, B, C = (trial_id_of(name) for name in "abc")


def test_attempts_are_read_once_and_numbered_further() -> None:
    """Trials with several attempts, with none, and whatever a client may call one."""
    with duckdb.connect() as database:
        database.execute("CREATE TABLE attempt_keys (trial_id VARCHAR, attempt INTEGER)")
        for trial_id, attempt in [(A, 2), (A, 11), (A, 3), (B, 1), ("\u2603", 4)]:
            database.execute("INSERT INTO attempt_keys VALUES (?, ?)", [trial_id, attempt])
        numbers = Numbers()
        assert numbers.highest(database, A) == 11
        database.execute("DROP TABLE attempt_keys")
        assert [numbers.highest(database, trial_id) for trial_id in (A, B, "\u2603", C, "")] == [11, 1, 4, 0, 0]
        for attempt in (12, 7):
            numbers.note(A, attempt)
        numbers.note(C, 1)
        assert [numbers.highest(database, trial_id) for trial_id in (A, B, C)] == [12, 1, 1]


def test_an_empty_store_has_no_numbers() -> None:
    """The first attempt of all is the first."""
    with duckdb.connect() as database:
        database.execute("CREATE TABLE attempt_keys (trial_id VARCHAR, attempt INTEGER)")
        assert Numbers().highest(database, A) == 0


@pytest.mark.parametrize("remembered", [0, 1, durable.REMEMBERED])
def test_a_server_numbers_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int) -> None:
    """After what was begun before it started, what came from elsewhere, and a transaction that failed."""
    monkeypatch.setattr(durable, "REMEMBERED", remembered)
    store = open_store(str(tmp_path), create=True)
    for number in (1, 2):
        assert store.begin_attempt(A, run="before") == number
    served = Durable(tmp_path / DATABASE)

    def begun(trial_id: str) -> int:
        with served.transaction() as engine:
            return engine.begin_attempt(trial_id, "now", lease=trial_id == C, request="one")

    assert [begun(A), begun(B), begun(A)] == [3, 1, 4]
    with suppress(OSError), served.transaction() as engine:
        assert engine.begin_attempt(A, "now") == 5
        engine.append([seal(B, 4, 1, "failed")])
        raise OSError("a full disk")
    assert [begun(A), begun(B)] == [5, 2]
    with served.transaction() as engine:
        engine.append([seal(B, 7, 1, "failed")])
        assert engine.begin_attempt(B, "now") == 8
    assert [begun(C), begun(C), begun(B)] == [1, 1, 9]
    with served.transaction() as engine:
        assert not engine.sealed(C, 1)
        engine.append([seal(C, 1, 1, "failed")])
        assert engine.sealed(C, 1)
    assert begun(C) == 2
    served.close()
    assert store.begin_attempt(B, run="after") == 10
    assert store.attempts([A])["attempt"].to_pylist() == [1, 2, 3, 4, 5]
