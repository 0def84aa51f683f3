"""The certificate of a running server, and its renewal."""

from __future__ import annotations

import ssl
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
"""How often a running server checks its certificate."""


class Tls:
    """The certificate of a server: its own is renewed while it runs, and changes to a given file are noticed."""

    def __init__(
        self, folder: Path, *, certificate: Path | None, key: Path | None, client_ca: Path | None, names: Sequence[str]
    ) -> None:
        """Load a valid certificate, or make one.

        Args:
            folder: folder of the server's own certificates.
            certificate: PEM of a given certificate; None takes the server's own.
            key: PEM of the given certificate's key.
            client_ca: PEM of the authority whose certificates clients must present; None requires none.
            names: host names for the server's own certificate.

        Raises:
            StoreError: the certificate cannot be read, has expired, or is not valid yet.
        """
        self._folder = folder
        self._given = certificate, key
        self._names = list(names)
        self.ca = authority(folder) if certificate is None else None
        """Certificate of the authority that clients must trust, if the certificate is the server's own."""
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

    def context(self) -> ssl.SSLContext:
        """The certificate as it is in its files now, for HTTPS. Clients need none.

        Raises:
            OSError: it cannot be read, or is just being replaced.
        """
        certificate, key = self._given
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate or self._folder / "server.pem", key or self._folder / "server.key")
        return context

    def _configuration(self) -> Any:
        return grpc.ssl_server_certificate_configuration([self._pair], self._roots)

    def _changed(self) -> Any:
        """The new configuration, if the certificate has changed; else None. Called for every connection."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        try:
            pair = self._read()
        except UserError as error:  # connections go on with the old one, and clients report what is wrong with it
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
