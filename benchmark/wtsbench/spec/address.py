"""Addresses of services, as users write them."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from wtsbench.errors import SpecError
from wtsbench.visible import shortened


def split_address(address: str) -> SplitResult:
    """The parts of `SCHEME://HOST:PORT`; host and port may be missing.

    Raises:
        SpecError: its brackets or its port are wrong.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port  # the port is only checked when it is read
    except ValueError as error:
        raise SpecError(f"{shortened(address)} is not an address: {error}", remedy="give SCHEME://HOST:PORT.") from None
    return parts


def on_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
