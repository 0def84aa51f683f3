"""The certificate that a server shows, for as long as it runs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from wtsbench.errors import SpecError, UserError
from wtsbench.files import read_small
from wtsbench.store.server.certificates import authority, expiring, require_valid, server_certificate

_LOOK_SECONDS = 600.0
"""How often a running server looks at its certificate."""


class Tls:
    """The certificate of a server, looked at while it runs: its own is renewed, and another may be replaced."""

    def __init__(
        self, folder: Path, *, certificate: Path | None, key: Path | None, client_ca: Path | None, names: Sequence[str]
    ) -> None:
        """Have one that is valid.

        Args:
            folder: where the server's own are kept.
            certificate: PEM of another one; None takes its own.
            key: of that one.
            client_ca: PEM of the authority whose certificates clients must show; None demands none.
            names: that its own certificate is for.

        Raises:
            StoreError: it is none, has expired, or is not valid yet.
        """
        self._folder = folder
        self._given = certificate, key
        self._names = list(names)
        self.ca = authority(folder) if certificate is None else None
        """What clients are to trust, where the certificate is the server's own."""
        self._roots = None if client_ca is None else _bytes(client_ca)
        self._pair = self._read()
        self._looked = time.monotonic()
        self.notices = [notice for path in filter(None, (self.ca, certificate)) if (notice := expiring(path))]
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._changed, require_client_authentication=self._roots is not None
        )

    def _read(self) -> tuple[bytes, bytes]:
        certificate, key = self._given
        if certificate is not None and key is not None:
            require_valid(certificate, remedy="or renew it.")
        else:
            certificate, key = server_certificate(self._folder, self._names)
        return _bytes(key), _bytes(certificate)

    def _configuration(self) -> Any:
        return grpc.ssl_server_certificate_configuration([self._pair], self._roots)

    def _changed(self) -> Any:
        """Called with every connection; None where nothing has changed."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        try:
            pair = self._read()
        except UserError as error:  # connections go on with what there was, and their clients say what is wrong with it
            traceback.print_exception(error)
            return None
        if pair == self._pair:
            return None
        self._pair = pair
        return self._configuration()


def _bytes(path: Path) -> bytes:
    try:
        return read_small(path)
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from None
