"""The fault matrix: whatever dies or breaks, what was acknowledged is there once, and nothing is ever half there.

Every row of the matrix delivers the same trials through several couriers while something goes wrong again and again,
at random moments, and must end with the leaderboard of a run that nothing disturbed, byte for byte.
`make faults ROUNDS=20` repeats it; each time with other random moments.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reports.worlds import World, simple
from tests.store.child import ITEMS, attempt_of
from tests.store.conftest import Disk
from tests.store.making import fill_outbox
from tests.store.proxy import Fault, Proxy
from tests.store.servers import Process, asking_with, serving, token_in, with_roots
from wtsbench.contract.outbox import Ack, Batch, pending, read_batch
from wtsbench.errors import StoreError
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.renderers import render
from wtsbench.store.client import Store, open_store
from wtsbench.store.courier import deliver
from wtsbench.store.lock import StoreBusy
from wtsbench.store.upkeep.verbs import verify

ROUNDS = int(os.environ.get("WTSBENCH_FAULT_ROUNDS", "1"))
COURIERS = 2
_MOST_CALLS = 40
"""More than the calls of the engine that one commit makes."""


@dataclass(frozen=True)
class Undisturbed:
    """What a delivery must end with."""

    folder: Path
    """Its outboxes are in `world/outbox`."""
    world: World
    store: Store
    board: str
    wrong: list[dict[str, str]]
    """What `verify` finds in it."""


class Delivery:
    """Trials on their way into a served store, by couriers in processes of their own."""

    def __init__(self, folder: Path, undisturbed: Undisturbed) -> None:
        self.folder = folder / "store"
        self.folder.mkdir()
        self.undisturbed = undisturbed
        self.reference = undisturbed.store
        self.token = token_in(self.folder, "append")
        for index, outbox in enumerate(sorted((folder.parent / "world" / "outbox").iterdir())):
            shutil.copytree(outbox, folder / "outboxes" / str(index % COURIERS) / outbox.name)
        self.outboxes = sorted((folder / "outboxes").iterdir())
        self.acknowledged: list[str] = []
        self.couriers: list[subprocess.Popen[str]] = []

    def put_inputs(self) -> None:
        """What a submission puts into the store before its trials run."""
        store = open_store(str(self.folder), create=True)
        for row in self.reference.datasets().to_pylist():
            fields = {key: row[key] for key in ("data_digest", "task", "labels", "metric")}
            store.put_dataset(**fields, report={}, items=self.reference.items(row["data_digest"]))
        for row in self.reference.grids().to_pylist():
            store.put_grid(
                name=row["name"],
                grid_digest=row["grid_digest"],
                yaml=row["yaml"],
                cells=self.undisturbed.world.cells(row["name"]),
            )
        for row in self.reference.attempts().to_pylist():
            assert store.begin_attempt(row["trial_id"], run=row["run"]) == row["attempt"]

    def start(self, address: str, seconds: float = 20) -> None:
        """Start a courier for each share of the outboxes."""
        self.address, self.seconds = address, seconds
        self.couriers = [self._courier(outboxes) for outboxes in self.outboxes]

    def _courier(self, outboxes: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.store.child", "courier", self.address, str(outboxes), str(self.seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env=with_roots(),
        )

    @property
    def waiting(self) -> int:
        """Records that were not forgotten yet."""
        return sum(len(pending(outbox)) for outboxes in self.outboxes for outbox in outboxes.iterdir())

    def _hear(self, courier: subprocess.Popen[str]) -> None:
        output, _ = courier.communicate(timeout=90)
        self.acknowledged += [line.split()[1] for line in output.split("\n")[:-1] if line.startswith("acknowledged")]

    def kill(self, index: int, number: int) -> None:
        """Kill a courier, and start another one in its place."""
        self.couriers[index].send_signal(number)
        self._hear(self.couriers[index])
        self.couriers[index] = self._courier(self.outboxes[index])

    def finish(self) -> None:
        """Wait for all couriers."""
        for courier in self.couriers:
            self._hear(courier)
            assert courier.returncode == 0

    def check(self, store: Store) -> None:
        """All that must be true at the end."""
        assert self.waiting == 0
        assert _board(store) == self.undisturbed.board
        trials = store.trials()
        assert trials.equals(self.reference.trials())
        ids = trials["trial_id"].to_pylist()
        assert store.predictions(ids).equals(self.reference.predictions(ids))
        assert {name.rpartition("-")[0] for name in self.acknowledged} <= set(ids)
        # The world's trials are fakes, so some things are wrong with the undisturbed store as well.
        assert verify(str(self.folder))["wrong"] == self.undisturbed.wrong


@contextmanager
def _watching(folder: Path, reference: Store) -> Iterator[None]:
    """A reader that looks all the time: what it sees of a trial is all of it."""
    stop = threading.Event()
    faults: list[str] = []
    whole = {trial: reference.predictions([trial]).num_rows for trial in reference.trials()["trial_id"].to_pylist()}

    def look() -> None:
        while not stop.wait(0.1):  # looking takes a processor from those that deliver
            try:
                store = open_store(str(folder))
                for trial in store.trials()["trial_id"].to_pylist():
                    if store.predictions([trial]).num_rows != whole[trial]:
                        faults.append(trial)
            except StoreError:  # the server is down just now
                continue

    thread = threading.Thread(target=look)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WTSBENCH_STORE_PATIENCE_SECONDS", "0")
        patch.setenv("WTSBENCH_STORE_LOCK_SECONDS", "1")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
    assert faults == []


def _delivered(outbox: Path, store: Store) -> bool:
    """Whether there was room; where not, the store said so and did not ask to come again at once."""
    try:
        deliver(outbox, store, patience=0)
    except StoreBusy:
        raise
    except StoreError:
        return False
    return True


def _board(store: Store) -> str:
    return render(leaderboard(store, resamples=200), "json")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A world of trials, in a store that nothing disturbed; its outboxes are kept."""
    folder = tmp_path_factory.mktemp("faults")
    world = simple({"naive": 0.7, "logconf": 0.8}, seeds=range(4), items=80)
    store = world.folder(folder / "world")
    return Undisturbed(folder, world, store, _board(store), verify(store.uri)["wrong"])


