"""How long a trial takes to start, from the call of a sandbox to the first training step.

    python -m tests.performance.start_speed [--repeats N] [--cold] [--beside SECONDS]

Needs a Docker engine with the pinned trial image (`wtsbench image build`). `--cold` drops the page cache before a
start, which takes root and slows down whoever else uses the machine. `--beside` measures instead what making
containers ahead costs trials of so many seconds that run on all cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.sandbox.trials import run
from tests.trial.folders import last_word_of, made_items, write_folder
from tests.trial.tiny import write_tiny_model
from wtsbench.images.pins import resolve_image
from wtsbench.sandbox.base import Sandbox
from wtsbench.sandbox.classify import classify
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.fork_server import fork_server_for
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.spec.provenance import cpu_name

_AHEAD_SECONDS = 15.0
"""Left for the next container to be made, as while a trial of that length runs."""


class Starts:
    """Runs trials of one model, and tells when they begin to train."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._model = write_tiny_model(folder / "model")
        for path in (self._model, *self._model.iterdir()):
            path.chmod(0o755)

    def trial(self, *, epochs: float = 1.0) -> Path:
        """A further trial folder."""
        self._count += 1
        folder = self._folder / f"trial-{self._count}"
        write_folder(folder, made_items(200), self._model, epochs=epochs, batch_size=8)
        return folder

    def seconds(self, sandbox: Sandbox) -> float:
        """From the call of the sandbox to the first step of a trial, which then runs to its end."""
        folder = self.trial()
        seen: list[float] = []
        over = threading.Event()

        def look() -> None:
            while not seen and not over.is_set():
                if (folder / "scratch" / "progress.json").exists():
                    seen.append(time.monotonic())
                time.sleep(0.002)

        thread = threading.Thread(target=look)
        thread.start()
        begun = time.monotonic()
        outcome = run(sandbox, folder)
        over.set()
        thread.join()
        assert classify(outcome, last_word_of(folder)) is None, outcome
        return seen[0] - begun


def _drop_page_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def _forget_server() -> None:
    fork_server_for(1).close()


def starts(starts: Starts, image: str, *, repeats: int, cold: bool) -> list[tuple[str, list[float]]]:
    """Seconds by kind of start."""

    def times(sandbox: Sandbox, before: Callable[[], None] = lambda: None) -> list[float]:
        found = []
        for _ in range(repeats):
            before()
            found.append(starts.seconds(sandbox))
        sandbox.close()
        return found

    rows = []
    process = ProcessSandbox()
    alone = DockerSandbox(image, ahead=False)
    ahead = DockerSandbox(image)
    starts.seconds(process)  # everything is in the page cache from here on
    rows.append(("process, first of its fork server", times(process, _forget_server)))
    rows.append(("process, from its fork server", times(process)))
    starts.seconds(alone)
    if cold:
        rows.append(("container, cold", times(alone, _drop_page_cache)))
    rows.append(("container, warm", times(alone)))
    starts.seconds(ahead)
    rows.append(("container, made ahead", times(ahead, lambda: time.sleep(_AHEAD_SECONDS))))
    return rows


def beside(starts: Starts, image: str, *, seconds: float, repeats: int) -> list[tuple[str, float]]:
    """Wall time of trials on all cores, with the next containers made ahead and without."""
    cores = os.cpu_count() or 1
    begun = time.monotonic()
    run(ProcessSandbox(), starts.trial(epochs=20))
    begun = time.monotonic()
    run(ProcessSandbox(), starts.trial(epochs=20))
    epochs = 20 * seconds / (time.monotonic() - begun)
    rows = []
    for name, ahead in (("made when needed", False), ("made ahead", True)):
        sandbox = DockerSandbox(image, ahead=ahead)
        folders = [starts.trial(epochs=epochs) for _ in range(cores * repeats)]
        begun = time.monotonic()
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda folder, used=sandbox: run(used, folder), folders))
        rows.append((f"{len(folders)} trials of {seconds:g} s, containers {name}", time.monotonic() - begun))
        sandbox.close()
    return rows


def _machine() -> str:
    engine = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores of {cpu_name()}, Linux {platform.release()}, Docker {engine.stdout.strip() or '?'}, "
        f"load {load:.1f}"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--beside", type=float, metavar="SECONDS")
    arguments = parser.parse_args()
    image = resolve_image("trial").digest
    machine = _machine()
    with tempfile.TemporaryDirectory(prefix="wtsbench-start-") as scratch:
        Path(scratch).chmod(0o755)
        made = Starts(Path(scratch))
        if arguments.beside is not None:
            table = Table("", "wall time", title="Making containers ahead, on all cores", caption=machine)
            for name, wall in beside(made, image, seconds=arguments.beside, repeats=arguments.repeats):
                table.add_row(name, f"{wall:.1f} s")
        else:
            table = Table("start", "median", "fastest", "slowest", caption=machine)
            table.title = "From the decision to the first training step"
            for name, found in starts(made, image, repeats=arguments.repeats, cold=arguments.cold):
                table.add_row(name, *(f"{value:.2f} s" for value in (statistics.median(found), min(found), max(found))))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
