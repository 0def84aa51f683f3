"""What went wrong in a trial, as a failure class. The one place that reads exceptions of torch and the system."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

from wtsbench.spec.failure import Failure, FailureClass

_NODE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENFILE, errno.EMFILE, errno.ESTALE}
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")
_NODE_WORDS = (
    "nvml",
    "ecc error",
    "no cuda-capable device",
    "cuda driver",
    "no space left on device",
    "device or resource busy",
)
_DETAIL = 20_000
"""Characters of a traceback that are kept: the last ones."""


class DivergedError(Exception):
    """The loss or a prediction is NaN or infinite."""


class NoDeviceError(Exception):
    """The job asks for a GPU and this process sees none."""


class UnusableModelError(Exception):
    """The weights, the configuration or the tokenizer cannot serve as what the task needs."""


def failure_of(error: BaseException) -> Failure:
    """Class, one-line message and traceback of what a trial raised."""
    message = str(error).strip().splitlines()
    first = message[0] if message else ""
    named = isinstance(error, DivergedError | NoDeviceError | UnusableModelError)
    return Failure(
        failure_class=_class_of(error),
        message=(first if named else f"{type(error).__name__}: {first}" if first else type(error).__name__)[:500],
        detail="".join(traceback.format_exception(error))[-_DETAIL:],
    )


def _class_of(error: BaseException) -> FailureClass:
    if isinstance(error, DivergedError):
        return FailureClass.DIVERGED
    if isinstance(error, NoDeviceError):
        return FailureClass.INFRASTRUCTURE
    for link in _chain(error):
        text = str(link).lower()
        if isinstance(link, MemoryError) or type(link).__name__ in ("OutOfMemoryError", "ArrowMemoryError"):
            return FailureClass.OUT_OF_MEMORY
        if isinstance(link, OSError):
            if link.errno == errno.ENOMEM:
                return FailureClass.OUT_OF_MEMORY
            if link.errno in _NODE:
                return FailureClass.INFRASTRUCTURE
        if isinstance(link, RuntimeError | OSError):
            if any(word in text for word in _MEMORY_WORDS):
                return FailureClass.OUT_OF_MEMORY
            if any(word in text for word in _NODE_WORDS):
                return FailureClass.INFRASTRUCTURE
    return FailureClass.TRIAL_ERROR


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
