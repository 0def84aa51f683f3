"""The executor without a cluster: supervisors are threads of this process. For tests, debugging and small machines."""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import psutil

from wtsbench.errors import SpecError
from wtsbench.execution.fitting import fitting, misfit
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.progress import share_of
from wtsbench.execution.supervise import close_sandboxes, supervise
from wtsbench.spec.grid import Resources


class InProcessExecutor:
    """Runs up to `slots` jobs side by side, each in its own sandbox, supervised from here."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="supervisor")
        self._cancelled = threading.Event()
        self._futures: dict[Future[Receipt], Job] = {}

    @classmethod
    def of(cls, resources: Resources) -> InProcessExecutor:
        """An executor with a slot for each trial that fits on this machine at once.

        Raises:
            SpecError: not even one trial fits.
        """
        if resources.gpus:
            raise SpecError("the in-process executor assigns no GPUs", remedy="use --executor ray, or gpus: 0.")
        offer = {"CPU": len(os.sched_getaffinity(0)), "memory": psutil.virtual_memory().total}
        fault = misfit([offer], resources)
        if fault is not None:
            raise SpecError(fault, remedy="lower `resources` in the grid, or run on a cluster with --ray.")
        return cls(fitting(offer, resources))

    def start(self, job: Job) -> None:
        """Start a job; returns at once."""
        self._futures[self._pool.submit(supervise, job, self._cancelled)] = job

    def wait(self, timeout: float) -> list[Receipt]:
        """Receipts of the jobs that ended."""
        finished, _ = wait(self._futures, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in finished:
            del self._futures[future]
        return [future.result() for future in finished]

    def share(self, job: Job) -> float | None:
        """How much of a running job is done."""
        return share_of(job)

    def cancel(self) -> None:
        """Stop all running jobs."""
        self._cancelled.set()

    def close(self) -> None:
        """Wait for the supervisors; cancels what still runs."""
        self.cancel()
        self._pool.shutdown(wait=True)
        close_sandboxes()
