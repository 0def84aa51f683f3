"""Which server owns a folder: a file there names it, with the address of its socket on this machine.

So commands on the machine use a served store by its folder like any other, without a token: only the owner of the
folder can open the socket.
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
    """A server, as noted in its folder."""

    pid: int
    host: str
    socket: str
    """Path of the local socket."""
    listen: str
    """Its public address."""

    @property
    def address(self) -> str:
        """Address for commands on this machine."""
        return f"{_SCHEME}{self.socket}"


def write_owner(folder: Path, owner: Owner) -> None:
    """Note the server of a folder."""
    replace(folder / FILE, json.dumps(asdict(owner)), durable=False)


def remove_owner(folder: Path) -> None:
    """Remove the note."""
    (folder / FILE).unlink(missing_ok=True)


def noted_owner(folder: Path) -> Owner | None:
    """The server noted in a folder, alive or not; None if there is no note."""
    try:
        return Owner(**json.loads(read_plain(folder / FILE)))
    except (OSError, ValueError, TypeError):
        return None


def living_owner(folder: Path) -> Owner | None:
    """The server that serves a folder now, on this machine; None if there is none or its socket is another user's."""
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
