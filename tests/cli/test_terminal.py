"""What goes out: texts of others cannot steer the terminal, and output that goes nowhere is told."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.conftest import Wtsbench
from tests.cli.watched import session
from tests.reports.worlds import simple
from wtsbench.errors import ExitCode
from wtsbench.execution.events import Failed, Planned
from wtsbench.reports.console import ShownConsole
from wtsbench.spec import manifests
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench_cli.terminal import print_table
from wtsbench_cli.views import LineView

HOSTILE = "\x1b]8;;http://x\x07link\x1b[2J\u202e\x9b31m\n[9/9] done, all is well\r\x00"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the results of a grid, and a trial that failed with a message that would steer a terminal."""
    world = simple({"naive": 0.7, "logconf": 0.6}, seeds=[0, 1], items=50, skip=[("naive", 1)])
    world.trial(
        "student", "colours", "large", 1, world.datasets[0]["data_digest"],
        strategy="naive", failure=("trial_error", HOSTILE),
    )  # fmt: skip
    return world.folder(tmp_path_factory.mktemp("hostile")).uri


def _fits(text: str) -> None:
    """No control or hidden character but the line breaks of our own, and no line of somebody else."""
    assert not {character for character in text if not character.isprintable()} - {"\n", "\t"}
    assert not any(line.startswith("[9/9]") for line in text.splitlines())


def test_what_a_trial_says_in_every_view(hostile: str, wtsbench: Wtsbench) -> None:
    """`status`, `logs` and every form of the leaderboard show it on one line, as codes; JSON means what was said."""
    for words in (
        ("status",),
        ("logs",),
        ("leaderboard",),
        ("leaderboard", "--format=csv"),
        ("leaderboard", "--format=markdown"),
    ):
        done = wtsbench(*words, "--store", hostile)
        assert done.returncode == 0, done.stderr
        _fits(done.stdout)
        assert "\\u001b" in done.stdout, words
    said = json.loads(wtsbench("logs", "--json", "--store", hostile).stdout)
    assert said[0]["failure_message"] == HOSTILE
    _fits(wtsbench("logs", said[0]["trial_id"], "--store", hostile).stdout)


def test_what_manifests_and_names_say(tmp_path: Path, wtsbench: Wtsbench) -> None:
    """A manifest's summary in a list, and names of files and words of the command line in errors."""
    folder = tmp_path / "own" / "tasks"
    folder.mkdir(parents=True)
    shipped = manifests.find("tasks", "safety").read_text()
    summary = f"summary: {json.dumps(HOSTILE)}"
    mine = [summary if line.startswith("summary:") else line for line in shipped.splitlines()]
    (folder / "mine.yaml").write_text("\n".join(mine).replace("name: safety", "name: mine"))
    listed = wtsbench("tasks", WTSBENCH_MANIFESTS=str(tmp_path / "own"))
    assert "\\u001b]8;;http://x" in listed.stdout
    _fits(listed.stdout)
    name = HOSTILE.replace("\x00", "").replace("/", "")
    for words in (("validate", f"{name}.yaml"), ("tasks", name), (name,), ("status", "--store", name)):
        done = wtsbench(*words)
        assert done.returncode != ExitCode.INTERNAL
        _fits(done.stderr)


def test_a_line_of_a_submission(capsys: pytest.CaptureFixture[str]) -> None:
    """A trial's exception cannot add a line to those of the submission."""
    of = session()
    view = LineView()
    view.take(Planned(session=of))
    trial = next(iter(of.plan.trials.values()))
    capsys.readouterr()
    failure = Failure(failure_class=FailureClass.TRIAL_ERROR, message=HOSTILE)
    view.take(Failed(trial=trial, attempt=1, failure=failure, seconds=1.0, again=False))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()


def test_what_rich_draws() -> None:
    """Styles stay ours: no sequence and no link of a text gets through, also where rich itself would read them."""
    from rich.text import Text

    out = io.StringIO()
    console = ShownConsole(file=out, force_terminal=True, width=200)
    console.print(Text(HOSTILE, style="bold"))
    console.print(Text.from_ansi(HOSTILE))
    console.print(HOSTILE)
    written = out.getvalue()
    assert "\x1b[1m" in written
    assert not any(sequence in written for sequence in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\r", "\x00"))


def test_a_long_name_leaves_the_other_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow screen folds a long first column, and keeps every number whole."""
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("grid", "cells", "trials", "done"), [("a-long-name-" * 8, "120/120", "4,711", "38")], right=("cells",))
    out = capsys.readouterr().out
    assert all(number in out for number in ("120/120", "4,711", "38"))
    assert max(map(len, out.splitlines())) <= 60


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_table_shows_all_at_any_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sign of a cell or heading is lost, numbers stay whole, and no short word becomes a column of letters."""
    monkeypatch.setenv("COLUMNS", str(width))
    headings = ("run", "state", "stored", "failed", "running", "took", "host", "priority")
    row = ("quickstart-20261130T091954Z-14922", "done", "65/65", "1,024", "16", "1:39", "node-17", "0")
    print_table(headings, [row], right=("failed", "running", "took"))
    out = capsys.readouterr().out
    assert Counter("".join(out.split())) == Counter("".join([*headings, *row]))
    assert all(re.search(rf"(^|\s){re.escape(word)}(\s|$)", out, re.MULTILINE) for word in row[1:])
    assert width < 80 or max(map(len, out.splitlines())) <= width
    assert width < 200 or len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("closed", "code", "words"),
    [(">&-", ExitCode.USAGE, "is closed"), (">/dev/full", ExitCode.UNREACHABLE, "No space left on device")],
)
@pytest.mark.parametrize("verb", ["--version", "--help", "tasks", "tasks --json", "validate smoke", "leaderboard"])
def test_output_that_goes_nowhere(
    verb: str, closed: str, code: int, words: str, hostile: str, environment: dict[str, str]
) -> None:
    """A closed standard output is refused at once, a full one when it is written to: in words, with its own code."""
    done = subprocess.run(
        f"exec {sys.executable} -m wtsbench_cli {verb} {closed}",
        shell=True,
        env={**environment, "WTSBENCH_STORE": hostile},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == code
    assert done.stderr.startswith("error: standard output")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_is_whole_after_a_stop(unbuffered: str, environment: dict[str, str]) -> None:
    """Who is stopped in the middle of writing, as by Ctrl-Z, writes the rest when it goes on."""
    program = "from wtsbench_cli.streams import prepare; prepare(); print('x' * 1_000_000)"
    variables = {**environment, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([sys.executable, "-c", program], env=variables, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        room, waiting = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ), bytearray(4)
        while int.from_bytes(waiting, sys.byteorder) < room:  # until it waits for somebody to read
            fcntl.ioctl(process.stdout, termios.FIONREAD, waiting)
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.send_signal(signal.SIGCONT)
        assert len(process.stdout.read()) == 1_000_001
    assert process.returncode == 0


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&-"])
def test_nothing_but_output_is_needed(closed: str, environment: dict[str, str]) -> None:
    """Without standard input or error a verb does its work."""
    done = subprocess.run(
        f"exec {sys.executable} -m wtsbench_cli validate smoke {closed}",
        shell=True,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    assert "valid" in done.stdout
