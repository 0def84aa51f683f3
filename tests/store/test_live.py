"""What a server has open: what it acknowledged is there once, after a kill, beside faults and on a full disk too."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.store.conftest import Disk
from tests.store.making import predictions, trial_id_of, whole_attempt
from wtsbench.errors import StoreError
from wtsbench.store import wire
from wtsbench.store.client import Store, open_store
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.folder import DATABASE
from wtsbench.store.lock import StoreBusy
from wtsbench.store.server import durable
from wtsbench.store.server.live import Limits, LiveStore
from wtsbench.store.upkeep import verbs as upkeep

A = trial_id_of("a")


@pytest.fixture
def served(store: Store) -> Iterator[LiveStore]:
    """What a server has open."""
    with _open(Path(store.uri)) as live:
        yield live


@contextmanager
def _open(folder: Path) -> Iterator[LiveStore]:
    """A folder's database, as a server has it open."""
    live = LiveStore(folder / DATABASE, limits=Limits(), observe=lambda *_: None)
    yield live
    live.stop_writing(time.monotonic() + 60)
    live.close()


def _left_by(served: LiveStore, folder: Path) -> str:
    """A copy of the store's files as they are, which is what is left when the server is killed now."""
    folder.mkdir()
    for path in served._durable.files:
        shutil.copyfile(path, folder / path.name)
    return str(folder)


def test_a_folder_whose_server_was_killed_holds_what_was_acknowledged(served: LiveStore, tmp_path: Path) -> None:
    """Whoever opens it next finds it, for reading, too, and in a backup; sent again it is a duplicate."""
    records = whole_attempt(A, 1)
    assert {ack.outcome for ack in served.append(records, 1)} == {"stored"}
    left = open_store(_left_by(served, tmp_path / "left"))
    assert (tmp_path / "left" / f"{DATABASE}.wal").exists()
    assert left.trials()["trial_id"].to_pylist() == [A]
    assert left.predictions([A]).num_rows == 2
    upkeep.backup(left.uri, str(tmp_path / "one.duckdb"))
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copyfile(tmp_path / "one.duckdb", restored / DATABASE)
    assert open_store(str(restored)).predictions([A]).num_rows == 2
    assert {ack.outcome for ack in left.append(records)} == {"duplicate"}


def test_a_full_disk_whose_server_was_killed_is_read(disk: Disk) -> None:
    """What was acknowledged is shown where no byte is free; with room again more is taken."""
    store = open_store(str(disk.folder / "store"), create=True)
    with _open(Path(store.uri)) as live:
        for number in range(20):
            live.append(whole_attempt(trial_id_of(str(number)), 1), 1)
        left = open_store(_left_by(live, disk.folder / "left"))
    ballast = disk.fill()
    assert left.trials().num_rows == 20
    ballast.unlink()
    left.append(whole_attempt(A, 1))
    assert left.trials().num_rows == 21


def test_answers_do_not_depend_on_what_is_known_by_heart(served: LiveStore, tmp_path: Path) -> None:
    """Duplicates, conflicts, late records and second attempts are told by the server, and so after a kill."""
    first, second = whole_attempt(A, 1), whole_attempt(A, 2)
    assert {ack.outcome for ack in served.append(first[:2], 1)} == {"stored"}
    assert {ack.outcome for ack in served.append(first, 1)} == {"duplicate", "stored"}
    other = predictions(A, 1, first[0].sequence, "another item")
    with pytest.raises(StoreError, match="other content"):
        served.append([other], 1)
    with pytest.raises(StoreError, match="after its attempt has ended"):
        served.append([predictions(A, 1, 99, "late")], 1)
    with pytest.raises(StoreError, match="after its attempt has ended"):  # nothing of this one stays either
        served.append([*second, predictions(A, 1, 99, "late")], 1)
    assert served.append(second, 1)[-1].outcome == "superseded"
    left = open_store(_left_by(served, tmp_path / "left"))
    assert left.trials()["attempt"].to_pylist() == [1]
    assert {ack.outcome for ack in left.append(second)} == {"superseded"}
    assert served.sealed(A, 2)
    with served.snapshot() as engine:
        assert engine.counts()["trials"] == 1


