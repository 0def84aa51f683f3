"""What the tests of the store run in processes of their own, to be killed, or to stand in each other's way.

Every line on standard output says that something was acknowledged, and is flushed at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from tests.store.making import batch, fill_outbox, predictions, seal, trial_id_of
from wtsbench.contract.outbox import Batch
from wtsbench.store.client import open_store
from wtsbench.store.courier import deliver
from wtsbench.store.engine import database
from wtsbench.store.engine import transaction as engine
from wtsbench.store.folder import FolderStore
from wtsbench.store.lock import locked

ITEMS = tuple(f"item-{number}" for number in range(300))


def attempt_of(number: int) -> list[Batch]:
    """The records of the numbered trial: three before the seal."""
    trial_id = trial_id_of(f"trial-{number}")
    return [
        predictions(trial_id, 1, 1, *ITEMS, split="transfer"),
        predictions(trial_id, 1, 2, *ITEMS, split="test"),
        batch("logs", trial_id, 1, 3, [{"line": 1, "stream": "output", "text": "x" * 50}]),
        seal(trial_id, 1, 4),
    ]


def say(line: object) -> None:
    """Tell the test."""
    print(line, flush=True)


def write(folder: str, first: str) -> None:
    """Append attempt after attempt, each in two transactions, for ever."""
    store = open_store(folder)
    for number in range(int(first), sys.maxsize):
        records = attempt_of(number)
        store.append(records[:2])
        say(f"half {number}")
        store.append(records[2:])
        say(f"whole {number}")


def begin(folder: str, trial_id: str, times: str) -> None:
    """Take attempt numbers of one trial."""
    store = open_store(folder, create=True)
    for _ in range(int(times)):
        say(store.begin_attempt(trial_id, run="race"))


def hold(folder: str, kind: str) -> None:
    """Hold the folder's lock until killed."""
    with locked(Path(folder), shared=kind == "shared"):
        say("held")
        time.sleep(600)


def hold_database(folder: str) -> None:
    """Open the database as another tool would, knowing nothing of our lock."""
    with duckdb.connect(str(Path(folder) / "store.duckdb")):
        say("held")
        time.sleep(600)


def die(*_: object) -> None:
    """The end, without any clearing up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """A connection of the engine that dies at its n-th call."""

    def __init__(self, connection: Any, left: list[int]) -> None:
        self._connection = connection
        self._left = left

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._connection, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] == 0:
                say(f"dies before {name}")
                die()
            return method(*arguments, **named)

        return call


def die_in_engine(folder: str, outboxes: str) -> None:
    """Deliver one outbox after another, and die at the first, second, third call of the engine and so on.

    Each is delivered by a fork; the last one survives. Nothing of the engine but its code is there when it is forked.
    """
    connect = database.connect
    for calls, outbox in enumerate(sorted(Path(outboxes).iterdir()), 1):
        pid = os.fork()
        if pid == 0:
            left = [calls]

            def mortal(path: Path, *, read_only: bool, left: list[int] = left) -> Any:
                return Mortal(connect(path, read_only=read_only), left)

            setattr(database, "connect", mortal)  # noqa: B010
            deliver(outbox, FolderStore(Path(folder)))
            say("survived")
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            return


def die_in_courier(folder: str, outbox: str, deletions: str) -> None:
    """Deliver an attempt, and die at the n-th deletion of a delivered record."""
    store = open_store(folder)
    unlink, left = Path.unlink, [int(deletions)]

    def mortal(path: Path, missing_ok: bool = False) -> None:
        left[0] -= 1
        if left[0] == 0:
            die()
        unlink(path, missing_ok=missing_ok)

    setattr(Path, "unlink", mortal)  # noqa: B010
    deliver(Path(outbox), store)


def die_in_outbox(outbox: str, call: str) -> None:
    """Write a record, and die instead of one of the system calls that make it durable."""
    setattr(os, call, die) if call == "fsync" else setattr(Path, call, die)
    fill_outbox(Path(outbox), attempt_of(0)[:1])


def die_in_creation(folder: str, calls: str) -> None:
    """Make a store, and die at the n-th call of the engine."""
    connect, left = duckdb.connect, [int(calls)]
    setattr(duckdb, "connect", lambda *a, **k: Mortal(connect(*a, **k), left))  # noqa: B010
    open_store(folder, create=True)
    say("survived")


def die_in_server(folder: str, outboxes: str) -> None:
    """Commit one attempt after another as a server does, and die at the first, second, third call of the engine.

    Each is committed by a fork; the last one survives.
    """
    from wtsbench.contract.outbox import pending, read_batch
    from wtsbench.store.server import durable, live

    connect = durable._connect
    for calls, outbox in enumerate(sorted(Path(outboxes).iterdir()), 1):
        pid = os.fork()
        if pid == 0:
            left = [calls]

            def mortal(path: Path, left: list[int] = left) -> Any:
                return Mortal(connect(path), left)

            setattr(durable, "_connect", mortal)  # noqa: B010
            store = live.LiveStore(Path(folder) / "store.duckdb", limits=live.Limits(), observe=lambda *_: None)
            store.append([read_batch(file.path) for file in pending(outbox)], 1)
            say(f"acknowledged {outbox.name}")
            store.stop_writing(time.monotonic() + 5)
            store.close()
            say("survived")
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            return


def courier(address: str, outboxes: str, seconds: str) -> None:
    """Deliver every outbox of a folder; say which were acknowledged. A call is lost after some seconds."""
    from wtsbench.store import remote

    remote.CALL_SECONDS = float(seconds)
    remote.HELLO_SECONDS = float(seconds)
    store = open_store(address, wait=60)
    for outbox in sorted(Path(outboxes).iterdir()):
        if deliver(outbox, store, patience=60):
            say(f"acknowledged {outbox.name}")


def serve_in_strange_times(listen: str, folder: str) -> None:
    """Serve a store on a machine whose clock jumps a day back and forth, all the time."""
    import threading
    from datetime import UTC, datetime, timedelta, tzinfo

    from wtsbench.store.server import options, serving, tokens

    days = [0]

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            days[0] = 1 - days[0]
            return datetime.now(UTC) - timedelta(days=days[0])

    now = time.time
    setattr(engine, "datetime", Jumping)  # noqa: B010
    setattr(tokens, "datetime", Jumping)  # noqa: B010
    setattr(time, "time", lambda: now() - 86_400 * days[0])  # noqa: B010
    arguments = options.ServeOptions(listen=listen)
    stop = threading.Event()
    serving.stop_on_signals(stop)
    serving.serve(Path(folder), arguments, ready=lambda running: say(f"serving at {running.listen}"), stop=stop)
    os._exit(0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
