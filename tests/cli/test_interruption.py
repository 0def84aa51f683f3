"""Signals: the first stops cleanly, the second at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from wtsbench.errors import ExitCode

PROGRAM = """
import signal, sys, time
from functools import partial
from wtsbench.execution.interruption import Interruption
from wtsbench_cli.submit import end_at_once

if "ignored" not in sys.argv:  # whoever runs the tests may do so under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

def run():
    with Interruption(lambda: print("told", flush=True), at_once=partial(end_at_once, True)) as interruption:
        if "clean" in sys.argv:
            interruption.stop_cleanly()
        if "ray" in sys.argv:  # somebody else takes the signal, as Ray does
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            interruption.claim()
        print("ready", flush=True)
        while not interruption.stop.is_set():  # the signal's handler sets it in this very thread: nobody may wait()
            time.sleep(0.02)
        print("stopping", flush=True)
        time.sleep(60 if "hang" in sys.argv else 0)

from wtsbench_cli.faults import guarded
sys.exit(guarded(run, debug=False))
"""


def _start(environment: dict[str, str], *words: str, under: str | None = None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*([] if under is None else [under]), sys.executable, "-c", PROGRAM, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_before_anything_runs(number: signal.Signals, environment: dict[str, str]) -> None:
    """While nothing runs yet, a signal ends the program with code 130 and one word."""
    process = _start(environment)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert err == "interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_stops_cleanly(number: signal.Signals, environment: dict[str, str]) -> None:
    """The first signal sets `stop`, tells so once, and lets the program end by itself."""
    process = _start(environment, "clean", "ray")
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == ExitCode.DONE
    assert out == "told\nstopping\n"


def test_second_signal_stops_at_once(environment: dict[str, str]) -> None:
    """The second signal ends the program whatever it waits for, and gives the cursor back."""
    process = _start(environment, "clean", "hang")
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert [process.stdout.readline(), process.stdout.readline()] == ["told\n", "stopping\n"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "\x1b[?25h" in err
    assert "kept" in err


def test_a_closing_terminal_may_say_so_twice(environment: dict[str, str]) -> None:
    """A second SIGHUP is no order to stop at once; Ctrl-C after it is."""
    process = _start(environment, "clean", "hang")
    assert process.stdout is not None
    process.send_signal(signal.SIGHUP)
    assert [process.stdout.readline(), process.stdout.readline()] == ["told\n", "stopping\n"]
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED


def test_nohup(environment: dict[str, str]) -> None:
    """Where SIGHUP was ignored from the start, it stays so."""
    process = _start(environment, "clean", "ignored", under="nohup")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out == "told\nstopping\n"