@pytest.fixture
def delivery(undisturbed: Undisturbed, request: pytest.FixtureRequest) -> Iterator[Delivery]:
    """The world's trials, about to be delivered."""
    own = undisturbed.folder / "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    own.mkdir()
    made = Delivery(own, undisturbed)
    yield made
    for courier in made.couriers:
        courier.kill()
        courier.wait()
        assert courier.stdout is not None
        courier.stdout.close()


@pytest.fixture(params=range(ROUNDS))
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Another one each time; a failing test shows its seed."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"),
    [("server", signal.SIGKILL), ("server", signal.SIGTERM), ("courier", signal.SIGKILL)],  # a courier heeds no signal
)
def test_killed(delivery: Delivery, chance: random.Random, victim: str, number: signal.Signals) -> None:
    """Server or couriers are killed at random moments and come again, until everything is delivered."""
    delivery.put_inputs()
    server = Process(delivery.folder)
    try:
        with asking_with(delivery.token), _watching(delivery.folder, delivery.reference):
            delivery.start(server.listen)
            for _ in range(2):
                time.sleep(chance.uniform(0.3, 1.2))
                if victim == "server":
                    server.stop(number)
                    server.start()
                else:
                    delivery.kill(chance.randrange(COURIERS), number)
            delivery.finish()
    finally:
        server.stop(signal.SIGTERM)
    delivery.check(open_store(str(delivery.folder)))


@pytest.mark.parametrize("fault", ["dropped answers", "reset", "half open"])
def test_broken_connections(delivery: Delivery, chance: random.Random, fault: Fault) -> None:
    """Connections lose answers, are reset, or go silent: couriers send again, and nothing is there twice."""
    delivery.put_inputs()
    server = Process(delivery.folder)
    proxy = Proxy(server.port, chance)
    try:
        with asking_with(delivery.token), _watching(delivery.folder, delivery.reference):
            proxy.fault = fault
            delivery.start(proxy.address, seconds=1)
            deadline = time.monotonic() + 10
            while proxy.hits < 4 and time.monotonic() < deadline and delivery.waiting:
                time.sleep(0.05)
            proxy.fault = "none"
            delivery.finish()
            assert proxy.hits
    finally:
        proxy.close()
        server.stop(signal.SIGTERM)
    delivery.check(open_store(str(delivery.folder)))


