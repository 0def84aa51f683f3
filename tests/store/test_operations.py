"""Runs and leases: who runs what now, what it printed so far, and what of it somebody asked to cancel."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.store.making import seal, trial_id_of, whole_attempt
from tests.store.servers import any_store
from tests.store.supervising import RUN, A, Clock, lines_of, renewed, report, run_of, yaml_of
from wtsbench.contract.operations import (
    KEPT_BYTES,
    KEPT_LINES,
    LEASE_SECONDS,
    LINE_CHARACTERS,
    PRINTED,
    RUNNING,
    RUNS,
    Orders,
)
from wtsbench.errors import StoreError
from wtsbench.store.client import Store, open_store
from wtsbench.store.wire import Cancelled, Held, StoreRefused

store = any_store
B, C = (trial_id_of(name) for name in "bc")
in_a_folder = pytest.mark.parametrize("store", ["folder"], indirect=True)


# -- leases


def test_a_trial_that_is_being_run_is_held(store: Store) -> None:
    """Whoever asks for it is told by whom; attempts without a lease are begun as ever."""
    assert store.begin_attempt(A, run="toy-1", host="node-1", lease=True) == 1
    for run in ("toy-1", "toy-2"):
        with pytest.raises(Held, match="is being run by toy-1, attempt 1") as held:
            store.begin_attempt(A, run=run, lease=True)
        assert (held.value.by, pickle.loads(pickle.dumps(held.value)).by) == ("toy-1", "toy-1")  # noqa: S301
    assert store.begin_attempt(B, run="toy-2", lease=True) == 1
    assert store.begin_attempt(A, run="toy-2") == 2
    running = store.running()
    assert running.schema.equals(RUNNING)
    assert [(row["trial_id"], row["attempt"], row["run"], row["host"]) for row in running.to_pylist()] == sorted(
        [(A, 1, "toy-1", "node-1"), (B, 1, "toy-2", "")]
    )
    assert store.attempts([A])["attempt"].to_pylist() == [1, 2]


def test_a_lease_that_ends_is_taken_by_the_next(store: Store, clock: Clock) -> None:
    """Renewed it goes on; not renewed it ends, and who comes back after another took the trial has none."""
    store.begin_attempt(A, run="dead", lease=True)
    for _ in range(3):
        clock.pass_by(LEASE_SECONDS - 10)
        renewed(store, A, 1, "still here")
        with pytest.raises(Held):
            store.begin_attempt(A, run="next", lease=True)
    clock.pass_by(LEASE_SECONDS + 1)
    assert store.running()["attempt"].to_pylist() == [1]
    assert store.begin_attempt(A, run="next", lease=True) == 2
    assert store.running()["attempt"].to_pylist() == [2]
    assert lines_of(store) == []
    renewed(store, A, 1, "here again")
    assert (lines_of(store), store.running()["attempt"].to_pylist()) == ([], [2])
    with pytest.raises(Held, match="by next"):
        store.begin_attempt(A, run="dead", lease=True)


@in_a_folder
def test_a_lease_that_ended_and_that_nobody_took_is_renewed(store: Store, clock: Clock) -> None:
    """A supervisor that was away for a while goes on where nobody came meanwhile."""
    store.begin_attempt(A, run="slow", lease=True)
    clock.pass_by(LEASE_SECONDS + 1)
    renewed(store)
    with pytest.raises(Held, match="by slow"):
        store.begin_attempt(A, run="next", lease=True)


@in_a_folder
def test_a_clock_that_is_set_back_holds_no_trial_for_long(store: Store, clock: Clock) -> None:
    """A lease of the clock's future counts as ended, for its holder could have renewed it since."""
    clock.pass_by(86_400)
    store.begin_attempt(A, run="then", lease=True)
    store.begin_attempt(B, run="then", lease=True)
    clock.pass_by(-86_400)
    renewed(store, B)
    assert store.begin_attempt(A, run="now", lease=True) == 2
    with pytest.raises(Held):
        store.begin_attempt(B, run="now", lease=True)


@in_a_folder
def test_leases_that_nobody_sealed_are_forgotten_after_a_day(store: Store, clock: Clock) -> None:
    """What an attempt printed before its machine died can be read until then, or until the next attempt."""
    store.begin_attempt(A, run="dead", lease=True)
    renewed(store, A, 1, "the last words")
    clock.pass_by(86_000)
    store.begin_attempt(B, run="other", lease=True)
    assert lines_of(store) == [(1, "the last words")]
    clock.pass_by(2_000)
    store.begin_attempt(C, run="other", lease=True)
    assert lines_of(store) == []
    assert A not in store.running()["trial_id"].to_pylist()


