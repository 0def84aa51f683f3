"""Environment, lease and log: what both sandboxes share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import wtsbench
from wtsbench.sandbox import log
from wtsbench.sandbox.environment import process_environment
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.usage import memory_used


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WTSBENCH_TOKEN_FILE", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "LD_PRELOAD"]
)
def test_nothing_of_the_users_environment_comes_along(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only listed variables reach a trial, so a token does not, whatever it is called."""
    monkeypatch.setenv(name, "secret")

    assert name not in process_environment(1)
    assert "secret" not in process_environment(1).values()


def test_threads_and_devices_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process sees no GPU but those that it is given later, and computes with its threads."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")

    assert process_environment(3)["CUDA_VISIBLE_DEVICES"] == ""
    assert process_environment(3)["OMP_NUM_THREADS"] == "3"
    assert process_environment(3)["HF_HUB_OFFLINE"] == "1"


def test_a_child_imports_the_same_wtsbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wtsbench is found here, a child finds the same one, and relative paths lead where they led."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "plugin_of_the_user.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "beside")

    done = subprocess.run(
        [sys.executable, "-P", "-c", "import plugin_of_the_user, wtsbench; print(wtsbench.__file__)"],
        env=process_environment(1),
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )

    assert Path(done.stdout.strip()) == Path(wtsbench.__file__)


def test_a_lease_is_renewed_while_its_context_lasts(tmp_path: Path) -> None:
    """The same file is touched again and again, and no more afterwards."""
    lease = tmp_path / "lease"
    pause = threading.Event()
    with Renewal(lease, every=0.01):
        node = lease.stat().st_ino
        os.utime(lease, (0, 0))
        for _ in range(1000):
            if lease.stat().st_mtime > 0:
                break
            pause.wait(0.01)
    assert lease.stat().st_mtime > 0
    assert lease.stat().st_ino == node
    os.utime(lease, (0, 0))
    pause.wait(0.05)
    assert lease.stat().st_mtime == 0


def test_a_lease_whose_folder_is_gone_disturbs_nobody(tmp_path: Path) -> None:
    """A supervisor whose folder was removed ends in peace."""
    folder = tmp_path / "trial"
    folder.mkdir()
    with Renewal(folder / "lease", every=0.01):
        (folder / "lease").unlink()
        folder.rmdir()
        threading.Event().wait(0.05)


def test_a_long_log_is_cut_and_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is kept in whole lines, the cut is said, and what comes later follows it."""
    monkeypatch.setattr(log, "LOG_BYTES", 1000)
    monkeypatch.setattr(log, "KEPT_BYTES", 105)
    path = tmp_path / "log.txt"
    with path.open("ab", buffering=0) as writer:
        for number in range(200):
            writer.write(b"line %03d\n" % number)
        log.bound(path)
        writer.write(b"later\n")

    lines = path.read_text().splitlines()
    assert "too long" in lines[0]
    assert lines[1:] == [*(f"line {number}" for number in range(189, 200)), "later"]


def test_a_short_or_missing_log_is_left_alone(tmp_path: Path) -> None:
    """There is nothing to cut, and the tail of nothing is empty."""
    path = tmp_path / "log.txt"
    log.bound(path)
    assert log.tail(path) == ""
    path.write_text("hello\n")
    log.bound(path)
    assert log.tail(path) == "hello\n"


def test_a_running_trials_lines_are_read_once_each(tmp_path: Path) -> None:
    """Whole lines are told from where the last look ended; a line that is still being written waits."""
    path = tmp_path / "log.txt"
    assert log.further(path, 0) == ([], 0)
    path.write_text("one\ntwo\nthr")
    lines, offset = log.further(path, 0)
    assert lines == ["one", "two"]
    with path.open("a") as file:
        file.write("ee\n")
    assert log.further(path, offset) == (["three"], path.stat().st_size)


def test_a_line_longer_than_one_look_hides_nothing_after_it(tmp_path: Path) -> None:
    """A progress bar without line breaks is told in parts, and then what follows it."""
    path = tmp_path / "log.txt"
    path.write_text("." * (log.KEPT_BYTES + 10) + "\nlast\n")
    first, offset = log.further(path, 0)
    assert first == ["." * log.KEPT_BYTES]
    assert log.further(path, offset) == (["." * 10, "last"], path.stat().st_size)


def test_memory_is_counted_over_a_process_group() -> None:
    """What a child of the group holds counts, whatever it is called; mapped files do not."""
    code = "import os, sys; held = bytearray(64 << 20); print('held', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        ["sh", "-c", f'"{sys.executable}" -c "{code}"; true'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        held = memory_used(child.pid)

    assert 64 << 20 < held < 96 << 20
    assert memory_used(child.pid) == 0
