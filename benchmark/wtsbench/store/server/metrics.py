"""A server's metrics for Prometheus, and its health check."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

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
    """`/metrics` and `/healthz` over HTTP."""

    def __init__(self, host: str, port: int, metrics: Metrics, healthy: Callable[[], bool]) -> None:
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

        self._server = make_server(host, port, app, server_class=WSGIServer, handler_class=_Silent)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="wtsbench-store-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests for metrics are routine."""
