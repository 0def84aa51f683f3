"""What a server refuses, and what it never tells."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from tests.store.making import batch, fill_outbox, item_rows, rows, seal, trial_id_of, whole_attempt
from tests.store.servers import Process, asking_with, serving, token_in
from wtsbench.contract.schemas import TABLES
from wtsbench.data.dataset import digest_items, with_digest
from wtsbench.errors import SpecError, StoreError
from wtsbench.spec.trial import id_within
from wtsbench.store import wire
from wtsbench.store.client import Store, open_store
from wtsbench.store.courier import deliver
from wtsbench.store.engine.guard import require_harmless
from wtsbench.store.engine.queries import Query
from wtsbench.store.engine.tables import creation
from wtsbench.store.folder import SERVER
from wtsbench.store.remote import RemoteEngine
from wtsbench.store.server.certificates import client_certificate
from wtsbench.store.server.serving import Running
from wtsbench.store.server.tokens import Tokens
from wtsbench.store.wire import StoreDenied, StoreRefused

A, B = trial_id_of("a"), trial_id_of("b")
RUN = "mine-20260102T030405Z-7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a served store."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    """A server for all tests of this module."""
    with serving(folder) as server:
        yield server


def _writes(store: Store) -> list[str]:
    """Try each way to write; the messages of those that were refused."""
    refused = []
    items = item_rows("d", ["a"])
    for write in (
        lambda: store.begin_attempt(B, run="other"),
        lambda: store.append([seal(B, 1, 1)]),
        lambda: store.put_grid(name="other", grid_digest="g", yaml="", cells=[]),
        lambda: store.put_dataset(data_digest="d", task="t", labels=[], metric="m", report={}, items=items),
    ):
        try:
            write()
        except StoreDenied as error:
            refused.append(error.message)
    return refused


def test_without_a_valid_token_nothing_is_answered(running: Running, folder: Path, tmp_path: Path) -> None:
    """No token, one of another server, one with a changed letter, an expired and a revoked one."""
    good = token_in(folder, "admin").read_text()
    files = {
        "none": None,
        "strange": tmp_path / "strange",
        "changed": tmp_path / "changed",
        "expired": token_in(folder, "admin", valid=timedelta(seconds=-1)),
        "revoked": token_in(folder, "admin"),
    }
    (tmp_path / "strange").write_text("secret")
    (tmp_path / "changed").write_text(good[:-1] + ("A" if good[-1] != "A" else "B"))
    with asking_with(files["revoked"]):
        store = open_store(running.listen)
        Tokens(folder / SERVER).revoke(files["revoked"].stem)  # type: ignore[union-attr]
        with pytest.raises(StoreDenied, match="revoked"):
            store.trials()
    for name, path in files.items():
        with asking_with(path), pytest.raises(StoreDenied) as refused:
            open_store(running.listen)
        assert (name in ("expired", "revoked")) == (name in refused.value.message)
        with asking_with(path):
            for call in (
                lambda client: list(client.list_flights()),
                lambda client: client.do_get(flight.Ticket(b'{"table": "trials"}')).read_all(),
                lambda client: list(client.do_action("status")),
                lambda client: client.get_flight_info(flight.FlightDescriptor.for_path("trials")),
                lambda client: client.list_actions(),
                lambda client: client.do_exchange(flight.FlightDescriptor.for_path("trials"))[1].read_all(),
            ):
                with flight.connect(running.listen) as client, pytest.raises(flight.FlightUnauthenticatedError):
                    call(client)


def test_scopes(running: Running, folder: Path) -> None:
    """Read only reads; a grid's token writes that grid only; append writes any; only admin looks after the store."""
    with asking_with(token_in(folder, "read")):
        reader = open_store(running.listen)
        reader.trials()
        assert len(_writes(reader)) == 4
    with asking_with(token_in(folder, "append:mine")):
        mine, own = open_store(running.listen), id_within("mine", A)
        assert mine.only_grid == "mine"
        assert len(_writes(mine)) == 4
        items = rows("items", [{"item_id": "a", "split": "test"}])
        digest = digest_items(task="t", labels=("no", "yes"), metric="m", items=items)
        whole: dict[str, Any] = {
            "data_digest": digest,
            "task": "t",
            "labels": ["no", "yes"],
            "metric": "m",
            "report": {},
        }
        forged = with_digest(rows("items", [{"item_id": "b", "split": "test"}]), digest)
        with pytest.raises(StoreDenied, match="digest"):
            mine.put_dataset(**whole, items=forged)
        mine.put_dataset(**whole, items=with_digest(items, digest))
        assert mine.has_dataset(digest)
        for run in ("mine-other-20260102T030405Z-7", "mine2", f"x{RUN}", f"{RUN}x"):
            with pytest.raises(StoreDenied):
                mine.begin_attempt(own, run=run, shared_id=A)
        for trial_id, shared_id in ((A, A), (A, None), (id_within("other", A), A), (own, B)):
            with pytest.raises(StoreDenied, match="within grid mine only"):
                mine.begin_attempt(trial_id, run=RUN, shared_id=shared_id)
        mine.put_grid(name="mine", grid_digest="g", yaml="", cells=[])
        attempt = mine.begin_attempt(own, run=RUN, shared_id=A)
        assert mine.append(whole_attempt(own, attempt))[0].outcome == "stored"
        for trial_id, run in ((B, "theirs"), (own, RUN)):  # the owner's submission of the same grid, too
            number = open_store(str(folder)).begin_attempt(trial_id, run=run)
            with pytest.raises(StoreDenied, match="not begun under a token of scope append:mine"):
                mine.append([seal(trial_id, number, 1)])
        with pytest.raises(StoreDenied, match="not begun under"):
            mine.append([batch("logs", own, 1, 9, []), seal(B, 7, 1)])
        begun = [(row["token"], row["scope"]) for row in mine.attempts([own]).to_pylist()]
        assert begun == [("append:mine of a test", "append:mine"), ("owner", "admin")]
        assert not mine.sealed(B, 1)
    for scope, allowed in (("append", False), ("admin", True)):
        with asking_with(token_in(folder, scope)), RemoteEngine.open(running.listen) as engine:
            assert _writes(open_store(running.listen)) == []
            for action in ("verify", "compact"):
                if allowed:
                    engine.action(action)
                else:
                    with pytest.raises(StoreDenied, match="needs admin"):
                        engine.action(action)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO grids SELECT * FROM grids",
        "DELETE FROM trials_rows",
        "DROP TABLE items",
        "CREATE TABLE t AS SELECT 1",
        "UPDATE store SET schema_version = 9",
        "SELECT 1; DROP TABLE items",
        "COMMIT; DROP TABLE items",
        "ATTACH '/tmp/other.duckdb'",
        "COPY trials TO '/tmp/trials.csv'",
        "COPY (SELECT 1) TO '/tmp/one.parquet'",
        "EXPORT DATABASE '/tmp/all'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "RESET ALL",
        "PRAGMA database_list",
        "CALL duckdb_settings()",
        "CHECKPOINT",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'x.parquet'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM (SELECT * FROM read_blob('/etc/passwd'))",
        "SELECT (SELECT content FROM read_text('/etc/passwd') LIMIT 1)",
        "SELECT 1 WHERE EXISTS (FROM glob('/*'))",
        "SELECT * FROM trials WHERE trial_id IN (SELECT content FROM read_text('/etc/hostname'))",
        "WITH t AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM t",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM force_checkpoint()",
        "SELECT * FROM query('DROP TABLE items')",
        "SELECT * FROM query_table('predictions_rows')",
        "SELECT * FROM predictions_rows",
        "SELECT * FROM main.ledger",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM sqlite_master",
        "SHOW TABLES",
        "DESCRIBE trials",
        "FROM trials_rows",
        "PIVOT trials_rows ON status USING count(*)",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT * FROM (WITH predictions_rows AS (SELECT 1) SELECT 1), predictions_rows",
        "WITH x AS (FROM ledger), ledger AS (SELECT 1) FROM x",
        "WITH LEDGER AS (FROM ledger) FROM ledger",
        "WITH x AS (FROM duckdb_settings), duckdb_settings AS (SELECT 1) FROM x",
        'SELECT * FROM (WITH "/etc/passwd.csv" AS (SELECT 1) SELECT 1), "/etc/passwd.csv"',
        "WITH x AS (INSERT INTO store VALUES (9) RETURNING *) SELECT * FROM x",
        "WITH x AS (DELETE FROM grids RETURNING *) SELECT * FROM x",
        "SELECT current_setting('temp_directory')",
        "SELECT getenv('HOME')",
        "SELECT write_log('x')",
        "SELECT sleep_ms(100000)",
        "SELECT nonsense(",
        "",
    ],
)
def test_sql_that_does_more_than_read_tables_is_refused(running: Running, folder: Path, sql: str) -> None:
    """No writing, no files, no attaching, no settings, no tables behind the published ones."""
    with asking_with(token_in(folder, "admin")), RemoteEngine.open(running.listen) as engine:
        with pytest.raises(StoreRefused):
            engine.sql(sql)
        with pytest.raises(StoreRefused):
            engine._get({"table": "trials", "conditions": [f"trial_id IN ({sql or '('})"]})


