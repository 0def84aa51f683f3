"""The progress of a running trial, read from its attempt folder if that is on this machine."""

from __future__ import annotations

from wtsbench.execution.job import Job
from wtsbench.execution.spool import AttemptFolder
from wtsbench.execution.untrusted import read_json


def share_of(job: Job) -> float | None:
    """Share of the work done in [0, 1]; None if the trial has not reported any, or runs elsewhere."""
    folders = sorted(job.spool.glob(f"{job.trial_id[:16]}-*"), key=lambda path: int(path.name.split("-")[1]))
    return share_in(AttemptFolder(folders[-1])) if folders else None


def share_in(folder: AttemptFolder) -> float | None:
    """Share of the work done of the attempt in a folder; None if it has not reported any."""
    try:
        progress = read_json(folder.trial.progress)
        return min(1.0, max(0.0, float(progress["done"]) / max(1.0, float(progress["total"]))))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # not written yet, or being written
        return None
