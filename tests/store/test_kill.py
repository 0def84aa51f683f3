"""Killed at any moment, a writer loses nothing that was acknowledged and leaves nothing half visible."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.child import ITEMS, attempt_of
from tests.store.making import fill_outbox, seal, trial_id_of
from wtsbench.store.client import Store
from wtsbench.store.courier import deliver

Child = Callable[..., subprocess.Popen[str]]
_MOST_CALLS = 35
"""More than the calls of the engine that one delivery makes."""


def _only_whole_attempts(store: Store, ids: list[str], splits: tuple[str, ...] = ("test", "transfer")) -> set[str]:
    """The trials in the store, after seeing that of each all rows are there once."""
    trials = store.trials()["trial_id"].to_pylist()
    assert len(trials) == len(set(trials))
    predictions = store.predictions(ids)
    expected = sorted((trial, split, item) for trial in trials for split in splits for item in ITEMS)
    columns = (predictions[name].to_pylist() for name in ("trial_id", "split", "item_id"))
    assert list(zip(*columns, strict=True)) == expected
    for trial in trials:
        assert store.sealed(trial, 1)
    return set(trials)


def test_random_kills_lose_no_acknowledged_attempt(store: Store, child: Child) -> None:
    """A writer is killed again and again, at random; the count of what it was promised is kept outside it."""
    chance = random.Random()
    promised: set[int] = set()
    started: set[int] = set()
    first = 0
    for _ in range(4):
        process = child("write", store.uri, first)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        lines += process.stdout.readlines()
        halves = [int(line.split()[1]) for line in lines if line.startswith("half")]
        promised |= {int(line.split()[1]) for line in lines if line.startswith("whole") and line.endswith("\n")}
        first = max(halves) + 2
        started |= {*halves, first - 1}
        stored = _only_whole_attempts(store, [trial_id_of(f"trial-{number}") for number in started])
        assert {trial_id_of(f"trial-{number}") for number in promised} <= stored
    assert promised
    # What was cut off can be sent again: kept parts are known, and missing ones are taken.
    for number in sorted(started):
        store.append(attempt_of(number))
    trials = _only_whole_attempts(store, [trial_id_of(f"trial-{number}") for number in started])
    assert len(trials) == len(started)


def test_killed_at_every_call_of_the_engine_delivery_resumes(store: Store, tmp_path: Path, child: Child) -> None:
    """Before each single call of the engine, from opening over commit to closing, a courier is killed once."""
    outboxes = [
        fill_outbox(
            tmp_path / "outboxes" / f"{number:03d}",
            [*attempt_of(number)[1:3], seal(trial_id_of(f"trial-{number}"), 1, 4, records=3)],
        )
        for number in range(1, _MOST_CALLS)
    ]
    output = child("die_in_engine", store.uri, tmp_path / "outboxes").communicate()[0].split("\n")[:-1]
    assert {"dies before begin", "dies before commit", "dies before close", "survived"} <= set(output)
    tried = outboxes[: len(output)]
    visible = _only_whole_attempts(store, [outbox.trial_id for outbox in tried], ("test",))
    assert visible
    assert tried[0].trial_id not in visible
    for outbox, last in zip(tried, output, strict=True):
        waiting = len(outbox.pending())
        assert waiting == (0 if last == "survived" else 3)
        known = "duplicate" if outbox.trial_id in visible else "stored"
        assert [ack.outcome for ack in deliver(outbox.folder, store)] == [known] * waiting
    assert len(_only_whole_attempts(store, [outbox.trial_id for outbox in tried], ("test",))) == len(tried)


@pytest.mark.parametrize("deletions", [1, 3])
def test_killed_between_deletions_a_courier_delivers_nothing_twice(
    store: Store, tmp_path: Path, child: Child, deletions: int
) -> None:
    """Acknowledged but not yet forgotten: the next courier is told that they are duplicates, and forgets them."""
    records = attempt_of(0)
    outbox = fill_outbox(tmp_path / "outbox", records)
    assert child("die_in_courier", store.uri, outbox.folder, deletions).wait() == -9
    assert len(outbox.pending()) == 5 - deletions
    assert [ack.outcome for ack in deliver(outbox.folder, store)] == ["duplicate"] * (5 - deletions)
    assert _only_whole_attempts(store, [records[0].trial_id])
    assert outbox.pending() == []
