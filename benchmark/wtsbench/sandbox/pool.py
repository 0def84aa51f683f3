"""The containers of one supervising process: which are idle, and whom they may serve next.

The next container is made while a trial runs, so that the next trial finds its libraries loaded, in a container of its
own: none ever serves a second trial.
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
from wtsbench.sandbox.staging import ContainerFolder

IDLE_SECONDS = 120.0
"""After which a container that nobody took is removed."""
_SPARE_SHARES = 16
"""Weight of a container that is made ahead, where a running one has 1024: it takes what others leave."""
_MAKING_SECONDS = 10.0
"""For one that is being made to be there and gone again, when the end has come; later the reaper finds it."""
_log = logging.getLogger(__name__)


class ContainerForkServer(ForkServer):
    """A fork server in a container."""

    def __init__(self, need: Need, labels: Mapping[str, str], *, ahead: bool = False) -> None:
        """Make and start a container; for what is raised see `ContainerChannel`.

        Args:
            need: what it has to be like.
            labels: for people and sweeps.
            ahead: made before anybody needs it, and so with little weight.
        """
        self._container = ContainerChannel(need, labels, shares=_SPARE_SHARES if ahead else None)
        self._ahead = ahead
        self.need = need
        self.folder: ContainerFolder = self._container.folder
        self.since = time.monotonic()
        """Since when it is idle."""
        super().__init__(self._container)

    def take(self, labels: Mapping[str, str]) -> bool:
        """Have it serve a trial from now on; False where it cannot any more."""
        if not self.alive:
            return False
        if self._ahead:
            self._ahead = False
            try:
                self._container.promote(labels)
            except SandboxError:  # it has just ended, or the engine has
                return False
        return True


class Pool:
    """Idle containers, each for who needs just such a one. Safe to use from several threads."""

    def __init__(self, *, ahead: bool) -> None:
        """With `ahead`, the next container is made while one runs."""
        self._make_ahead = ahead
        self._idle: list[ContainerForkServer] = []
        self._coming: list[Need] = []
        """What is being made ahead just now."""
        self._busy: list[Need] = []
        self._makers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self, need: Need, labels: Mapping[str, str]) -> ContainerForkServer:
        """An idle container that is as needed, or a new one.

        Raises:
            SandboxError: the engine makes none.
            OSError: the container's folder cannot be written.
        """
        with self._lock:
            self._busy.append(need)
        try:
            while (found := self._found(need)) is not None:
                if found.take(labels):
                    return found
                found.close()
            return ContainerForkServer(need, labels)
        except BaseException:
            with self._lock:
                self._busy.remove(need)
            raise

    def _found(self, need: Need) -> ContainerForkServer | None:
        with self._lock:
            found = next((server for server in self._idle if server.need == need), None)
            if found is not None:
                self._idle.remove(found)
        return found

    def prepare(self, need: Need, labels: Mapping[str, str], *, after: ForkServer) -> None:
        """A trial is on its way: have a container ready for the next one, which is likely to need the same.

        Returns at once. Nothing is made before `after`, the trial's own fork server, has its libraries loaded.
        """
        with self._lock:
            enough = sum(one == need for one in (*self._coming, *(server.need for server in self._idle)))
            if not self._make_ahead or self._closed or enough >= self._busy.count(need):
                return
            self._coming.append(need)
            run = {"run": labels.get("run", "")}
            maker = threading.Thread(target=self._make, args=(need, run, after), name="container ahead", daemon=True)
            self._makers = [one for one in self._makers if one.is_alive()] + [maker]
            maker.start()

    def _make(self, need: Need, labels: Mapping[str, str], after: ForkServer) -> None:
        server = None
        after.ready.wait()
        try:
            if after.alive and not self._closed:
                server = ContainerForkServer(need, labels, ahead=True)
        except (SandboxError, OSError) as error:  # the next trial will make its own, and meet it or not
            _log.info("no more containers are made ahead: %s", error)
            self._make_ahead = False
        with self._lock:
            self._coming.remove(need)
        if server is not None:
            self._keep(server)

    def remove(self, server: ContainerForkServer) -> None:
        """Remove a container that has served its trial, with its folder: the outbox has left it."""
        with self._lock:
            self._busy.remove(server.need)
        server.close()

    def _keep(self, server: ContainerForkServer) -> None:
        """No more are kept than could be taken at once, the youngest ones, and none for long."""
        server.since = time.monotonic()
        with self._lock:
            most = 0 if self._closed else max(1, len(self._busy))
            self._idle.append(server)
            over, self._idle = self._idle[: max(0, len(self._idle) - most)], self._idle[-most:] if most else []
        for one in over:
            one.close()
        timer = threading.Timer(IDLE_SECONDS, self._expire)
        timer.daemon = True
        timer.start()

    def _expire(self) -> None:
        now = time.monotonic()
        with self._lock:
            old = [server for server in self._idle if now - server.since >= IDLE_SECONDS]
            self._idle = [server for server in self._idle if server not in old]
        for server in old:
            server.close()

    def close(self) -> None:
        """Remove those that are idle or just being made, and keep none any more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            makers, self._makers = self._makers, []
        for server in idle:
            server.close()
        deadline = time.monotonic() + _MAKING_SECONDS
        for maker in makers:  # each removes what it has made
            maker.join(max(0.0, deadline - time.monotonic()))
