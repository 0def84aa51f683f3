"""Trial folders that end soon, or never by themselves, and the call that runs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.trial.folders import made_items, write_folder
from wtsbench.sandbox.base import Outcome, Sandbox
from wtsbench.spec.grid import Resources
from wtsbench.spec.trial import TrialJob

NODE = "a node without a reaper"
"""The reaper of a test before this one may be faster than the container itself, or than a sweep."""


def on_a_node_without_a_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process make containers that no reaper looks at, and see no others."""
    monkeypatch.setattr("wtsbench.sandbox.container.node", lambda: NODE)
    monkeypatch.setattr("wtsbench.sandbox.leftovers.node", lambda: NODE)


def short_trial(folder: Path, model: Path, **settings: Any) -> TrialJob:
    """A trial of a fraction of a second."""
    return write_folder(folder, made_items(60), model, epochs=1, **settings)


def endless_trial(folder: Path, model: Path) -> TrialJob:
    """A trial of many minutes."""
    return write_folder(folder, made_items(400), model, epochs=50, batch_size=1)


def run(
    sandbox: Sandbox,
    folder: Path,
    *,
    gpus: Sequence[str] = (),
    cancelled: threading.Event | None = None,
    **limits: Any,
) -> Outcome:
    """Run a folder with ample limits, unless told otherwise."""
    return sandbox.run(
        folder,
        Resources(**{"time": 300.0, "disk": 1 << 30, **limits}),
        gpus=gpus,
        cancelled=cancelled or threading.Event(),
        labels={"run": "test", "trial": "0" * 64, "attempt": "1"},
    )


def in_thread(call: Callable[[], None]) -> threading.Thread:
    """Call in a thread, which is on its way when this returns."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def wait_for_progress(folder: Path, *, seconds: float = 120.0) -> None:
    """Return once the trial of a folder has said that it trains."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if (folder / "scratch" / "progress.json").exists():
            return
        pause.wait(0.05)
    raise AssertionError("the trial did not begin to train")
