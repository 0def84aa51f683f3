"""Leftover containers and their folders: the supervisor was killed, or has not renewed the lease in time."""

from __future__ import annotations

import logging
import os
import time
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wtsbench.files import remove_tree
from wtsbench.images.docker_engine import connect, node, said_by_engine
from wtsbench.images.prune import LISTING_SECONDS, OnEngine, moment
from wtsbench.sandbox.container import LEASE_LABEL, LEASE_SECONDS_LABEL, NODE_LABEL, OWNER_LABEL
from wtsbench.sandbox.lease import LeaseState, look_at
from wtsbench.sandbox.staging import ContainerFolder, locked
from wtsbench.settings import lease_seconds

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

_log = logging.getLogger(__name__)
_FORGOTTEN_SECONDS = 3600.0
_LOOKS_BEFORE_REMOVAL = 2
"""How many looks in a row must find a lease abandoned: a network file system may hide a file for a moment."""


def sweep(client: docker.DockerClient) -> list[str]:
    """Remove this user's containers on this machine whose supervisor is dead; others are left alone.

    Returns:
        the ids of the containers removed.
    """
    return [str(container.id) for container, state in _abandoned(client) if remove(container, why(state))]


def _abandoned(client: docker.DockerClient) -> list[tuple[Container, LeaseState]]:
    """This user's containers on this machine whose supervisor is dead, with the state of their lease."""
    looked_at = [(container, look_at(lease_of(container))) for container in trial_containers(client)]
    return [(container, state) for container, state in looked_at if state.abandoned]


def sweep_folders(place: Path) -> None:
    """Delete the folders of containers whose supervisor is dead, except those that still hold a trial's outbox.

    Args:
        place: parent of the folders.
    """
    if not place.is_dir():
        return
    with locked(place, sweeping=True):
        for path in [entry for entry in place.iterdir() if entry.is_dir()]:
            if path.name.startswith("reads-"):  # a supervisor was killed while it linked a trial's inputs (`staging`)
                with suppress(FileNotFoundError):  # moved into its container meanwhile
                    if time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
                        remove_tree(path)
            elif look_at(ContainerFolder(path).lease).abandoned:
                ContainerFolder(path).remove()


def left_containers() -> list[OnEngine]:
    """This user's containers on this machine whose supervisor is dead.

    Raises:
        SandboxError: no engine answers.
    """
    with connect(seconds=LISTING_SECONDS) as client, said_by_engine("containers cannot be looked for"):
        left = _abandoned(client)
        listing = client.api.containers(all=True, size=True) if left else []
    written = {entry["Id"]: entry.get("SizeRw", 0) for entry in listing}
    return [
        OnEngine(
            name=str(container.name),
            bytes=int(written.get(container.id, 0)),
            since=moment(container.attrs["Created"]),
            why=why(state),
            remove=partial(_remove_container, container.id),
        )
        for container, state in left
    ]


def left_folders(place: Path) -> list[Path]:
    """Folders of containers whose supervisor is dead; `sweep_folders` deletes them.

    Args:
        place: where a sandbox keeps the folders of its containers.
    """
    with locked(place, sweeping=True) if (place / "lock").exists() else nullcontext():  # a look creates no lock file
        folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        ours = [path for path in folders if not path.name.startswith("reads-") and _is_ours(path)]
        return [path for path in ours if look_at(ContainerFolder(path).lease).abandoned]


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except FileNotFoundError:  # removed meanwhile
        return False


def _remove_container(key: str) -> None:
    import docker.errors

    with connect(seconds=LISTING_SECONDS) as client, said_by_engine("the container cannot be removed"):
        try:
            container = client.containers.get(key)
        except docker.errors.NotFound:  # removed by the reaper meanwhile
            return
        remove(container)


def trial_containers(client: docker.DockerClient) -> list[Container]:
    """Every container that this user had made on this machine for a trial, running or not.

    Users may share an engine, and machines a file system: containers of others are left out.
    """
    filters = {"label": [f"{NODE_LABEL}={node()}", f"{OWNER_LABEL}={os.getuid()}", LEASE_LABEL]}
    containers: list[Container] = client.containers.list(all=True, filters=filters, ignore_removed=True)
    return containers


def lease_of(container: Container) -> Path:
    """The lease file of a trial's container."""
    return Path(container.labels[LEASE_LABEL])


def why(state: LeaseState) -> str:
    """Why a container whose lease is in this state may be removed."""
    if state.gone:
        return "its trial folder is gone"
    return "its supervisor is dead" if state.held is False else "its lease was not renewed in time"


class Patience:
    """How long the leases of this machine's containers have not been renewed, from one look to the next.

    Time is counted on the monotonic clock between looks of this process, as wall clocks jump; and each step counts for
    no more than `longest`, since supervisors may have been stalled while this process was.
    """

    def __init__(self, *, longest: float) -> None:
        self._longest = longest
        self._history: dict[str, tuple[int | None, float, int]] = {}
        """By container: last renewal of its lease, seconds since then, and looks in a row that found it abandoned."""

    def stale(self, containers: list[Container], step: float) -> list[tuple[Container, LeaseState]]:
        """The containers whose supervisor is dead or stalled, with the state of their lease.

        Args:
            containers: all that exist now.
            step: seconds since the last look.
        """
        history, stale = self._history, []
        self._history = {}
        for container in containers:
            state = look_at(lease_of(container))
            renewed, age, abandoned = history.get(str(container.id), (None, 0.0, 0))
            if state.abandoned:
                abandoned += 1
            elif state.renewed is not None:
                age = age + min(step, self._longest) if state.renewed == renewed else 0.0
                renewed, abandoned = state.renewed, 0
            self._history[str(container.id)] = (renewed, age, abandoned)
            if abandoned >= _LOOKS_BEFORE_REMOVAL or age > _lease_seconds_of(container):
                stale.append((container, state))
        return stale


def _lease_seconds_of(container: Container) -> float:
    try:
        return float(container.labels[LEASE_SECONDS_LABEL])
    except (KeyError, ValueError):
        return lease_seconds()


def remove(container: Container, reason: str | None = None) -> bool:
    """Remove a container, running or not; a failure is logged, and the next sweep tries again.

    Args:
        container: to remove.
        reason: for the log; None logs nothing.
    """
    import docker.errors
    import requests.exceptions

    try:
        container.remove(force=True, v=True)
    except docker.errors.NotFound:
        return False  # removed by somebody else
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        _log.warning("container %s could not be removed and is left for the next sweep: %s", container.name, error)
        return False
    if reason is not None:
        _log.info("removed container %s (%s): %s", container.name, container.status, reason)
    return True
