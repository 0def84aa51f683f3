"""`datasets` and the hub client: silencing them, and telling their expected exceptions from bugs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from wtsbench.errors import DataError
from wtsbench.settings import cache_folder

_LIBRARIES = {"datasets", "huggingface_hub", "httpx", "httpx2", "requests", "pyarrow", "pandas", "fsspec"}
_REPORTED_AS = (OSError, ValueError, RuntimeError, MemoryError)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
_UNREACHABLE = {"TransportError", "ConnectionError", "TimeoutError", "LocalEntryNotFoundError"}


class LibraryFault(Exception):
    """A library failed because of data, disk or network."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        causes: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        while error.__cause__ is not None:
            error = error.__cause__
        lines = str(error).strip().splitlines()
        self.reason = lines[0] if lines else type(error).__name__
        """First line of the innermost explicit cause: the outer exceptions only say that something failed."""
        self.names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
        """Class names of the exception, its causes and their bases; names, so that no HTTP library is imported."""
        self.unreachable = not self.names.isdisjoint(_UNREACHABLE)
        """The server cannot be reached, or the user works offline."""
        self.disk = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno in _DISK), None)
        """The cause, if the disk is full, read-only or not writable for the user."""


@contextmanager
def library_faults() -> Iterator[None]:
    """Wrap a call of a library: its exceptions become LibraryFault, a disk's fault a DataError, and bugs pass."""
    try:
        yield
    except Exception as error:
        of_library = {kind.__module__.partition(".")[0] for kind in type(error).__mro__} & _LIBRARIES
        if not of_library and not isinstance(error, _REPORTED_AS):
            raise
        fault = LibraryFault(error)
        if fault.disk is not None:
            raise disk_fault(fault.disk) from error
        raise fault from error


def disk_fault(error: OSError) -> DataError:
    """The error for a failure to write to a cache folder: wtsbench's own or the hub's."""
    return DataError(
        f"cannot write to {error.filename or cache_folder()}: {os.strerror(error.errno or 0)}",
        remedy="free some space, or set WTSBENCH_CACHE (and HF_HOME, for the hub's files) to another folder.",
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the two libraries' progress bars and logs; their settings are restored afterwards."""
    import datasets
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    levels = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
    bars = not datasets.are_progress_bars_disabled(), not are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    hub_logging.set_verbosity(datasets.logging.CRITICAL)
    if bars[0]:
        datasets.disable_progress_bars()
    if bars[1]:
        disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if bars[0]:
            datasets.enable_progress_bars()
        if bars[1]:
            enable_progress_bars()
