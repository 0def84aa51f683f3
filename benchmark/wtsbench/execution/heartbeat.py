"""The heartbeat of a running attempt.

Its lease in the store is renewed, so that no other run attempts the same trial. What the trial prints is sent along, so
that it can be read elsewhere and outlives this node. The answer may be that the trial is cancelled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wtsbench.contract.operations import BEAT_SECONDS
from wtsbench.errors import StoreError
from wtsbench.execution.job import Job
from wtsbench.execution.progress import share_in
from wtsbench.execution.spool import AttemptFolder
from wtsbench.sandbox import log
from wtsbench.store.client import Store

_POLL_SECONDS = 0.2
_LEAVE_SECONDS = 1.0
_LINES = 500
"""Lines of one request."""


@contextmanager
def beating(
    store: Store, job: Job, attempt: int, folder: AttemptFolder, cancelled: threading.Event
) -> Iterator[threading.Event]:
    """Renew an attempt's lease while the block runs; yields what is set once the attempt is to be stopped.

    A store that does not answer stops no trial: its records are delivered when it is back.

    Args:
        store: where the attempt was begun.
        job: the trial.
        attempt: its number.
        folder: where it runs.
        cancelled: set by the executor, to stop all that it runs.
    """
    stop, ended = threading.Event(), threading.Event()

    def beat() -> None:
        line, offset, due = 1, 0, time.monotonic() + BEAT_SECONDS
        while not ended.wait(_POLL_SECONDS):
            if cancelled.is_set():
                stop.set()
            if time.monotonic() < due:
                continue
            due = time.monotonic() + BEAT_SECONDS
            with suppress(StoreError, OSError):
                lines, further = log.further(folder.trial.log, offset)
                lines = lines[-_LINES:]
                orders = store.renew(job.trial_id, attempt, share=share_in(folder), lines=lines, first=line)
                line, offset = line + len(lines), further
                if orders.cancelled or job.trial_id in orders.cancelled_trials:
                    stop.set()

    thread = threading.Thread(target=beat, name="wtsbench-heartbeat", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        ended.set()
        thread.join(_LEAVE_SECONDS)  # unless it waits for a store that is away