def test_duplicated_and_reordered(delivery: Delivery, chance: random.Random) -> None:
    """Every record is sent several times, by several senders at once, in any order: seals first, too."""
    delivery.put_inputs()
    outboxes = [outbox for outboxes in delivery.outboxes for outbox in outboxes.iterdir()]
    records = [read_batch(file.path) for outbox in outboxes for file in pending(outbox)]
    with serving(delivery.folder) as running, asking_with(delivery.token):
        with _watching(delivery.folder, delivery.reference):

            def send(own: list[Batch]) -> None:
                store = open_store(running.listen)
                for one in own:
                    store.append([one, one])

            senders = [
                threading.Thread(target=send, args=(chance.sample(records, len(records)),)) for _ in range(COURIERS)
            ]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
        for outbox in outboxes:
            assert {ack.outcome for ack in deliver(outbox, open_store(running.listen))} == {"duplicate"}
    delivery.check(open_store(str(delivery.folder)))


def test_a_clock_that_jumps(delivery: Delivery) -> None:
    """A server whose clock goes a day back and forth keeps its order: nothing hangs on the time of day."""
    delivery.put_inputs()
    server = Process(delivery.folder, "-m", "tests.store.child", "serve_in_strange_times")
    try:
        with asking_with(delivery.token):
            delivery.start(server.listen)
            delivery.finish()
    finally:
        server.stop(signal.SIGTERM)
    delivery.check(open_store(str(delivery.folder)))


def test_a_full_disk(delivery: Delivery, disk: Disk) -> None:
    """A server whose disk is full says so, keeps and shows what it has, and goes on when there is room."""
    shutil.move(delivery.folder, disk.folder / "store")
    delivery.folder = disk.folder / "store"
    delivery.token = delivery.folder / "server" / delivery.token.name
    delivery.put_inputs()
    outboxes = [outbox for outboxes in delivery.outboxes for outbox in sorted(outboxes.iterdir())]
    with serving(delivery.folder) as running, asking_with(delivery.token):
        store = open_store(running.listen)
        deliver(outboxes[0], store)
        ballast = disk.fill()
        refused = [outbox for outbox in outboxes[1:] if not _delivered(outbox, store)]
        assert refused
        assert all(pending(outbox) for outbox in refused)
        assert store.trials().num_rows == len(outboxes) - len(refused)
        ballast.unlink()
        for outbox in outboxes:
            deliver(outbox, store)
    delivery.check(open_store(str(delivery.folder)))


@pytest.mark.slow
def test_killed_at_every_write_boundary_of_the_server(
    store: Store, tmp_path: Path, child: Callable[..., subprocess.Popen[str]]
) -> None:
    """Before each call of the engine, a server is killed once: what it acknowledged is there, the rest comes again."""
    outboxes = [
        fill_outbox(tmp_path / "outboxes" / f"{number:03d}", attempt_of(number)) for number in range(_MOST_CALLS)
    ]
    output = child("die_in_server", store.uri, tmp_path / "outboxes").communicate()[0].split("\n")[:-1]
    assert {"dies before begin", "dies before commit", "survived"} <= set(output)
    deaths = [line for line in output if line.startswith("dies")]
    promised = [line.split()[1] for line in output if line.startswith("acknowledged")]
    assert len(promised) >= 2
    visible = set(store.trials()["trial_id"].to_pylist())
    assert {outboxes[int(name)].trial_id for name in promised} <= visible
    for outbox in outboxes[: len(deaths) + 1]:
        known = "duplicate" if outbox.trial_id in visible else "stored"
        acks: list[Ack] = deliver(outbox.folder, store)
        assert {ack.outcome for ack in acks} == {known}
        assert store.predictions([outbox.trial_id]).num_rows == 2 * len(ITEMS)
    assert store.trials().num_rows == len(deaths) + 1
