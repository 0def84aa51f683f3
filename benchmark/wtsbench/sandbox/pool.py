"""The containers of one supervising process: which are idle, and whom they may serve next."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from wtsbench.sandbox.contained import ContainerChannel
from wtsbench.sandbox.container import Need
from wtsbench.sandbox.lane import Lane
from wtsbench.sandbox.staging import ContainerFolder


class ContainerLane(Lane):
    """A lane in a container."""

    def __init__(self, need: Need, labels: Mapping[str, str]) -> None:
        """Make and start a container; for what is raised see `ContainerChannel`."""
        channel = ContainerChannel(need, labels)
        self.need = need
        self.folder: ContainerFolder = channel.folder
        super().__init__(channel)


class Pool:
    """Idle containers, each for who needs just such a one. Safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: list[ContainerLane] = []
        self._lock = threading.Lock()
        self._busy = 0

    def take(self, need: Need, labels: Mapping[str, str]) -> ContainerLane:
        """An idle container that is as needed, or a new one.

        Raises:
            SandboxError: the engine makes none.
            OSError: the container's folder cannot be written.
        """
        with self._lock:
            self._busy += 1
            found = next((lane for lane in self._idle if lane.need == need and lane.alive), None)
            if found is not None:
                self._idle.remove(found)
                return found
        try:
            return ContainerLane(need, labels)
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise

    def give_back(self, lane: ContainerLane, *, again: bool) -> None:
        """Keep a container for the next trial, or remove it. No more are kept than were in use at once."""
        with self._lock:
            self._busy -= 1
            if again and lane.alive:
                self._idle.append(lane)
                over = self._idle[: max(0, len(self._idle) - self._busy - 1)]
                self._idle = self._idle[len(over) :]
            else:
                over = [lane]
        for one in over:
            one.close()

    def close(self) -> None:
        """Remove those that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for lane in idle:
            lane.close()
