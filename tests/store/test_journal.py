"""The journal: what a killed server acknowledged and had not put into the tables yet is not lost, and not doubled."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.store.child import ITEMS, attempt_of
from tests.store.conftest import Disk
from tests.store.making import fill_outbox, predictions, seal, trial_id_of, whole_attempt
from tests.store.servers import serving
from wtsbench.contract.outbox import Batch
from wtsbench.errors import StoreError
from wtsbench.store import journal, upkeep, wire
from wtsbench.store.client import Store, open_store
from wtsbench.store.engine import Engine
from wtsbench.store.folder import DATABASE
from wtsbench.store.journal import Journal, journal_of, read
from wtsbench.store.server import durable
from wtsbench.store.server.live import Limits, LiveStore

A = trial_id_of("a")
FRAMES = [attempt_of(0), attempt_of(1)[:1], attempt_of(1)[1:]]
Child = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A journal of three frames, as a killed server leaves it."""
    journal = Journal(tmp_path / DATABASE)
    for frame in FRAMES:
        journal.write(frame)
    return journal.path


@pytest.fixture
def served(store: Store) -> Iterator[LiveStore]:
    """What a server has open, which puts nothing into the tables that it need not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "SETTLE_SECONDS", 600.0)
        one = LiveStore(Path(store.uri) / DATABASE, limits=Limits(), observe=lambda *_: None)
        yield one
        one.stop_writing(time.monotonic() + 60)
        one.close()


def _flat(frames: list[list[Batch]]) -> list[Batch]:
    return [batch for frame in frames for batch in frame]


def _left_by(served: LiveStore, folder: Path) -> Store:
    """A copy of the store's files as they are, which is what is left when the server is killed now."""
    database = served._durable.path
    folder.mkdir()
    for path in (database, database.with_name(f"{DATABASE}.wal"), journal_of(database)):
        if path.exists():
            shutil.copyfile(path, folder / path.name)
    return open_store(str(folder))


def test_what_is_written_is_read_in_order(written: Path) -> None:
    """Every record comes back with its key, content and digest."""
    assert list(read(written)) == _flat(FRAMES)


@pytest.mark.parametrize(
    "tail", [b"", bytes(100), b"mark\x09" + bytes(50), os.urandom(3000)], ids=["nothing", "zeros", "header", "noise"]
)
def test_a_torn_tail_is_no_frame(written: Path, tail: bytes) -> None:
    """Wherever the last frame was cut off, and whatever stands behind it, the frames before it are whole."""
    content, starts = _frames_of(written)
    tail = tail.replace(b"mark", content[8:16])
    for cut in [*range(starts[2], starts[2] + 40), *range(starts[2] + 40, starts[3] - 16, 997)]:  # it ends in zeros
        written.write_bytes(content[:cut] + tail)
        assert list(read(written)) == _flat(FRAMES[:2])
    written.write_bytes(content[: starts[3]] + tail)
    assert list(read(written)) == _flat(FRAMES)


def _frames_of(path: Path) -> tuple[bytes, list[int]]:
    """What a journal holds, and where its frames begin, the seal last."""
    content = path.read_bytes()
    _, *starts = [place for place in range(len(content)) if content.startswith(content[8:16], place)]
    assert len(starts) == 4
    return content, starts


@pytest.mark.parametrize("bit", range(8))
def test_damage_of_the_last_frame_is_no_torn_tail(written: Path, bit: int) -> None:
    """It was acknowledged: whichever bit of it is another one is told, and the file stays; but for that of its seal."""
    content, starts = _frames_of(written)
    for place in [*range(starts[2], starts[2] + 60), *range(starts[2] + 60, starts[3], 397), starts[3] - 1]:
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        written.write_bytes(changed)
        with pytest.raises(StoreError, match=f"damaged at byte {starts[2]}"):
            list(read(written))
        assert written.read_bytes() == changed
    for place in range(starts[3], starts[3] + 20):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        written.write_bytes(changed)
        assert list(read(written)) == _flat(FRAMES)


