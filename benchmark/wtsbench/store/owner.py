"""Who serves a folder: its server says so in a file there, with the address of a socket on this machine.

So commands on the machine read and write a served store by its folder, as they would otherwise, and need no token:
only the owner of the folder can open the socket.
"""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from wtsbench.files import read_plain, replace

FILE = "store.owner"
_SCHEME = "grpc+unix://"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A server, as its folder names it."""

    pid: int
    host: str
    socket: str
    """Path of the local socket."""
    listen: str
    """Its public address."""

    @property
    def address(self) -> str:
        """Where commands of this machine reach it."""
        return f"{_SCHEME}{self.socket}"


def write_owner(folder: Path, owner: Owner) -> None:
    """Say who serves a folder."""
    replace(folder / FILE, json.dumps(asdict(owner)), durable=False)


def remove_owner(folder: Path) -> None:
    """Say that nobody does."""
    (folder / FILE).unlink(missing_ok=True)


def noted_owner(folder: Path) -> Owner | None:
    """Who says to serve a folder, alive or not."""
    try:
        return Owner(**json.loads(read_plain(folder / FILE)))
    except (OSError, ValueError, TypeError):
        return None


def living_owner(folder: Path) -> Owner | None:
    """Who serves a folder now, on this machine; None where nobody does, or it is not for us to use its socket."""
    owner = noted_owner(folder)
    if owner is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(owner.socket)
        except OSError:  # killed, on another machine, or of another user
            return None
    return owner
