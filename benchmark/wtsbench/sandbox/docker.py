"""The docker sandbox: trials run in containers of a pinned image, without network, rights or a writable root."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from wtsbench.contract.folder import FolderLayout
from wtsbench.errors import SandboxError
from wtsbench.images.code import code_digest
from wtsbench.images.docker_engine import CODE_LABEL, await_engine, connect, find_image, probe, said_by_engine
from wtsbench.images.pins import resolve_image
from wtsbench.sandbox import log, reaper
from wtsbench.sandbox.base import Outcome
from wtsbench.sandbox.container import Need, fit_user
from wtsbench.sandbox.gpus import cdi_names, uuids_of
from wtsbench.sandbox.leftovers import sweep, sweep_folders
from wtsbench.sandbox.pool import Pool
from wtsbench.sandbox.staging import Staged
from wtsbench.sandbox.watch import ForkedTrial, Limits, watch
from wtsbench.spec.grid import Resources


class DockerSandbox:
    """Runs trials in containers of one image of the engine on this machine."""

    name: Literal["docker"] = "docker"
    isolation = "container, no network, read-only root, no capabilities, non-root user"

    def __init__(
        self,
        image_id: str,
        *,
        ahead: bool = True,
        place: Path | None = None,
        notice: str | None = None,
    ) -> None:
        """A sandbox of the image with this id; nothing is checked before a trial runs.

        Args:
            image_id: `sha256:…`.
            ahead: whether the next container is made while a trial runs.
            place: parent of the containers' folders, on the file system of the trial folders; None is beside them.
            notice: what the user is told once.
        """
        self.image_digest: str = image_id
        self.notice = notice
        self._place = place
        self._pool = Pool(ahead=ahead)
        self._swept = False
        self._sweeping = threading.Lock()

    @classmethod
    def here(cls, image: str, *, place: Path | None = None) -> DockerSandbox:
        """The sandbox of a pinned image, checked to be on an engine that answers.

        Args:
            image: a name in `images.yaml`, `sha256:…` or `repo@sha256:…`.
            place: as above.

        Raises:
            SandboxError: no engine answers, nothing is pinned under the name, or the image is not there.
            SpecError: the image is named by a tag.
        """
        probe()
        pin = resolve_image(image)
        with connect() as client:
            pinned = find_image(client, pin)
        notice = None
        code = pinned.labels.get(CODE_LABEL)
        if code is not None and code != code_digest():
            notice = (
                "the trial image holds other code than this installation, so trials in it may give other results; "
                "`wtsbench image build` builds it anew."
            )
        return cls(str(pinned.id), place=place, notice=notice)

    def run(
        self,
        folder: Path,
        resources: Resources,
        *,
        gpus: Sequence[str],
        cancelled: threading.Event,
        labels: Mapping[str, str],
    ) -> Outcome:
        """Run the trial of a folder to its end; see `Sandbox.run`."""
        folder = folder.absolute()
        place = self._place or folder.parent / ".containers"
        user = fit_user(folder)
        try:
            await_engine(cancelled)
            self._sweep_once(place)
            with Staged(folder, place, user) as staged:
                need = Need(
                    image=self.image_digest,
                    user=user,
                    threads=resources.cpus,
                    gpus=(uuids := uuids_of(gpus)),
                    cdi=self._cdi_names(uuids),
                    memory=resources.memory,
                    mounts=tuple(sorted(staged.mounts.items())),
                    place=place,
                )
                outcome = self._run(staged, need, resources, cancelled, labels)
        except SandboxError as error:
            reason = f"{error.message}; {error.remedy}" if error.remedy else error.message
            outcome = Outcome(error=reason, cancelled=cancelled.is_set())
        return dataclasses.replace(outcome, log_tail=log.tail(FolderLayout(folder).log))

    def _cdi_names(self, uuids: Sequence[str]) -> tuple[str, ...]:
        if not uuids:
            return ()
        with connect() as client, said_by_engine("the Docker engine does not list its devices"):
            return cdi_names(client.info(), uuids)

    def close(self) -> None:
        """Remove the containers that wait for a next trial; see `Sandbox.close`."""
        self._pool.close()

    def _run(
        self, staged: Staged, need: Need, resources: Resources, cancelled: threading.Event, labels: Mapping[str, str]
    ) -> Outcome:
        server = self._pool.take(need, labels)
        try:
            staged.enter(server.channel.folder)
            child = ForkedTrial(server, staged.inside, log=staged.log, file_bytes=resources.disk)
            self._pool.prepare(need, labels, after=server)
            limits = Limits(
                seconds=resources.time,
                memory=None,  # the engine enforces it
                disk=resources.disk,
                places=[server.channel.folder.outside],
                log=FolderLayout(staged.home).log,
            )
            return watch(child, limits, cancelled)
        finally:
            server.close()
            try:
                staged.leave()
            finally:
                self._pool.remove(server)

    def _sweep_once(self, place: Path) -> None:
        with self._sweeping:
            if not self._swept:
                with connect() as client, said_by_engine("leftover containers cannot be looked for"):
                    removed = sweep(client)
                sweep_folders(place)
                self._swept = True
                if removed:
                    reaper.note(
                        f"process {os.getpid()} removed {len(removed)} leftover containers before its first trial"
                    )
