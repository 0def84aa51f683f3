"""Runs and leases behind a server: lost answers, kills and rights."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.store.making import trial_id_of
from tests.store.proxy import Proxy
from tests.store.servers import Process, asking_with, serving, token_in
from tests.store.supervising import A, Clock, lines_of, report, run_of, yaml_of
from wtsbench.contract.operations import LEASE_SECONDS, LINES_AT_ONCE, Orders, RunReport
from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.spec.trial import id_within
from wtsbench.store import remote
from wtsbench.store.client import Store, open_store
from wtsbench.store.engine.queries import Look
from wtsbench.store.remote import RemoteEngine
from wtsbench.store.server.tokens import Grant
from wtsbench.store.upkeep import verbs as upkeep
from wtsbench.store.wire import Cancelled, Held, StoreDenied, StoreRefused

B = trial_id_of("b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a served store is to be."""
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteEngine]:
    """A client of an empty store, with a token that may append."""
    served = tmp_path_factory.mktemp("store")
    with (
        serving(served) as running,
        asking_with(token_in(served, "append")),
        RemoteEngine.open(running.listen) as engine,
    ):
        yield engine


def _begin(request: str) -> dict[str, Any]:
    return {"trial_id": A, "run": "toy-1", "request": request, "lease": True, "schema_version": SCHEMA_VERSION}


def test_a_request_for_a_lease_that_is_repeated_gets_the_same(folder: Path, clock: Clock) -> None:
    """By a server that was started anew as well; but not once another has taken the trial."""
    token = token_in(folder, "append")
    for _ in range(2):
        with serving(folder) as running, asking_with(token), RemoteEngine.open(running.listen) as engine:
            assert [engine.action("begin_attempt", _begin("one"))["attempt"] for _ in range(2)] == [1, 1]
            with pytest.raises(Held, match="by toy-1") as held:
                engine.action("begin_attempt", _begin("two"))
            assert held.value.by == "toy-1"
    with serving(folder) as running, asking_with(token), RemoteEngine.open(running.listen) as engine:
        clock.pass_by(LEASE_SECONDS - 1)
        assert engine.action("begin_attempt", _begin("one"))["attempt"] == 1
        clock.pass_by(LEASE_SECONDS - 1)
        with pytest.raises(Held):
            engine.action("begin_attempt", _begin("two"))
        clock.pass_by(2)
        assert engine.action("begin_attempt", _begin("two"))["attempt"] == 2
        with pytest.raises(Held):
            engine.action("begin_attempt", _begin("one"))


def test_a_request_that_is_repeated_after_a_cancellation_gets_its_attempt(client: RemoteEngine) -> None:
    """Else nobody would seal it; it hears of the cancellation with its first renewal. No new one is begun."""
    asked = {"trial_id": trial_id_of("late"), "run": "late-1", "lease": True, "schema_version": SCHEMA_VERSION}
    client.report_run(RunReport(run="late-1", grid="late"))
    assert client.action("begin_attempt", {**asked, "request": "one"})["attempt"] == 1
    client.cancel("late-1", None)
    assert client.action("begin_attempt", {**asked, "request": "one"})["attempt"] == 1
    with pytest.raises(Cancelled):
        client.action("begin_attempt", {**asked, "request": "two"})


def test_the_longest_name_of_a_run_is_told(client: RemoteEngine) -> None:
    """In whatever letters; a longer one, which would not fit into an error, gets no lease."""
    asked, run = {"trial_id": trial_id_of("long"), "lease": True, "schema_version": SCHEMA_VERSION}, "\u7121" * 500
    client.action("begin_attempt", {**asked, "run": run, "request": "one"})
    with pytest.raises(Held) as held:
        client.action("begin_attempt", {**asked, "run": "toy", "request": "two"})
    assert held.value.by == run
    with pytest.raises(StoreRefused, match="500 characters"):
        client.action("begin_attempt", {**asked, "run": run + "x", "request": "three"})


