"""Whether the cluster still lives: Ray itself waits for ever if its raylet died, and exits if its GCS did.

The raylet is Ray's process on each node, the GCS its one process for the whole cluster.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import ray

from wtsbench.errors import ClusterError

GRACE_SECONDS = 30.0
"""How long the GCS of a cluster may take to come back; Ray ends this process after 60 s without it."""
_CONNECT_SECONDS = 2.0
_AGAIN = "submit again: only what is not in the store yet is run."


@dataclass(kw_only=True)
class Health:
    """The health of the cluster that this process is connected to."""

    local: bool
    """Whether this process started the cluster for itself: then nobody will restart it."""
    raylet: psutil.Process | None
    """This node's raylet; None if it is not visible."""
    gcs: tuple[str, int] | None
    _silent_since: float | None = field(default=None, init=False)

    @classmethod
    def here(cls, *, local: bool) -> Health:
        """The health as seen from this node; to be called once connected."""
        context = ray.get_runtime_context()
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        own = next((node for node in nodes if node["NodeID"] == context.get_node_id()), None)
        host, _, port = context.gcs_address.rpartition(":")
        gcs = (host.strip("[]"), int(port))
        return cls(
            local=local,
            raylet=None if own is None else _raylet(own["RayletSocketName"]),
            gcs=gcs if _answers(gcs) else None,
        )

    def answers(self) -> bool:
        """Whether the cluster answers now; False while its GCS is away and may come back.

        Raises:
            ClusterError: the cluster has died, and its trials with it.
        """
        if self.raylet is not None and not _is_alive(self.raylet):
            raise ClusterError("Ray died: its raylet on this machine has ended", remedy=_AGAIN)
        if self.gcs is None or _answers(self.gcs):
            self._silent_since = None
            return True
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        if self.local or time.monotonic() - self._silent_since > GRACE_SECONDS:
            raise ClusterError("Ray died: its GCS does not answer any more", remedy=_AGAIN)
        return False


def end_with_parent() -> None:
    """End this process soon after its parent: a worker whose raylet was killed would otherwise go on.

    As after SIGKILL, nothing is cleaned up: the kernel releases its locks, and its trial ends.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _raylet(socket_name: str) -> psutil.Process | None:
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet" and any(socket_name in part for part in process.info["cmdline"] or ()):
            return process
    return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