@pytest.mark.parametrize(
    "sql",
    [
        "WITH x AS (INSERT INTO store VALUES (9) RETURNING *) SELECT * FROM x",
        "SELECT * FROM (WITH predictions_rows AS (SELECT 1) SELECT 1), predictions_rows",
        "SELECT current_setting('threads')",
    ],
)
def test_what_stands_inside_of_a_harmless_statement_is_refused_by_the_parser_alone(sql: str) -> None:
    """The first of the three walls stands without the others."""
    with duckdb.connect() as connection:
        for statement in creation():
            connection.execute(statement)
        with pytest.raises(StoreRefused):
            require_harmless(connection, sql)


@pytest.mark.parametrize(
    ("sql", "needed"),
    [
        ("SELECT task, count(*) FROM trials GROUP BY ALL", {"trials": {"task"}}),
        ("SELECT count(*) FROM logs", {"logs": {"trial_id"}}),
        (
            "SELECT t.seed FROM trials t JOIN metrics USING (attempt)",
            {"trials": {"seed", "attempt"}, "metrics": {"attempt"}},
        ),
        ("FROM logs", {"logs": None}),
        ("SELECT l FROM logs AS l", {"logs": None}),
        ("SELECT COLUMNS('t.*') FROM logs", {"logs": None}),
        ("SELECT text FROM logs NATURAL JOIN trials", {"logs": None, "trials": None}),
        ("FROM logs PIVOT (count(*) FOR stream IN ('a'))", {"logs": None}),
        ("WITH trials AS (SELECT 1 AS line) SELECT line FROM trials, logs", {"trials": {"trial_id"}, "logs": {"line"}}),
    ],
)
def test_a_question_is_given_the_columns_that_it_may_read(sql: str, needed: dict[str, set[str] | None]) -> None:
    """Those that are named, and all of them (None) where something stands for columns without naming them."""
    with duckdb.connect() as connection:
        for statement in creation():
            connection.execute(statement)
        found = require_harmless(connection, sql)
    expected = {table: set(TABLES[table].names) if names is None else names for table, names in needed.items()}
    assert {table: set(names) for table, names in found.items()} == expected


