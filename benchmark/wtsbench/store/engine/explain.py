"""DuckDB's error messages as errors with a remedy for the user."""

from __future__ import annotations

import re
from pathlib import Path

from wtsbench.errors import StoreError

_HOLDER = re.compile(r"Conflicting lock is held in (.+?\(PID \d+\))")
OTHER_FOLDER = "choose another folder with --store."


def foreign_holder(message: str) -> str | None:
    """The program that has the database open, if a message reports that; else None."""
    if "could not set lock" not in message.lower():
        return None
    match = _HOLDER.search(message)
    return match[1] if match else "another program"


def not_ours(path: Path, why: str) -> StoreError:
    """The error for a file that is no store of wtsbench."""
    return StoreError(f"{path} is not a wtsbench store: {why}", remedy=OTHER_FOLDER)


def explained(message: str, path: Path) -> StoreError:
    """The error for a message of the engine.

    Args:
        message: DuckDB's text.
        path: the database.
    """
    first = message.strip().splitlines()[0] if message.strip() else "no reason given"
    text = message.lower()
    if "no space left" in text or "disk full" in text or "quota exceeded" in text:
        return StoreError(
            f"no space left on the disk of the store {path.parent}",
            remedy="free some space and submit again: what was acknowledged is kept, the rest waits in its outbox.",
        )
    if "read-only file system" in text or "permission denied" in text:
        return StoreError(f"no permission to use the store {path.parent}: {first}", remedy=OTHER_FOLDER)
    if "not a valid duckdb" in text or "is a directory" in text or text.startswith("catalog error"):
        return not_ours(path, first)
    if "version number" in text and "database file" in text:
        return StoreError(f"the store {path.parent} cannot be read: {first}", remedy="use a newer wtsbench.")
    if "corrupt" in text:
        return StoreError(
            f"the store {path.parent} is damaged: {first}", remedy="restore a backup: `wtsbench store restore`."
        )
    return StoreError(f"the store {path.parent} failed: {first}", remedy="what was acknowledged before is kept.")
