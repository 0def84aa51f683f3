"""How requests reach a server: gRPC, with bounds on all memory that a client without a token can occupy.

A stream is a coroutine on one event loop, and needs no thread. The headers identify the client: without a valid token
the stream ends there and none of its messages is read, so it occupies at most HTTP/2's flow-control window.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio

from wtsbench.errors import StoreError
from wtsbench.store.server.bounds import MESSAGE_BYTES, MESSAGE_SECONDS
from wtsbench.store.server.questions import Fault
from wtsbench.store.server.tokens import OWNER, Grant, Tokens
from wtsbench.store.wire import StoreDenied, StoreRefused

SERVICE = "arrow.flight.protocol.FlightService"
STREAMS = 100
"""Concurrent streams of one connection; further ones wait at the client."""
_HANDSHAKE_SECONDS = 10
_IDLE_SECONDS = 300
"""After this time without a request a connection is closed; clients reconnect by themselves."""
_T = TypeVar("_T")


@dataclass(kw_only=True)
class Call:
    """A request as its method sees it: messages one by one."""

    who: Grant | StoreDenied
    _context: Any
    _receiving: Callable[[str], AbstractAsyncContextManager[None]]

    @property
    def name(self) -> str:
        """Name of the client's token; empty without a valid one."""
        return "" if isinstance(self.who, StoreDenied) else self.who.name

    @property
    def grant(self) -> Grant:
        """The client's rights.

        Raises:
            StoreDenied: it has no valid token.
        """
        if isinstance(self.who, StoreDenied):
            raise self.who
        return self.who

    async def receive(self) -> bytes | None:
        """The next message; None after the last.

        Raises:
            StoreRefused: it does not arrive in time.
            StoreBusy: too many others are being received.
        """
        async with self._receiving(self.grant.name):
            try:
                message = await asyncio.wait_for(self._context.read(), MESSAGE_SECONDS)
            except TimeoutError:
                raise StoreRefused(
                    f"the request did not go on for {MESSAGE_SECONDS:g} s", remedy="send it again."
                ) from None
        return None if message is grpc.aio.EOF else bytes(message)

    async def only(self) -> bytes:
        """The one message of a call that has one."""
        return await self.receive() or b""

    async def send(self, message: bytes) -> None:
        """Send a message to the client.

        Raises:
            StoreRefused: the client does not read it in time.
        """
        try:
            await asyncio.wait_for(self._context.write(message), MESSAGE_SECONDS)
        except TimeoutError:
            raise StoreRefused(f"the answer was not read for {MESSAGE_SECONDS:g} s", remedy="ask again.") from None


Method = Callable[[Call], Awaitable[None]]


class Transport:
    """An event loop in a thread of its own, and the addresses where it listens."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._servers: list[grpc.aio.Server] = []
        self._thread = threading.Thread(target=self.loop.run_forever, name="wtsbench-store-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def listen(
        self,
        address: str,
        methods: dict[str, Method],
        *,
        tokens: Tokens | None,
        credentials: grpc.ServerCredentials | None,
        connections: int,
        receiving: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> int:
        """Listen at an address.

        Args:
            address: HOST:PORT, or unix:PATH.
            methods: methods of Flight, by name.
            tokens: the accepted tokens; None if every client is the owner.
            credentials: for TLS; None without TLS.
            connections: limit of connections at once.
            receiving: context manager that limits receiving a message, by name of the token.

        Returns:
            The port.

        Raises:
            RuntimeError: the server cannot listen there.
        """
        return self.run(self._listen(address, _Methods(methods, tokens, receiving), credentials, connections))

    async def _listen(
        self, address: str, methods: _Methods, credentials: grpc.ServerCredentials | None, connections: int
    ) -> int:
        options = {
            "grpc.so_reuseport": 0,
            "grpc.max_receive_message_length": MESSAGE_BYTES,
            "grpc.max_send_message_length": -1,
            "grpc.max_concurrent_streams": STREAMS,
            "grpc.max_allowed_incoming_connections": connections,
            "grpc.server_handshake_timeout_ms": 1000 * _HANDSHAKE_SECONDS,
            "grpc.max_connection_idle_ms": 1000 * _IDLE_SECONDS,
            "grpc.keepalive_time_ms": 60_000,
            "grpc.keepalive_timeout_ms": 20_000,
            # A compressed message is unpacked before its size is checked; clients of Flight send none.
            "grpc.compression_enabled_algorithms_bitset": 1,
            "grpc.per_message_decompression": 0,
        }
        server = grpc.aio.server(handlers=[methods], options=list(options.items()))
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        await server.start()
        self._servers.append(server)
        return int(port)

    def close(self, seconds: float) -> bool:
        """Refuse further requests, and cut off those that take longer; whether all was closed in time."""
        if self.loop.is_closed():
            return True

        async def stop() -> None:
            await asyncio.gather(*(server.stop(seconds) for server in self._servers))

        stopping = asyncio.run_coroutine_threadsafe(stop(), self.loop)
        try:
            stopping.result(seconds + 2.0)
        except TimeoutError:
            return False
        self._servers.clear()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2.0)
        if self._thread.is_alive():
            return False
        self.loop.close()
        return True


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The methods of Flight, with raw messages: every call is handled as two streams, as it is on the wire."""

    def __init__(
        self,
        methods: dict[str, Method],
        tokens: Tokens | None,
        receiving: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> None:
        self._methods = methods
        self._tokens = tokens
        self._receiving = receiving

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Find the client and the method; a refusal is raised within the method, which counts it."""
        service, _, name = str(handler_call_details.method).lstrip("/").partition("/")
        method = self._methods.get(name) if service == SERVICE else None
        if method is None:
            return None
        who = OWNER if self._tokens is None else _who(handler_call_details.invocation_metadata, self._tokens)
        call = method

        async def answer(requests: object, context: Any) -> None:
            try:
                await call(Call(who=who, _context=context, _receiving=self._receiving))
            except Fault as fault:
                await context.abort(fault.code, _printable(fault.message), fault.trailers)

        return grpc.stream_stream_rpc_method_handler(answer)


def _printable(message: str) -> str:
    """A message that gRPC accepts."""
    return message.encode("utf-8", "replace").decode()


def _who(headers: Any, tokens: Tokens) -> Grant | StoreDenied:
    sent = [value for name, value in headers or () if name == "authorization"]
    kind, _, token = str(sent[0]).partition(" ") if len(sent) == 1 else ("", "", "")
    if kind.lower() != "bearer":
        return StoreDenied("the server wants a token", remedy="name its file with WTSBENCH_TOKEN_FILE.")
    try:
        return tokens.grant(token)
    except StoreDenied as error:
        return error
    except (StoreError, OSError) as error:
        traceback.print_exception(error)
        return StoreDenied("the server cannot read its tokens", remedy="tell whoever runs it.")