def test_conditions_of_a_named_table_are_those_of_wtsbench_only(running: Running, folder: Path) -> None:
    """A stranger's SQL has one way in, which is bounded."""
    with asking_with(token_in(folder, "read")), RemoteEngine.open(running.listen, patience=0) as engine:
        assert engine.read(Query("trials", ("seed = ?",), (2,))).num_rows == 0
        for condition in (
            "levenshtein(repeat('a', 400000), repeat('b', 400000)) > 0",
            "trial_id = ? OR true",
            "nothing = ?",
            "trial_id IN (SELECT trial_id FROM ledger)",
        ):
            with pytest.raises(StoreRefused, match="no condition of a named table"):
                engine.read(Query("trials", (condition,), ("a",)))


def test_sql_that_reads_tables_is_answered(running: Running, folder: Path) -> None:
    """Joins, subqueries, names for subqueries, windows, set operations and parameters are all plain reading."""
    with asking_with(token_in(folder, "read")), RemoteEngine.open(running.listen) as engine:
        for sql in (
            "WITH good AS (SELECT * FROM trials WHERE status = 'done') SELECT count(*) FROM good JOIN predictions"
            " USING (trial_id, attempt)",
            "SELECT trial_id, row_number() OVER (ORDER BY seed) FROM main.trials",
            "SELECT unnest(probabilities) FROM predictions UNION ALL SELECT value FROM metrics",
            "SELECT max(n) FROM (SELECT count(*) AS n FROM logs GROUP BY trial_id)",
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT sum(i) FROM n",
            "FROM trials SELECT status WHERE trial_id IN (SELECT trial_id FROM attempts)",
        ):
            engine.sql(sql)
        assert engine.sql("SELECT ? AS n", [3]).to_pylist() == [{"n": 3}]


