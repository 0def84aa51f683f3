"""What a submission looks like: lines on a pipe, live on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.watched import events, session
from wtsbench.execution.events import Planned
from wtsbench.execution.session import Session
from wtsbench.planning.report import PlanReport
from wtsbench_cli.plan import MOST_LINES, _show
from wtsbench_cli.views import LineView, QuietView

ROOT = Path(__file__).parents[2]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _on_a_terminal(environment: dict[str, str], *, columns: int) -> str:
    """Everything that the submission writes on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.watched", "0.3"],
        cwd=ROOT,
        env={**environment, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert process.wait(timeout=30) == 0, written.decode()
    return written.decode()


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """On a pipe: the header, then one line for each event, with how many are done of how many."""
    of = session()
    view = LineView()
    view.take(Planned(session=of))
    for event in events(of):
        view.take(event)
    failed = list(of.plan.trials)[2]
    ceiling = list(of.plan.trials)[1]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "grid: small (1 task x 1 pair x 2 strategies x 1 seed)",
        "store: ./results",
        "sandbox: process",
        "trials: 4: 0 stored, 4 to run",
        "starting Ray on this machine",
    ]
    assert lines[5:] == [
        "[0/4] start weak safety-mini nano-1 seed 0",
        "[0/4] start ceiling safety-mini nano-2 seed 0",
        "[1/4] done weak safety-mini nano-1 seed 0 (3.1 s)",
        "[1/4] retrying ceiling safety-mini nano-2 seed 0: infrastructure: the worker was lost; "
        f"wtsbench logs {ceiling[:12]}",
        "[1/4] start ceiling safety-mini nano-2 seed 0",
        "[2/4] done ceiling safety-mini nano-2 seed 0 (1 min 05 s)",
        "[2/4] start student safety-mini nano-2 naive seed 0",
        "[2/4] start student safety-mini nano-2 naive(labels=hard) seed 0",
        "[2/4] failed student safety-mini nano-2 naive seed 0: timeout: ran past its time limit (60 s); "
        f"wtsbench logs {failed[:12]}",
    ]


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Quietly: only what failed for good."""
    of = session()
    view = QuietView()
    view.take(Planned(session=of))
    for event in events(of):
        view.take(event)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[2/4] failed student safety-mini nano-2 naive seed 0")


def test_live(environment: dict[str, str]) -> None:
    """On a terminal: the bar, a line for each running trial, failures above; the cursor comes back."""
    written = _on_a_terminal(environment, columns=80)
    text = ESCAPES.sub("", written)
    assert re.search(r"trials [━╸╺ ]+ 2/4 in \d+ s, about [\d:]+( s)? left, 1 failed", text)
    assert re.search(r"student safety-mini nano-2 naive\(labels=hard\) seed 0 [━╸╺ ]+25%", text)
    assert "failed  student safety-mini nano-2 naive seed 0: timeout:" in text
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    widest = max(len(line) for line in re.split(r"[\r\n]+", text))
    assert widest <= 80


def test_live_without_colour(environment: dict[str, str]) -> None:
    """NO_COLOR leaves the movement and takes the colours."""
    written = _on_a_terminal(environment, columns=120)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", written)


def test_terminal_in_ci(environment: dict[str, str]) -> None:
    """CI gets plain lines even where it offers a terminal."""
    written = _on_a_terminal({**environment, "CI": "true"}, columns=80)
    assert "\x1b" not in written
    assert "[1/4] done weak safety-mini nano-1 seed 0 (3.1 s)" in written


def test_live_in_a_narrow_window(environment: dict[str, str]) -> None:
    """Below 40 columns there is one line, with how many are done of how many and how long it has taken."""
    written = _on_a_terminal(environment, columns=30)
    text = ESCAPES.sub("", written)
    assert re.search(r"2/4 trials in \d+ s, about", text)
    assert "━" not in text
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= 30


def test_a_plan_of_many_models_is_told_in_few_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where roles, tasks and models make more lines than anybody reads, trials are counted by role."""
    monkeypatch.setattr(Session, "estimate", "about a minute")  # of data sets, which this session has none of
    few = session()
    trials = [
        replace(trial, spec=trial.spec.model_copy(update={"task": f"task-{number}"}), reason=f"differs in {number}")
        for trial in few.report.trials
        for number in range(MOST_LINES)
    ]
    _show(replace(few, report=PlanReport(trials=tuple(trials))), "results", verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < MOST_LINES + 20
    assert any(line.split()[:4] == ["student", "all", "all", "100"] for line in lines)
    _show(few, "results", verbose=False)
    assert any(
        line.split()[:4] == ["student", "safety-mini", "nano-2", "2"] for line in capsys.readouterr().out.splitlines()
    )
