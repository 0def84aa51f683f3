"""Errors that are the user's to mend: printed without a traceback, each with its exit code and its remedy."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says to whoever called it."""

    DONE = 0
    TRIALS_FAILED = 1
    USAGE = 2
    REGRESSION = 3
    """Something became worse than its baseline, or a repetition came out otherwise."""
    INCOMPLETE = 4
    UNREACHABLE = 5
    INTERNAL = 70
    """wtsbench itself is at fault (`EX_SOFTWARE` of sysexits.h)."""
    INTERRUPTED = 130


class UserError(Exception):
    """Something outside wtsbench is wrong; the message names it, and `remedy` says what to do about it."""

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}\n  {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:  # Ray and multiprocessing pickle errors: keep the keyword argument
        return _rebuild, (type(self), self.message, self.remedy)


def _rebuild(kind: type[UserError], message: str, remedy: str | None) -> UserError:
    error = kind.__new__(kind)
    UserError.__init__(error, message, remedy=remedy)
    return error


class SpecError(UserError):
    """A grid, a manifest or an argument is wrong."""


class DataError(UserError):
    """A task's data cannot be had, or is not what its manifest says."""


class ModelError(UserError):
    """A model cannot be had, or is not usable for its task."""


class ScorerError(UserError):
    """A scorer cannot be had, or cannot score these texts: asking again changes nothing."""


class ScorerUnavailable(ScorerError):
    """The scorer does not answer now: a service that is down or over its quota, a process that was killed."""

    exit_code = ExitCode.UNREACHABLE


class StoreError(UserError):
    """The store cannot be reached, read or written."""

    exit_code = ExitCode.UNREACHABLE


class NoStore(StoreError):
    """There is no store at the address yet."""


class SandboxError(UserError):
    """The sandbox asked for cannot be had here."""

    exit_code = ExitCode.UNREACHABLE


class ClusterError(UserError):
    """The Ray cluster cannot be reached or started."""

    exit_code = ExitCode.UNREACHABLE