@pytest.mark.parametrize("status", ["done", "failed"])
def test_sealing_ends_a_lease_and_deletes_what_was_printed(store: Store, status: str) -> None:
    """Once all of an attempt's records are there, in whatever order they come; a failed trial may be begun again."""
    for trial_id in (A, B):
        store.begin_attempt(trial_id, run="toy-1", lease=True)
        renewed(store, trial_id, 1, "one", "two")
    records = whole_attempt(A, 1, status=status)
    store.append(records[1:])
    assert len(lines_of(store)) == 2
    with pytest.raises(Held):
        store.begin_attempt(A, run="toy-2", lease=True)
    store.append(records[:1])
    assert lines_of(store) == []
    assert store.running()["trial_id"].to_pylist() == [B]
    assert len(lines_of(store, B)) == 2
    renewed(store, A, 1, "three", first=3)  # a beat that was on its way
    assert lines_of(store) == []
    assert store.running()["trial_id"].to_pylist() == [B]
    if status == "failed":
        assert store.begin_attempt(A, run="toy-2", lease=True) == 2
        return
    with pytest.raises(Held, match="is done") as held:
        store.begin_attempt(A, run="toy-2", lease=True)
    assert held.value.by == "toy-1"


@in_a_folder
def test_a_seal_that_is_refused_leaves_the_lease(store: Store) -> None:
    """An attempt goes on being run where what came was no end of it."""
    store.begin_attempt(A, run="toy-1", lease=True)
    with pytest.raises(StoreError):
        store.append([seal(A, 1, 1), seal(A, 1, 2)])
    assert store.running().num_rows == 1


@in_a_folder
def test_a_superseded_attempt_has_no_lease(store: Store, clock: Clock) -> None:
    """Its trial was done by an attempt that came back after its lease had been taken."""
    store.begin_attempt(A, run="slow", lease=True)
    clock.pass_by(LEASE_SECONDS + 1)
    store.begin_attempt(A, run="next", lease=True)
    renewed(store, A, 2, "in vain")
    store.append(whole_attempt(A, 1))
    assert store.running()["attempt"].to_pylist() == [2]
    assert store.append(whole_attempt(A, 2))[-1].outcome == "superseded"
    assert (store.running().num_rows, lines_of(store, A, 2)) == (0, [])


