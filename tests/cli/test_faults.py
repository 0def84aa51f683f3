"""Errors become a message, a remedy and an exit code, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from wtsbench.errors import ExitCode, SpecError, StoreError
from wtsbench_cli.faults import guarded


def _raise(error: BaseException) -> object:
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("the file is wrong", remedy="mend it."), ExitCode.USAGE),
        (StoreError("no store there", remedy="make one."), ExitCode.UNREACHABLE),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), ExitCode.UNREACHABLE),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), ExitCode.UNREACHABLE),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 5000), ExitCode.USAGE),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "file/x"), ExitCode.USAGE),
        (FileExistsError(errno.EEXIST, "File exists", "x"), ExitCode.USAGE),
        (UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed"), ExitCode.USAGE),
        (UnicodeEncodeError("ascii", "caf\xe9", 3, 4, "ordinal not in range"), ExitCode.INTERNAL),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError("division by zero"), ExitCode.INTERNAL),
        (FileNotFoundError(errno.ENOENT, "No such file", "/data/x"), ExitCode.INTERNAL),
        (typer.Exit(1), 1),
    ],
)
def test_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of error has its exit code, and none shows a traceback."""
    assert guarded(lambda: _raise(error), debug=False) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_message_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """A user's fault prints its message and, indented below it, the remedy."""
    guarded(lambda: _raise(SpecError("line 3: no such thing", remedy="do this,\nthen that.")), debug=False)
    assert capsys.readouterr().err == "error: line 3: no such thing\n  do this,\n  then that.\n"


def test_own_fault_asks_for_debug(capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error says so in two lines and names `--debug`."""
    guarded(lambda: _raise(ZeroDivisionError("division by zero")), debug=False)
    err = capsys.readouterr().err
    assert err.startswith("error: wtsbench itself failed: ZeroDivisionError: division by zero\n")
    assert "--debug" in err


@pytest.mark.parametrize("error", [SpecError("wrong"), ZeroDivisionError()])
def test_debug_shows_the_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--debug` every error shows where it comes from."""
    guarded(lambda: _raise(error), debug=True)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_is_accepted_anywhere(place: str, environment: dict[str, str]) -> None:
    """`--debug` may stand before or after the verb."""
    words = ["--debug", "validate", "absent.yaml"] if place == "before" else ["validate", "absent.yaml", "--debug"]
    done = subprocess.run(
        [sys.executable, "-m", "wtsbench_cli", *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == ExitCode.USAGE
    assert "Traceback" in done.stderr


def test_closed_pipe(environment: dict[str, str]) -> None:
    """A reader that goes away early ends the program quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "wtsbench_cli", "--help"],
            env=environment,
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_working_folder_that_is_gone(tmp_path: Path, environment: dict[str, str]) -> None:
    """A command in a folder that was deleted says so, in place of a crash at the first relative path."""
    (tmp_path / "gone").mkdir()
    program = f"cd {tmp_path}/gone; rmdir ../gone; exec {sys.executable} -m wtsbench_cli status"
    variables = {**environment, "WTSBENCH_STORE": "store"}
    done = subprocess.run(["bash", "-c", program], env=variables, capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("error: the working folder is gone")