def test_who_is_refused_a_lease_costs_the_others_of_a_transaction_nothing(folder: Path) -> None:
    """One transaction serves those who get a lease and those who are refused."""
    with serving(folder) as running, asking_with(token_in(folder, "append")):
        live = running.core.live
        live.begin_attempt(A, "toy-1", "first", lease=True)
        commits: list[int] = []
        live._writer._observe = lambda requests, rows, seconds: commits.append(requests)
        answers: list[int | str] = []

        def ask(number: int) -> None:
            try:
                answers.append(live.begin_attempt(A if number % 2 else B, f"run {number}", f"{number}", lease=True))
            except Held as error:
                answers.append(error.by)

        with live._writer.pause:
            threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            while sum(live.waiting) == 0:
                time.sleep(0.01)
        for thread in threads:
            thread.join()
        assert sorted(map(str, answers)) in ([*"1", winner, "toy-1", "toy-1"] for winner in ("run 0", "run 2"))
        assert sum(commits) == 4


def test_lost_answers_do_no_harm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervisors whose connections break ask again: each trial is begun once, and each line is there once."""
    monkeypatch.setattr(remote, "CALL_SECONDS", 5.0)
    chance = random.Random(7)
    with serving(folder) as running, asking_with(token_in(folder, "append")):
        proxy = Proxy(int(running.listen.rsplit(":", 1)[1]), chance)
        begun: list[tuple[str, int]] = []

        def supervise(number: int) -> None:
            own = open_store(proxy.address, wait=60)
            run = f"toy-{number}"
            own.report_run(report(run, yaml="name: toy"))
            for place in range(6):
                trial_id = trial_id_of(f"{number} {place}")
                begun.append((trial_id, own.begin_attempt(trial_id, run=run, lease=True)))
                for line in range(1, 7):
                    own.renew(trial_id, 1, share=line / 6, lines=[f"{line}"], first=line)
                assert own.cancel(run, [trial_id])
                own.report_run(report(run, done=place + 1))
            assert len(own.report_run(report(run, state="done", done=6)).cancelled_trials) == 6

        try:
            proxy.fault = "dropped answers"
            with ThreadPoolExecutor(4) as pool:
                supervising = [pool.submit(supervise, number) for number in range(4)]
                while proxy.hits < 12 and not all(one.done() for one in supervising):
                    time.sleep(0.02)
                proxy.fault = "none"
                for one in supervising:
                    one.result(120)
            assert proxy.hits
        finally:
            proxy.close()
        whole = open_store(running.listen)
        assert {attempt for _, attempt in begun} == {1}
        assert whole.attempts().num_rows == whole.running().num_rows == 24
        for trial_id, _ in begun:
            assert lines_of(whole, trial_id) == [(line, f"{line}") for line in range(1, 7)]
        assert whole.runs()["done"].to_pylist() == [6] * 4


@pytest.mark.slow
def test_killed_in_the_middle_of_renewals_a_server_loses_nothing_acknowledged(folder: Path) -> None:
    """Leases, lines and reports are on the disk when they are answered; supervisors go on with the next server."""
    server = Process(folder)
    told: dict[str, int] = {}
    over = threading.Event()

    def supervise(number: int) -> None:
        own, trial_id = open_store(server.listen, wait=60), trial_id_of(f"{number}")
        assert own.begin_attempt(trial_id, run=f"toy-{number}", lease=True) == 1
        line = 0
        while not over.is_set():
            line += 1
            own.renew(trial_id, 1, share=None, lines=[f"{line}"], first=line)
            own.report_run(report(f"toy-{number}", done=line))
            told[trial_id] = line

    with asking_with(token_in(folder, "append")), ThreadPoolExecutor(4) as pool:
        supervising = [pool.submit(supervise, number) for number in range(4)]
        try:
            for _ in range(2):
                before = sum(told.values())
                while sum(told.values()) < before + 12:
                    time.sleep(0.01)
                    assert not any(one.done() for one in supervising)
                time.sleep(random.Random().uniform(0, 0.1))
                server.stop(signal.SIGKILL)
                server.start()
            server.stop(signal.SIGKILL)
            acknowledged = dict(told)
            left = open_store(str(folder))  # before any supervisor asks again
            for trial_id, last in acknowledged.items():
                lines = [line for line, _ in lines_of(left, trial_id)]
                assert lines == list(range(1, len(lines) + 1))
                assert len(lines) >= last
                with pytest.raises(Held):
                    left.begin_attempt(trial_id, run="other", lease=True)
            done = dict(zip(left.runs()["run"].to_pylist(), left.runs()["done"].to_pylist(), strict=True))
            assert all(done[f"toy-{number}"] >= acknowledged[trial_id_of(f"{number}")] for number in range(4))
            server.start()
        finally:
            over.set()
            for one in supervising:
                one.result(120)
            server.stop(signal.SIGTERM)
    assert upkeep.verify(str(folder))["ok"]
    assert open_store(str(folder)).running().num_rows == 4


# -- rights


@pytest.fixture
def two_grids(folder: Path) -> Iterator[Callable[[str], Store]]:
    """A server on which runs of the grids `mine` and `theirs` are; the store as seen with a token of some scope."""
    with serving(folder) as running, pytest.MonkeyPatch.context() as patch:

        def with_scope(scope: str) -> Store:
            patch.setenv("WTSBENCH_TOKEN_FILE", str(token_in(folder, scope)))
            return open_store(running.listen)

        for grid in ("mine", "theirs"):
            owner = with_scope(f"append:{grid}")
            owner.report_run(RunReport(run=f"{grid}-0123abcd-1", grid=grid, yaml=f"name: {grid}"))
            own = id_within(grid, A)
            assert owner.begin_attempt(own, run=f"{grid}-0123abcd-1", shared_id=A, lease=True) == 1
            owner.renew(own, 1, share=0.5, lines=["one"], first=1)
        yield with_scope


def test_a_token_for_one_grid_writes_of_its_runs_alone(two_grids: Callable[[str], Store]) -> None:
    """What is another grid's it neither renews, reports nor cancels, nor an attempt of another token."""
    mine, theirs = two_grids("append:mine"), "theirs-0123abcd-1"
    before = mine.runs()
    other = id_within("theirs", A)
    for write in (
        lambda: mine.renew(other, 1, share=1.0, lines=["forged"], first=2),
        lambda: mine.renew(trial_id_of("unknown"), 1, share=None, lines=[], first=1),
        lambda: mine.report_run(RunReport(run=theirs, grid="theirs")),
        lambda: mine.report_run(RunReport(run=theirs, grid="mine")),
        lambda: mine.report_run(RunReport(run="mine-0123abcd-2", grid="theirs")),
        lambda: mine.report_run(RunReport(run="mine-0123abcd", grid="mine")),
        lambda: mine.report_run(RunReport(run="mine-0123abcd-1\n", grid="mine")),
        lambda: mine.report_run(RunReport(run="mine-other-0123abcd-1", grid="mine")),
        lambda: mine.cancel(theirs, None),
        lambda: mine.cancel(theirs, [other]),
        lambda: mine.cancel("nobodys", None),
        lambda: mine.begin_attempt(other, run=theirs, shared_id=A, lease=True),
        lambda: mine.begin_attempt(other, run="mine-0123abcd-1", shared_id=A, lease=True),
    ):
        with pytest.raises(StoreDenied):
            write()
    assert mine.runs().drop_columns("silent_s").equals(before.drop_columns("silent_s"))
    assert lines_of(mine, other) == [(1, "one")]
    wide = two_grids("append")
    attempt = wide.begin_attempt(id_within("mine", B), run="mine-0123abcd-1", lease=True)
    with pytest.raises(StoreDenied, match="was not begun under"):
        mine.renew(id_within("mine", B), attempt, share=None, lines=[], first=1)
    assert mine.renew(id_within("mine", A), 1, share=0.7, lines=["two"], first=2) == Orders()
    for run in ("mine-0123abcd-2", "mine", "mine-20260102T030405Z-7"):
        mine.report_run(RunReport(run=run, grid="mine"))
        assert mine.cancel(run, None)
    assert {row["run"]: row["owner"] for row in wide.runs().to_pylist()}["mine"] == "append:mine of a test"
    assert wide.cancel(theirs, None)


