"""The trial folder: names of the files that supervisor and trial exchange, and the exit codes of a trial.

DIR/
    spec.json      the trial and its attempt (`TrialJob`)
    inputs/        items.arrow, and for a student supervision.arrow
    model          pretrained weights in Hugging Face layout
    reference      the same of the model that measures fluency, where one does
    outbox/        records, and result.json, which is written last
    scratch/       temporary files; progress.json says how far the trial is
    lease          touched by the supervisor while it lives: the heartbeat that the trial's process watches
    log.txt        standard output and error
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

SPEC = "spec.json"
INPUTS = "inputs"
ITEMS = "items.arrow"
SUPERVISION = "supervision.arrow"
MODEL = "model"
REFERENCE = "reference"
OUTBOX = "outbox"
SCRATCH = "scratch"
LEASE = "lease"
LOG = "log.txt"
REQUESTS = "requests"
"""The FIFO through which the first process of a container is asked for a trial (`contract.messages`)."""
ANSWERS = "answers"
"""The FIFO of that process's answers."""


class ExitCode(IntEnum):
    """Exit codes of a trial's process; any other comes from the Python interpreter."""

    DONE = 0
    """Success, as `result.json` says."""
    FAILED = 1
    """Failure, with its reason in `result.json`; without that file, the interpreter could not start."""
    NO_FOLDER = 2
    """The folder it was given is no trial folder."""
    NO_RESULT = 70
    """The lease expired, or `result.json` could not be written."""


class FolderLayout:
    """Paths of the files of a trial folder; the module says what each is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = path / SPEC
        self.inputs = path / INPUTS
        self.model = path / MODEL
        self.reference = path / REFERENCE
        self.outbox = path / OUTBOX
        self.result = self.outbox / "result.json"
        self.scratch = path / SCRATCH
        self.progress = self.scratch / "progress.json"
        self.lease = path / LEASE
        self.log = path / LOG
