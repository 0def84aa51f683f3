"""The idle containers of one supervising process, kept ready for its next trials.

While a trial runs, a container for the next one is made and loads its libraries. Every trial has a container of its
own: none serves a second one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from wtsbench.errors import SandboxError
from wtsbench.sandbox.contained import ContainerChannel
from wtsbench.sandbox.container import Need
from wtsbench.sandbox.fork_server import ForkServer

IDLE_SECONDS = 120.0
"""After this time a container that no trial has taken is removed."""
_SPARE_SHARES = 16
"""CPU weight of a container made ahead of time, where one with a trial has 1024: it only takes what is left."""
_MAKING_SECONDS = 10.0
"""How long `close` waits for a container that is just being made, to remove it; after that the reaper does."""
_log = logging.getLogger(__name__)


ContainerForkServer = ForkServer[ContainerChannel]
"""A fork server in a container."""


class Pool:
    """Idle containers, each for trials that need exactly such a one. Safe to use from several threads."""

    def __init__(self, *, ahead: bool) -> None:
        """With `ahead`, the next container is made while a trial runs."""
        self._make_ahead = ahead
        self._idle: list[ContainerForkServer] = []
        self._coming: list[Need] = []
        """Needs of the containers that are being made just now."""
        self._busy: list[Need] = []
        self._makers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self, need: Need, labels: Mapping[str, str]) -> ContainerForkServer:
        """An idle container of this need, or a new one.

        Raises:
            SandboxError: the engine makes none.
            OSError: the container's folder cannot be written.
        """
        with self._lock:
            self._busy.append(need)
        try:
            while (server := self._pop_idle(need)) is not None:
                if _promoted(server, labels):
                    return server
                server.close()
            return ForkServer(ContainerChannel(need, labels))
        except BaseException:
            with self._lock:
                self._busy.remove(need)
            raise

    def _pop_idle(self, need: Need) -> ContainerForkServer | None:
        with self._lock:
            fitting = next((server for server in self._idle if server.channel.need == need), None)
            if fitting is not None:
                self._idle.remove(fitting)
        return fitting

    def prepare(self, need: Need, labels: Mapping[str, str], *, after: ContainerForkServer) -> None:
        """While a trial starts, make a container for the next one, which is likely to have the same need.

        Returns at once. Making begins when `after`, the fork server of the trial, has loaded its libraries.
        """
        with self._lock:
            ready = (*self._coming, *(server.channel.need for server in self._idle)).count(need)
            if not self._make_ahead or self._closed or ready >= self._busy.count(need):
                return
            self._coming.append(need)
            run = {"run": labels.get("run", "")}
            maker = threading.Thread(target=self._make, args=(need, run, after), name="container ahead", daemon=True)
            self._makers = [thread for thread in self._makers if thread.is_alive()] + [maker]
            maker.start()

    def _make(self, need: Need, labels: Mapping[str, str], after: ContainerForkServer) -> None:
        server = None
        after.ready.wait()
        try:
            if after.alive and not self._closed:
                server = ForkServer(ContainerChannel(need, labels, shares=_SPARE_SHARES))
        except (SandboxError, OSError) as error:  # the next trial makes its own, and reports the error if it persists
            _log.info("no more containers are made ahead: %s", error)
            self._make_ahead = False
        with self._lock:
            self._coming.remove(need)
        if server is not None:
            self._keep(server)

    def remove(self, server: ContainerForkServer) -> None:
        """Remove a container whose trial has ended, with its folder; the outbox has been moved home before."""
        with self._lock:
            self._busy.remove(server.channel.need)
        server.close()

    def _keep(self, server: ContainerForkServer) -> None:
        """Add to the idle ones: as many as trials run now are kept, the newest, and for `IDLE_SECONDS`."""
        with self._lock:
            most = 0 if self._closed else max(1, len(self._busy))
            self._idle.append(server)
            surplus = self._idle[: max(0, len(self._idle) - most)]
            self._idle = self._idle[len(surplus) :]
        for one in surplus:
            one.close()
        timer = threading.Timer(IDLE_SECONDS, self._expire, [server])
        timer.daemon = True
        timer.start()

    def _expire(self, server: ContainerForkServer) -> None:
        with self._lock:
            if server not in self._idle:  # taken, or closed
                return
            self._idle.remove(server)
        server.close()

    def close(self) -> None:
        """Remove the containers that are idle or just being made, and keep none from now on."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            makers, self._makers = self._makers, []
        for server in idle:
            server.close()
        deadline = time.monotonic() + _MAKING_SECONDS
        for maker in makers:  # each removes what it has made
            maker.join(max(0.0, deadline - time.monotonic()))


def _promoted(server: ContainerForkServer, labels: Mapping[str, str]) -> bool:
    """Whether a container that was made ahead can run a trial, with the CPU weight and the name that this takes."""
    if not server.alive:
        return False
    try:
        server.channel.promote(labels)
    except SandboxError:  # the container or the engine has just ended
        return False
    return True
