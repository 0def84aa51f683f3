"""Servers for the tests: in a thread of the test's process, or in a process of their own to be killed."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import pytest

import wtsbench
import wtsbench_cli
from tests.store.making import trial_id_of, whole_attempt
from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.store import wire
from wtsbench.store.client import Store, open_store
from wtsbench.store.folder import SERVER
from wtsbench.store.server.options import ServeOptions
from wtsbench.store.server.serving import Running, serve
from wtsbench.store.server.tokens import Tokens

LOOPBACK = "grpc://127.0.0.1:0"
ROOTS = (Path(__file__).parents[2], Path(wtsbench.__file__).parents[1])


def token_in(folder: Path, scope: str, *, valid: timedelta | None = None) -> Path:
    """A file with a new token for a store's folder."""
    kept, token = Tokens(folder / SERVER).create(name=f"{scope} of a test", scope=scope, valid=valid)
    path = folder / SERVER / f"{kept.id}.token"
    path.write_text(token)
    return path


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Running]:
    """A server in this process, until the end of the block."""
    ready: queue.Queue[Running | BaseException] = queue.Queue()
    stop = threading.Event()

    def run() -> None:
        try:
            serve(folder, ServeOptions(**{"listen": LOOPBACK, **options}), ready=ready.put, stop=stop)
        except BaseException as error:  # noqa: BLE001  # the test raises it
            ready.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        found = ready.get(timeout=30)
        if isinstance(found, BaseException):
            raise found
        yield found
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def asking_with(token: Path | None, **more: Path) -> Iterator[None]:
    """The environment of a client."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WTSBENCH_TOKEN_FILE", "WTSBENCH_STORE_CA", "WTSBENCH_STORE_CERTIFICATE", "WTSBENCH_STORE_KEY"):
            patch.delenv(name, raising=False)
        if token is not None:
            patch.setenv("WTSBENCH_TOKEN_FILE", str(token))
        for name, path in more.items():
            patch.setenv(name, str(path))
        yield


@contextmanager
def half_sent(running: Running, token: Path) -> Iterator[Callable[[], Any]]:
    """A request to append whose records have come, but not its end; what is yielded ends it."""
    options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token.read_bytes())])
    records = whole_attempt(trial_id_of("a"), 1)
    asked = {"op": "append", "records": len(records), "schema_version": SCHEMA_VERSION}
    with flight.connect(running.listen) as client:
        descriptor = flight.FlightDescriptor.for_command(json.dumps(asked).encode())
        writer, reader = client.do_put(descriptor, wire.PIECES, options)
        for message in wire.pack(records):
            writer.write_batch(message)

        def end() -> Any:
            writer.done_writing()
            found = wire.unpack_acks(reader.read().to_pybytes())
            writer.close()
            return [ack.outcome for ack in found]

        yield end


@pytest.fixture(params=["folder", "server", "socket"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store: a folder; behind a server with TLS and a token; and by the folder that a server owns."""
    folder = tmp_path / "store"
    if request.param == "folder":
        yield open_store(str(folder), create=True)
        return
    folder.mkdir()
    with serving(folder, listen="grpc+tls://127.0.0.1:0") as running:
        if request.param == "socket":
            yield open_store(str(folder))
            return
        assert running.ca is not None
        with asking_with(token_in(folder, "append"), WTSBENCH_STORE_CA=running.ca):
            yield open_store(running.listen)


class Process:
    """A server in a process of its own, on a port that stays when it is started again."""

    def __init__(self, folder: Path, *program: str, listen: str = LOOPBACK) -> None:
        """Start it.

        Args:
            folder: the store's.
            program: what runs in place of `wtsbench store serve`; it is given the folder and the address.
            listen: where it listens first; port 0 takes a free one.
        """
        self.folder = folder
        self.program = program or ("-m", "wtsbench_cli", "store", "serve", "--listen")
        self.listen = listen
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers; who has its port meanwhile, as a connection may, is waited for."""
        deadline = time.monotonic() + 30
        while not self._comes_up():
            assert time.monotonic() < deadline, f"somebody else listens at {self.listen}"
            time.sleep(0.2)

    def _comes_up(self) -> bool:
        """Start it; False where its port is taken."""
        with tempfile.TemporaryFile("w+") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, self.listen, str(self.folder)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=with_roots(),
            )
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if " at grpc" in line:
                self.listen = line.rsplit(" ", 1)[1].strip()
                return True
            self.process.kill()
            self.process.communicate()
            errors.seek(0)
            said = errors.read()
        assert "nothing can listen at" in said, line + said
        return False

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listen.rsplit(":", 1)[1])

    def stop(self, number: int) -> int:
        """Send it a signal, and wait for its end; the exit code."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process.stdout.close()
        return code


def with_roots() -> dict[str, str]:
    """This environment, for a child that imports what the tests import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*ROOTS, Path(wtsbench_cli.__file__).parents[1])))}
