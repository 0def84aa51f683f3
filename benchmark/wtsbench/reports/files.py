"""What reports write into files."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path

from wtsbench.errors import ExitCode, SpecError
from wtsbench.files import replace, require_replaceable

PAGE = "index.html"
"""The page of a report, or of a site of reports; it is written first, and tells whose folder this is."""
_GENERATOR = b'<meta name="generator" content="wtsbench'
_NAMES = frozenset(
    {errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR}
)
"""What is wrong where a path names something else, or nothing that can be."""
_HEAD = 8192
"""Bytes at the beginning of a page that hold its generator."""


def write(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that it is there whole or not at all; folders are made.

    Raises:
        SpecError: it cannot be written; of exit code 5 where not its name is at fault.
    """
    try:
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content, durable=False)
    except OSError as error:
        fault = SpecError(f"{path} cannot be written: {error.strerror}", remedy="name another place.")
        if error.errno not in _NAMES:
            fault.exit_code = ExitCode.UNREACHABLE
        raise fault from None


def require_own(folder: Path, names: Iterable[str]) -> None:
    """Refuse to replace files that no report wrote: `rows.csv` may be somebody's data.

    Args:
        folder: where a report or a site is to be written; it need not be there.
        names: what will be written there, below it.

    Raises:
        SpecError: it holds something of these names, and no page of wtsbench.
    """
    taken = [name for name in dict.fromkeys(name.partition("/")[0] for name in names) if (folder / name).exists()]
    if taken and not _is_ours(folder / PAGE):
        raise SpecError(
            f"{folder} is no report of wtsbench and has {', '.join(taken)}, which would be replaced",
            remedy="name a new folder.",
        )


def _is_ours(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            return _GENERATOR in file.read(_HEAD)
    except OSError:
        return False


def remove_others(folder: Path, pattern: str, kept: Sequence[Path]) -> None:
    """Remove files of an earlier report that this one did not write anew: they are no part of it.

    Args:
        folder: of the report.
        pattern: of their paths below it.
        kept: those that this report wrote.

    Raises:
        SpecError: one cannot be removed.
    """
    for path in set(folder.glob(pattern)).difference(kept):
        try:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        except OSError as error:
            raise SpecError(f"{path} cannot be removed: {error.strerror}", remedy="name another place.") from None