@pytest.mark.parametrize("size", [1, 64, 512, 4096])
@pytest.mark.parametrize("by", [b"\0", b"\xff"])
def test_a_region_of_the_last_frame_that_is_lost_is_damage(written: Path, size: int, by: bytes) -> None:
    """A page of zeros or ones in what was acknowledged is told, wherever it begins."""
    content, starts = _frames_of(written)
    for place in range(starts[2], starts[3], max(397, size)):
        end = min(place + size, starts[3])
        changed = content[:place] + by * (end - place) + content[end:]
        written.write_bytes(changed)
        if changed == content:
            continue
        with pytest.raises(StoreError, match=f"damaged at byte {starts[2]}"):
            list(read(written))


def test_a_store_whose_journal_is_damaged_says_so_and_keeps_it(store: Store) -> None:
    """Readers, writers and `verify` name the file, which none of them deletes."""
    path = journal_of(Path(store.uri) / DATABASE)
    Journal(Path(store.uri) / DATABASE).write(FRAMES[0])
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    calls: list[Callable[[], object]] = [
        store.trials,
        lambda: store.append(FRAMES[1]),
        lambda: upkeep.verify(store.uri),
        lambda: upkeep.backup(store.uri, f"{store.uri}.backup"),
        lambda: open_store(store.uri),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="is damaged at byte 20"):
            call()
    assert path.read_bytes() == content


def test_room_that_is_given_back_leaves_the_seal(written: Path) -> None:
    """Damage that comes after a server was killed on a full disk is told as well."""
    _, starts = _frames_of(written)
    journal.give_room(written)
    assert list(read(written)) == _flat(FRAMES)
    changed = bytearray(written.read_bytes())
    changed[starts[3] - 40] ^= 1
    written.write_bytes(changed)
    with pytest.raises(StoreError, match="damaged"):
        list(read(written))


def test_damage_before_a_whole_frame_is_no_torn_tail(written: Path) -> None:
    """What follows was acknowledged: it is not dropped in silence."""
    content = bytearray(written.read_bytes())
    content[500] ^= 1
    written.write_bytes(content)
    with pytest.raises(StoreError, match="damaged at byte 20"):
        list(read(written))


@pytest.mark.parametrize("place", range(20))
def test_a_damaged_beginning_is_no_empty_journal(written: Path, place: int) -> None:
    """Whichever of the first bytes is another one, the frames that follow are not dropped in silence."""
    content = bytearray(written.read_bytes())
    content[place] ^= 1
    written.write_bytes(content)
    with pytest.raises(StoreError, match="damaged at byte 0"):
        list(read(written))


@pytest.mark.parametrize("size", [0, 8, 19, 20])
@pytest.mark.parametrize("tail", [0, 100])
def test_a_journal_that_was_not_begun_is_empty(tmp_path: Path, size: int, tail: int) -> None:
    """A server that was killed before the beginning was flushed had acknowledged nothing."""
    journal = Journal(tmp_path / DATABASE)
    journal.write(FRAMES[0])
    path = journal.path
    path.write_bytes(path.read_bytes()[:size] + bytes(tail))
    assert list(read(path)) == []


def test_a_frame_that_finds_no_room_leaves_nothing(disk: Disk) -> None:
    """The frames before it stay, and with room again the next one follows them."""
    journal = Journal(disk.folder / DATABASE)
    journal.write(FRAMES[0])
    ballast = disk.fill()
    big = [predictions(A, 1, number, *(f"{number}-{item}" for item in range(20_000))) for number in range(1, 4)]
    with pytest.raises(OSError, match="No space left"):
        journal.write(big)
    assert list(read(journal.path)) == FRAMES[0]
    ballast.unlink()
    journal.write(FRAMES[1])
    assert list(read(journal.path)) == _flat(FRAMES[:2])
    journal.clear()
    assert list(read(journal.path)) == []


