"""What somebody cancels before its run has heard of it: it is not begun any more."""

from __future__ import annotations

from pathlib import Path

import wtsbench
from tests.test_api import TINY
from wtsbench.execution.events import Event, Preparing
from wtsbench.store.client import open_store


def test_no_trial_of_a_cancelled_run_is_begun(tmp_path: Path) -> None:
    """The run ends at once, though it asks for orders every 10 s, and leaves no attempt."""
    uri = tmp_path / "store"

    def on_event(event: Event) -> None:
        if isinstance(event, Preparing) and event.text == "starting trials in process":
            store = open_store(str(uri))
            (run,) = store.runs()["run"].to_pylist()
            assert store.cancel(run, None)

    summary = wtsbench.submit(TINY, store=uri, executor="in-process", sandbox="process", on_event=on_event)
    store = open_store(str(uri))
    assert summary.cancelled == summary.total
    assert store.attempts().num_rows == store.running().num_rows == 0
    assert store.runs()["state"].to_pylist() == ["cancelled"]
