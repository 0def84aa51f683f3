"""Certificates of a server: an authority of its own, made at the first start, and what it signs.

ca.pem, ca.key           the authority; clients are given ca.pem, so it is never made anew by itself
server.pem, server.key   the server's own, made anew when it is not valid, will not be for long, or lacks a name
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
"""How far a client's clock may be behind."""
_HOST = re.compile(r"[A-Za-z0-9*:._-]{1,253}")
_PEM = serialization.Encoding.PEM


def server_certificate(folder: Path, names: list[str]) -> tuple[Path, Path]:
    """The server's certificate and key, made where there are none that fit.

    Args:
        folder: where they are kept.
        names: host names and addresses that clients may call it by, beside those of this machine.

    Raises:
        SpecError: a name is none of a host.
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
    """A client's certificate and key, for a server that demands one.

    Args:
        folder: where the server's are kept.
        name: whose it is.
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
    """The authority's certificate, made where there is none.

    Raises:
        StoreError: it is not valid now, so nobody would trust what it signs.
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
    """When a certificate expires.

    Raises:
        StoreError: it is none, has expired, or is not valid yet.
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
    """What to tell of a certificate that expires soon; None of another."""
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
        StoreError: it cannot be read, or is another one than the authority's.
    """
    path = folder / "ca.key"
    try:
        found = serialization.load_pem_private_key(read_small(path), password=None)
    except OSError as error:
        raise StoreError(f"the key {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # no key in PEM; one with a password; one of another kind
        found = None
    if not isinstance(found, ec.EllipticCurvePrivateKey) or found.public_key() != issuer.public_key():
        raise StoreError(f"{path} is not the key of {folder / 'ca.pem'}", remedy=f"put that back, or {_anew(folder)}")
    return found


def _fits(certificate: x509.Certificate, wanted: set[str], issuer: x509.Certificate) -> bool:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    had = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    now = datetime.now(UTC)
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):  # of an authority that was moved away
        return False
    return wanted <= had and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEW


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
