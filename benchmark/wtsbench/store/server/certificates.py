"""Certificates of a server: its own certificate authority, made at the first start, and what that signs.

ca.pem, ca.key           the authority; clients have copies of ca.pem, so it is never replaced automatically
server.pem, server.key   the server's own, replaced when it is invalid, expires soon, or lacks a name
"""

from __future__ import annotations

import ipaddress
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wtsbench.errors import SpecError, StoreError
from wtsbench.files import read_small, replace
from wtsbench.visible import shortened

_YEARS = timedelta(days=3650)
_VALID = timedelta(days=397)
_RENEW = timedelta(days=30)
_SKEW = timedelta(days=1)
"""How far a client's clock may lag behind."""
_HOST = re.compile(r"[A-Za-z0-9*:._-]{1,253}")
_PEM = serialization.Encoding.PEM


def server_certificate(folder: Path, names: list[str]) -> tuple[Path, Path]:
    """The server's certificate and key, made if there are none that fit.

    Args:
        folder: folder of the certificates.
        names: host names and addresses by which clients reach it, besides those of this machine.

    Raises:
        SpecError: a name is no host name or address.
    """
    for name in names:
        if not _HOST.fullmatch(name):
            raise SpecError(f"{shortened(name)!r} is no host's name", remedy="write others than ASCII as xn--....")
    wanted = {"localhost", "127.0.0.1", "::1", socket.gethostname(), *names}
    certificate, key = folder / "server.pem", folder / "server.key"
    issuer = _read(authority(folder))
    if not (certificate.exists() and key.exists() and _fits(_read(certificate), wanted, issuer)):
        _sign(folder, socket.gethostname(), certificate, key, ExtendedKeyUsageOID.SERVER_AUTH, sorted(wanted))
    return certificate, key


_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def client_certificate(folder: Path, name: str, out: Path) -> tuple[Path, Path]:
    """A client's certificate and key, for a server that requires one.

    Args:
        folder: folder of the server's certificates.
        name: name of the client.
        out: folder for `NAME.pem` and `NAME.key`.

    Raises:
        SpecError: neither a certificate nor a file can have the name.
    """
    if not _CLIENT.fullmatch(name):
        raise SpecError(
            f"{shortened(name)!r} is no client's name",
            remedy="up to 64 letters, digits, dots, dashes, underscores and @, a letter or digit first.",
        )
    out.mkdir(parents=True, exist_ok=True)
    certificate, key = out / f"{name}.pem", out / f"{name}.key"
    _sign(folder, name, certificate, key, ExtendedKeyUsageOID.CLIENT_AUTH, [name])
    return certificate, key


def authority(folder: Path) -> Path:
    """The authority's certificate, made if there is none.

    Raises:
        StoreError: it is not valid now, so no client would trust what it signs.
    """
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if not (certificate.exists() and key.exists()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = ec.generate_private_key(ec.SECP256R1())
        name = _name("wtsbench store")
        now = datetime.now(UTC)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        signed = (
            x509.CertificateBuilder(
                name, name, own.public_key(), x509.random_serial_number(), now - _SKEW, now + _YEARS
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .sign(own, hashes.SHA256())
        )
        replace(key, _private(own), mode=0o600)
        replace(certificate, signed.public_bytes(_PEM).decode(), mode=0o600)
    require_valid(certificate, remedy=f"if the clock is right, {_anew(folder)}")
    return certificate


def _anew(folder: Path) -> str:
    return (
        f"move {folder / 'ca.pem'} and {folder / 'ca.key'} away: they are made anew at the next start, and every "
        "client needs a copy of the new ca.pem."
    )


def require_valid(path: Path, *, remedy: str) -> datetime:
    """Expiry of a certificate, after checking it.

    Raises:
        StoreError: the file is no certificate, or the certificate has expired or is not valid yet.
    """
    certificate, now = _read(path), datetime.now(UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= now < ends:
        raise StoreError(
            f"the certificate {path} {'has expired' if now >= ends else 'is not valid yet'}: it is valid from"
            f" {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC, and the clock here says {now:%Y-%m-%d %H:%M}",
            remedy=f"check the clock; {remedy}",
        )
    return ends


def expiring(path: Path) -> str | None:
    """A warning about a certificate that expires soon; else None."""
    ends = _read(path).not_valid_after_utc
    if datetime.now(UTC) + _RENEW < ends:
        return None
    return f"the certificate {path} expires on {ends:%Y-%m-%d %H:%M} UTC"


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_small(path))
    except OSError as error:
        raise StoreError(f"the certificate {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise StoreError(f"{path} is no certificate in PEM", remedy="name another, or move it away.") from None


def _sign(
    folder: Path, subject: str, certificate: Path, key: Path, purpose: x509.ObjectIdentifier, names: list[str]
) -> None:
    issuer = _read(authority(folder))
    signer = _signer(folder, issuer)
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(
            issuer.subject,
            _name(subject),
            own.public_key(),
            x509.random_serial_number(),
            max(now - _SKEW, issuer.not_valid_before_utc),
            min(now + _VALID, issuer.not_valid_after_utc),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    replace(key, _private(own), mode=0o600)
    replace(certificate, signed.public_bytes(_PEM).decode(), mode=0o600)


def _signer(folder: Path, issuer: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    """The authority's key.

    Raises:
        StoreError: it cannot be read, or does not belong to the authority's certificate.
    """
    path = folder / "ca.key"
    try:
        key = serialization.load_pem_private_key(read_small(path), password=None)
    except OSError as error:
        raise StoreError(f"the key {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # no PEM key; one with a password; an unknown kind
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != issuer.public_key():
        raise StoreError(f"{path} is not the key of {folder / 'ca.pem'}", remedy=f"put that back, or {_anew(folder)}")
    return key


def _fits(certificate: x509.Certificate, wanted: set[str], issuer: x509.Certificate) -> bool:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    covered = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    now = datetime.now(UTC)
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):  # signed by a previous authority
        return False
    return wanted <= covered and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEW


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
