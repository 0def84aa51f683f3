"""A fork server as the first process of a container, reached through two FIFOs in the container's folder.

The supervisor holds the writing end of the requests, so that whatever kills it, the fork server reads the end of its
requests, ends itself, and the kernel ends everything in the container. The FIFOs have no name any more once the fork
server has opened them: no trial can take its place, or hold an end open.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from wtsbench.contract.folder import ANSWERS, REQUESTS
from wtsbench.contract.messages import Gone
from wtsbench.errors import SandboxError
from wtsbench.images.docker_engine import connect, said_by_engine
from wtsbench.sandbox import reaper
from wtsbench.sandbox.container import TRIAL_LABEL, Need, container_arguments
from wtsbench.sandbox.granted import not_granted
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import remove
from wtsbench.sandbox.staging import ContainerFolder, locked

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
"""From one look at a container that has not said anything yet to the next."""
_ENDING_SECONDS = 10.0
"""For a container whose first process has ended to be seen as ended."""
_OOM_SECONDS = 3.0
"""The engine learns of an out-of-memory kill apart from the exit, sometimes later."""
_KILLED = 137
_SHARES = 1024
"""The usual weight of a container where CPUs are scarce."""
_NO_GPU = "could not select device driver"


class ContainerChannel:
    """A container with a fork server in it."""

    def __init__(self, need: Need, labels: Mapping[str, str], *, shares: int | None = None) -> None:
        """Make the container and start it; its fork server loads its libraries meanwhile.

        Args:
            need: what it has to be like.
            labels: for people and sweeps.
            shares: its weight where CPUs are scarce, until it is promoted; None is the usual one.

        Raises:
            SandboxError: the engine refuses, or takes another image.
            OSError: its folder cannot be written.
        """
        self.need = need
        self.container: Container | None = None
        self._closing = threading.Event()
        self._incoming = -1
        self._requests: IO[bytes] | None = None
        with locked(need.place, sweeping=False):  # a folder whose lease is not held yet looks like left over
            self.folder = ContainerFolder.create(need.place)
            self._renewal = Renewal(self.folder.lease)
            self._renewal.__enter__()
        try:
            self._requests, self._incoming = self._fifos()
            self.container = self._create(labels)
            if shares is not None:
                self._weigh(shares)
        except BaseException:
            self.close()
            if self._incoming >= 0:  # nobody reads the answers, who would close it
                os.close(self._incoming)
            raise

    def _fifos(self) -> tuple[IO[bytes], int]:
        """Both are open here before the container is: neither side waits for the other to open."""
        requests, answers = self.folder.inside / REQUESTS, self.folder.inside / ANSWERS
        os.mkfifo(requests, 0o600)
        sending = os.fdopen(os.open(requests, os.O_RDWR | os.O_CLOEXEC), "r+b", buffering=0)
        requests.chmod(0o444)
        os.mkfifo(answers, 0o600)
        receiving = os.open(answers, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        answers.chmod(0o222)
        return sending, receiving

    def _create(self, labels: Mapping[str, str]) -> Container:
        folder = self.folder
        arguments = container_arguments(
            self.need, inside=folder.inside, outside=folder.outside, lease=folder.lease, labels=labels
        )
        with connect() as client:
            container = create(client, arguments)
            reaper.ensure()
            try:
                with said_by_engine("the container cannot be started"):
                    container.start()
            except SandboxError as error:
                remove(container)
                if self.need.gpus and _NO_GPU in error.message:
                    remedy = "install the NVIDIA Container Toolkit on this node and restart Docker"
                    raise SandboxError(f"this Docker engine cannot give GPUs: {error.message}; {remedy}") from error
                raise
        return container

    def promote(self, labels: Mapping[str, str]) -> None:
        """Give a container that was made ahead the weight, and the name, of one whose trial begins.

        Raises:
            SandboxError: the engine does not answer, or the container has ended.
        """
        self._weigh(_SHARES)
        with connect() as client, said_by_engine("the container cannot be renamed"):
            client.api.rename(self._id, _name(labels.get("trial", "")))

    def _weigh(self, shares: int) -> None:
        """Set its weight. Not when it is made: an engine that cannot change it (Podman 4.3) must not make it light."""
        with connect() as client, said_by_engine("the container's weight cannot be set"):
            client.api.update_container(self._id, cpu_shares=shares)

    def send(self, line: bytes) -> None:
        """Hand over a request."""
        assert self._requests is not None
        self._requests.write(line)

    def answers(self) -> Iterator[bytes]:
        """Its answers, until its end of the FIFO is closed or the container is seen not to run."""
        poll = select.poll()
        poll.register(self._incoming, select.POLLIN)
        pending, heard = b"", False
        while not self._closing.is_set():
            if not poll.poll(_LOOK_SECONDS * 1000):
                if not heard and self._over():
                    return
                continue
            chunk = os.read(self._incoming, 1 << 16)
            if not chunk:
                return
            if not heard:  # it has opened both
                heard = True
                for name in (REQUESTS, ANSWERS):
                    (self.folder.inside / name).unlink(missing_ok=True)
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines

    @property
    def running(self) -> bool:
        """Whether it was not closed."""
        return not self._closing.is_set()

    def _over(self) -> bool:
        """Whether the engine says that it does not run."""
        try:
            return self._state()["Status"] not in ("created", "running")
        except SandboxError:
            return False  # an engine that does not answer is not yet an end

    def _state(self) -> dict[str, Any]:
        """What the engine says of it.

        Raises:
            SandboxError: it does not answer.
        """
        import docker.errors

        if self.container is None:
            return {"Status": "created"}
        with connect() as client, said_by_engine("the Docker engine does not say how it ended"):
            try:
                state: dict[str, Any] = client.api.inspect_container(self.container.id)["State"]
            except docker.errors.NotFound:
                return {"Status": "removed"}
        return state

    def farewell(self) -> Gone:
        """What the engine says of its end, and the last that was printed in it."""
        os.close(self._incoming)
        answer: Gone = {"event": "gone", "reason": "it was ended from here", "said": ""}
        if self._closing.is_set():
            return answer
        try:
            state = self._ended()
        except SandboxError as error:
            return answer | {"reason": error.message}
        if state["Status"] in ("removing", "removed"):
            return answer | {"reason": "somebody removed its container"}
        if state["Status"] == "running":
            return answer | {"reason": "though its container still runs"}
        answer |= {"reason": f"exit code {state['ExitCode']}", "oom_killed": bool(state["OOMKilled"])}
        if state.get("Error"):
            answer["reason"] += f" ({state['Error']})"
        return answer | {"said": self._printed()}

    def _ended(self) -> dict[str, Any]:
        deadline = time.monotonic() + _ENDING_SECONDS
        state = self._state()
        while state["Status"] == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
            state = self._state()
        deadline = time.monotonic() + _OOM_SECONDS
        while state.get("ExitCode") == _KILLED and not state["OOMKilled"] and time.monotonic() < deadline:
            time.sleep(0.05)
            state = self._state()
        return state

    def _printed(self) -> str:
        assert self.container is not None
        try:
            with connect() as client, said_by_engine("no log"):
                printed: bytes = client.api.logs(self.container.id, tail=20)
        except SandboxError:
            return ""
        return printed.decode(errors="replace").strip()

    def hang_up(self) -> None:
        """End its requests, as the death of this process would: it ends by itself."""
        assert self._requests is not None
        self._requests.close()

    def kill(self) -> None:
        """End its requests, and have the engine kill it."""
        import docker.errors
        import requests.exceptions

        self.hang_up()
        with (
            contextlib.suppress(SandboxError, docker.errors.DockerException, requests.exceptions.RequestException),
            connect() as client,
        ):
            client.api.kill(self._id)  # it may have ended by itself, or the engine be gone

    @property
    def _id(self) -> str:
        assert self.container is not None
        return str(self.container.id)

    def close(self) -> None:
        """End it, remove it, and delete its folder; what cannot be removed is left for a sweep.

        To be repeated where an outbox was still in its folder.
        """
        if self._closing.is_set():
            self.folder.remove()
            return
        self._closing.set()
        if self._requests is not None:
            self._requests.close()
        if self.container is not None:
            self._remove()
        self._renewal.__exit__(None, None, None)
        self.folder.remove()

    def _remove(self) -> None:
        import docker.errors

        try:
            with (
                connect() as client,
                said_by_engine("the engine does not answer"),
                contextlib.suppress(docker.errors.NotFound),  # somebody else was faster
            ):
                remove(client.containers.get(self._id))
        except SandboxError as error:
            _log.warning("container %s is left for the reaper: %s", self._id[:12], error.message)


def create(client: docker.DockerClient, arguments: dict[str, Any]) -> Container:
    """Create a container, and make sure that it is of the image asked for.

    Raises:
        SandboxError: the engine refuses, or takes another image.
    """
    with said_by_engine("the container cannot be created"):
        container = client.containers.create(name=_name(arguments["labels"][TRIAL_LABEL]), **arguments)
    taken = container.attrs["Image"]
    if taken != arguments["image"]:
        remove(container)
        raise SandboxError(f"the engine made a container of {taken} where {arguments['image']} was asked for")
    lacking = not_granted(arguments, container.attrs)
    if lacking:
        remove(container)
        raise SandboxError(f"the engine made a container without {', '.join(lacking)}")
    return container


def _name(trial: str) -> str:
    return f"wtsbench-{trial[:12] or 'ahead'}-{uuid.uuid4().hex[:8]}"
