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
    """Paths of the files of a trial folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def spec(self) -> Path:
        """The trial and its attempt, as JSON (`TrialJob`)."""
        return self.path / SPEC

    @property
    def inputs(self) -> Path:
        """What the trial reads."""
        return self.path / INPUTS

    @property
    def model(self) -> Path:
        """Pretrained weights in Hugging Face layout."""
        return self.path / MODEL

    @property
    def reference(self) -> Path:
        """For generation: the model that measures fluency, in Hugging Face layout; absent if none is asked for."""
        return self.path / REFERENCE

    @property
    def outbox(self) -> Path:
        """Where records and the result go."""
        return self.path / OUTBOX

    @property
    def result(self) -> Path:
        """The trial's outcome, its last file."""
        return self.outbox / "result.json"

    @property
    def scratch(self) -> Path:
        """Temporary files, which nobody keeps."""
        return self.path / SCRATCH

    @property
    def progress(self) -> Path:
        """Share of the work done, as the trial last wrote it."""
        return self.scratch / "progress.json"

    @property
    def lease(self) -> Path:
        """Renewed by whoever supervises the trial."""
        return self.path / LEASE

    @property
    def log(self) -> Path:
        """Standard output and error of the trial."""
        return self.path / "log.txt"