def test_malformed_and_oversized_requests_are_refused(
    running: Running, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever is sent, the server answers in its own words and goes on."""
    token = token_in(folder, "admin")
    options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token.read_bytes())])
    with asking_with(token), flight.connect(running.listen) as client, RemoteEngine.open(running.listen) as engine:
        for body, words in {
            b"\xff": "a JSON object",
            b"[1]": "a JSON object",
            b"null": "a JSON object",
            b"[" * 100_000: "a JSON object",
            b'{"table": "\\ud800"}': "a JSON object",
            b'{"table": "ledger"}': "'ledger' is no table",
            b'{"table": 3}': "3 is no table",
            b'{"table": ["trials"]}': "a value is of a wrong kind",
            b"{}": "it lacks 'table'",
            b"x" * 9_000_000: "more than 8 MiB",
        }.items():
            with pytest.raises(flight.FlightError, match=words) as refused:
                client.do_get(flight.Ticket(body), options).read_all()
            assert "Traceback" not in str(refused.value)
            with pytest.raises(flight.FlightUnauthenticatedError, match="wants a token"):
                client.do_get(flight.Ticket(body)).read_all()
        trials = flight.FlightDescriptor.for_path("trials")
        calls: dict[str, Callable[[], Any]] = {
            "exchanges nothing": lambda: client.do_exchange(trials, options)[1].read_all(),
            "get_flight_info has": lambda: client.get_schema(trials, options),
            "the name of one table": lambda: client.get_flight_info(flight.FlightDescriptor.for_path("x"), options),
            "there is no action": lambda: list(client.do_action("nonsense", options)),
            "a JSON object": lambda: list(client.do_action(flight.Action("status", b"{"), options)),
            "a value is of a wrong kind": lambda: list(
                client.do_action(flight.Action("sealed", b'{"trial_id": "a", "attempt": 1e999}'), options)
            ),
        }
        for words, call in calls.items():
            with pytest.raises((pa.ArrowException, OSError), match=words) as told:
                call()
            assert "Traceback" not in str(told.value)
        for action, asked in (
            ("begin_attempt", {}),
            ("begin_attempt", {"trial_id": A, "run": "r", "request": "x", "schema_version": "many"}),
            ("nonsense", {}),
            ("backup", {"name": "../../etc/cron.d/x"}),
            ("backup", {"name": "/tmp/x"}),
            ("backup", {"name": ""}),
        ):
            with pytest.raises(StoreRefused):
                engine.action(action, asked)
        monkeypatch.setattr(wire, "REQUEST_BYTES", 1000)
        monkeypatch.setattr(wire, "PIECE", 500)
        with pytest.raises(StoreRefused, match="larger than"):
            engine.append(whole_attempt(trial_id_of("large"), 1))
        with pytest.raises(StoreRefused, match="neither records"):
            engine._put({"op": "other", "schema_version": 1}, wire.PIECES, [])
        engine.action("status")
    assert "Traceback" not in capfd.readouterr().err


def test_a_record_that_was_changed_on_its_way_is_refused(running: Running, folder: Path) -> None:
    """A record's digest is checked again where it arrives."""
    with asking_with(token_in(folder, "append")), RemoteEngine.open(running.listen) as engine:
        record = whole_attempt(trial_id_of("changed"), 1)[0]
        other = whole_attempt(trial_id_of("changed"), 1)[1]
        messages = [
            message.from_pylist(
                [{**row, "header": row["header"].replace(record.digest, other.digest)} for row in message.to_pylist()],
                schema=wire.PIECES,
            )
            for message in wire.pack([record])
        ]
        with pytest.raises(StoreRefused, match="digest differs"):
            engine._put({"op": "append", "records": 1, "schema_version": 1}, wire.PIECES, messages)


def test_what_would_grow_in_the_servers_memory_is_refused(running: Running, folder: Path) -> None:
    """Compressed records, in either form of a request, and items whose texts stand once for many rows."""
    with asking_with(token_in(folder, "append")), RemoteEngine.open(running.listen) as engine:
        record = whole_attempt(trial_id_of("packed"), 1)[0]
        sink = pa.BufferOutputStream()
        packed = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, record.data.schema, options=packed) as writer:
            writer.write_batch(record.data)
        body = sink.getvalue().to_pybytes()
        header = json.dumps({**{key: getattr(record, key) for key in wire._KEYS}, "bytes": len(body)})
        with pytest.raises(StoreRefused, match="compressed"):
            engine._act("append", wire._LENGTHS.pack(len(header), len(body)) + header.encode() + body, 60)
        message = pa.record_batch({"header": [header], "piece": [body]}, schema=wire.PIECES)
        with pytest.raises(StoreRefused, match="compressed"):
            engine._put({"op": "append", "records": 1, "schema_version": 1}, wire.PIECES, [message])
        items = TABLES["items"].empty_table()
        place = items.schema.get_field_index("split")
        column = pa.DictionaryArray.from_arrays(pa.array([], pa.uint8()), ["x"])
        items = items.set_column(place, "split", column)
        asked = {"op": "dataset", "row": {"data_digest": "a"}, "rows": 0, "schema_version": 1}
        with pytest.raises(StoreRefused, match="it has a dictionary"):
            engine._put(asked, items.schema, items.to_batches() or [pa.RecordBatch.from_pylist([], items.schema)])


