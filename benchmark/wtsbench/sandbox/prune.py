"""What of ours is left on the engine and may go: containers that nobody waits for, images that no name stands for."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtsbench.sandbox.engine import CODE_LABEL, connect, said_by_engine
from wtsbench.sandbox.lease import look_at
from wtsbench.sandbox.leftovers import lease_of, remove, trial_containers, why
from wtsbench.sandbox.pins import pins
from wtsbench.sandbox.staging import ContainerFolder, locked

if TYPE_CHECKING:
    import docker

_SECONDS = 300.0
"""An engine that counts the bytes of many images takes its time."""


@dataclass(frozen=True, kw_only=True)
class OnEngine:
    """A container or an image that may go."""

    name: str
    bytes: int
    """That its removal frees; layers shared with other images are not counted."""
    since: float | None
    """Seconds since the epoch when it was made, or for an image last named; None where the engine does not know."""
    why: str
    remove: Callable[[], None]
    """Raises SandboxError where the engine does not do it."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """The trial images of the engine, sorted into those that may go and what the others hold."""

    over: list[OnEngine]
    """Oldest first."""
    unpinned: int
    """Bytes of all that no name stands for, those that may go among them."""


def left_containers() -> list[OnEngine]:
    """This user's containers on this machine whose supervisor is dead.

    Raises:
        SandboxError: no engine answers.
    """
    with connect(seconds=_SECONDS) as client, said_by_engine("containers cannot be looked for"):
        found = [(container, look_at(lease_of(container))) for container in trial_containers(client)]
        left = {str(container.id): (container, state) for container, state in found if state.abandoned}
        sizes = client.api.containers(all=True, size=True) if left else []
    written = {one["Id"]: one.get("SizeRw", 0) for one in sizes}
    return [
        OnEngine(
            name=str(container.name),
            bytes=int(written.get(key, 0)),
            since=_moment(container.attrs["Created"]),
            why=why(state),
            remove=partial(_remove_container, key),
        )
        for key, (container, state) in left.items()
    ]


def left_folders(place: Path) -> list[Path]:
    """Folders of containers whose supervisor is dead; `leftovers.sweep_folders` deletes them.

    Args:
        place: where a sandbox keeps the folders of its containers.
    """
    with locked(place, sweeping=True) if (place / "lock").exists() else nullcontext():  # nothing is made by a look
        folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        ours = [path for path in folders if not path.name.startswith("reads-") and _is_ours(path)]
        return [path for path in ours if look_at(ContainerFolder(path).lease).abandoned]


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except FileNotFoundError:  # removed meanwhile
        return False


def left_images(budget: int | None) -> Images:
    """Trial images that no name stands for and that are over a budget, the least recent first.

    What is pinned, what a container uses and the newest of all are kept, whatever they hold.

    Args:
        budget: bytes that images without a name may hold; None lets all of them stay.

    Raises:
        SandboxError: no engine answers.
        SpecFaults: the file of pins is wrong.
    """
    named = {value for pin in pins().values() for value in (pin.id, pin.reference) if value is not None}
    with connect(seconds=_SECONDS) as client, said_by_engine("images cannot be looked for"):
        ours = [one for one in client.df()["Images"] or () if CODE_LABEL in (one["Labels"] or {})]
        named_at = {one["Id"]: _named_at(client, one["Id"]) for one in ours}
    ours.sort(key=lambda one: (named_at[one["Id"]] or 0.0, one["Id"]), reverse=True)
    loose = [one for one in ours[1:] if not named & {one["Id"], *(one["RepoDigests"] or ())} and one["Containers"] <= 0]
    held, over = 0, []
    for one in loose:
        held += _own_bytes(one)
        if budget is not None and held > budget:
            over.append(one)
    found = [
        OnEngine(
            name=", ".join(_tags(one)) or str(one["Id"])[:19],
            bytes=_own_bytes(one),
            since=named_at[one["Id"]],
            why="no name in images.yaml stands for it, and such images are over the budget",
            remove=partial(_remove_image, one),
        )
        for one in reversed(over)
    ]
    return Images(over=found, unpinned=held)


def _named_at(client: docker.DockerClient, image: str) -> float | None:
    """Trial images carry no date of their own, so that the same parts make the same image."""
    import docker.errors

    try:
        noted = (client.api.inspect_image(image).get("Metadata") or {}).get("LastTagTime") or ""
    except docker.errors.ImageNotFound:  # removed meanwhile
        return None
    return _moment(noted) if noted > "1970-01-02" else None


def _remove_container(key: str) -> None:
    import docker.errors

    with connect(seconds=_SECONDS) as client, said_by_engine("the container cannot be removed"):
        try:
            container = client.containers.get(key)
        except docker.errors.NotFound:  # the reaper was faster
            return
        remove(container)


def _remove_image(image: dict[str, Any]) -> None:
    with connect(seconds=_SECONDS) as client, said_by_engine("the image cannot be removed"):
        for reference in _tags(image) or [str(image["Id"])]:
            _untag(client, reference)


def _untag(client: docker.DockerClient, reference: str) -> None:
    import docker.errors

    try:
        client.images.remove(reference)
    except docker.errors.ImageNotFound:
        return


def _own_bytes(image: dict[str, Any]) -> int:
    return int(image["Size"]) - max(0, int(image["SharedSize"]))


def _tags(image: dict[str, Any]) -> list[str]:
    return [tag for tag in image["RepoTags"] or () if tag != "<none>:<none>"]


def _moment(text: str) -> float:
    """Seconds since the epoch of the engine's `2026-01-31T12:00:00.123456789Z`."""
    return datetime.fromisoformat(text).timestamp()
