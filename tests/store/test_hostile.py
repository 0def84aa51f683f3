"""A server under clients that mean no good: what it takes of memory and threads stays what is documented."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from tests.store.making import trial_id_of, whole_attempt
from tests.store.servers import Process, asking_with, serving, token_in, with_roots
from tests.trial.processes import wait_for
from wtsbench.errors import StoreError
from wtsbench.store.engine.queries import Query
from wtsbench.store.remote import RemoteEngine, ServerStore
from wtsbench.store.server.bounds import CONNECTIONS, MESSAGE_BYTES
from wtsbench.store.server.live import Limits
from wtsbench.store.server.serving import Running
from wtsbench.store.server.transport import SERVICE, STREAMS

MIB = 2**20
SENT = 200 * MIB
STREAMS_OPENED = 2000
OUTCOMES = ("stored", "duplicate")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""With which a client of HTTP/2 begins."""
SLOW = "SELECT levenshtein(repeat('a', 400000), repeat('b', 400000))"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server in a process of its own, for all tests of this module."""
    served = Process(tmp_path_factory.mktemp("store"))
    yield served
    assert served.process is not None
    if served.process.poll() is None:
        served.stop(signal.SIGTERM)


def process_of(server: Process) -> psutil.Process:
    """What can be measured."""
    assert server.process is not None
    return psutil.Process(server.process.pid)


def channel_to(server: Process, number: int = 0) -> grpc.Channel:
    """A connection of its own."""
    options = [("grpc.max_send_message_length", -1), ("test.number", number), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(f"127.0.0.1:{server.port}", options)


def headers(token: Path | None) -> list[tuple[str, str]]:
    """Of a request."""
    return [] if token is None else [("authorization", f"Bearer {token.read_text()}")]


@pytest.mark.parametrize("known", [False, True], ids=["no token", "token"])
def test_a_large_message_is_not_held(server: Process, known: bool) -> None:
    """Without a token nothing is read, and with one no message that is larger than the largest; whatever the method."""
    token = token_in(server.folder, "append") if known else None
    before = process_of(server).memory_info().rss
    most = 0
    message = bytes(SENT)
    for method in ("DoGet", "DoPut", "DoAction", "GetFlightInfo", "Handshake", "Nonsense"):
        with channel_to(server) as channel:
            call = channel.stream_stream(f"/{SERVICE}/{method}")(iter([message]), metadata=headers(token), timeout=20)
            ended = threading.Thread(target=_drained, args=(call,))
            ended.start()
            while ended.is_alive():
                most = max(most, process_of(server).memory_info().rss)
                ended.join(0.02)
            assert call.code().name in {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}
    assert most - before < 3 * MESSAGE_BYTES
    answers(server)


def answers(server: Process) -> None:
    """Others are answered."""
    with asking_with(token_in(server.folder, "append")):
        assert ServerStore(server.listen).append(whole_attempt(trial_id_of("a"), 1))[0].outcome in OUTCOMES


def _drained(call: grpc.Call) -> None:
    with suppress(grpc.RpcError):
        list(call)


@pytest.mark.parametrize("known", [False, True], ids=["no token", "token"])
def test_idle_streams_are_no_threads(server: Process, known: bool) -> None:
    """Streams that send nothing take no thread each, and others are answered beside them."""
    token = token_in(server.folder, "read") if known else None
    before = process_of(server).memory_info().rss
    over = threading.Event()

    async def idle() -> None:
        async with contextlib.AsyncExitStack() as stack:
            calls = []
            for number in range(STREAMS_OPENED // STREAMS):
                address, options = f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1), ("n", number)]
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options))
                for _ in range(STREAMS):
                    calls.append(channel.stream_stream(f"/{SERVICE}/DoAction")(metadata=headers(token)))
            opened.set()
            while not over.is_set():
                await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()

    opened = threading.Event()
    client = threading.Thread(target=lambda: asyncio.run(idle()))
    client.start()
    try:
        assert opened.wait(30)
        time.sleep(2)
        assert process_of(server).num_threads() < 60
        assert process_of(server).memory_info().rss - before < 150 * MIB
        answers(server)
    finally:
        over.set()
        client.join()


def test_connections_are_counted(server: Process) -> None:
    """Beyond so many, whoever opens them, none is taken, and the store can open its files; then there is room."""
    before = process_of(server)
    rss = before.memory_info().rss
    with ExitStack() as stack:
        for _ in range(CONNECTIONS + 500):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            with suppress(OSError):
                connection.sendall(PREFACE)
        wait_for(lambda: process_of(server).num_fds() > CONNECTIONS)
        time.sleep(0.5)
        assert process_of(server).num_fds() < CONNECTIONS + 100
        assert process_of(server).num_threads() < 60
        assert process_of(server).memory_info().rss - rss < 100 * MIB
    wait_for(lambda: process_of(server).num_fds() < 100)
    answers(server)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Running]:
    """A server in this process, with small limits, and an environment whose token may read."""
    folder = tmp_path / "store"
    folder.mkdir()
    with serving(folder, limits=Limits(seconds=3, memory=512 * MIB)) as running, asking_with(token_in(folder, "read")):
        yield running


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (SLOW, "longer than 3 s|too much processor time"),
        ("SELECT len(range(200000000))", "more than 512 MiB"),
        ("SELECT len(repeat('x', 2000000000))", "more than 512 MiB"),
        ("SELECT len(string_agg(repeat('x', 100000), '')) FROM range(100000)", "more than 512 MiB|longer than 3 s"),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n, 'x' AS t UNION ALL SELECT n + 1, t || t FROM r WHERE n < 40)"
            " SELECT max(len(t)) FROM r",
            "more than 512 MiB",
        ),
        ("SELECT list_sort(range(60000000))", "more than 512 MiB"),
        (
            "SELECT count(*) FROM range(1000000) AS a, range(1000000) AS b WHERE hash(a.range, b.range) = 1",
            "3 s|processor",
        ),
        (f"SELECT {'(' * 3000}1{')' * 3000}", ""),
        (f"SELECT {'-' * 100_000}1", ""),
        ("SELECT regexp_matches(repeat('a', 5000000), '(a|aa)+$')", ""),
    ],
)
def test_a_question_that_takes_too_much_is_ended(asked: Running, sql: str, words: str) -> None:
    """Time and memory are bounded for every function, whatever it does with one value; the server's own do not grow."""
    with RemoteEngine.open(asked.listen, patience=0) as engine:
        assert engine.sql("SELECT 1 AS n").num_rows == 1
        before, begun = psutil.Process().memory_info().rss, time.monotonic()
        if words:
            with pytest.raises(StoreError, match=words):
                engine.sql(sql)
        else:  # an answer, or a refusal: it is no matter which
            with suppress(StoreError):
                engine.sql(sql)
        assert time.monotonic() - begun < 15
        assert psutil.Process().memory_info().rss - before < 100 * MIB
        assert engine.sql("SELECT 1 AS n").num_rows == 1


