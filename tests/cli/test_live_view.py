"""The live view in a real terminal (tmux) whose window changes its size, as people see it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_views import ROOT
from tests.cli.watched import session
from wtsbench_cli.views import header

HEADER = [f"{name:<9}{text}" for name, text in header(session())]
ABOVE = re.compile(r"(again|failed) |wtsbench logs|infrastructure: |timeout: |out|past its|\(60 s\)")
"""Lines that stay, as they are folded in a narrow window."""
Tmux = Callable[..., str]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """A terminal of its own."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")

    def run(*arguments: object) -> str:
        command = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null", *map(str, arguments)]
        watched = {name: value for name, value in os.environ.items() if name != "CI"}  # where nobody watches a terminal
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, env=watched).stdout

    yield run
    run("kill-server")


def _screen(tmux: Tmux) -> list[str]:
    """The terminal's lines with what has scrolled out at the top, folded ones in one piece, without empty ones."""
    return [line.rstrip() for line in tmux("capture-pane", "-p", "-J", "-S", "-").splitlines() if line.strip()]


def _fault(seen: list[str], *, one_line: bool) -> str | None:
    live = [number for number, line in enumerate(seen) if re.search(r"\d/4 (trials )?in \d+ s", line)]
    as_asked = (
        seen[: len(HEADER)] == HEADER
        and len(live) == 1
        and (live[0] == len(seen) - 1 and "━" not in seen[-1] if one_line else seen[live[0]].startswith("trials "))
    )
    return None if as_asked else "\n".join(seen)


@pytest.mark.parametrize("attempt", range(3))
def test_the_bar_stays_below_the_heading(attempt: int, tmux: Tmux, environment: dict[str, str]) -> None:
    """However printing and drawing meet, the heading is in one piece; afterwards only what was printed is there."""
    _start(tmux, environment, 80, 24, pause=0.02)
    _until_ended(tmux)
    assert _screen(tmux)[: len(HEADER)] == HEADER
    assert not [line for line in _screen(tmux) if " in " in line]


def test_a_window_that_changes_its_size(tmux: Tmux, environment: dict[str, str]) -> None:
    """After every change there is one view and no rest of an older one; with little room it is one line."""
    _start(tmux, environment, 80, 24, pause=1.0)
    while not any(re.search(r" seed 0 .* \d+ s$", line) for line in _screen(tmux)):
        time.sleep(0.1)
    for columns, rows in ((60, 24), (45, 24), (39, 24), (100, 20), (100, 7), (50, 24), (80, 24)):
        tmux("resize-window", "-x", columns, "-y", rows)
        time.sleep(0.6)  # for the size to be told and the view to be drawn
        deadline = time.monotonic() + 5  # on a busy machine
        while fault := _fault(_screen(tmux), one_line=columns < 40 or rows < 8):
            assert time.monotonic() < deadline, f"{columns} x {rows}: {fault}"
            time.sleep(0.2)
    _until_ended(tmux)
    seen = _screen(tmux)
    assert seen[: len(HEADER)] == HEADER
    assert all(ABOVE.search(line) for line in seen[len(HEADER) :]), "\n".join(seen)


def _start(tmux: Tmux, environment: dict[str, str], columns: int, rows: int, *, pause: float) -> None:
    command = shlex.join([sys.executable, "-m", "tests.cli.watched", str(pause)])
    variables = [f"-e{name}={environment[name]}" for name in ("PATH", "NO_COLOR", "WTSBENCH_STORE")]
    tmux(
        "new-session", "-d", "-x", columns, "-y", rows, *variables, f"cd {shlex.quote(str(ROOT))}; {command}; sleep 99"
    )


def _until_ended(tmux: Tmux) -> None:
    """Until the program has ended, and the shell waits."""
    while tmux("display", "-p", "#{pane_current_command}").strip() != "sleep":
        time.sleep(0.2)