def test_an_attempt_that_was_refused_before_it_was_begun_is_taken(served: LiveStore) -> None:
    """A refused record leaves nothing of its attempt: the number is given later, and records of it are taken."""
    lacking = replace(predictions(A, 1, 2, "a"), sequence=1)
    wrong = [lacking, predictions(A, 1, 1, "another item")]
    with pytest.raises(StoreError, match="other content"):
        served.append(wrong, 1)
    assert served.begin_attempt(A, "run", "request") == 1
    assert {ack.outcome for ack in served.append(whole_attempt(A, 1), 1)} == {"stored"}


@pytest.mark.parametrize(
    "key", [*({"sequence": number} for number in (2**63, -1, 1.5, True, None, "1")), {"attempt": 2**40}]
)
def test_what_the_tables_cannot_hold_is_not_acknowledged(served: LiveStore, key: dict[str, Any]) -> None:
    """It is refused before it is looked up, and stands in nobody's way."""
    wrong = wire.encode(replace(predictions(A, 1, 1, "a"), **key))
    with pytest.raises(StoreError, match=f"is not a valid {next(iter(key))} number"):
        served.append(wrong, len(wrong))
    good = wire.encode(predictions(A, 1, 1, "a"))
    assert served.append(good, len(good))[0].outcome == "stored"


def test_a_record_that_is_shorter_than_it_says_is_refused(served: LiveStore) -> None:
    """It was cut off."""
    whole = wire.encode(predictions(A, 1, 1, "a"))
    header, body = wire._LENGTHS.unpack_from(whole)
    short = wire._LENGTHS.pack(header, body + 100) + whole[wire._LENGTHS.size :]
    with pytest.raises(StoreError, match="no sequence of records"):
        served.append(short, len(short))


def test_one_reader_of_scopes_does_not_make_another_forget(served: LiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is thrown away now and then, while other requests ask for it: none is denied for that."""
    attempts = [(trial_id_of(name), 1) for name in "abc"]
    for trial_id, _ in attempts:
        served.begin_attempt(trial_id, "run", trial_id, scope="append:run")
    served.scopes(attempts[:1])
    monkeypatch.setattr(durable, "REMEMBERED", 0)
    look_up = Engine.scopes

    def overtaken(engine: Engine, asked: Any) -> dict[tuple[str, int], str | None]:
        monkeypatch.setattr(Engine, "scopes", look_up)
        served.scopes(attempts[2:])
        return look_up(engine, asked)

    monkeypatch.setattr(Engine, "scopes", overtaken)
    assert served.scopes(attempts[:2]) == dict.fromkeys(attempts[:2], "append:run")


def test_a_change_that_fails_takes_nothing_with_it(served: LiveStore) -> None:
    """Records of the same transaction are stored, and what was acknowledged before stays."""
    served.append(whole_attempt(A, 1), 1)

    def bad(engine: object) -> None:
        raise StoreError("a change that fails")

    records, faults = whole_attempt(trial_id_of("b"), 1), []

    def fail() -> None:
        try:
            served.call(bad)
        except StoreError as error:
            faults.append(error.message)

    with served._writer.pause:  # so that both wait together
        threads = [threading.Thread(target=fail), threading.Thread(target=served.append, args=(records, 1))]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert faults == ["a change that fails"]
    assert {ack.outcome for ack in served.append([*whole_attempt(A, 1), *records], 1)} == {"duplicate"}
    with served.snapshot() as engine:
        assert engine.counts()["trials"] == 2


def test_a_request_for_a_number_that_is_repeated_while_it_waits_gives_the_same(served: LiveStore) -> None:
    """A client that heard nothing asks again; where the first one fails, so does the second, and the third may not."""
    numbers: list[int] = []
    with served._writer.pause:
        ask = [threading.Thread(target=lambda: numbers.append(served.begin_attempt(A, "run", "x"))) for _ in range(3)]
        for thread in ask:
            thread.start()
    for thread in ask:
        thread.join()
    assert numbers == [1, 1, 1]
    assert served.begin_attempt(A, "run", "y") == 2
    served.stop_writing(time.monotonic() + 60)
    for _ in range(2):
        with pytest.raises(StoreBusy):
            served.begin_attempt(A, "run", "z")
    assert served.begin_attempt(A, "run", "x") == 1
