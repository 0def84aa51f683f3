"""`wtsbench` in this process: its output and exit code, without the second of CPU that a process takes to start.

For tests of what a command says and does. Where the process is the subject, such as its signals, its streams or what it
imports, tests start one.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from wtsbench_cli.main import main


def called(words: list[str], *, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `wtsbench WORDS`.

    Args:
        words: the command line.
        folder: working folder.
        variables: all environment variables.
    """
    out, err = _Kept(), _Kept()
    streams = [io.TextIOWrapper(stream, encoding="utf-8", write_through=True) for stream in (out, err)]
    code: object = 0
    with chdir(folder), _environment(variables), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(
        [sys.executable, "-m", "wtsbench_cli", *words], code, out.getvalue().decode(), err.getvalue().decode()
    )


class _Kept(io.BytesIO):
    """What was written, also once the streams over it are gone."""

    def close(self) -> None:
        """Keep it."""


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables alone, until the end of the block."""
    before = dict(os.environ)
    try:
        _replace(variables)
        yield
    finally:
        _replace(before)


def _replace(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
