"""The docker sandbox: a trial is a container of a pinned image, without network, rights or a writable root."""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wtsbench.errors import SandboxError
from wtsbench.sandbox import log, reaper
from wtsbench.sandbox.base import Outcome
from wtsbench.sandbox.code import code_digest
from wtsbench.sandbox.container import container_arguments, fit_user
from wtsbench.sandbox.engine import CODE_LABEL, connect, find_image, probe, said_by_engine
from wtsbench.sandbox.granted import not_granted
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import remove, sweep
from wtsbench.sandbox.pins import resolve_image

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

_POLL_SECONDS = (0.02, 0.25)
"""From one look at the container to the next: at first, and at most."""
_LOG_SECONDS = 2.0
_SILENCE_SECONDS = 15.0
"""How long a running container is waited for while the engine does not answer; its lease ends it after that."""
_ENDING_SECONDS = 15.0
"""For a killed container to be gone."""
_OOM_SECONDS = 0.5
"""The engine learns of an out-of-memory kill apart from the exit, sometimes later."""
_KILLED = 137


class DockerSandbox:
    """Runs trials as containers of one image of the engine on this machine."""

    name: Literal["docker"] = "docker"
    isolation = "container, no network, read-only root, no capabilities, non-root user"

    def __init__(self, image_id: str, *, notice: str | None = None) -> None:
        """A sandbox of the image with this id; nothing is checked before a trial runs."""
        self.image_digest: str = image_id
        self.notice = notice
        self._swept = False
        self._sweeping = threading.Lock()

    @classmethod
    def here(cls, image: str) -> DockerSandbox:
        """The sandbox of a pinned image, checked to be on an engine that answers.

        Args:
            image: a name in `images.yaml`, `sha256:…` or `repo@sha256:…`.

        Raises:
            SandboxError: no engine answers, nothing is pinned under the name, or the image is not there.
            SpecError: the image is named by a tag.
        """
        probe()
        pin = resolve_image(image)
        with connect() as client:
            found = find_image(client, pin)
        notice = None
        code = found.labels.get(CODE_LABEL)
        if code is not None and code != code_digest():
            notice = (
                "the trial image holds other code than this installation, so trials in it may give other results; "
                "`wtsbench image build` builds it anew."
            )
        return cls(str(found.id), notice=notice)

    def run(
        self,
        folder: Path,
        *,
        threads: int,
        gpus: Sequence[str],
        memory: int | None,
        seconds: float,
        cancelled: threading.Event,
        labels: Mapping[str, str],
    ) -> Outcome:
        """Run the trial of a folder to its end; see `Sandbox.run`."""
        folder = folder.absolute()
        with Renewal(folder / "lease"):
            try:
                with connect() as client:
                    self._sweep_once(client)
                    user = fit_user(folder)
                    arguments = container_arguments(
                        folder, user, image=self.image_digest, threads=threads, gpus=gpus, memory=memory, labels=labels
                    )
                    outcome = self._run(client, folder, arguments, seconds, cancelled)
            except SandboxError as error:
                outcome = Outcome(error=error.message)
        return dataclasses.replace(outcome, log_tail=log.tail(folder / "log.txt"))

    def _sweep_once(self, client: docker.DockerClient) -> None:
        with self._sweeping:
            if not self._swept:
                with said_by_engine("leftover containers cannot be looked for"):
                    removed = sweep(client)
                self._swept = True
                if removed:
                    reaper.note(f"before the first trial of process {os.getpid()}: {len(removed)} left over removed")

    def _run(
        self,
        client: docker.DockerClient,
        folder: Path,
        arguments: dict[str, Any],
        seconds: float,
        cancelled: threading.Event,
    ) -> Outcome:
        container = self.create(client, arguments)
        try:
            reaper.ensure()
            with said_by_engine("the container cannot be started"):
                container.start()
            return _Watch(container, folder / "log.txt").until_end(seconds, cancelled)
        finally:
            remove(container)

    def create(self, client: docker.DockerClient, arguments: dict[str, Any]) -> Container:
        """Create a container, and make sure that it is of the pinned image.

        Raises:
            SandboxError: the engine refuses, or takes another image.
        """
        name = "-".join(["wtsbench", arguments["labels"]["wtsbench.trial"][:12] or "trial", uuid.uuid4().hex[:8]])
        with said_by_engine("the container cannot be created"):
            container = client.containers.create(name=name, **arguments)
        taken = container.attrs["Image"]
        if taken != self.image_digest:
            remove(container)
            raise SandboxError(f"the engine made a container of {taken} where {self.image_digest} was asked for")
        lacking = not_granted(arguments, container.attrs)
        if lacking:
            remove(container)
            raise SandboxError(f"the engine made a container without {', '.join(lacking)}")
        return container