def test_a_full_disk_whose_server_was_killed_is_read(disk: Disk) -> None:
    """The room that the server reserved is there for whoever puts into the tables what it acknowledged."""
    store = open_store(str(disk.folder / "store"), create=True)
    journal = Journal(Path(store.uri) / DATABASE)
    for number in range(20):
        trial_id = trial_id_of(str(number))
        journal.write([predictions(trial_id, 1, 1, *map(str, range(100))), seal(trial_id, 1, 2)])
    journal.close(empty=False)
    disk.fill()
    assert open_store(store.uri).trials().num_rows == 20
    assert not journal.path.exists()


def test_a_folder_whose_server_was_killed_holds_what_was_acknowledged(served: LiveStore, tmp_path: Path) -> None:
    """Whoever opens it next, for reading, too, finds it in the tables; the journal is gone then."""
    records = whole_attempt(A, 1)
    assert {ack.outcome for ack in served.append(records, 1)} == {"stored"}
    left = _left_by(served, tmp_path / "left")
    assert not journal_of(tmp_path / "left" / DATABASE).exists()
    assert left.trials()["trial_id"].to_pylist() == [A]
    assert {ack.outcome for ack in left.append(records)} == {"duplicate"}
    shutil.copyfile(journal_of(served._durable.path), journal_of(tmp_path / "left" / DATABASE))
    assert left.trials().num_rows == 1, "a store that was opened before looks again"
    assert left.predictions([A]).num_rows == 2
    assert not journal_of(tmp_path / "left" / DATABASE).exists()


def test_what_is_in_the_tables_already_is_not_put_there_again(served: LiveStore, tmp_path: Path) -> None:
    """A server that is killed before it forgets its journal leaves records in both places."""
    served.append(whole_attempt(A, 1), 1)
    journal = journal_of(served._durable.path).read_bytes()
    served.settle()
    left = _left_by(served, tmp_path / "left")
    before = left.predictions([A])
    for _ in range(2):
        journal_of(tmp_path / "left" / DATABASE).write_bytes(journal)
        assert left.predictions([A]).equals(before)
    wrong = {one["what"] for one in upkeep.verify(left.uri)["wrong"]}
    assert wrong <= {"a trial is of a data set that is not here", "a prediction is of an item that is not here"}


def test_answers_do_not_depend_on_where_records_are(served: LiveStore, tmp_path: Path) -> None:
    """Duplicates, conflicts, late records and second attempts are told from the journal, and so after a kill."""
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
    assert list(read(journal_of(served._durable.path))) == [*first, *second]
    left = _left_by(served, tmp_path / "left")
    assert left.trials()["attempt"].to_pylist() == [1]
    assert {ack.outcome for ack in left.append(second)} == {"superseded"}
    assert served.sealed(A, 2)
    with served.snapshot() as engine:
        assert engine.counts()["trials"] == 1


@pytest.mark.parametrize(
    "key", [*({"sequence": number} for number in (2**63, -1, 1.5, True, None, "1")), {"attempt": 2**40}]
)
def test_what_the_tables_cannot_hold_is_not_acknowledged(served: LiveStore, key: dict[str, Any]) -> None:
    """In the journal it would stand in the way of all others' records, in this server and whatever opens it next."""
    wrong = wire.encode(replace(predictions(A, 1, 1, "a"), **key))
    with pytest.raises(StoreError, match=f"is no {next(iter(key))} number"):
        served.append(wrong, len(wrong))
    assert not served._durable._behind, "a refusal is no failure: nothing has to be caught up"
    good = wire.encode(predictions(A, 1, 1, "a"))
    assert served.append(good, len(good))[0].outcome == "stored"
    served.settle()


def test_a_record_that_is_shorter_than_it_says_is_refused(served: LiveStore) -> None:
    """In a frame it would take the beginning of another client's record for its own end."""
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


