"""Requests to the fork server and its answers: JSON, one object per line.

Requests (`Start`, `Kill`) may be sent before the first answer; they are served after it. The first answer is `ready`,
once the libraries are loaded. Then, for every trial: `started`, and `ended` or `refused`. The last, `gone`, is made on
the supervisor's side, when the fork server has ended.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, final


@final
class Start(TypedDict):
    """Run the trial of a folder."""

    id: str
    """Any string that no running trial has."""
    folder: str
    log: str
    """File to which standard output and error are appended."""
    environment: dict[str, str]
    """Variables to set in the child, before CUDA starts."""
    file_bytes: int
    """No file it writes may grow past this (RLIMIT_FSIZE)."""


@final
class Kill(TypedDict):
    """Send a signal to a trial's process group; ignored if it has ended."""

    id: str
    signal: int


class Ready(TypedDict):
    """The libraries are loaded."""

    event: Literal["ready"]


class Started(TypedDict):
    """A child runs."""

    event: Literal["started"]
    id: str
    pid: int
    """Also its process group."""


class Ended(TypedDict):
    """A child has ended; one of `exit_code` and `signal` is None."""

    event: Literal["ended"]
    id: str
    exit_code: int | None
    """See `contract.folder.ExitCode`."""
    signal: int | None
    memory_kills: int
    """Processes of the container that the kernel killed for memory; 0 outside of containers."""


class Refused(TypedDict):
    """A request was not understood, or no child could be forked."""

    event: Literal["refused"]
    id: str | None
    reason: str


class Gone(TypedDict):
    """The fork server has ended, and its trials with it."""

    event: Literal["gone"]
    reason: str
    said: str
    """The end of its standard error."""
    oom_killed: NotRequired[bool]


Answer = Ready | Started | Ended | Refused | Gone