def test_tls_is_checked_on_both_sides(folder: Path, tmp_path: Path) -> None:
    """A client trusts only the authority it was given; a server that demands certificates takes only its own."""
    token = token_in(folder, "read")
    other = tmp_path / "other"
    for path in (tmp_path / "store", other):
        path.mkdir()
    stranger, stranger_key = client_certificate(other, "stranger", tmp_path)
    token = token_in(tmp_path / "store", "read")
    with serving(tmp_path / "store", listen="grpc+tls://127.0.0.1:0", own_client_ca=True) as running:
        assert running.ca is not None
        mine, my_key = client_certificate(tmp_path / "store" / SERVER, "mine", tmp_path)
        own = {"WTSBENCH_STORE_CERTIFICATE": mine, "WTSBENCH_STORE_KEY": my_key}
        foreign = {"WTSBENCH_STORE_CERTIFICATE": stranger, "WTSBENCH_STORE_KEY": stranger_key}
        with asking_with(token, WTSBENCH_STORE_CA=running.ca, **own):
            assert open_store(running.listen).trials().num_rows == 0
        for bad in ({**own}, {**own, "WTSBENCH_STORE_CA": other / "ca.pem"}, {"WTSBENCH_STORE_CA": running.ca}):
            with asking_with(token, **bad), pytest.raises(StoreError):
                open_store(running.listen)
        with asking_with(token, WTSBENCH_STORE_CA=running.ca, **foreign), pytest.raises(StoreError):
            open_store(running.listen)
        with asking_with(token), pytest.raises(StoreError):
            open_store(running.listen.replace("grpc+tls", "grpc"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"listen": "grpc://0.0.0.0:0"}, "plain text"),
        ({"listen": "grpc://[::]:0"}, "plain text"),
        ({"listen": f"grpc://{socket.gethostname()}:0"}, "plain text"),
        ({"listen": "http://127.0.0.1:0"}, "no address to listen at"),
        ({"listen": "grpc+tls://127.0.0.1"}, "no address"),
        ({"metrics": "0.0.0.0:0"}, "plain text"),
        ({"certificate": Path("x.pem")}, "no TLS"),
        ({"listen": "grpc+tls://127.0.0.1:0", "certificate": Path("x.pem")}, "go together"),
    ],
)
def test_a_server_that_would_be_open_to_all_does_not_start(
    tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    """Beyond loopback nothing goes in plain text."""
    with pytest.raises(SpecError, match=reason), serving(tmp_path / "store", **options):
        pass


def test_a_client_sends_no_token_in_plain_text_beyond_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever address it is given; and it says so where the file of the authority is none."""
    with pytest.raises(StoreError, match="plain text"):
        open_store("grpc://192.0.2.1:8815")
    with pytest.raises(StoreError, match="plain text"):
        open_store("grpc://results.lab.example:8815")
    (tmp_path / "ca.pem").write_text("none")
    monkeypatch.setenv("WTSBENCH_STORE_CA", str(tmp_path / "ca.pem"))
    with pytest.raises(StoreError, match="holds no certificate"):
        open_store("grpc+tls://127.0.0.1:1")


def test_nothing_secret_is_kept_shown_or_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Tokens are hashed at rest, in a file for its owner only, and in no process list, record, message or log."""
    folder = tmp_path / "store"
    folder.mkdir()
    token = token_in(folder, "append:mine")
    secret = token.read_text()
    token.rename(tmp_path / "token")
    server = Process(folder)
    try:
        with asking_with(tmp_path / "token"):
            store = open_store(server.listen)
            attempt = store.begin_attempt(id_within("mine", A), run=RUN, shared_id=A)
            outbox = fill_outbox(tmp_path / "outbox", whole_attempt(id_within("mine", A), attempt))
            deliver(outbox.folder, store)
            assert server.process is not None
            for pid in (server.process.pid, os.getpid()):
                assert secret not in Path(f"/proc/{pid}/cmdline").read_text()
        (tmp_path / "wrong").write_text(secret[:-2])
        with asking_with(tmp_path / "wrong"), pytest.raises(StoreError) as refused:
            open_store(server.listen)
        assert secret[20:-2] not in str(refused.value)
    finally:
        server.stop(15)
    part = secret.split("_", 2)[2][:20].encode()
    for path in folder.rglob("*"):
        assert not path.is_file() or part not in path.read_bytes()
    for name in ("tokens.json", "ca.key", "server.key"):
        path = folder / SERVER / name
        assert not path.exists() or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / SERVER).stat().st_mode) == 0o700
    assert secret not in "".join(capfd.readouterr())


def test_tokens_are_listed_by_state_and_the_newest_file_counts(tmp_path: Path) -> None:
    """What one process creates or revokes, another that has read the file before knows at once."""
    first, second = Tokens(tmp_path), Tokens(tmp_path)
    assert first.all() == []
    kept, token = first.create(name="ann", scope="read", valid=timedelta(hours=1))
    assert second.grant(token).scope == "read"
    assert re.fullmatch(r"[0-9a-f]{64}", json.loads((tmp_path / "tokens.json").read_text())[0]["hash"])
    time.sleep(0.01)
    second.revoke("ann")
    with pytest.raises(StoreDenied, match="revoked"):
        first.grant(token)
    assert [one.state for one in first.all()] == ["revoked"]
    with pytest.raises(SpecError, match="no scope"):
        first.create(name="x", scope="write", valid=None)
    with pytest.raises(SpecError, match="no token"):
        first.revoke("nobody")
    assert kept.id in token
