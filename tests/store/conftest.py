"""Stores in fresh folders, small disks, and children to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

import wtsbench
from tests.store.supervising import Clock
from wtsbench.store.client import Store, open_store
from wtsbench.store.engine import transaction

ROOTS = (Path(__file__).parents[2], Path(wtsbench.__file__).parents[1])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `tests/store/child.py` with some arguments; its standard output is read from a pipe."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.child", *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, ROOTS))},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of a folder, or of a server in this process; clients keep theirs."""
    moved = Clock()

    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + moved.ahead

    monkeypatch.setattr(transaction, "datetime", Moved)
    return moved


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> None:
        """Mount it, or change how it is mounted with `remount,...`."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True, capture_output=True)

    def fill(self) -> Path:
        """Leave no byte free; returns the file that takes the room."""
        ballast = self.folder / ".ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return ballast


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    small = Disk(folder)
    try:
        small.mount("size=8m")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small disk needs the right to mount: {error}")
    yield small
    subprocess.run(["umount", "-l", folder], check=True)
