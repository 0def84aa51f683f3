"""What a sandbox adds to a trial: the same small trial in each, and without any, over what it says that it computes.

Overhead is all of a trial's duration that it did not train or predict: making the sandbox, loading libraries where they
are not loaded yet, reading and writing. Its start is the part of that before the first step of training.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

from tests.performance.part import Asked, Figure, Missing, apart, described
from tests.sandbox.trials import run
from tests.trial.folders import last_word_of, made_items, write_folder
from tests.trial.tiny import write_tiny_model
from wtsbench.errors import UserError
from wtsbench.images.pins import resolve_image
from wtsbench.sandbox.base import Sandbox
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.fork_server import fork_server_for
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.trial.models import quiet

_AHEAD_SECONDS = 15.0
"""Left for the next container to be made, as while a trial of that length runs."""


@dataclass(frozen=True, kw_only=True)
class Took:
    """How long a trial took, in seconds."""

    whole: float
    start: float
    """Until its first step of training."""
    compute: float
    """Of training and predicting, as it says itself."""


def measure_sandboxes(asked: Asked) -> Iterator[Figure | Missing]:
    """The `sandbox` part: duration over compute of a trial, by what it runs in."""
    trials = Trials(asked.scratch / "sandboxes")
    repeats = asked.pick(quick=2, usual=5, large=5)
    yield _figure("no sandbox, libraries loaded", apart(trials.here, repeats))
    process = ProcessSandbox()
    trials.within(process)  # everything is in the page cache from here on
    firsts = [trials.within(process, before=_forget_server) for _ in range(asked.pick(quick=1, usual=2, large=5))]
    yield _figure("process, first of its fork server", firsts)
    yield _figure("process, from its fork server", [trials.within(process) for _ in range(repeats)])
    process.close()
    try:
        sandbox = DockerSandbox.here("trial")
    except UserError as error:
        yield Missing(name="container", why=str(error))
        return
    sandbox.close()
    image = resolve_image("trial").digest
    repeats = asked.pick(quick=1, usual=3, large=5)
    for name, ahead, pause in (("container", False, 0.0), ("container, made ahead", True, _AHEAD_SECONDS)):
        sandbox = DockerSandbox(image, ahead=ahead)
        trials.within(sandbox)
        yield _figure(name, [trials.within(sandbox, before=partial(time.sleep, pause)) for _ in range(repeats)])
        sandbox.close()


def _figure(name: str, took: list[Took]) -> Figure:
    whole, start, compute = (
        statistics.median(getattr(one, part) for one in took) for part in ("whole", "start", "compute")
    )
    overhead = statistics.median(one.whole - one.compute for one in took)
    return Figure(
        name=name,
        what="duration of a trial over its own compute",
        value=statistics.median(one.whole / one.compute for one in took),
        better="lower",
        details=described({"overhead_s": overhead, "start_s": start, "duration_s": whole, "compute_s": compute}),
    )


class Trials:
    """Runs the same trial again and again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self._folder = folder
        self._count = 0
        with quiet():
            self._model = write_tiny_model(folder / "model")
        for path in (self._model, *self._model.iterdir()):
            path.chmod(0o755)

    def within(self, sandbox: Sandbox, *, before: Callable[[], object] = lambda: None) -> Took:
        """In a sandbox."""
        folder = self._new()
        before()
        return _timed(folder, partial(run, sandbox, folder))

    def here(self, repeats: int) -> list[Took]:
        """In this process, whose first one loads the libraries and is not told."""
        from wtsbench.trial import environment

        environment.prepare()
        from wtsbench.trial.run import run_folder

        took = []
        for _ in range(repeats + 1):
            folder = self._new()
            with redirect_stdout(StringIO()):  # where it says how far it is
                took.append(_timed(folder, partial(run_folder, folder)))
        return took[1:]

    def _new(self) -> Path:
        self._count += 1
        folder = self._folder / f"trial-{os.getpid()}-{self._count}"
        write_folder(folder, made_items(400), self._model, epochs=4, batch_size=8)
        return folder


def _timed(folder: Path, act: Callable[[], object]) -> Took:
    seen: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not seen and not over.wait(0.002):
            if (folder / "scratch" / "progress.json").exists():
                seen.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    begun = time.monotonic()
    act()
    ended = time.monotonic()
    over.set()
    thread.join()
    result = last_word_of(folder)
    assert result.status == "done", result.failure
    assert result.measurements.seconds is not None
    compute = sum(seconds for phase, seconds in result.measurements.seconds.items() if phase != "load")
    return Took(whole=ended - begun, start=seen[0] - begun, compute=compute)


def _forget_server() -> None:
    fork_server_for(1).close()
