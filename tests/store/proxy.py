"""A connection that misbehaves: bytes go through it, or are lost, cut off or held back."""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress
from typing import Literal

Fault = Literal["none", "dropped answers", "reset", "half open"]
_GREETING = 400
"""Bytes of a server's answers that a connection needs to come about at all, roughly."""


class Proxy:
    """Between couriers and a server on this machine; `fault` may be changed at any time."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self.fault: Fault = "none"
        self.hits = 0
        """Connections that met a fault."""
        self._target = port
        self._chance = chance
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where couriers connect."""
        return f"grpc://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        self._listening.close()
        for one in self._open:
            with suppress(OSError):
                one.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                continue
            self._open += [client, server]
            fault = self.fault
            limit = self._chance.randrange(_GREETING, 20_000)
            answers = self._chance.randrange(_GREETING, 1_500)
            threading.Thread(target=self._pump, args=(client, server, fault, limit, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, fault, answers, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, fault: Fault, limit: int, answers: bool) -> None:
        """Pass bytes on until the limit, then do what the fault says."""
        passed = 0
        while True:
            try:
                data = source.recv(65_536)
                if not data:
                    break
                passed += len(data)
                if fault != "none" and passed > limit and (answers or fault != "dropped answers"):
                    self.hits += 1
                    if fault == "half open":
                        return  # both ends stay open, and nothing comes through any more
                    if fault == "reset":
                        for one in (source, target):
                            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                target.sendall(data)
            except OSError:
                break
        for one in (source, target):
            with suppress(OSError):
                one.close()
