"""Trial images that are not pinned and may be removed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from wtsbench.images.docker_engine import CODE_LABEL, connect, said_by_engine
from wtsbench.images.pins import pins

if TYPE_CHECKING:
    import docker

LISTING_SECONDS = 300.0
"""Time limit for an engine that counts the bytes of many images."""


@dataclass(frozen=True, kw_only=True)
class OnEngine:
    """An image on the engine that may be removed, or a container (`sandbox.leftovers`)."""

    name: str
    bytes: int
    """Bytes that its removal frees; layers shared with other images are not counted."""
    since: float | None
    """When a container was made or an image last tagged, in seconds since the epoch; None if unknown."""
    why: str
    remove: Callable[[], None]
    """Removes it; raises SandboxError if the engine refuses."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """The trial images of the engine that may be removed, and how much the unpinned ones hold."""

    over: list[OnEngine]
    """Unpinned images over the budget, oldest first."""
    unpinned: int
    """Bytes of all unpinned images, including those over the budget."""


def left_images(budget: int | None) -> Images:
    """Unpinned trial images that are over a budget, the least recent first.

    Pinned images, those that a container uses and the newest of all are always kept.

    Args:
        budget: bytes that unpinned images may hold; None keeps all of them.

    Raises:
        SandboxError: no engine answers.
        SpecFaults: the file of pins is wrong.
    """
    pinned = {value for pin in pins().values() for value in (pin.id, pin.reference) if value is not None}
    with connect(seconds=LISTING_SECONDS) as client, said_by_engine("images cannot be looked for"):
        ours = [image for image in client.df()["Images"] or () if CODE_LABEL in (image["Labels"] or {})]
        tagged_at = {image["Id"]: _tagged_at(client, image["Id"]) for image in ours}
    ours.sort(key=lambda image: (tagged_at[image["Id"]] or 0.0, image["Id"]), reverse=True)
    unpinned = [
        image
        for image in ours[1:]
        if not pinned & {image["Id"], *(image["RepoDigests"] or ())} and image["Containers"] <= 0
    ]
    held, over = 0, []
    for image in unpinned:
        held += _own_bytes(image)
        if budget is not None and held > budget:
            over.append(image)
    removable = [
        OnEngine(
            name=", ".join(_tags(image)) or str(image["Id"])[:19],
            bytes=_own_bytes(image),
            since=tagged_at[image["Id"]],
            why="no name in images.yaml stands for it, and such images are over the budget",
            remove=partial(_remove_image, image),
        )
        for image in reversed(over)
    ]
    return Images(over=removable, unpinned=held)


def _tagged_at(client: docker.DockerClient, image: str) -> float | None:
    """When an image was last tagged: it has no date of its own, so that the same parts make the same image."""
    import docker.errors

    try:
        noted = (client.api.inspect_image(image).get("Metadata") or {}).get("LastTagTime") or ""
    except docker.errors.ImageNotFound:  # removed meanwhile
        return None
    return moment(noted) if noted > "1970-01-02" else None


def _remove_image(image: dict[str, Any]) -> None:
    import docker.errors

    with connect(seconds=LISTING_SECONDS) as client, said_by_engine("the image cannot be removed"):
        for reference in _tags(image) or [str(image["Id"])]:
            with suppress(docker.errors.ImageNotFound):
                client.images.remove(reference)


def _own_bytes(image: dict[str, Any]) -> int:
    return int(image["Size"]) - max(0, int(image["SharedSize"]))


def _tags(image: dict[str, Any]) -> list[str]:
    return [tag for tag in image["RepoTags"] or () if tag != "<none>:<none>"]


def moment(text: str) -> float:
    """Seconds since the epoch of the engine's `2026-01-31T12:00:00.123456789Z`."""
    return datetime.fromisoformat(text).timestamp()
