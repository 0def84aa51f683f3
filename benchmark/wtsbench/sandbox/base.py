"""The interface of all sandboxes, and how they report the end of a trial."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from wtsbench.spec.grid import Resources
from wtsbench.spec.provenance import environment_lock


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a sandbox saw a trial end."""

    exit_code: int | None = None
    signal: int | None = None
    """The signal that ended it, if one did."""
    oom_killed: bool = False
    """Killed for memory: at its own limit, or by the kernel because the node ran out."""
    over_disk: bool = False
    """Stopped for what it wrote to disk."""
    timed_out: bool = False
    cancelled: bool = False
    error: str | None = None
    """What went wrong in the sandbox itself (engine, fork server, image), in one line."""
    log_tail: str = ""
    seconds: float = 0.0
    """From the start of the trial to its end."""


class Sandbox(Protocol):
    """Runs trial folders. Safe to use from several threads."""

    @property
    def name(self) -> Literal["process", "docker"]:
        """Its name in records and settings."""

    @property
    def isolation(self) -> str:
        """What separates the trial from the node, as text for the record."""

    @property
    def image_digest(self) -> str | None:
        """The image that trials run in, as `sha256:…`: its id; for processes the digest of the pod's image, if any."""

    @property
    def notice(self) -> str | None:
        """What the user is told once about this choice of sandbox: one sentence with its remedy."""

    def run(
        self,
        folder: Path,
        resources: Resources,
        *,
        gpus: Sequence[str],
        cancelled: threading.Event,
        labels: Mapping[str, str],
    ) -> Outcome:
        """Run the trial of a folder to its end, renewing its lease meanwhile; nothing of it runs when this returns.

        Args:
            folder: the trial folder.
            resources: what it may use; `time` counts from the start of the trial.
            gpus: UUIDs (or indices) of the GPUs that it may use.
            cancelled: once set, the trial is stopped.
            labels: `run`, `trial` and `attempt`, which containers carry for people to read.

        Raises:
            OSError: the trial folder cannot be written.
        """

    def close(self) -> None:
        """Remove what is kept ready for a next trial. It ends with this process in any case."""


def environment_of(sandbox: Sandbox, resources: Resources) -> str:
    """What computes a trial's numbers on this node, as part of the trial's identity.

    Sandbox, then image, then installed libraries, then `cuda` if trials get a GPU, which decides the precision.
    A container's image id stands for its libraries. A pod's image is what its manifest says, and may be for several
    platforms: there the libraries and the machine that are found stand beside it.

    A plan puts it into its trials; a supervisor compares it with that of its own node.
    """
    parts = [sandbox.name, sandbox.image_digest, None if sandbox.name == "docker" else environment_lock()]
    return ":".join([*filter(None, parts), *(["cuda"] if resources.gpus else [])])
