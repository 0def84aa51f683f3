"""A fork server as the first process of a container, reached through two FIFOs in the container's folder.

The supervisor holds the writing end of the requests, so that whatever kills it, the fork server reads the end of its
requests, ends itself, and the kernel ends everything in the container. The FIFOs are unlinked once the fork server has
opened them, so that no trial can open one: neither to answer in its place nor to keep it from ending.
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
_POLL_SECONDS = 0.5
"""Between two checks that a container which has not answered yet still runs."""
_ENDING_SECONDS = 10.0
"""How long the engine may take to report a container as ended whose first process has ended."""
_OOM_SECONDS = 3.0
"""How much later than the exit the engine may learn of an out-of-memory kill."""
_SIGKILL_EXIT_CODE = 137
_SHARES = 1024
"""Docker's default CPU weight of a container."""
_NO_GPU = "could not select device driver"


class ContainerChannel:
    """A container with a fork server in it."""

    def __init__(self, need: Need, labels: Mapping[str, str], *, shares: int | None = None) -> None:
        """Make the container and start it; its fork server loads its libraries meanwhile.

        Args:
            need: what the container has to be like.
            labels: for people, and for the search for leftover containers.
            shares: its CPU weight until it is promoted; None is the default.

        Raises:
            SandboxError: the engine refuses, or takes another image.
            OSError: its folder cannot be written.
        """
        self.need = need
        self.container: Container | None = None
        self._closing = threading.Event()
        self._incoming = -1
        self._requests: IO[bytes] | None = None
        with locked(need.place, sweeping=False):  # until its lease is held, a sweep takes the folder for a leftover
            self.folder = ContainerFolder.create(need.place)
            self._lease = contextlib.ExitStack()
            self._lease.enter_context(Renewal(self.folder.lease))
        try:
            self._requests, self._incoming = self._fifos()
            self.container = self._create(labels)
            if shares is not None:
                self._set_weight(shares)
        except BaseException:
            self.close()
            if self._incoming >= 0:  # the reader of the answers closes it, and there is none yet
                os.close(self._incoming)
            raise

    def _fifos(self) -> tuple[IO[bytes], int]:
        """Both FIFOs are opened before the container starts, so that neither side has to wait for the other."""
        requests, answers = self.folder.inside / REQUESTS, self.folder.inside / ANSWERS
        os.mkfifo(requests, 0o600)
        request_end = os.fdopen(os.open(requests, os.O_RDWR | os.O_CLOEXEC), "r+b", buffering=0)
        requests.chmod(0o444)
        os.mkfifo(answers, 0o600)
        answer_end = os.open(answers, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        answers.chmod(0o222)
        return request_end, answer_end

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
        """Give a container that was made ahead of time the CPU weight and the name of one with a trial.

        Raises:
            SandboxError: the engine does not answer, or the container has ended.
        """
        self._set_weight(_SHARES)
        with connect() as client, said_by_engine("the container cannot be renamed"):
            client.api.rename(self._id, _name(labels.get("trial", "")))

    def _set_weight(self, shares: int) -> None:
        """Set its CPU weight. Not at its creation: an engine that can never raise it (Podman 4.3) must not lower it."""
        with connect() as client, said_by_engine("the container's weight cannot be set"):
            client.api.update_container(self._id, cpu_shares=shares)

    def send(self, line: bytes) -> None:
        """Hand over a request."""
        assert self._requests is not None
        self._requests.write(line)

    def answers(self) -> Iterator[bytes]:
        """Its answers, until it closes the FIFO or the engine reports that the container does not run."""
        poll = select.poll()
        poll.register(self._incoming, select.POLLIN)
        pending, heard = b"", False
        while not self._closing.is_set():
            if not poll.poll(_POLL_SECONDS * 1000):
                if not heard and self._has_ended():
                    return
                continue
            chunk = os.read(self._incoming, 1 << 16)
            if not chunk:
                return
            if not heard:  # the fork server has both FIFOs open by now
                heard = True
                for name in (REQUESTS, ANSWERS):
                    (self.folder.inside / name).unlink(missing_ok=True)
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines

    @property
    def running(self) -> bool:
        """Whether it was not closed."""
        return not self._closing.is_set()

    def _has_ended(self) -> bool:
        """Whether the engine reports that the container does not run."""
        try:
            return self._state()["Status"] not in ("created", "running")
        except SandboxError:
            return False  # the engine does not answer, the container may still run

    def _state(self) -> dict[str, Any]:
        """The engine's report on the container.

        Raises:
            SandboxError: the engine does not answer.
        """
        import docker.errors

        with connect() as client, said_by_engine("the Docker engine does not say how the container ended"):
            try:
                state: dict[str, Any] = client.api.inspect_container(self._id)["State"]
            except docker.errors.NotFound:
                return {"Status": "removed"}
        return state

    def farewell(self) -> Gone:
        """How the engine says that it ended, and its last output."""
        os.close(self._incoming)
        answer: Gone = {"event": "gone", "reason": "it was ended from here", "said": ""}
        if self._closing.is_set():
            return answer
        try:
            state = self._final_state()
        except SandboxError as error:
            return answer | {"reason": error.message}
        if state["Status"] in ("removing", "removed"):
            return answer | {"reason": "somebody removed its container"}
        if state["Status"] == "running":
            return answer | {"reason": "though its container still runs"}
        answer |= {"reason": f"exit code {state['ExitCode']}", "oom_killed": bool(state["OOMKilled"])}
        if state.get("Error"):
            answer["reason"] += f" ({state['Error']})"
        return answer | {"said": self._last_output()}

    def _final_state(self) -> dict[str, Any]:
        deadline = time.monotonic() + _ENDING_SECONDS
        state = self._state()
        while state["Status"] == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
            state = self._state()
        deadline = time.monotonic() + _OOM_SECONDS
        while state.get("ExitCode") == _SIGKILL_EXIT_CODE and not state["OOMKilled"] and time.monotonic() < deadline:
            time.sleep(0.05)
            state = self._state()
        return state

    def _last_output(self) -> str:
        try:
            with connect() as client, said_by_engine("no log"):
                output: bytes = client.api.logs(self._id, tail=20)
        except SandboxError:
            return ""
        return output.decode(errors="replace").strip()

    def hang_up(self) -> None:
        """Close the requests, as the death of this process would: the container then ends by itself."""
        assert self._requests is not None
        self._requests.close()

    def kill(self) -> None:
        """Close the requests, and have the engine kill the container."""
        import docker.errors
        import requests.exceptions

        self.hang_up()
        with (
            contextlib.suppress(SandboxError, docker.errors.DockerException, requests.exceptions.RequestException),
            connect() as client,
        ):
            client.api.kill(self._id)  # may have ended by itself

    @property
    def _id(self) -> str:
        assert self.container is not None
        return str(self.container.id)

    def close(self) -> None:
        """End and remove the container and delete its folder; what cannot be removed is left for a sweep.

        Call it again once the outbox has been moved home: until then the folder stays.
        """
        if self._closing.is_set():
            self.folder.remove()
            return
        self._closing.set()
        if self._requests is not None:
            self._requests.close()
        if self.container is not None:
            self._remove()
        self._lease.close()
        self.folder.remove()

    def _remove(self) -> None:
        import docker.errors

        try:
            with (
                connect() as client,
                said_by_engine("the engine does not answer"),
                contextlib.suppress(docker.errors.NotFound),  # removed by somebody else
            ):
                remove(client.containers.get(self._id))
        except SandboxError as error:
            _log.warning("container %s cannot be removed and is left for the reaper: %s", self._id[:12], error.message)


def create(client: docker.DockerClient, arguments: dict[str, Any]) -> Container:
    """Create a container, and make sure that it is of the image asked for.

    Raises:
        SandboxError: the engine refuses, or takes another image.
    """
    with said_by_engine("the container cannot be created"):
        container = client.containers.create(name=_name(arguments["labels"][TRIAL_LABEL]), **arguments)
    image = container.attrs["Image"]
    if image != arguments["image"]:
        remove(container)
        raise SandboxError(f"the engine made a container of image {image} where {arguments['image']} was asked for")
    lacking = not_granted(arguments, container.attrs)
    if lacking:
        remove(container)
        raise SandboxError(f"the engine made a container without {', '.join(lacking)}")
    return container


def _name(trial: str) -> str:
    return f"wtsbench-{trial[:12] or 'ahead'}-{uuid.uuid4().hex[:8]}"
