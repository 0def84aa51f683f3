"""Finds and removes what dead runs have left on this machine. Nothing of a living run is touched.

The kernel tells who lives: a supervisor locks its attempt folder and its lease while it lives. What a dead one had
finished is undelivered rather than left over, and never deleted: it is delivered to its store, or kept.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from wtsbench.errors import SandboxError, StoreError, UserError
from wtsbench.execution.sealing import read_result
from wtsbench.execution.space import interrupted, over_budget, size_of
from wtsbench.execution.spool import AttemptFolder, attempt_folders, is_dead, sandbox_folder
from wtsbench.execution.supervise import sweep
from wtsbench.images.prune import OnEngine, left_images
from wtsbench.sandbox.leftovers import left_containers, left_folders, sweep_folders
from wtsbench.settings import cache_bytes, images_bytes, spool_folder, spool_of_servers
from wtsbench.store.client import open_store

Kind = Literal["container", "attempt", "container's folder", "temporary file", "cache", "image"]
"""In the order in which they are removed."""
Action = Literal["remove", "deliver", "keep"]


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """Something that may be removed, or has to be kept for the reason in `why`."""

    kind: Kind
    name: str
    bytes: int
    age: float | None
    """Seconds since it was made, or for files since they were last changed or used; None if unknown."""
    why: str
    action: Action
    """What `clear` does with it."""
    clear: Callable[[], None] = field(compare=False, repr=False)
    """Does it; raises UserError or OSError if it fails."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found, and notes for the user."""

    leftovers: list[Leftover]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """What `clear` did with a leftover."""

    leftover: Leftover
    problem: str | None
    """Why it is still there; None if it is gone."""


def find(store: str, *, images: int | None = None, cache: int | None = None) -> Findings:
    """Look for what is left over; changes nothing.

    Args:
        store: the store whose attempts on this machine are examined.
        images: bytes that unpinned trial images may hold; None takes `WTSBENCH_IMAGES_BYTES`, or without that keeps
            all.
        cache: bytes that the cache may hold; None takes `WTSBENCH_CACHE_BYTES`.

    Raises:
        SpecError: an environment variable is no number of bytes.
        SpecFaults: the user's pins cannot be read.
    """
    images = images_bytes() if images is None else images
    cache = cache_bytes() if cache is None else cache
    notes: list[str] = []
    found = _on_engine(images, notes)
    found += _attempts(store, notes)
    found += _container_folders(sandbox_folder(spool_folder(store)))
    found += [
        _of_file("temporary file", one.path, one.bytes, one.changed, "an interrupted write left it", one.remove)
        for one in interrupted()
    ]
    found += [
        _of_file("cache", one.path, one.bytes, one.changed, f"{one.part} over the budget; made again", one.remove)
        for one in over_budget(cache)
    ]
    order = get_args(Kind)
    return Findings(leftovers=sorted(found, key=lambda one: order.index(one.kind)), notes=notes)


def clear(findings: Findings, on_cleared: Callable[[Cleared], None]) -> list[Cleared]:
    """Clear away what was found, containers first, since they may still write into attempt folders.

    Args:
        findings: from `find`; anything in use again since then is left alone.
        on_cleared: called after each leftover.

    Returns:
        What was done with each. A failure with one does not keep others from being removed.
    """
    results = []
    for one in findings.leftovers:
        if one.action == "keep":
            continue
        problem = None
        try:
            one.clear()
        except UserError as error:
            problem = error.message
        except OSError as error:
            problem = f"{error.strerror or error}"
        results.append(Cleared(leftover=one, problem=problem))
        on_cleared(results[-1])
    return results


def _on_engine(budget: int | None, notes: list[str]) -> list[Leftover]:
    try:
        containers, images = left_containers(), left_images(budget)
    except SandboxError as error:
        notes.append(f"containers and images were skipped: {error.message}")
        return []
    if images.unpinned and budget is None:
        notes.append(
            f"unpinned trial images hold {images.unpinned:,} bytes besides shared layers; "
            "--images-budget removes those over a budget"
        )
    return [_of_engine("container", one) for one in containers] + [_of_engine("image", one) for one in images.over]


def _of_engine(kind: Kind, one: OnEngine) -> Leftover:
    return Leftover(
        kind=kind,
        name=one.name,
        bytes=one.bytes,
        age=None if one.since is None else max(0.0, time.time() - one.since),
        why=one.why,
        action="remove",
        clear=one.remove,
    )


def _of_file(kind: Kind, path: Path, size: int, changed: float, why: str, remove: Callable[[], None]) -> Leftover:
    age = max(0.0, time.time() - changed)
    return Leftover(kind=kind, name=str(path), bytes=size, age=age, why=why, action="remove", clear=remove)


def _container_folders(place: Path) -> list[Leftover]:
    """What a container of a dead supervisor saw of the host; outboxes that it has are brought home with the attempt."""
    found = []
    for path in left_folders(place):
        clear = partial(_delete_folder, place, path)
        with suppress(FileNotFoundError):  # removed by another sweep meanwhile; likewise below
            size, changed = size_of(path), path.stat().st_mtime
            found.append(_of_file("container's folder", path, size, changed, "its supervisor is dead", clear))
    return found


def _delete_folder(place: Path, path: Path) -> None:
    sweep_folders(place)
    if path.exists():
        raise StoreError(f"it still holds records of an attempt: deliver the attempts in {path.parent.parent} first")


def _attempts(store: str, notes: list[str]) -> list[Leftover]:
    """Folders of attempts whose supervisor is dead; those that had begun are to be delivered."""
    spool = spool_folder(store)
    others = [path for path in _spools_of_servers() if path != spool and any(map(is_dead, attempt_folders(path)))]
    if others:
        notes.append(f"attempts wait in {', '.join(map(str, others))} for another central store: name it with --store")
    found = []
    for folder in filter(is_dead, attempt_folders(spool)):
        with suppress(FileNotFoundError):
            found.append(_attempt(folder, store, spool))
    return found


def _attempt(folder: AttemptFolder, store: str, spool: Path) -> Leftover:
    note, result = folder.note(), read_result(folder)
    why = "its supervisor died before it had begun"
    action: Action = "remove"
    if note is not None:
        finished = result is not None and result.status == "done"
        why = f"{'finished' if finished else 'its supervisor died'}; not in the store yet"
        action = "deliver"
        if note.host != platform.node():
            why, action = f"its supervisor ran on {note.host}: run gc there", "keep"
    return Leftover(
        kind="attempt",
        name=str(folder.path),
        bytes=size_of(folder.path),
        age=max(0.0, time.time() - folder.path.stat().st_mtime),
        why=why,
        action=action,
        clear=lambda: _end(folder, store, spool),
    )


def _end(folder: AttemptFolder, store: str, spool: Path) -> None:
    """End an attempt and deliver it to its store; one that had not begun is just deleted."""
    if folder.note() is None:
        with folder.owned() as owned:
            if owned and folder.note() is None:
                folder.remove()
        return
    sweep(spool, open_store(store), only=folder)
    if folder.path.exists() and is_dead(folder):
        raise StoreError(f"{folder.path} could not be removed")


def _spools_of_servers() -> list[Path]:
    parent = spool_of_servers()
    return [path for path in sorted(parent.iterdir()) if path.is_dir()] if parent.is_dir() else []
