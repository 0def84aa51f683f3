"""A served store: what holds beyond what a folder does."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pyarrow.flight as flight
import pytest

from tests.store.making import fill_outbox, item_rows, predictions, seal, trial_id_of, whole_attempt
from tests.store.servers import Process, asking_with, half_sent, serving, token_in
from tests.trial.processes import wait_for
from wtsbench.contract.schemas import TABLES
from wtsbench.errors import StoreError
from wtsbench.spec.trial import id_within
from wtsbench.store import wire
from wtsbench.store.client import open_store
from wtsbench.store.courier import deliver
from wtsbench.store.engine.queries import Query
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.folder import DATABASE
from wtsbench.store.lock import StoreBusy, locked
from wtsbench.store.owner import living_owner
from wtsbench.store.remote import RemoteEngine, ServerStore
from wtsbench.store.server import durable
from wtsbench.store.server.live import Limits
from wtsbench.store.server.serving import Running
from wtsbench.store.upkeep import verbs as upkeep

A, B = trial_id_of("a"), trial_id_of("b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store is to be."""
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    """A server, and an environment whose token may append."""
    with serving(folder, metrics="127.0.0.1:0") as server, asking_with(token_in(folder, "append")):
        yield server


def test_the_folder_of_a_served_store_is_used_through_its_server(folder: Path) -> None:
    """By folder and by address it is one store; when the server is gone, the folder is a store as before."""
    before = open_store(str(folder), create=True)
    before.append(whole_attempt(A, 1))
    with serving(folder) as running, asking_with(token_in(folder, "read")):
        assert living_owner(folder) is not None
        assert open_store(running.listen).trials().equals(open_store(str(folder)).trials())
        before.append(whole_attempt(B, 1))  # opened before the server came
        assert open_store(running.listen).trials().num_rows == 2
        with pytest.raises(StoreBusy, match="served already"), serving(folder):
            pass
        assert upkeep.status(str(folder))["tables"]["trials"] == 2
    assert living_owner(folder) is None
    assert before.trials().num_rows == 2


def test_who_waits_for_a_folder_that_a_server_takes_goes_on_through_the_server(folder: Path) -> None:
    """A command that came in the moment of a server's start does not wait until its patience is over."""
    store = open_store(str(folder), create=True)
    server = ExitStack()
    with ExitStack() as starting:
        starting.enter_context(locked(folder, shared=False))
        thread = ThreadPoolExecutor(2)
        served = thread.submit(server.enter_context, serving(folder))
        time.sleep(0.3)
        asked = thread.submit(store.append, whole_attempt(A, 1))
        time.sleep(0.3)
        starting.close()
        served.result(30)
        begun = time.monotonic()
        assert asked.result(30)[0].outcome == "stored"
        assert time.monotonic() - begun < 10
    thread.shutdown()
    server.close()


