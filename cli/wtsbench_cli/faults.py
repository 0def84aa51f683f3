"""The one place where an error becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

from wtsbench.errors import ExitCode, UserError
from wtsbench.visible import shortened
from wtsbench_cli.streams import OutputError, discard
from wtsbench_cli.terminal import say

CLOSED_PIPE = 141
"""Exit code when the reader of our output is gone: 128 + SIGPIPE, as a shell reports it for other programs."""

_DISK = "free some space and run the same command again; what was stored before is kept."
_OWNER = "change its permissions, or choose another place."
_REMEDIES = {
    errno.ENOSPC: _DISK,
    errno.EDQUOT: _DISK,
    errno.EACCES: _OWNER,
    errno.EPERM: _OWNER,
    errno.EROFS: "it is on a file system that cannot be written; choose another place, or copy it to one.",
    errno.EMFILE: "raise the limit of open files (ulimit -n).",
    errno.ENFILE: "the machine has too many files open; stop other work.",
}
"""Remedies for faults of the machine."""
_NAMES = {
    errno.ENAMETOOLONG: "give a shorter one.",
    errno.ENOTDIR: "a file is in the place of a folder in this path; give another.",
    errno.EISDIR: "it is a folder; give a file.",
    errno.EEXIST: "something else is in its place; remove it, or give another.",
    errno.ELOOP: "its symbolic links form a loop; correct them.",
}
"""Remedies for names that cannot be used."""


def guarded(run: Callable[[], object], *, debug: bool) -> int:
    """Run a command line and return its exit code; errors are reported on standard error.

    Args:
        run: parses the arguments and runs the verb; raises typer.Exit for an exit code other than 0.
        debug: also print tracebacks.
    """
    try:
        return _exit_code_of(run)
    except typer.TyperException as error:  # wrong usage: it formats the message with the usage line
        show = getattr(error, "show", None)
        message = io.StringIO()
        if show is None:
            message.write(f"error: {error.format_message()}")
        else:
            show(message)
        _report(message.getvalue().rstrip())
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        _report("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        discard()
        return CLOSED_PIPE
    except UserError as error:
        if isinstance(error, OutputError):
            discard()
        return _user_fault(error, debug)
    except (OSError, UnicodeEncodeError) as error:
        fault = _of_the_system(error) if isinstance(error, OSError) else _not_utf8(error)
        return _unexpected(error, debug) if fault is None else _user_fault(fault, debug, error)
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # pathlib's message before Python 3.13
            return _unexpected(error, debug)
        return _user_fault(UserError(str(error), remedy=_NAMES[errno.ELOOP]), debug, error)
    except Exception as error:  # noqa: BLE001  # reported to the user, who can get the traceback
        return _unexpected(error, debug)


def _exit_code_of(run: Callable[[], object]) -> int:
    """Run and flush the output, which may fail too; then return the exit code."""
    try:
        run()
        code: int = ExitCode.DONE
    except typer.Exit as end:
        code = end.exit_code
    sys.stdout.flush()
    return code


def _user_fault(error: UserError, debug: bool, cause: BaseException | None = None) -> int:
    if debug:
        _report("".join(traceback.format_exception(cause or error)).rstrip())
    lines = [f"error: {error.message}"]
    if error.remedy:
        lines += [f"  {line}" for line in error.remedy.splitlines()]
    _report("\n".join(lines))
    return error.exit_code


def _unexpected(error: Exception, debug: bool) -> int:
    if debug:
        _report("".join(traceback.format_exception(error)).rstrip())
    first = (str(error).strip().splitlines() or [""])[0]
    _report(f"error: wtsbench itself failed: {type(error).__name__}{': ' if first else ''}{first}")
    if not debug:
        _report("  Run the same command with --debug for the traceback, and please report it.")
    return ExitCode.INTERNAL


def _of_the_system(error: OSError) -> UserError | None:
    """Faults of the machine, and of names, that any verb can meet at any file."""
    if error.errno == errno.ENOENT and _working_folder_is_gone():
        return UserError("the working folder is gone", remedy="change to another one.")
    remedy = _REMEDIES.get(error.errno or 0) or _NAMES.get(error.errno or 0)
    if remedy is None:
        return None
    where = f": {shortened(str(error.filename))}" if error.filename else ""
    fault = UserError(f"{error.strerror}{where}", remedy=remedy)
    fault.exit_code = ExitCode.UNREACHABLE if error.errno in _REMEDIES else ExitCode.USAGE
    return fault


def _working_folder_is_gone() -> bool:
    """Whether the working folder was deleted, so that no relative path can be used."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _not_utf8(error: UnicodeEncodeError) -> UserError | None:
    """A file name that is not UTF-8, which Python accepts and most libraries refuse."""
    wrong = error.object[error.start : error.end]
    if not all("\ud800" <= character <= "\udfff" for character in wrong):
        return None
    return UserError(f"a name is not UTF-8: {shortened(error.object)}", remedy="rename it, or give another.")


def _report(text: str) -> None:
    with contextlib.suppress(OSError):  # standard error is gone too
        say(text)
