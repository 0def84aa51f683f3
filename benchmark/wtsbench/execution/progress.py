"""How far a running trial is, read from its attempt folder where that folder is on this machine."""

from __future__ import annotations

from pathlib import Path

from wtsbench.execution.job import Job
from wtsbench.execution.spool import AttemptFolder
from wtsbench.execution.untrusted import read_json


def share_of(job: Job) -> float | None:
    """Share of the work done in [0, 1], or None where the trial has not said yet or runs elsewhere."""
    folders = sorted(Path(job.spool).glob(f"{job.trial_id[:16]}-*"), key=lambda path: int(path.name.split("-")[1]))
    if not folders:
        return None
    try:
        said = read_json(AttemptFolder(folders[-1]).trial.progress)
        return min(1.0, max(0.0, float(said["done"]) / max(1.0, float(said["total"]))))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # not written yet, or being written
        return None
