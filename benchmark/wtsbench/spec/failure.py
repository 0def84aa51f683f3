"""How a trial can fail. A failure is data: it is stored as a row with class, message and log."""

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator

from wtsbench.spec.frozen import Frozen
from wtsbench.visible import storable


class FailureClass(StrEnum):
    """Each class has its own retry rule (`Retry` in the grid)."""

    INFRASTRUCTURE = "infrastructure"
    """The node, the engine, the disk or the network failed, not the trial: a lost worker, a daemon error, ENOSPC."""
    OUT_OF_MEMORY = "out_of_memory"
    """Host or device memory ran out."""
    TIMEOUT = "timeout"
    """The trial ran past `resources.time`."""
    DIVERGED = "diverged"
    """The loss or a prediction became NaN or infinite."""
    TRIAL_ERROR = "trial_error"
    """The trial raised an error because of its code, data or model: another attempt fails too."""
    CANCELLED = "cancelled"
    """The user stopped it."""


def _storable(value: object) -> object:
    return storable(value) if isinstance(value, str) else value


Words = Annotated[str, BeforeValidator(_storable)]
"""Text that a table can store, even if it quotes file names that are not UTF-8."""


class Failure(Frozen):
    """Why an attempt ended without a result."""

    failure_class: FailureClass
    message: Words
    """One line, for tables."""
    detail: Words = ""
    """The traceback or the log's tail."""
