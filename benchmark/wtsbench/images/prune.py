"""Trial images that no name stands for, and may go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from wtsbench.images.docker_engine import CODE_LABEL, connect, said_by_engine
from wtsbench.images.pins import pins

if TYPE_CHECKING:
    import docker

LISTING_SECONDS = 300.0
"""An engine that counts the bytes of many images takes its time."""


@dataclass(frozen=True, kw_only=True)
class OnEngine:
    """Something on the engine that may go: an image, or a container (`sandbox.leftovers`)."""

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
    with connect(seconds=LISTING_SECONDS) as client, said_by_engine("images cannot be looked for"):
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
    return moment(noted) if noted > "1970-01-02" else None


def _remove_image(image: dict[str, Any]) -> None:
    with connect(seconds=LISTING_SECONDS) as client, said_by_engine("the image cannot be removed"):
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


def moment(text: str) -> float:
    """Seconds since the epoch of the engine's `2026-01-31T12:00:00.123456789Z`."""
    return datetime.fromisoformat(text).timestamp()
