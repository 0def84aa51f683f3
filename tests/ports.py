"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import random
import socket

_PORTS = range(20_000, 32_000)
"""Above those of Ray's workers, below those that Linux gives to whoever asks for any port."""
_taken: list[socket.socket] = []


def free_port() -> int:
    """A port of this machine that nobody has, and that no other call returns while this process lives.

    A port that was free a moment ago may be found a second time before its server listens, or be given to somebody
    else's connection. So a datagram socket holds the number, in which two processes of tests see each other; the
    server listens for streams, which that does not hinder.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            held.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            held.close()
            continue
        _taken.append(held)
        return port
    raise AssertionError(f"of 100 ports in {_PORTS}, none is free")
