"""The job that an executor gives to a supervisor, and the small receipt that comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from wtsbench.execution.judging import ScorerPlace
from wtsbench.settings import spool_folder
from wtsbench.spec.failure import Failure
from wtsbench.spec.grid import Resources
from wtsbench.spec.trial import TrialSpec


@dataclass(frozen=True, kw_only=True)
class Job:
    """One trial to run, with where and how. Small and picklable, as it is sent to workers."""

    spec: TrialSpec
    labels: tuple[str, ...]
    store: str
    """Address of the store."""
    sandbox: str
    image: str | None
    resources: Resources
    run: str
    """Name of the submission, for people."""
    named_spool: str | None = None
    """`WTSBENCH_SPOOL` of the machine that submitted: for nodes where it is not set."""
    baselines: dict[str, str] = field(default_factory=dict)
    """For students: the weak and ceiling trials that their PGR is computed from."""
    scorer: ScorerPlace | None = None
    """For generative tasks: the scorer of their texts."""
    gpu_ids: tuple[str, ...] = ()
    """The GPUs that the cluster assigned, set on the worker."""

    @property
    def spool(self) -> Path:
        """Folder for attempt folders on this machine, by its own settings."""
        return spool_folder(self.store, self.named_spool)

    @cached_property
    def trial_id(self) -> str:
        """The trial's id; a digest of the specification, so it is computed once."""
        return self.spec.trial_id


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """How an attempt ended. Results are in the store, never here."""

    trial_id: str
    attempt: int | None
    """None if it ended before the store gave it a number."""
    failure: Failure | None
    seconds: float
    reused: bool = False
    """Whether the result is of another attempt, which was in the store before this one started or ended."""
    held_by: str | None = None
    """The run that is attempting the trial at this moment; then no attempt was begun here."""
    refused: str | None = None
    """Why the node runs none of these trials; then nothing was begun."""
    node: str | None = None
    """Id of the node that it ran on, if the executor has several."""
    host: str | None = None
    """Name of that node, for people."""
