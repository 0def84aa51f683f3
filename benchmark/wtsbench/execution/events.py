"""Events of a submission, as typed objects; listeners word them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wtsbench.spec.failure import Failure
from wtsbench.spec.trial import TrialSpec

if TYPE_CHECKING:
    from wtsbench.execution.session import Session


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """A step of the preparation before trials run."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The plan was made and compared with the store; nothing has run."""

    session: Session


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A node of the cluster gets no trials, because it would fail them; it was asked before its first one."""

    node: str
    """Its name."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Started:
    """A trial runs from now on."""

    trial: TrialSpec


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """A running trial has made progress."""

    trial: TrialSpec
    share: float
    """Share of its work that is done, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A trial's results are in the store."""

    trial: TrialSpec
    how: Literal["run", "kept", "elsewhere"] = "run"
    """`kept`: an earlier submission had finished it; `elsewhere`: another submission stored it meanwhile."""
    attempt: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An attempt failed."""

    trial: TrialSpec
    attempt: int | None
    failure: Failure
    seconds: float
    again: bool
    """Whether the trial is attempted again."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A trial waits, because another run attempts it at this moment: it is not trained twice."""

    trial: TrialSpec
    by: str
    """Name of the other run."""


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """A trial does not run because one that it waits for failed or was cancelled."""

    trial: TrialSpec


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """A trial was stopped: with the submission, or alone by `wtsbench cancel`."""

    trial: TrialSpec
    attempt: int | None


@dataclass(frozen=True, kw_only=True)
class Yielding:
    """A run of higher priority wants the cluster: nothing is started for now; or that has ended."""

    to: str | None
    """Name of that run; None once trials are started again."""


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A node of the cluster has failed trials again and again, and gets no more of them."""

    node: str
    """Its name."""
    failures: int


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The submission was interrupted and stops cleanly. Sent from a signal handler: a listener must not block."""


TrialEvent = Started | Progressed | Done | Failed | Held | Blocked | Cancelled
Event = Preparing | Planned | LeftOut | TrialEvent | Yielding | SetAside | Stopping
Listener = Callable[[Event], None]