def test_a_run_of_another_grid_is_not_taken_over_by_its_name(two_grids: Callable[[str], Store]) -> None:
    """A grid may be called what a run of another one would be called."""
    run = "mine-20260102T030405Z-7"
    two_grids("append").report_run(RunReport(run=run, grid=run))
    mine = two_grids("append:mine")
    for write in (lambda: mine.report_run(RunReport(run=run, grid="mine")), lambda: mine.cancel(run, None)):
        with pytest.raises(StoreDenied):
            write()
    assert not run_of(mine, run)["cancelled"]


def test_a_token_that_only_reads_sees_all_and_changes_nothing(two_grids: Callable[[str], Store]) -> None:
    """Runs, attempts and what they print are for every reader."""
    reader = two_grids("read")
    assert reader.runs()["grid"].to_pylist() == ["mine", "theirs"]
    assert reader.running()["share"].to_pylist() == [0.5, 0.5]
    assert yaml_of(reader, "mine-0123abcd-1") == ["name: mine"]
    assert lines_of(reader, id_within("mine", A)) == [(1, "one")]
    for write in (
        lambda: reader.renew(id_within("mine", A), 1, share=None, lines=[], first=1),
        lambda: reader.report_run(RunReport(run="mine", grid="mine")),
        lambda: reader.cancel("mine-0123abcd-1", None),
        lambda: reader.begin_attempt(B, run="mine", lease=True),
    ):
        with pytest.raises(StoreDenied, match="needs append"):
            write()


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        ("renew", {"lines": ["x"] * (LINES_AT_ONCE + 1)}),
        ("renew", {"lines": [5]}),
        ("renew", {"lines": None}),
        ("renew", {"attempt": "1"}),
        ("renew", {"attempt": 2**31}),
        ("renew", {"first": -1}),
        ("renew", {"share": "half"}),
        ("renew", {"share": 10**400}),
        ("renew", {"trial_id": ["x"]}),
        ("report_run", {"state": "lost"}),
        ("report_run", {"total": "many"}),
        ("report_run", {"run": "x" * 501}),
        ("report_run", {"yaml": {}}),
        ("cancel", {"trial_ids": 7}),
        ("cancel", {"schema_version": 99}),
    ],
)
def test_a_server_refuses_what_no_supervisor_sends(client: RemoteEngine, action: str, asked: dict[str, Any]) -> None:
    """And goes on."""
    good: dict[str, dict[str, Any]] = {
        "renew": {"trial_id": A, "attempt": 1, "share": None, "lines": [], "first": 1},
        "report_run": dict(vars(RunReport(run="toy", grid="toy"))),
        "cancel": {"run": "toy", "trial_ids": None},
    }
    with pytest.raises(StoreRefused):
        client.action(action, {**good[action], "schema_version": SCHEMA_VERSION, **asked})
    client.action(action, {**good[action], "schema_version": SCHEMA_VERSION})


@pytest.mark.parametrize(
    "asked",
    [
        {"look": "ledger"},
        {"look": ["runs"]},
        {"look": "runs", "parameters": [1]},
        {"look": "printed", "parameters": ["a", 1]},
        {"look": "printed", "parameters": ["a", 1, []]},
    ],
)
def test_a_server_refuses_questions_about_runs_that_there_are_not(client: RemoteEngine, asked: dict[str, Any]) -> None:
    """And goes on."""
    with pytest.raises(StoreRefused):
        client._get(asked)
    assert client.read(Look("printed", (A, 1, 0))).num_rows == 0


@pytest.mark.parametrize(
    ("run", "allowed"),
    [
        ("g", True),
        ("g-20260102T030405Z-7", True),
        ("g-0123abcd-12", True),
        ("g-0123ABCD-1", False),
        ("g-0123abc-1", False),
    ],
)
def test_names_of_runs(run: str, allowed: bool) -> None:
    """A submission's name has its time and process, a detached run's the grid's digest and a number."""
    grant = Grant("token", "append:g")
    if allowed:
        grant.require_run(run, "g")
    else:
        with pytest.raises(StoreDenied):
            grant.require_run(run, "g")