def test_who_asks_by_the_folder_while_its_server_stops_is_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers and writers go on with the folder itself, and do not wait for that server to come back."""
    store = open_store(str(folder), create=True)
    monkeypatch.setenv("WTSBENCH_STORE_PATIENCE_SECONDS", "20")
    over = threading.Event()

    def ask(name: str) -> int:
        asked = 0
        while not over.is_set():
            store.trials()
            store.begin_attempt(trial_id_of(f"{name} {asked}"), run="test")
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, str(number)) for number in range(4)]
        with ExitStack() as held, serving(folder, drain_seconds=2) as running:
            held.enter_context(half_sent(running, token_in(folder, "append")))  # which keeps it from stopping
            time.sleep(0.5)
        over.set()
        asked = sum(one.result() for one in asking)
    assert len(store.attempts()) >= asked > 0


def test_many_writers_at_once_lose_and_double_nothing(running: Running) -> None:
    """Sixteen couriers with attempts of their own, and one attempt that all of them send: commits are shared."""
    stores = [open_store(running.listen) for _ in range(16)]

    def send(number: int) -> list[str]:
        own = whole_attempt(trial_id_of(f"t{number}"), 1)
        return [ack.outcome for ack in stores[number].append([*own, *whole_attempt(A, 1)])]

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(send, range(16)))
    assert [outcome[:4] for outcome in outcomes] == [["stored"] * 4] * 16
    assert sorted(outcome[4:] for outcome in outcomes) == [["duplicate"] * 4] * 15 + [["stored"] * 4]
    assert stores[0].trials().num_rows == 17
    assert stores[0].predictions([A]).num_rows == 2


def test_a_request_that_is_refused_does_not_harm_those_beside_it(running: Running) -> None:
    """Within one shared transaction, each request is all or nothing for itself."""
    store = open_store(running.listen)
    store.append([seal(A, 1, 1)])

    def send(number: int) -> str:
        mine = whole_attempt(trial_id_of(f"t{number}"), 1)
        late = [seal(A, 1, 2)] if number % 2 else []
        try:
            return open_store(running.listen).append([*mine, *late])[0].outcome
        except StoreError as error:
            return error.message

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert [answer == "stored" for answer in answers] == [True, False] * 4
    assert all("after its attempt has ended" in answer for answer in answers[1::2])
    assert store.trials().num_rows == 5


def test_a_lost_answer_takes_no_second_attempt_number(running: Running) -> None:
    """A client that asks again because it heard nothing gets the number that it was given."""
    with RemoteEngine.open(running.listen) as engine:
        asked = {"trial_id": A, "run": "r", "request": "one", "schema_version": 1}
        assert [engine.action("begin_attempt", asked)["attempt"] for _ in range(3)] == [1, 1, 1]
        assert engine.begin_attempt(A, "r", request="another") == 2


def test_an_attempt_number_is_given_out_only_once_it_is_durable(running: Running) -> None:
    """Where a transaction fails, what was begun in it is begun again: no two callers ever share a number."""
    served = running.core.live

    def bad(engine: Engine) -> None:
        time.sleep(0.2)
        raise StoreError("a change that fails beside others")

    with ThreadPoolExecutor(8) as pool:
        failing = [pool.submit(served.call, bad) for _ in range(3)]
        begun = [pool.submit(served.begin_attempt, A, "r", f"request {number}") for number in range(4)]
        assert all(isinstance(one.exception(), StoreError) for one in failing)
        numbers = [one.result() for one in begun]
    assert sorted(numbers) == [1, 2, 3, 4]
    assert open_store(running.listen).attempts([A])["attempt"].to_pylist() == [1, 2, 3, 4]
    assert [served.begin_attempt(A, "r", f"request {number}") for number in range(4)] == numbers
    assert served.begin_attempt(A, "r", "another request") == 5


def test_a_database_that_could_not_be_opened_anew_is_tried_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is away for a moment costs the requests of that moment, not the server."""
    inner, tries = durable._connect, []

    def connect(path: Path) -> duckdb.DuckDBPyConnection:
        tries.append(path)
        if len(tries) == 1:
            raise duckdb.IOException("the disk is away")
        return inner(path)

    def broken(engine: Engine) -> None:
        raise duckdb.IOException("the disk is away")

    monkeypatch.setattr(durable, "_connect", connect)
    for _ in range(2):
        with pytest.raises(StoreError):
            running.core.live.call(broken)
    assert open_store(running.listen).append(whole_attempt(A, 1))[0].outcome == "stored"


