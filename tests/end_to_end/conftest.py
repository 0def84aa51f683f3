"""Helpers that run the installed command line as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import called

GRID = """\
apiVersion: wtsbench/v1
name: {name}
tasks: [safety-mini]
pairs:
  - {{weak: nano-1, strong: nano-2}}
strategies: {strategies}
seeds: {seeds}
data: {{weak_train: 400, transfer: 600, validation: 40, test: 300}}
"""


class Bench:
    """A working folder with a grid and a store, and the command line over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def grid(self, name: str = "small", *, strategies: str = "[naive, logconf]", seeds: str = "[0, 1]") -> Path:
        """Write a small grid file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(GRID.format(name=name, strategies=strategies, seeds=seeds))
        return path

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line with the store as default."""
        return [sys.executable, "-m", "wtsbench_cli", *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """The tests' environment with this store as the default one."""
        return {**os.environ, "WTSBENCH_STORE": str(self.store), "NO_COLOR": "1", "CI": "1"}

    def run(self, *arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def ask(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The same of a verb that reads, in this process."""
        return called([*map(str, arguments)], folder=self.folder, variables=self.environment)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start in a process group of its own, as a shell does."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def leaderboard(self) -> str:
        """The leaderboard as JSON text, byte for byte."""
        result = self.ask("leaderboard", "--json")
        assert result.returncode == 0, result.stderr
        return result.stdout

    def attempts(self) -> dict[str, list[str]]:
        """Sealed attempts of the store: status by trial, read past the command line."""
        from wtsbench.store.client import open_store

        table = open_store(str(self.store)).trials()
        found: dict[str, list[str]] = {}
        for trial_id, status in zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True):
            found.setdefault(trial_id, []).append(status)
        return found

    def trial_processes(self) -> list[int]:
        """Living processes that work on a trial folder of this store, by pid."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                links = open_files(entry)
                if any(link.startswith(str(self.store / "spool")) and link.endswith("log.txt") for link in links):
                    found.append(int(entry.name))
        return found


def open_files(process: Path) -> list[str]:
    """What a process of /proc has open, but for what it closes meanwhile; nothing where it has ended."""
    found = []
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                found.append(str(link.readlink()))
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty working folder."""
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, str]:
    """The small grid, submitted once and left alone."""
    bench = Bench(tmp_path_factory.mktemp("undisturbed"))
    result = bench.run("submit", bench.grid())
    assert result.returncode == 0, result.stdout + result.stderr
    return bench, bench.leaderboard()