def test_no_reader_keeps_others_from_being_answered(tmp_path: Path) -> None:
    """However many slow questions one token asks, tables are read and another token's SQL is computed beside them."""
    folder = tmp_path / "store"
    folder.mkdir()
    hostile, other = token_in(folder, "read"), token_in(folder, "append:other")
    with serving(folder, limits=Limits(seconds=8)) as running, ThreadPoolExecutor(8) as pool:
        with asking_with(hostile):
            engines = [RemoteEngine.connect(running.listen, patience=0) for _ in range(8)]
        slow = [pool.submit(engine.sql, SLOW) for engine in engines]
        wait_for(lambda: len(psutil.Process().children()) >= 2)
        with asking_with(other):
            begun = time.monotonic()
            with RemoteEngine.open(running.listen, patience=0) as engine:
                assert engine.read(Query("trials")).num_rows == 0
                assert engine.sql("SELECT 1 AS n").num_rows == 1
            assert time.monotonic() - begun < 7
            assert not any(one.done() for one in slow)
        running.core.sql.stop()
        assert all(isinstance(one.exception(), StoreError) for one in slow)


def test_sigterm_ends_what_is_computed(tmp_path: Path) -> None:
    """A server that is told to stop does not wait for a function to end, and leaves no process behind."""
    server = Process(tmp_path)
    with asking_with(token_in(server.folder, "read")), ThreadPoolExecutor(2) as pool:
        engines = [RemoteEngine.connect(server.listen, patience=0) for _ in range(2)]
        slow = [pool.submit(engine.sql, SLOW) for engine in engines]
        own = process_of(server)
        wait_for(lambda: len(own.children()) >= 2)
        children = own.children()
        begun = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 10
        assert all(isinstance(one.exception(), StoreError) for one in slow)
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_ctrl_c_ends_the_asking_of_a_slow_question(server: Process, tmp_path: Path) -> None:
    """Python that waits for an answer in SQL is interrupted at once."""
    program = (
        "import sys, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from wtsbench.store.client import open_store; store = open_store(sys.argv[1]); print('asks', flush=True)\n"
        "store.remote.sql(sys.argv[2])"
    )
    with asking_with(token_in(server.folder, "read")):
        child = subprocess.Popen(
            [sys.executable, "-c", program, server.listen, SLOW],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=with_roots(),
        )
    assert child.stdout is not None
    assert child.stdout.readline() == "asks\n"
    wait_for(lambda: bool(process_of(server).children()))
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert time.monotonic() - begun < 10
    assert "KeyboardInterrupt" in errors
    wait_for(lambda: not any(one.cpu_times().user > 1 for one in process_of(server).children()))  # its place is free
