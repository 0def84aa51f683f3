"""Addresses of services, as somebody wrote them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from wtsbench.errors import SpecError
from wtsbench.visible import shortened


def split_address(address: str) -> SplitResult:
    """The parts of `SCHEME://HOST:PORT`; host and port may be missing.

    Raises:
        SpecError: brackets or a port in it are wrong.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port  # looked at only when it is asked for
    except ValueError as error:
        raise SpecError(f"{shortened(address)} is no address: {error}", remedy="give SCHEME://HOST:PORT.") from None
    return parts