def test_every_trial_is_begun_once(store: Store) -> None:
    """Sixteen threads of two clients ask for the same trials, each for a quarter of them in an order of its own."""
    trials = [trial_id_of(str(number)) for number in range(200 if "://" in store.uri else 20)]
    clients = [open_store(store.uri), open_store(store.uri)]

    def claim(number: int) -> list[tuple[str, int]]:
        own = [trial for place, trial in enumerate(trials) if place % 4 == number % 4]
        random.Random(number).shuffle(own)
        begun = []
        for trial_id in own:
            try:
                begun.append((trial_id, clients[number % 8 // 4].begin_attempt(trial_id, run=f"{number}", lease=True)))
            except Held:
                continue
        return begun

    with ThreadPoolExecutor(16) as pool:
        begun = [one for part in pool.map(claim, range(16)) for one in part]
    assert sorted(begun) == sorted((trial_id, 1) for trial_id in trials)
    assert store.attempts()["trial_id"].to_pylist() == sorted(trials)
    assert store.running()["trial_id"].to_pylist() == sorted(trials)


# -- what running attempts print


def test_printed_lines_are_kept_once(store: Store) -> None:
    """Lines that come again, or overlap with those that are there, are known; a reader asks for the later ones."""
    store.begin_attempt(A, run="toy-1", lease=True)
    renewed(store, A, 1, "one", "two")
    for _ in range(2):
        renewed(store, A, 1, "two", "three", first=2)
    renewed(store, A, 1, "one")
    assert lines_of(store) == [(1, "one"), (2, "two"), (3, "three")]
    after = store.printed(A, 1, after=2)
    assert after.schema.equals(PRINTED)
    assert after.to_pylist() == [{"line": 3, "text": "three"}]
    assert store.printed(A, 2).num_rows == store.printed(B, 1).num_rows == 0


def test_what_is_kept_of_the_lines_is_bounded(store: Store) -> None:
    """The oldest lines go, beyond a number of lines and of bytes; long ones are cut, and odd ones are kept as text."""
    store.begin_attempt(A, run="toy-1", lease=True)
    renewed(store, A, 1, *(f"line {number}" for number in range(1, KEPT_LINES + 1000)))
    numbers = list(range(1000, KEPT_LINES + 1000))
    assert lines_of(store) == [(number, f"line {number}") for number in numbers]
    renewed(store, A, 1, "x" * (LINE_CHARACTERS + 1), "\ud800 \0 \x1b[2J", first=KEPT_LINES + 1000)
    assert [len(text) for _, text in lines_of(store)[-2:]] == [LINE_CHARACTERS, 13]
    store.begin_attempt(B, run="toy-1", lease=True)
    renewed(store, B, 1, *["é" * LINE_CHARACTERS] * 300)
    lines = lines_of(store, B)
    assert len(lines) == KEPT_BYTES // (2 * LINE_CHARACTERS)
    assert lines[-1][0] == 300


def test_only_what_has_a_lease_is_renewed(store: Store) -> None:
    """An attempt that is unknown, or was begun without a lease, gets none by asking; it hears its run's orders."""
    store.begin_attempt(A, run=RUN)
    store.report_run(report())
    store.cancel(RUN, None)
    assert renewed(store, A, 1, "one") == Orders(cancelled=True)
    assert renewed(store, A, 2, "one") == renewed(store, B, 1, "one") == Orders()
    assert store.running().num_rows == store.printed(A, 1).num_rows == 0


# -- runs


def test_a_run_is_as_it_was_last_reported(store: Store, clock: Clock) -> None:
    """All but its start; a report may come twice, and one that comes after a later one, which ended it, is ignored."""
    counts: dict[str, Any] = {"total": 9, "stored": 1, "done": 2, "failed": 3, "waiting": 2, "running": 1}
    first = report(job="job-1", host="node-1", priority=-5, yaml="name: toy", detail="x" * 5_000, **counts)
    assert store.report_run(first) == store.report_run(first) == Orders()
    begun = run_of(store)
    assert store.runs().schema.equals(RUNS)
    assert {name: begun[name] for name in counts} == counts
    assert (begun["job"], begun["host"], begun["priority"], begun["state"]) == ("job-1", "node-1", -5, "running")
    assert (begun["detail"], begun["ended_at"], begun["cancelled"]) == ("x" * 4_000, None, False)
    clock.pass_by(30)
    store.report_run(report(state="failed", done=6, detail="out of memory"))
    ended = run_of(store)
    assert (ended["state"], ended["done"], ended["total"], ended["job"]) == ("failed", 6, 0, None)
    assert ended["started_at"] == begun["started_at"] < ended["seen_at"] == ended["ended_at"]
    store.report_run(first)
    store.report_run(report(state="failed", done=6, detail="out of memory"))
    silent = run_of(store)["silent_s"]
    assert {**run_of(store), "seen_at": ended["seen_at"], "silent_s": 0.0} == {**ended, "silent_s": 0.0}
    assert silent <= run_of(store)["silent_s"]
    assert yaml_of(store, RUN) == ["name: toy"]
    assert yaml_of(store, "none") == []
    store.report_run(report("other-1", grid="other", state="queued", cluster=None))
    assert store.runs()["run"].to_pylist() == [RUN, "other-1"]


@in_a_folder
def test_a_run_that_is_started_again_goes_on(store: Store) -> None:
    """What was cancelled before it ended is withdrawn; a supervisor of before, which still lives, is not heard."""
    store.report_run(report())
    assert store.cancel(RUN, None)
    assert store.cancel(RUN, [A])
    store.report_run(report(resumed=1))  # it had not ended: who asked to cancel it is heard
    assert store.report_run(report(resumed=1, state="cancelled")) == Orders(True, (A,))
    assert not store.cancel(RUN, None)
    assert store.report_run(report(resumed=2, yaml="name: toy")) == Orders()
    store.report_run(report(resumed=1, state="failed"))
    again = run_of(store)
    assert (again["state"], again["resumed"], again["ended_at"], again["cancelled"]) == ("running", 2, None, False)
    assert yaml_of(store, RUN) == ["name: toy"]
    assert store.cancel(RUN, None)


def test_what_somebody_asked_to_cancel_reaches_run_and_trial(store: Store) -> None:
    """A run hears of all its trials, a trial of itself alone; asking twice is asking once."""
    for trial_id in (A, B):
        store.begin_attempt(trial_id, run=RUN, lease=True)
    assert not store.cancel(RUN, None)
    store.report_run(report())
    assert store.cancel(RUN, [])
    for _ in range(2):
        assert store.cancel(RUN, [A, C, A])
    assert store.report_run(report()) == Orders(cancelled_trials=tuple(sorted([A, C])))
    assert (renewed(store, A), renewed(store, B)) == (Orders(cancelled_trials=(A,)), Orders())
    assert store.cancel(RUN, None)
    assert run_of(store)["cancelled"]
    assert renewed(store, B) == Orders(cancelled=True)
    store.append(whole_attempt(B, 1))
    assert renewed(store, B) == Orders(cancelled=True)
    store.report_run(report("toy-1"))
    assert store.report_run(report("toy-1")) == Orders()
    store.report_run(report(state="done"))
    assert not store.cancel(RUN, [B])


def test_what_is_cancelled_is_not_begun(store: Store) -> None:
    """Neither a trial that is cancelled in its run, nor one of a cancelled run; other runs begin them as ever."""
    for run in (RUN, "toy-1"):
        store.report_run(report(run))
    store.cancel(RUN, [A])
    with pytest.raises(Cancelled, match=f"trial {A[:12]} of {RUN} is cancelled") as refused:
        store.begin_attempt(A, run=RUN, lease=True)
    assert refused.value.remedy
    assert store.begin_attempt(B, run=RUN, lease=True) == 1
    assert store.begin_attempt(A, run="toy-1", lease=True) == 1
    with pytest.raises(Cancelled):  # though another run holds it
        store.begin_attempt(A, run=RUN, lease=True)
    store.cancel(RUN, None)
    with pytest.raises(Cancelled, match=f"^run {RUN} is cancelled"):
        store.begin_attempt(C, run=RUN, lease=True)
    store.append(whole_attempt(A, 1))
    with pytest.raises(Held, match="is done"):  # then there is a result to take
        store.begin_attempt(A, run=RUN, lease=True)
    assert store.attempts().num_rows == 2
    store.report_run(report(state="cancelled"))
    store.report_run(report(resumed=1))
    assert store.begin_attempt(C, run=RUN, lease=True) == 1


def test_a_run_gives_way_to_a_living_one_of_higher_priority_on_its_cluster(store: Store, clock: Clock) -> None:
    """As long as trials of that one wait; not to one that ended, is lost, is elsewhere or is of the same priority."""
    store.begin_attempt(A, run=RUN, lease=True)

    def above(**fields: Any) -> str | None:
        store.report_run(report("toy-high", **{"priority": 2, "waiting": 1, **fields}))
        heard = store.report_run(report(priority=1)).outranked_by
        assert renewed(store).outranked_by == heard
        return heard

    assert above() == "toy-high"
    for other in (
        {"priority": 1},
        {"waiting": 0},
        {"state": "queued"},
        {"cluster": "ray://other:1"},
        {"cluster": None},
    ):
        assert above(**other) is None
    store.report_run(report("toy-highest", priority=3, waiting=1))
    assert above() == "toy-highest"
    clock.pass_by(LEASE_SECONDS + 1)
    assert store.report_run(report(priority=1)).outranked_by is None
    assert above() == "toy-high"
    assert above(state="done") is None
    alone = [report(f"alone-{number}", cluster=None, priority=number, waiting=1) for number in (1, 2)]
    assert [store.report_run(one).outranked_by for one in alone * 2] == [None] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": ""},
        {"grid": "x" * 501},
        {"cluster": 1},
        {"host": None},
        {"state": "lost"},
        {"total": -1},
        {"running": 2**31},
        {"resumed": True},
        {"priority": 1.5},
        {"priority": 2**31},
        {"yaml": None},
        {"detail": 5},
    ],
)
@in_a_folder
def test_a_report_that_no_run_makes_is_refused(store: Store, wrong: dict[str, Any]) -> None:
    """It says what is wrong, and nothing of it is kept."""
    with pytest.raises(StoreError):
        store.report_run(report(**wrong))
    assert store.runs().num_rows == 0


# -- what holds of all of it


def test_times_are_those_of_the_stores_clock(store: Store, clock: Clock) -> None:
    """Whatever the clocks of its clients say."""
    clock.pass_by(365 * 86_400)
    store.report_run(report(state="done"))
    store.begin_attempt(A, run=RUN, lease=True)
    renewed(store)
    ahead = datetime.now(UTC) + timedelta(days=364)
    row, attempt = run_of(store), store.running().to_pylist()[0]
    assert min(row["started_at"], row["seen_at"], row["ended_at"], attempt["started_at"], attempt["seen_at"]) > ahead
    assert attempt["until"] - attempt["seen_at"] == timedelta(seconds=LEASE_SECONDS)


def test_readers_sql_does_not_reach_what_happens_now(store: Store) -> None:
    """Nor does it stand in the way of names that readers give."""
    store.report_run(report())
    for sql in (
        "SELECT * FROM operations.runs",
        "SELECT * FROM runs",
        "SELECT * FROM (WITH runs AS (SELECT 1) SELECT 1), runs",
    ):
        with pytest.raises(StoreRefused):
            store.sql(sql)
    assert store.sql("WITH runs AS (SELECT 1 AS n), leases AS (FROM runs) FROM leases").to_pylist() == [{"n": 1}]
