"""Names what a store's database holds, without reading it: what was computed of one state holds as long as its name.

The state of a database that nobody wrote to is named by its file's metadata and header: the engine counts its
checkpoints there, so a change by another program shows too, within one tick of the file system's clock as well. A write
that changes no record leaves a note beside the database: the file as it was left, and the name that goes on. Whoever
writes otherwise leaves another file than the note tells of, and so the note counts no more.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wtsbench.files import open_plain, read_small, replace

NOTE = ".store.state"
"""Name of the note. A damaged one, or one of another file, counts as none."""
_HEADER = 3 * 4096
"""Bytes of the engine's header, which it writes last in every checkpoint."""


def state_of(database: Path) -> str | None:
    """The name of what a database holds; None while the engine's log holds a part of it, or it cannot be read."""
    found = _file(database)
    return found if found is None else _noted(database).get(found, found)


@contextmanager
def state_kept(database: Path) -> Iterator[None]:
    """What the block writes changes no record: the state keeps its name. The caller holds the folder's lock."""
    before = state_of(database)
    yield
    after = _file(database)
    if before is not None and after not in (None, before):
        with suppress(OSError):  # then the state gets another name, which costs a reading
            replace(database.with_name(NOTE), json.dumps({after: before}), durable=False)


def _file(database: Path) -> str | None:
    """The file of a database as it is; no program can set its ctime."""
    if database.with_name(f"{database.name}.wal").exists():
        return None
    try:
        with open_plain(database) as file:
            header, status = hashlib.sha256(file.read(_HEADER)).hexdigest(), os.fstat(file.fileno())
    except OSError:
        return None
    parts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    return f"{database.resolve()} {parts} {header}"


def _noted(database: Path) -> dict[str, str]:
    """The name that goes on, by the file that has it."""
    try:
        noted = json.loads(read_small(database.with_name(NOTE)))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
