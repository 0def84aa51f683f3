"""Processes of this room for tests: environment, a fork server and its protocol, waiting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 90.0
"""How long a test waits for what must happen, on a busy machine too."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with its import path."""
    path = os.pathsep.join(str(Path(part).resolve()) for part in sys.path if part)
    return {**os.environ, "PYTHONPATH": path, **more}


def wait_for(condition: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
    """What the condition returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.02)
    return found


def is_running(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


class ForkServerDriver:
    """The other end of a fork server's protocol."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, identity: str, folder: Path, **more: Any) -> None:
        """Request a trial, whose output goes to its folder."""
        told = {"log": str(folder / "log.txt"), "environment": {}, "file_bytes": 1 << 30}
        self.send(id=identity, folder=str(folder), **(told | more))

    def send(self, **request: Any) -> None:
        """One request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the fork server ended"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def expect(self, event: str, identity: str | None = None) -> dict[str, Any]:
        """The next answer, which is of this kind."""
        answer = self.read()
        assert answer["event"] == event, answer
        assert identity is None or answer["id"] == identity
        return answer

    def run(self, identity: str, folder: Path, **more: Any) -> dict[str, Any]:
        """Run a trial to its end; its `ended` answer."""
        self.start(identity, folder, **more)
        self.expect("started", identity)
        return self.expect("ended", identity)


def start_lane() -> ForkServerDriver:
    """A fork server that is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wtsbench.worker.fork_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    driver = ForkServerDriver(process)
    driver.expect("ready")
    return driver


def end_lane(driver: ForkServerDriver) -> None:
    """Kill a fork server if it still runs, and close its pipes."""
    driver.process.kill()
    driver.process.wait()
    for stream in (driver.process.stdin, driver.process.stdout):
        if stream is not None:
            stream.close()


@contextmanager
def server() -> Iterator[ForkServerDriver]:
    """A fork server that is ready; afterwards its input ends, and so does it."""
    driver = start_lane()
    try:
        yield driver
        assert driver.process.stdin is not None
        driver.process.stdin.close()
        assert driver.process.wait(timeout=SECONDS) == 0
    finally:
        end_lane(driver)
