"""The fork server: forked trials, and what happens when one of them or the fork server itself is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.trial.folders import made_items, predictions_of, result_of, write_folder
from tests.trial.processes import (
    SECONDS,
    ForkServerDriver,
    end_lane,
    environment,
    is_running,
    server,
    start_lane,
    wait_for,
)

ITEMS = made_items(80)
QUICK: dict[str, Any] = {"epochs": 1.0, "learning_rate": 3e-3, "batch_size": 8}
ENDLESS: dict[str, Any] = {"epochs": 1000.0, "batch_size": 1}


@pytest.fixture(scope="module")
def driver() -> Iterator[ForkServerDriver]:
    """One fork server for the tests that leave it alive."""
    with server() as running:
        yield running


def test_a_fork_server_computes_what_a_process_of_its_own_does(
    tmp_path: Path, tiny_llama: Path, driver: ForkServerDriver
) -> None:
    """A forked trial, first or later of its fork server, predicts the very bits of `python -m wtsbench.trial`."""
    job = write_folder(tmp_path / "plain", ITEMS, tiny_llama, **QUICK)
    plain = subprocess.run(
        [sys.executable, "-m", "wtsbench.trial", str(tmp_path / "plain")],
        env=environment(),
        timeout=SECONDS,
        check=False,
    )
    assert plain.returncode == 0
    expected = predictions_of(tmp_path / "plain", job)
    for name in ("first", "second"):
        write_folder(tmp_path / name, ITEMS, tiny_llama, **QUICK)
        ended = driver.run(name, tmp_path / name)
        assert (ended["exit_code"], ended["signal"]) == (0, None)
        assert predictions_of(tmp_path / name, job) == expected
        assert "done: loss" in (tmp_path / name / "log.txt").read_text()


def test_a_fork_server_has_one_thread_that_python_knows_of(driver: ForkServerDriver) -> None:
    """Where it forks there is no thread pool: only its own thread, and what allocators keep for themselves."""
    tasks = Path(f"/proc/{driver.process.pid}/task")
    names = []
    for task in tasks.iterdir():
        with suppress(OSError):  # an allocator's own thread may end meanwhile
            names.append((task / "comm").read_text().strip())
    assert len([name for name in names if "jemalloc" not in name]) == 1


def test_a_trial_imports_nothing_large_of_its_own(tmp_path: Path, tiny_llama: Path) -> None:
    """What a trial needs was imported before the fork; so was pandas, which Arrow imports with its first value."""
    write_folder(tmp_path / "trial", ITEMS, tiny_llama, **QUICK)
    code = (
        "import sys; from pathlib import Path; from wtsbench.worker import fork_server; fork_server.preload();"
        "before = set(sys.modules); from wtsbench.trial.run import run_folder; run_folder(Path(sys.argv[1]));"
        "print('new', *sorted({name.partition('.')[0] for name in sys.modules.keys() - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "trial")],
        env=environment(), capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    new = run.stdout.splitlines()[-1].split()[1:]
    assert set(new) <= {"encodings", "torch"}  # of torch a part that only a profiler needs


def test_a_failed_trial_exits_with_1(tmp_path: Path, tiny_llama: Path, driver: ForkServerDriver) -> None:
    """A trial that fails says so by its exit code and its result, and its traceback is in its log."""
    write_folder(tmp_path, ITEMS, tiny_llama, **QUICK)
    (tmp_path / "inputs" / "items.arrow").unlink()
    assert driver.run("fails", tmp_path)["exit_code"] == 1
    assert result_of(tmp_path)["status"] == "failed"
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_trials_side_by_side(tmp_path: Path, tiny_llama: Path, driver: ForkServerDriver) -> None:
    """Several trials run at once, and one that is killed leaves the others and the fork server alone."""
    write_folder(tmp_path / "long", ITEMS, tiny_llama, **ENDLESS)
    write_folder(tmp_path / "short", ITEMS, tiny_llama, **QUICK)
    driver.start("long", tmp_path / "long")
    pid = driver.expect("started", "long")["pid"]
    assert driver.run("short", tmp_path / "short")["exit_code"] == 0
    os.killpg(pid, signal.SIGKILL)
    ended = driver.expect("ended", "long")
    assert (ended["exit_code"], ended["signal"]) == (None, signal.SIGKILL)
    write_folder(tmp_path / "after", ITEMS, tiny_llama, **QUICK)
    assert driver.run("after", tmp_path / "after")["exit_code"] == 0


def test_a_trial_is_stopped_by_request(tmp_path: Path, tiny_llama: Path, driver: ForkServerDriver) -> None:
    """The driver can have a running trial signalled by its own id for it."""
    write_folder(tmp_path, ITEMS, tiny_llama, **ENDLESS)
    driver.start("stop me", tmp_path)
    driver.expect("started", "stop me")
    driver.send(id="stop me", signal=int(signal.SIGTERM))
    assert driver.expect("ended", "stop me")["signal"] == signal.SIGTERM


def test_environment_and_log_of_a_child(tmp_path: Path, tiny_llama: Path, driver: ForkServerDriver) -> None:
    """A request can set variables for its trial alone and say where its output goes."""
    write_folder(tmp_path / "t", ITEMS, tiny_llama, **ENDLESS)
    (tmp_path / "t" / "lease").touch()
    ended = driver.run(
        "leased", tmp_path / "t", log=str(tmp_path / "elsewhere.txt"), environment={"WTSBENCH_LEASE_SECONDS": "0.5"}
    )
    assert ended["exit_code"] == 70
    assert "lease was not renewed" in (tmp_path / "elsewhere.txt").read_text()


def test_nonsense_is_refused(tmp_path: Path, driver: ForkServerDriver) -> None:
    """Lines that are no request are answered as refused, and the fork server goes on."""
    assert driver.process.stdin is not None
    driver.process.stdin.write("nonsense\n[1]\n")
    driver.process.stdin.flush()
    assert driver.expect("refused")["id"] is None
    assert driver.expect("refused")["id"] is None
    driver.start("x", tmp_path)
    assert "not a trial folder" in driver.expect("refused", "x")["reason"]


def test_the_end_of_input_ends_everything(tmp_path: Path, tiny_llama: Path) -> None:
    """When the driver closes its end, running trials are killed and the fork server exits with 0."""
    write_folder(tmp_path, ITEMS, tiny_llama, **ENDLESS)
    with server() as running:
        running.start("a", tmp_path)
        pid = running.expect("started", "a")["pid"]
    assert not is_running(pid)


def test_a_killed_fork_server_takes_its_trials_with_it(tmp_path: Path, tiny_llama: Path) -> None:
    """No trial outlives a fork server that was killed."""
    write_folder(tmp_path, ITEMS, tiny_llama, **ENDLESS)
    running = start_lane()
    try:
        running.start("a", tmp_path)
        pid = running.expect("started", "a")["pid"]
    finally:
        end_lane(running)
    wait_for(lambda: not is_running(pid))
