"""The executor without a cluster: supervisors are threads of this process. For tests, debugging and small machines."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import psutil

from wtsbench.errors import SpecError
from wtsbench.execution.fitting import fitting, misfit
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.supervise import close_sandboxes, supervise
from wtsbench.sandbox.gpus import gpus_here
from wtsbench.spec.grid import Resources


class InProcessExecutor:
    """Runs up to `slots` jobs side by side, each in its own sandbox, supervised from here."""

    cluster = None

    def __init__(self, slots: int = 1, *, gpus: Sequence[str] = (), resources: Resources | None = None) -> None:
        """Prepare to run jobs.

        Args:
            slots: jobs at once.
            gpus: UUIDs of the GPUs that jobs are given.
            resources: of one job.
        """
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="supervisor")
        self._cancelled = threading.Event()
        self._futures: dict[Future[Receipt], Job] = {}
        self._share = 0.0 if resources is None else resources.gpus
        self._free = dict.fromkeys(gpus, 1.0)
        """What is left of each GPU."""

    @classmethod
    def of(cls, resources: Resources) -> InProcessExecutor:
        """An executor with a slot for each trial that fits on this machine at once.

        Raises:
            SpecError: not even one trial fits.
            SandboxError: the driver does not say which GPUs are here.
        """
        gpus = gpus_here() if resources.gpus else ()
        memory = psutil.virtual_memory().total
        offer = {"CPU": len(os.sched_getaffinity(0)), "GPU": len(gpus), "memory": memory}
        fault = misfit([offer], resources)
        if fault is not None:
            raise SpecError(fault, remedy="lower `resources` in the grid, or run on a cluster with --ray.")
        return cls(fitting(offer, resources), gpus=gpus, resources=resources)

    def start(self, job: Job) -> None:
        """Start a job; returns at once."""
        job = dataclasses.replace(job, gpu_ids=self._take())
        self._futures[self._pool.submit(supervise, job, self._cancelled)] = job

    def _take(self) -> tuple[str, ...]:
        """GPUs for a job: whole ones, or the one with the least left that is enough."""
        if self._share >= 1:
            taken = [uuid for uuid, left in self._free.items() if left == 1.0][: round(self._share)]
        else:
            enough = [uuid for uuid, left in self._free.items() if left + 1e-9 >= self._share]
            taken = [min(enough, key=lambda uuid: self._free[uuid])] if self._share else []
        for uuid in taken:
            self._free[uuid] -= min(1.0, self._share)
        return tuple(taken)

    def wait(self, timeout: float) -> list[Receipt]:
        """Receipts of the jobs that ended."""
        finished, _ = wait(self._futures, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in finished:
            for uuid in self._futures.pop(future).gpu_ids:
                self._free[uuid] += min(1.0, self._share)
        return [future.result() for future in finished]

    def avoid(self, node: str) -> bool:
        """There is no other node."""
        return False

    def cancel(self) -> None:
        """Stop all running jobs."""
        self._cancelled.set()

    def close(self) -> None:
        """Wait for the supervisors; cancels what still runs."""
        self.cancel()
        self._pool.shutdown(wait=True)
        close_sandboxes()