def test_a_backup_of_what_a_killed_server_left_is_whole(served: LiveStore, tmp_path: Path) -> None:
    """Also where nobody has opened the folder since."""
    served.append(whole_attempt(A, 1), 1)
    left = tmp_path / "left"
    _left_by(served, left)
    shutil.copyfile(journal_of(served._durable.path), journal_of(left / DATABASE))
    upkeep.backup(str(left), str(tmp_path / "one.duckdb"))
    restored = open_store(str(tmp_path / "again"), create=True).uri
    shutil.copyfile(tmp_path / "one.duckdb", Path(restored) / DATABASE)
    assert open_store(restored).trials()["trial_id"].to_pylist() == [A]


def test_after_a_fault_what_was_acknowledged_comes_from_the_journal(served: LiveStore) -> None:
    """A change that fails takes the records beside it with it, but none that was acknowledged before."""
    served.append(whole_attempt(A, 1), 1)

    def bad(engine: object) -> None:
        raise StoreError("a change that fails")

    with pytest.raises(StoreError, match="a change that fails"):
        served.call(bad)
    assert {ack.outcome for ack in served.append(whole_attempt(A, 1), 1)} == {"duplicate"}
    with served.snapshot() as engine:
        assert engine.counts()["trials"] == 1


def test_a_server_that_stops_leaves_no_journal(tmp_path: Path) -> None:
    """Everything is in the tables then."""
    with serving(tmp_path) as running:
        running.core.live.append(whole_attempt(A, 1), 1)
        assert journal_of(tmp_path / DATABASE).exists()
    assert not journal_of(tmp_path / DATABASE).exists()
    assert open_store(str(tmp_path)).trials().num_rows == 1


@pytest.mark.slow
def test_killed_at_every_call_that_writes_the_journal(tmp_path: Path, child: Child) -> None:
    """Before and after each system call of journal and folder a server is killed once: see `child.die_in_journal`."""
    attempts = [attempt_of(number) for number in range(3)]
    for number, records in enumerate(attempts):
        fill_outbox(tmp_path / "outboxes" / f"{number:03d}", records)
    output = child("die_in_journal", tmp_path, tmp_path / "outboxes").communicate()[0].split("\n")[:-1]
    died = {line for line in output if line.startswith("dies")}
    calls = ("pwrite", "fdatasync", "ftruncate")
    assert {f"dies {when} {call}" for when in ("before", "after") for call in calls} <= died
    assert output[-1] == "survived"
    promised: dict[str, set[str]] = {}
    for line in output:
        if line.startswith("acknowledged"):
            _, folder, name = line.split()
            promised.setdefault(folder, set()).add(attempts[int(name)][0].trial_id)
    assert promised
    for path in sorted(tmp_path.glob("store-*")):
        left = open_store(str(path))
        visible = set(left.trials()["trial_id"].to_pylist())
        assert promised.get(path.name, set()) <= visible
        for ack in left.append([record for records in attempts for record in records]):
            assert ack.outcome == ("duplicate" if ack.trial_id in visible else "stored")
        assert left.predictions([records[0].trial_id for records in attempts]).num_rows == 3 * 2 * len(ITEMS)


@pytest.mark.slow
def test_killed_while_it_catches_up_the_next_one_does(store: Store, tmp_path: Path, child: Child) -> None:
    """At every call of the engine whoever opens the folder of a killed server is killed as well."""
    records = attempt_of(0)
    Journal(Path(store.uri) / DATABASE).write(records)
    output = child("die_catching_up", store.uri, tmp_path).communicate()[0].split("\n")[:-1]
    assert {"dies before begin", "dies before commit", "dies before close"} <= set(output)
    assert output[-1] == "survived"
    folders = sorted(tmp_path.glob("store-*"))
    assert len(folders) == len(output)
    for path in folders:
        left = open_store(str(path))
        assert left.predictions([records[0].trial_id]).num_rows == 2 * len(ITEMS)
        assert {ack.outcome for ack in left.append(records)} == {"duplicate"}
