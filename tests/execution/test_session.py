"""What a submission says while it gets ready."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from tests.cli.watched import session as planned
from wtsbench.execution import session
from wtsbench.execution.events import Event, Preparing
from wtsbench.spec.trial import ModelRef


def test_what_is_waited_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """While models are fetched, a submission says which are not there yet, and of how many."""
    told: list[str] = []
    second, third = threading.Event(), threading.Event()
    wait_for = {"nano-1": second, "nano-2": third}

    def fetch(model: ModelRef) -> Path:
        assert wait_for[model.name].wait(timeout=60)
        return Path()

    def listen(event: Event) -> None:
        assert isinstance(event, Preparing)
        told.append(event.text)
        if event.text.startswith("waiting"):
            (second if len(told) == 3 else third).set()

    monkeypatch.setattr(session, "fetch", fetch)
    of = planned()
    of = dataclasses.replace(of, options=dataclasses.replace(of.options, executor="in-process"))
    executor = session._start(of, list(of.plan.trials.values()), listen)
    executor.close()
    assert told == [
        "models: nano-1, nano-2",
        "starting trials in process",
        "waiting for models (0 of 2 ready): nano-1, nano-2",
        "waiting for models (1 of 2 ready): nano-2",
    ]
