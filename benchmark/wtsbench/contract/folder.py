"""The trial folder: what supervisor and trial call the things that pass between them, and how a trial ends.

DIR/
    spec.json      the trial and its attempt (`TrialJob`)
    inputs/        items.arrow, and for a student supervision.arrow
    model          pretrained weights in Hugging Face layout; reference, where fluency is measured, likewise
    outbox/        records, and last of all result.json
    scratch/       writable, kept by nobody; progress.json says how far the trial is
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
"""The FIFO of its answers."""


class ExitCode(IntEnum):
    """How a trial's process ends; any other code is its interpreter's."""

    DONE = 0
    """`result.json` says so."""
    FAILED = 1
    """With the failure in `result.json`; without that file, the interpreter's own: it could not start."""
    NO_FOLDER = 2
    """What it was given is no trial folder."""
    NO_RESULT = 70
    """The lease ran out, or not even the failure could be written."""


class FolderLayout:
    """Where things are in a trial folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def spec(self) -> Path:
        """What is asked for, as JSON."""
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
        """For generation: the model that measures fluency, in Hugging Face layout; absent where none is asked for."""
        return self.path / REFERENCE

    @property
    def outbox(self) -> Path:
        """Where records and the result go."""
        return self.path / OUTBOX

    @property
    def result(self) -> Path:
        """The trial's last word."""
        return self.outbox / "result.json"

    @property
    def scratch(self) -> Path:
        """Writable, kept by nobody."""
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
