"""Metrics and health for those who look after a server: Prometheus, and what restarts it where it is unwell."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.store.servers import serving
from tests.trial.processes import wait_for
from wtsbench.errors import StoreError
from wtsbench.store.server import metrics
from wtsbench.store.server.certificates import server_certificate
from wtsbench.store.server.serving import Running

TLS = "grpc+tls://127.0.0.1:0"


def port_of(running: Running) -> int:
    """The port of its metrics."""
    return int(str(running.metrics).rsplit(":", 1)[1])


def asker(running: Running, ca: Path | None) -> Callable[[str], str]:
    """Asks for a path over HTTPS; without an authority whatever certificate is shown, as a kubelet does."""
    context = ssl.create_default_context(cafile=ca)
    if ca is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def ask(path: str) -> str:
        address = f"https://127.0.0.1:{port_of(running)}{path}"
        with urllib.request.urlopen(address, context=context, timeout=30) as answer:
            return str(answer.read().decode())

    return ask


def test_beyond_this_machine_they_are_served_with_the_servers_certificate(tmp_path: Path) -> None:
    """Who trusts the server's authority reads them, a prober that checks nothing too, and nobody in plain text."""
    other, _ = server_certificate(tmp_path / "other", [])
    with serving(tmp_path / "store", listen=TLS, metrics="0.0.0.0:0") as running:
        assert str(running.metrics).startswith("https://0.0.0.0:")
        for ca in (running.ca, None):
            assert asker(running, ca)("/healthz") == "serving\n"
            assert "wtsbench_store_commit_seconds_bucket" in asker(running, ca)("/metrics")
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            asker(running, other.with_name("ca.pem"))("/healthz")
        with pytest.raises(OSError, match=r"."):
            urllib.request.urlopen(f"http://127.0.0.1:{port_of(running)}/metrics", timeout=30)
        running.core.draining = True
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            asker(running, running.ca)("/healthz")
        refused.value.close()


def test_a_new_certificate_is_shown_at_once(tmp_path: Path) -> None:
    """One that somebody else renews in its files, as a secret of Kubernetes is, needs no restart."""
    old, new = tmp_path / "old", tmp_path / "new"
    for place in (old, new):
        server_certificate(place, [])
    given = {"certificate": old / "server.pem", "key": old / "server.key"}
    with serving(tmp_path / "store", listen=TLS, metrics="0.0.0.0:0", **given) as running:
        assert asker(running, old / "ca.pem")("/healthz") == "serving\n"
        for name in ("server.pem", "server.key"):
            (old / name).write_bytes((new / name).read_bytes())
        assert asker(running, new / "ca.pem")("/healthz") == "serving\n"


@pytest.mark.parametrize("encrypted", [False, True])
def test_who_sends_nothing_keeps_no_probe_from_its_answer(
    tmp_path: Path, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent connections take a place each for a short time; while all are taken others are closed, then served."""
    monkeypatch.setattr(metrics, "CONNECTION_SECONDS", 2.0)
    options = {"listen": TLS, "metrics": "0.0.0.0:0"} if encrypted else {"metrics": "127.0.0.1:0"}

    def answers() -> bool:
        try:
            if encrypted:
                return asker(running, None)("/healthz") == "serving\n"
            with urllib.request.urlopen(f"{running.metrics}/healthz", timeout=30) as answer:
                return bool(answer.read() == b"serving\n")
        except OSError:
            return False

    with serving(tmp_path / "store", **options) as running, ExitStack() as stack:
        address = ("127.0.0.1", port_of(running))
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(metrics.CONNECTIONS - 1)]
        assert answers()
        silent += [stack.enter_context(socket.create_connection(address)) for _ in range(metrics.CONNECTIONS)]
        wait_for(answers)
        for connection in silent:
            connection.settimeout(30)
            assert connection.recv(1) == b"", "it is cut, or was never let in"


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """The server does not start half."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(StoreError, match=f"nothing can listen at 127.0.0.1:{port}"),
            serving(tmp_path / "store", metrics=f"127.0.0.1:{port}"),
        ):
            pass
