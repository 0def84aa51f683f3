"""The least that any run takes: a Ray whose one task does nothing, and a process that has loaded a model.

Imports nothing of wtsbench at the top: what is loaded here counts to what others are held against.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.performance.part import apart, peak_in, peak_of


@dataclass(frozen=True, kw_only=True)
class Bare:
    """Seconds and bytes."""

    first_task: float
    """From the start of an interpreter until Ray has run a task."""
    driver: int
    """Peak memory of that process, of Ray's worker, and of a process that has loaded a model."""
    worker: int
    model: int
    start: float
    """Of `wtsbench --version`."""


@cache
def bare_run(model: Path) -> Bare:
    """Measure them, once in this process for each model folder."""
    begun = time.monotonic()
    driver, worker, done = apart(_ray)
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "wtsbench_cli", "--version"], check=True, stdout=subprocess.DEVNULL)
    ended = time.monotonic()
    loaded = apart(_model, model)
    return Bare(first_task=done - begun, driver=driver, worker=worker, model=loaded, start=ended - started)


def _ray() -> tuple[int, int, float]:
    """Peak bytes of this process and of a worker, and when the worker's first task was done."""
    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    worker = ray.get(ray.remote(lambda: Path("/proc/self/status").read_text()).remote())
    done = time.monotonic()
    ray.shutdown()
    return peak_of("self"), peak_in(worker), done


def _model(folder: Path) -> int:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging as loud

    loud.disable_progress_bar()  # type: ignore[no-untyped-call]
    loud.set_verbosity_error()  # type: ignore[no-untyped-call]
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    return peak_of("self")
