"""Several submissions at one store: who sees what of whom, and who ends whom."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import wtsbench
from tests.end_to_end.conftest import Bench
from wtsbench.store.client import open_store

pytestmark = pytest.mark.slow
RUN = ("--executor", "in-process", "--sandbox", "process")


def until(what: Callable[[], Any], *, seconds: float = 120) -> Any:
    """Wait until something is so, and say what."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


def test_overlapping_grids_train_no_trial_twice(bench: Bench, undisturbed: Any) -> None:
    """Two submissions of one grid and a third of half of it, all at once: each trial has one attempt; all end well."""
    grids = [bench.grid(), bench.grid(), bench.grid("half", strategies="[naive]")]
    processes = [bench.start("submit", grid, *RUN) for grid in grids]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(outputs)
    assert set(map(tuple, bench.attempts().values())) == {("done",)}
    assert open_store(str(bench.store)).attempts().num_rows == len(bench.attempts()) == 8
    assert any(re.search(r"waits .*: run \S+ is at it", output) for output in outputs)
    assert any("(stored meanwhile)" in output for output in outputs)
    board = bench.run("leaderboard", "--grid", "small", "--json").stdout
    assert re.sub(r'"submission": \d', '"submission": 1', board) == undisturbed[1]


def test_the_other_run_dies(bench: Bench) -> None:
    """A trial whose run was killed is waited for no longer than the next sweep of this machine, and then run here."""
    grid = bench.grid(strategies="[naive]", seeds="[0]")
    first = bench.start("submit", grid, *RUN)
    store = until(lambda: open_store(str(bench.store), create=True))
    until(lambda: store.running().num_rows)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    second = bench.run("submit", grid, *RUN)
    assert second.returncode == 0, second.stdout + second.stderr
    states = [row["state"] for row in store.runs().to_pylist()]
    assert states == ["running", "done"]  # the first never said that it ended
    assert store.running().num_rows == 0


def test_some_trials_are_cancelled_from_another_process(bench: Bench) -> None:
    """The rest is run, and the exit code is 130. Another run's leases keep these students from being done before."""
    grid = bench.grid()
    store = open_store(str(bench.store), create=True)
    students = [
        trial.spec.trial_id
        for trial in wtsbench.plan(grid, store=bench.store, sandbox="process").trials
        if trial.spec.strategy and trial.spec.strategy.name == "logconf"
    ]
    assert len(students) == 2
    for student in students:
        store.begin_attempt(student, run="other", lease=True)
    some = bench.start("submit", grid, *RUN)
    runs = until(lambda: store.runs().to_pylist())
    answer = bench.run("cancel", "small", "--strategy", "logconf")
    assert answer.returncode == 0, answer.stderr
    assert f"2 trials of {runs[0]['run']}" in answer.stdout
    output = some.communicate(timeout=300)[0]
    assert some.returncode == 130, output
    assert output.count("cancelled student safety-mini nano-2 logconf") == 2, output
    assert set(map(tuple, bench.attempts().values())) == {("done",)}
    assert len(bench.attempts()) == 6
    assert re.search(r"small-\S+ +cancelled +6/8", bench.run("runs").stdout), bench.run("runs").stdout


def test_a_run_is_cancelled_from_another_process(bench: Bench) -> None:
    """As Ctrl-C does: what trains is stopped and sealed, nothing else is begun, and the exit code is 130."""
    grid = bench.grid(seeds="[0]")
    grid.write_text(f"{grid.read_text()}training: {{epochs: 1000}}\n")  # of hours
    process = bench.start("submit", grid, *RUN)
    store = until(lambda: open_store(str(bench.store), create=True))
    until(lambda: store.running().num_rows)
    run = store.runs().to_pylist()[-1]["run"]
    assert bench.run("cancel", run).returncode == 0
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    assert re.search(rf"{run} +cancelled +0/4", bench.run("runs").stdout), bench.run("runs").stdout
    assert {row["failure_class"] for row in store.trials().to_pylist()} == {"cancelled"}
    assert "has ended" in bench.run("cancel", run).stderr
    assert bench.run("attach", run).returncode == 130
    assert store.running().num_rows == 0
