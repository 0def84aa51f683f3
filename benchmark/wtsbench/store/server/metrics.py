"""A server's metrics for Prometheus, and its health check."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

CONNECTIONS = 32
"""Connections at once; more are closed."""
CONNECTION_SECONDS = 10.0
"""Time for a connection, from its handshake to its answer."""
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class Metrics:
    """Counters of one server. Labels hold kinds of requests only, never tokens, trials or addresses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "wtsbench_store_requests_total",
            "Requests by kind and outcome",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "wtsbench_store_request_seconds",
            "Seconds from a request to its answer, or to the start of it",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.commits = Histogram(
            "wtsbench_store_commit_seconds", "Seconds of a commit", buckets=_SECONDS, registry=self.registry
        )
        self.grouped = Counter(
            "wtsbench_store_committed_requests_total", "Requests made durable", registry=self.registry
        )
        self.rows = Counter("wtsbench_store_committed_rows_total", "Rows made durable", registry=self.registry)

    def commit(self, requests: int, rows: int, seconds: float) -> None:
        """Note a commit."""
        self.commits.observe(seconds)
        self.grouped.inc(requests)
        self.rows.inc(rows)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Export a value that is computed whenever the metrics are read."""
        Gauge(name, meaning, registry=self.registry).set_function(value)


class MetricsServer:
    """`/metrics` and `/healthz` over HTTP, or over HTTPS. Whoever reaches it may read them: they hold no secret."""

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        healthy: Callable[[], bool],
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        """Listen.

        Args:
            host: where.
            port: 0 takes a free one.
            metrics: what `/metrics` shows.
            healthy: whether `/healthz` answers 200, else 503.
            context: asked for the certificate of every connection; None serves plain text.
        """
        page = make_wsgi_app(metrics.registry)

        def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if environ.get("PATH_INFO") == "/metrics":
                answer: Iterable[bytes] = page(environ, start)
                return answer
            if environ.get("PATH_INFO") == "/healthz":
                well = healthy()
                start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "text/plain")])
                return [b"serving\n" if well else b"stopping\n"]
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics or /healthz\n"]

        self._server = _Server((host, port), context)
        self._server.set_app(app)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="wtsbench-store-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each of a few connections, so that one who sends nothing does not keep a probe from its answer."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], context: Callable[[], ssl.SSLContext] | None) -> None:
        self._context = context
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, _Silent)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        with _cut_in_time(request):
            if self._context is None:
                super().finish_request(request, client_address)
            else:
                with self._context().wrap_socket(request, server_side=True) as encrypted:
                    super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # those are of clients: gone, too slow, or without TLS
            super().handle_error(request, client_address)


@contextmanager
def _cut_in_time(connection: socket.socket) -> Iterator[None]:
    """Cut a connection when its time is over, however slowly it sends."""
    other = connection.dup()  # `wrap_socket` takes the first one's place

    def cut() -> None:
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    late = threading.Timer(CONNECTION_SECONDS, cut)
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()
        other.close()


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests for metrics are routine."""
