"""Options of a server, and checks that refuse unsafe ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wtsbench.errors import SpecError
from wtsbench.spec.address import on_loopback, split_address
from wtsbench.store.server.certificates import authority
from wtsbench.store.server.live import Limits
from wtsbench.store.server.tls import Tls

DEFAULT_LISTEN = "grpc+tls://127.0.0.1:8815"
DRAIN_SECONDS = 20.0
"""Time that a stopping server gives requests in progress."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options of a server."""

    listen: str = DEFAULT_LISTEN
    """`grpc+tls://HOST:PORT`; `grpc://` only on loopback. Port 0 takes a free one."""
    names: tuple[str, ...] = ()
    """More host names for the generated certificate."""
    certificate: Path | None = None
    """PEM; None generates one."""
    key: Path | None = None
    client_ca: Path | None = None
    """PEM of the authority whose certificates clients must present; None requires none."""
    own_client_ca: bool = False
    """Require client certificates of the server's own authority."""
    metrics: str | None = None
    """HOST:PORT for /metrics and /healthz: plain text on loopback, elsewhere HTTPS with the server's certificate."""
    drain_seconds: float = DRAIN_SECONDS
    limits: Limits = field(default_factory=Limits)


def require_safe(options: ServeOptions) -> None:
    """Refuse options that would send data over the network in plain text, or that contradict each other.

    Raises:
        SpecError: the options are unsafe or contradictory.
    """
    scheme, host, _ = parts_of(options.listen)
    if scheme == "grpc" and not on_loopback(host):
        raise SpecError(
            f"{options.listen} would send tokens and results over the network in plain text",
            remedy="use grpc+tls://, or listen on 127.0.0.1.",
        )
    if scheme == "grpc" and (options.certificate or options.client_ca or options.own_client_ca):
        raise SpecError(f"{options.listen} has no TLS that certificates could be for", remedy="use grpc+tls://.")
    if (options.certificate is None) != (options.key is None):
        raise SpecError("a certificate and its key go together", remedy="give both --certificate and --key.")
    if scheme == "grpc" and not metrics_on_loopback(options):
        raise SpecError(
            f"metrics at {options.metrics} would be plain text for the whole network",
            remedy="listen on 127.0.0.1; or serve with grpc+tls://, whose certificate they then have.",
        )


def metrics_on_loopback(options: ServeOptions) -> bool:
    """Whether metrics leave this machine in no case: they are served on loopback, or not at all.

    Raises:
        SpecError: their address is invalid.
    """
    return options.metrics is None or on_loopback(host_port(f"http://{options.metrics}")[0])


def tls_of(folder: Path, options: ServeOptions) -> Tls | None:
    """Certificates for these options, kept in the server's folder; None if it serves without TLS."""
    scheme, host, _ = parts_of(options.listen)
    if scheme == "grpc":
        return None
    return Tls(
        folder,
        certificate=options.certificate,
        key=options.key,
        client_ca=options.client_ca or (authority(folder) if options.own_client_ca else None),
        names=[*options.names, *([] if host in ("0.0.0.0", "::") else [host])],
    )


def parts_of(listen: str) -> tuple[str, str, int]:
    """Scheme, host and port to listen at.

    Raises:
        SpecError: the address is invalid.
    """
    scheme = listen.partition("://")[0]
    if scheme not in ("grpc", "grpc+tls"):
        raise SpecError(f"{listen} is no address to listen at", remedy="give grpc+tls://HOST:PORT.")
    return (scheme, *host_port(listen))


def host_port(address: str) -> tuple[str, int]:
    """Host and port of an address; SpecError if it has none."""
    parts = split_address(address)
    if parts.hostname and parts.port is not None and not parts.path.strip("/"):
        return parts.hostname, parts.port
    raise SpecError(f"{address.removeprefix('http://')} is no address", remedy="give HOST:PORT.")


def bracketed(host: str) -> str:
    """A host as written in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