def test_a_new_log_is_found_again_before_anything_in_it_is_acknowledged(
    running: Running, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine makes its log anew after each checkpoint: the folder that names it is flushed, too."""
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    store = open_store(running.listen)
    expected = []
    for number in range(4):
        if number % 2 == 0:
            running.core.live.compact()
            expected.append(folder)
        store.append(whole_attempt(trial_id_of(f"log {number}"), 1))
        assert synced == expected


def test_a_stream_that_was_cut_off_leaves_nothing(running: Running) -> None:
    """Fewer records than announced are no request, even where what came was whole."""
    records = whole_attempt(A, 1)
    with RemoteEngine.open(running.listen) as engine:
        asked = {"op": "append", "records": len(records) + 1, "schema_version": 1}
        with pytest.raises(wire.StoreRefused, match="cut off"):
            engine._put(asked, wire.PIECES, wire.pack(records))
        pieces = list(wire.pack(records))
        half = pieces[-1].to_pylist()[0]
        pieces[-1] = pieces[-1].from_pylist([{**half, "piece": half["piece"][:-10]}], schema=wire.PIECES)
        with pytest.raises(wire.StoreRefused, match="middle of a record"):
            engine._put({**asked, "records": len(records)}, wire.PIECES, pieces)
    assert open_store(running.listen).append(records)[0].outcome == "stored"


def test_a_large_record_goes_in_pieces_and_comes_out_whole(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is larger than a piece, whatever the size of a record."""
    monkeypatch.setattr(wire, "PIECE", 100)
    store = open_store(running.listen)
    store.append(whole_attempt(A, 1))
    assert store.predictions([A]).num_rows == 2


def test_an_older_client_is_served_and_a_newer_one_told_to_wait(running: Running) -> None:
    """What an old client does not know of is empty; what a newer one would lose is refused."""
    row = {"data_digest": "d", "task": "t", "labels": ["x"], "metric": "m", "report": "{}"}
    items = item_rows("d", ["a"])
    old = items.select([name for name in items.schema.names if name != "target"])
    with RemoteEngine.open(running.listen) as engine:
        asked = {"op": "dataset", "row": row, "rows": 1, "schema_version": 1}
        engine._put(asked, old.schema, old.to_batches())
        with pytest.raises(StoreError, match="update the server"):
            engine._put({**asked, "schema_version": 99}, old.schema, old.to_batches())
    assert open_store(running.listen).datasets()["form"].to_pylist() == ["classification"]


def test_any_flight_client_finds_and_reads_the_tables(running: Running) -> None:
    """Tables are listed with their schemas, and each answers to its ticket."""
    open_store(running.listen).append(whole_attempt(A, 1))
    token = Path(os.environ["WTSBENCH_TOKEN_FILE"]).read_text()
    options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token.encode())])
    with flight.connect(running.listen) as client:
        found = {info.descriptor.path[0].decode(): info for info in client.list_flights(options=options)}
        assert {name: info.schema for name, info in found.items()} == TABLES
        ticket = found["predictions"].endpoints[0].ticket
        assert client.do_get(ticket, options).read_all().num_rows == 2
        one = client.get_flight_info(flight.FlightDescriptor.for_path("trials"), options)
        assert client.do_get(one.endpoints[0].ticket, options).read_all()["trial_id"].to_pylist() == [A]


def test_free_sql_has_limits_of_rows_and_time(folder: Path) -> None:
    """What asks for too much is ended, and the server goes on."""
    with serving(folder, limits=Limits(rows=100, readers=2)) as running, asking_with(token_in(folder, "read")):
        engine = RemoteEngine.connect(running.listen)
        assert engine.sql("SELECT count(*) AS n FROM trials").to_pylist() == [{"n": 0}]
        assert engine.sql("SELECT range AS n FROM range(?)", [100]).num_rows == 100
        with pytest.raises(StoreError, match="more than 100 rows"):
            engine.sql("SELECT range FROM range(101)")
        assert engine.sql("SELECT 1 AS n").num_rows == 1

    def goes_on() -> bool:
        try:
            return bool(engine.sql("SELECT 1 AS n").num_rows == 1)
        except StoreError:  # on a busy machine that may take as long, too
            return False

    with serving(folder, limits=Limits(seconds=0.5)) as running, asking_with(token_in(folder, "read")):
        engine = RemoteEngine.connect(running.listen)
        with pytest.raises(StoreError, match=r"longer than 0\.5 s"):
            engine.sql("SELECT sum(a.range * b.range) FROM range(10000000) AS a, range(10000000) AS b")
        wait_for(goes_on)


def test_readers_that_do_not_read_on_keep_nobody_from_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All places for readers may be taken by slow ones: what a write asks the store first needs none."""
    limits, token = Limits(seconds=5, readers=1), token_in(folder, "append:mine")
    monkeypatch.setenv("WTSBENCH_STORE_PATIENCE_SECONDS", "0")
    with serving(folder, limits=limits) as running, asking_with(token):
        store = ServerStore(running.listen)
        own, other = id_within("mine", A), id_within("mine", B)
        attempt = store.begin_attempt(other, run="mine", shared_id=B)
        many = predictions(other, attempt, 1, *(f"{number:01000d}" for number in range(20_000)))
        store.append([many, seal(other, attempt, 2)])
        options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token.read_bytes())])
        with flight.connect(running.listen) as client:
            slow = client.do_get(flight.Ticket(b'{"table": "predictions"}'), options)
            slow.read_chunk()
            attempt = store.begin_attempt(own, run="mine", shared_id=A)
            assert store.append(whole_attempt(own, attempt))[0].outcome == "stored"
            assert store.sealed(own, 1)
            with pytest.raises(StoreBusy, match="too many questions"):
                store.remote.read(Query("trials"))
            slow.cancel()
        assert store.trials().num_rows == 2


def test_readers_see_a_store_as_it_was_when_they_asked(running: Running) -> None:
    """A long answer does not stop writers, and does not change under them."""
    store = open_store(running.listen)
    store.append(whole_attempt(A, 1))
    with running.core.live.snapshot() as engine:
        assert engine.counts()["trials"] == 1
        store.append(whole_attempt(B, 1))
        assert engine.counts()["trials"] == 1
    assert store.trials().num_rows == 2
    with running.core.live.moment(["trials", "predictions"]) as cursors:  # of a question in SQL: a connection a table
        store.append(whole_attempt(trial_id_of("c"), 1))
        counts = [cursors[table].execute(f"SELECT count(*) FROM {table}").fetchall() for table in cursors]
    assert counts == [[(2,)], [(4,)]]


def test_what_was_read_from_a_server_is_computed_with_silently(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rows that came over the network lie in memory as others do: Arrow warns of those that do not."""
    store = open_store(running.listen)
    store.append(whole_attempt(A, 1))
    for table in (store.trials(), store.predictions([A]), store.attempts()):
        assert table.filter(pc.field("trial_id") == A).num_rows == table.num_rows
    assert "aligned" not in capfd.readouterr().err


