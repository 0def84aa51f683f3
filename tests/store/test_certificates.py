"""Certificates whose time has not come, or is over: found by the server, and told to clients for what they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.store.servers import asking_with, serving, token_in
from wtsbench.errors import StoreError
from wtsbench.store.client import open_store
from wtsbench.store.folder import SERVER
from wtsbench.store.server import certificates, tls
from wtsbench.store.server.certificates import authority, client_certificate, server_certificate

TLS = "grpc+tls://127.0.0.1:0"


@contextmanager
def clock(ahead: timedelta) -> Iterator[None]:
    """What certificates are made and judged by, that much ahead."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + ahead

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "datetime", Clock)
        yield


def read(path: Path) -> x509.Certificate:
    """A certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_authority_of_another_time_is_refused_at_both_ends(tmp_path: Path) -> None:
    """A server whose clock was years off at its first start says so, and signs nothing that nobody would trust."""
    for ahead, words in ((timedelta(days=2000), "is not valid yet"), (timedelta(days=-4000), "has expired")):
        folder = tmp_path / str(ahead.days)
        with clock(ahead):
            server_certificate(folder / SERVER, [])
        with pytest.raises(StoreError, match=words) as told, serving(folder, listen=TLS):
            pass
        assert "check the clock" in (told.value.remedy or "")
        with pytest.raises(StoreError, match=words):
            client_certificate(folder / SERVER, "mine", tmp_path)
        for name in ("ca.pem", "ca.key"):
            (folder / SERVER / name).unlink()
        with (
            serving(folder, listen=TLS) as running,
            asking_with(token_in(folder, "read"), WTSBENCH_STORE_CA=running.ca or Path()),
        ):
            assert open_store(running.listen).trials().num_rows == 0


@pytest.mark.parametrize("damage", ["no key", "another's", "a pipe", "with a password"])
def test_a_key_that_is_not_the_authoritys_signs_nothing(tmp_path: Path, damage: str) -> None:
    """Whatever is in its place, the server says what to do, and waits for nothing."""
    folder = tmp_path / "store" / SERVER
    authority(folder)
    key = folder / "ca.key"
    key.unlink()
    if damage == "a pipe":
        os.mkfifo(key)
    elif damage == "another's":
        authority(tmp_path / "other")
        key.write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    else:
        form, locked = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")
        made = ec.generate_private_key(ec.SECP256R1())
        key.write_bytes(
            b"no key" if damage == "no key" else made.private_bytes(serialization.Encoding.PEM, form, locked)
        )
    with pytest.raises(StoreError, match=r"ca\.key") as told, serving(tmp_path / "store", listen=TLS):
        pass
    assert damage == "a pipe" or "are made anew" in (told.value.remedy or "")


@pytest.mark.parametrize("ahead", [timedelta(days=300), timedelta(days=-380)])
def test_a_servers_own_certificate_is_renewed_at_both_ends(tmp_path: Path, ahead: timedelta) -> None:
    """One that is not valid yet is as good a reason as one that will not be for long."""
    authority(tmp_path)
    with clock(ahead):
        certificate, _ = server_certificate(tmp_path, []) if ahead > timedelta() else _signed(tmp_path)
    before = read(certificate)
    certificate, _ = server_certificate(tmp_path, [])
    now = datetime.now(UTC)
    assert read(certificate) != before
    assert read(certificate).not_valid_before_utc < now - timedelta(hours=1)
    assert read(certificate).not_valid_after_utc > now + timedelta(days=300)
    assert server_certificate(tmp_path, [])[0].read_bytes() == certificate.read_bytes()
    assert read(certificate).serial_number == read(server_certificate(tmp_path, [])[0]).serial_number


def _signed(folder: Path) -> tuple[Path, Path]:
    """A server's certificate of long ago, of an authority that is older still."""
    for name in ("ca.pem", "ca.key"):
        (folder / name).unlink()
    return server_certificate(folder, [])


def test_an_authority_that_ends_soon_is_told_and_outlives_what_it_signs(tmp_path: Path) -> None:
    """Whoever runs the server hears of it a month ahead, and no certificate is longer valid than its authority."""
    folder = tmp_path / "store"
    with clock(timedelta(days=20 - 3650)):
        authority(folder / SERVER)
    with serving(folder, listen=TLS) as running:
        assert running.ca is not None
        assert [notice.split(" expires on ")[0] for notice in running.notices] == [f"the certificate {running.ca}"]
        leaf = read(folder / SERVER / "server.pem")
        assert leaf.not_valid_after_utc == read(running.ca).not_valid_after_utc
    with serving(tmp_path / "other", listen=TLS) as running:
        assert running.notices == []


@pytest.mark.parametrize(("ahead", "words"), [(2000, "is not valid yet"), (-1000, "has expired")])
def test_a_client_is_told_that_it_is_a_matter_of_clocks(tmp_path: Path, ahead: int, words: str) -> None:
    """And not to name an authority, which it has done."""
    folder = tmp_path / "store"
    authority(folder / SERVER)
    with clock(timedelta(days=ahead)), pytest.MonkeyPatch.context() as patch:
        if ahead < 0:  # of an authority that is valid still
            patch.setattr(certificates, "require_valid", lambda path, remedy: None)
        with (
            serving(folder, listen=TLS) as running,
            asking_with(token_in(folder, "read"), WTSBENCH_STORE_CA=running.ca or Path()),
            pytest.raises(StoreError, match=words) as told,
        ):
            open_store(running.listen)
    assert "clocks" in (told.value.remedy or "")


def test_a_running_server_takes_a_new_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that runs for years, or whose certificate somebody else renews, need not be started again."""
    monkeypatch.setattr(tls, "_LOOK_SECONDS", 0.0)
    old, new, folder = tmp_path / "old", tmp_path / "new", tmp_path / "store"
    for place in (old, new):
        server_certificate(place, [])
    options = {"certificate": old / "server.pem", "key": old / "server.key"}
    with serving(folder, listen=TLS, **options) as running:
        token = token_in(folder, "read")
        with asking_with(token, WTSBENCH_STORE_CA=old / "ca.pem"):
            open_store(running.listen)
        for name in ("server.pem", "server.key"):
            (old / name).write_bytes((new / name).read_bytes())
        with asking_with(token, WTSBENCH_STORE_CA=new / "ca.pem"):
            open_store(running.listen)
