"""The Docker engine: whether one answers, and its errors as `SandboxError`. Imports `docker` only when it is used."""

from __future__ import annotations

import os
import platform
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtsbench.errors import SandboxError
from wtsbench.spec.address import split_address

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

    from wtsbench.images.pins import ImagePin

DEFAULT_SOCKET = Path("/var/run/docker.sock")
PROBE_SECONDS = 10.0
"""How long an engine on a busy machine may take to answer. If nobody listens, the connection fails at once."""
AWAY_SECONDS = 60.0
"""How long an engine may take to restart."""
SECONDS = 60.0
"""Time limit of one request to the engine."""
CODE_LABEL = "wtsbench.code"
"""Label of an image: digest of the code in it that computes results."""

_START = "start Docker, or set DOCKER_HOST to an engine that runs"


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """What an engine is, as far as it matters here."""

    address: str
    version: str
    """Of the engine."""
    driver: str
    """How it stores images."""


def address() -> str:
    """`DOCKER_HOST`, or the usual socket."""
    return os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"


def node() -> str:
    """Name of this machine, which its containers carry as a label."""
    return platform.node()


def probe() -> EngineState:
    """Ask the engine what it is. Returns at once if there is no socket or nobody listens.

    Raises:
        SandboxError: no engine answers, or it cannot run trials.
    """
    with connect(seconds=PROBE_SECONDS) as client, said_by_engine("the Docker engine cannot be used"):
        about = client.info()
    lacking = shortcoming(about)
    if lacking is not None:
        raise lacking
    return EngineState(address=address(), version=about["ServerVersion"], driver=about["Driver"])


def shortcoming(about: Mapping[str, Any]) -> SandboxError | None:
    """Why an engine cannot run trials, or None where it can.

    A rootless engine maps a container's users to other user ids on the node, which cannot write the trial folder; and
    rootless Podman, on version 1 of the kernel's control groups, silently drops all limits.

    Args:
        about: the engine's answer to `GET /info`.
    """
    if _rootless(about):
        limits = ", and it would not limit them" if str(about.get("CgroupVersion")) != "2" else ""
        return SandboxError(
            f"the Docker engine here runs rootless, where trials could not write their own folders{limits}",
            remedy="set DOCKER_HOST to an engine that runs as root",
        )
    lacking = [
        resource for key, resource in (("MemoryLimit", "memory"), ("PidsLimit", "processes")) if not about.get(key)
    ]
    if lacking:
        return SandboxError(
            f"the Docker engine here says that it cannot limit the {' and '.join(lacking)} of a trial",
            remedy="enable the memory and pids controllers of the kernel",
        )
    return None


def _rootless(about: Mapping[str, Any]) -> bool:
    """Docker reports it among its security options, Podman in a field of its own."""
    return bool(about.get("Rootless")) or any("rootless" in option for option in about.get("SecurityOptions") or ())


@contextmanager
def connect(*, seconds: float = SECONDS) -> Iterator[docker.DockerClient]:
    """A client of the engine, closed at the end. One for each thread.

    Raises:
        SandboxError: nothing answers at its address, or this user may not use it.
    """
    where = address()
    _check_socket(where)
    import docker
    import docker.errors

    try:
        client = docker.from_env(timeout=seconds)
    except (docker.errors.DockerException, OSError) as error:
        raise SandboxError(f"no Docker engine answers at {where} ({_reason(error)})", remedy=_START) from error
    try:
        yield client
    finally:
        client.close()


def await_engine(cancelled: threading.Event) -> None:
    """Wait for an engine that is being restarted, so that no attempt fails for that.

    Args:
        cancelled: ends the waiting.

    Raises:
        SandboxError: it does not answer within `AWAY_SECONDS`.
    """
    deadline = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            with connect(seconds=PROBE_SECONDS) as client, said_by_engine("the Docker engine does not answer"):
                client.ping()
            return
        except SandboxError:
            if cancelled.wait(0.5) or time.monotonic() > deadline:
                raise


@contextmanager
def said_by_engine(what: str) -> Iterator[None]:
    """Turns errors of the engine or of the connection into `SandboxError`: `what`, and the engine's reason."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise SandboxError(f"{what}: {_reason(error)}") from error


def local_image(client: docker.DockerClient, reference: str) -> Image | None:
    """An image of the engine by id, digest or tag; None where it has none."""
    import docker.errors

    with said_by_engine("the Docker engine cannot look for the image"):
        try:
            return client.images.get(reference)
        except docker.errors.ImageNotFound:
            return None


def find_image(client: docker.DockerClient, pin: ImagePin) -> Image:
    """The image of a pin, which must be on this engine.

    Raises:
        SandboxError: it is not there, or is not the pinned one.
    """
    image = local_image(client, pin.digest)
    if image is None:
        local_remedy = "run `wtsbench image build` to build it here, or `wtsbench image load` on a bundle that has it"
        raise SandboxError(
            f"the pinned trial image {pin.digest} is not on this Docker engine",
            remedy=f"docker pull {pin.reference}" if pin.reference else local_remedy,
        )
    if pin.id is not None and image.id != pin.id:
        raise SandboxError(f"the Docker engine answers with image {image.id} where {pin.id} is pinned")
    return image


def _check_socket(where: str) -> None:
    parts = split_address(where)
    if parts.scheme == "ssh":
        raise SandboxError(
            f"the Docker engine at {where} is on another machine and cannot see trial folders of this one",
            remedy=_START,
        )
    if parts.scheme not in ("unix", "http+unix"):
        return
    path = Path(parts.path or parts.netloc)
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        message = "no Docker engine runs here" if path == DEFAULT_SOCKET else f"no Docker engine runs at {where}"
        raise SandboxError(message, remedy=_START)
    if not os.access(path, os.R_OK | os.W_OK):
        remedy = f"become a member of the group that owns {path}"
        raise SandboxError(f"you may not use the Docker engine at {where}", remedy=remedy)


def _reason(error: Exception) -> str:
    """The innermost reason, in one line."""
    explanation = getattr(error, "explanation", None)  # what the engine itself wrote
    lines = str(explanation or error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
