"""Several submissions at one store: who sees what of whom, and who ends whom."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

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


def test_cancelled_from_another_process(bench: Bench) -> None:
    """`cancel` of some students leaves the rest; `cancel` of a run ends it as Ctrl-C does; both are exit code 130."""
    grid = bench.grid()
    some = bench.start("submit", grid, *RUN)
    store = until(lambda: open_store(str(bench.store), create=True))
    until(lambda: store.running().num_rows)
    answer = bench.run("cancel", "small", "--strategy", "logconf")
    assert answer.returncode == 0, answer.stderr
    assert "2 trials of small-" in answer.stdout
    output = some.communicate(timeout=300)[0]
    assert some.returncode == 130, output
    assert output.count("cancelled student safety-mini nano-2 logconf") == 2, output
    assert len(bench.attempts()) == 6

    rest = bench.start("submit", grid, *RUN)
    until(lambda: store.running().num_rows)
    run = store.runs().to_pylist()[-1]["run"]
    assert bench.run("cancel", run).returncode == 0
    output = rest.communicate(timeout=120)[0]
    assert rest.returncode == 130, output
    assert re.search(rf"{run} +cancelled +6/8", bench.run("runs").stdout), bench.run("runs").stdout
    assert "has ended" in bench.run("cancel", run).stderr
    assert bench.run("attach", run).returncode == 130
    assert store.running().num_rows == 0