class _Watch:
    """Looks at a running container until it ends, and carries what it prints to the trial folder."""

    def __init__(self, container: Container, logged: Path) -> None:
        self._container = container
        self._log = logged
        self._printed = ""
        """Time stamp of the last line that was carried."""
        self._begun = time.monotonic()

    def until_end(self, seconds: float, cancelled: threading.Event) -> Outcome:
        """Poll, and stop the container when it is time to."""
        delay, longest = _POLL_SECONDS
        heard = harvested = time.monotonic()
        while True:
            state, silence = self._state()
            now = time.monotonic()
            if state is not None:
                heard = now
                if state["Status"] not in ("created", "running", "restarting", "paused"):
                    return self._ended(state)
            elif now - heard > _SILENCE_SECONDS:
                return Outcome(error=f"the Docker engine stopped answering: {silence}", seconds=now - self._begun)
            if cancelled.is_set():
                return dataclasses.replace(self._kill(), cancelled=True)
            if now - self._begun > seconds:
                return dataclasses.replace(self._kill(), timed_out=True)
            if now - harvested > _LOG_SECONDS:
                self._harvest()
                harvested = now
            cancelled.wait(delay)
            delay = min(delay * 1.5, longest)

    def _state(self) -> tuple[dict[str, Any] | None, str]:
        """What the engine says of the container; None, and why, where it says nothing."""
        import docker.errors

        try:
            with said_by_engine("no answer"):
                try:
                    self._container.reload()
                except docker.errors.NotFound:
                    return {"Status": "removed"}, ""
        except SandboxError as error:
            return None, error.message
        state: dict[str, Any] = self._container.attrs["State"]
        return state, ""

    def _ended(self, state: dict[str, Any]) -> Outcome:
        seconds = time.monotonic() - self._begun
        self._harvest()
        deadline = time.monotonic() + _OOM_SECONDS
        while state.get("ExitCode") == _KILLED and not state["OOMKilled"] and time.monotonic() < deadline:
            time.sleep(0.05)
            state = self._state()[0] or state
        if state["Status"] in ("removing", "removed"):
            return Outcome(error="somebody removed the container while the trial ran", seconds=seconds)
        code = int(state["ExitCode"])
        error = f"the container failed: {state['Error']}" if state.get("Error") else None
        killed = code > 128  # as shells and engines write it; a trial itself ends with no such code
        return Outcome(
            exit_code=None if killed else code,
            signal=code - 128 if killed else None,
            oom_killed=bool(state["OOMKilled"]),
            error=error,
            seconds=seconds,
        )

    def _kill(self) -> Outcome:
        """Kill the container (the trial has nothing to tidy up), and say how it ended."""
        import docker.errors
        import requests.exceptions

        # it may have ended by itself, or the engine be gone: the look below tells
        with contextlib.suppress(docker.errors.DockerException, requests.exceptions.RequestException):
            self._container.kill()
        deadline = time.monotonic() + _ENDING_SECONDS
        while time.monotonic() < deadline:
            state, _ = self._state()
            if state is not None and state["Status"] not in ("created", "running", "restarting", "paused"):
                return self._ended(state)
            time.sleep(0.05)
        return Outcome(error="the container does not end though it was killed", seconds=time.monotonic() - self._begun)

    def _harvest(self) -> None:
        """Carry the lines that are new since the last time to `log.txt`."""
        import docker.errors
        import requests.exceptions

        try:
            printed: bytes = self._container.logs(timestamps=True, since=_seconds(self._printed))
        except (docker.errors.DockerException, requests.exceptions.RequestException):
            return  # a log is not worth a trial; what the engine still has is asked for again
        with self._log.open("ab") as file:
            for line in printed.splitlines(keepends=True):
                stamp, _, text = line.partition(b" ")
                if stamp.decode(errors="replace") > self._printed:
                    self._printed = stamp.decode(errors="replace")
                    file.write(text)
        log.bound(self._log)


def _seconds(stamp: str) -> int | None:
    """Whole seconds since the epoch of an engine's time stamp, which has nine decimals and ends in Z."""
    if not stamp:
        return None
    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