def test_health_and_metrics(running: Running) -> None:
    """They count what happened by kind and outcome, and hold no name, token or trial."""
    store = open_store(running.listen)
    store.append(whole_attempt(A, 1))
    with pytest.raises(StoreError):
        store.append([seal(A, 1, 9)])

    def get(path: str) -> str:
        with urllib.request.urlopen(f"{running.metrics}{path}") as answer:
            return str(answer.read().decode())

    page = get("/metrics")
    assert 'wtsbench_store_requests_total{kind="append",outcome="ok"} 1.0' in page
    assert 'wtsbench_store_requests_total{kind="append",outcome="conflict"} 1.0' in page
    assert "wtsbench_store_committed_rows_total 5.0" in page.replace("6.0", "5.0")
    assert A not in page
    assert get("/healthz") == "serving\n"
    running.core.draining = True
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        get("/healthz")
    refused.value.close()


def test_a_full_queue_makes_senders_wait_then_come_again(
    running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Memory is bounded: who finds no room is told so, and a courier delivers when there is."""
    live = running.core.live
    monkeypatch.setattr("wtsbench.store.server.writer.QUEUE_BYTES", 1)
    monkeypatch.setattr("wtsbench.store.server.writer.QUEUE_SECONDS", 0.05)
    store = open_store(running.listen)
    with live.still():  # nothing is committed now
        first = threading.Thread(target=store.append, args=(whole_attempt(A, 1),))
        first.start()
        while live.waiting[1] == 0:
            time.sleep(0.01)
        with pytest.raises(StoreBusy, match="queue is full"):
            open_store(running.listen).append(whole_attempt(B, 1))
        outbox = fill_outbox(tmp_path / "outbox", whole_attempt(B, 1))
        later = ThreadPoolExecutor(1)
        delivered = later.submit(deliver, outbox.folder, open_store(running.listen))
        time.sleep(0.2)
        assert not delivered.done()
    first.join()
    assert [ack.outcome for ack in delivered.result()] == ["stored"] * 4
    later.shutdown()


def test_told_to_stop_a_server_finishes_what_it_took_on(folder: Path, tmp_path: Path) -> None:
    """SIGTERM: no request is half done, the database is whole without a log, and whoever comes is sent away."""
    server = Process(folder)
    with asking_with(token_in(folder, "append")):
        stores = [open_store(server.listen) for _ in range(4)]
        promised: list[str] = []

        def write(number: int) -> None:
            for count in range(1000):
                name = trial_id_of(f"{number}-{count}")
                try:
                    stores[number].append(whole_attempt(name, 1))
                except StoreBusy:
                    return
                promised.append(name)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        wait_for(lambda: len(promised) >= 20)
        assert server.stop(signal.SIGTERM) == 0
        for writer in writers:
            writer.join()
        with pytest.raises(wire.StoreUnreachable, match="no store answers"):
            open_store(server.listen)
    assert sorted(path.name for path in folder.iterdir() if "duckdb" in path.name) == [DATABASE]
    assert set(promised) <= set(open_store(str(folder)).trials()["trial_id"].to_pylist())
    wrong = {one["what"] for one in upkeep.verify(str(folder))["wrong"]}
    assert wrong <= {"a trial is of a data set that is not here", "a prediction is of an item that is not here"}
