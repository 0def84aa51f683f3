"""What waits on a node has a bound, and a place of its own for every store."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from wtsbench.errors import ExitCode, SpecError, StoreError
from wtsbench.execution.spool import require_room
from wtsbench.settings import spool_folder


def test_a_full_spool_begins_no_further_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the budget, the submission ends with what to do; below it, and with no spool yet, nothing happens."""
    require_room(tmp_path / "none")
    (tmp_path / "waiting").write_bytes(bytes(1000))
    require_room(tmp_path)
    monkeypatch.setenv("WTSBENCH_SPOOL_BYTES", "999")
    with pytest.raises(StoreError, match="holds 1,000 undelivered bytes") as full:
        require_room(tmp_path)
    assert full.value.exit_code == ExitCode.UNREACHABLE
    assert "submit again" in str(full.value.remedy)
    monkeypatch.setenv("WTSBENCH_SPOOL_BYTES", "many")
    with pytest.raises(SpecError, match="not a number of bytes"):
        require_room(tmp_path)


def test_attempts_that_end_meanwhile_do_not_disturb(tmp_path: Path) -> None:
    """The room is measured while other attempts come and go, at any depth."""
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            (tmp_path / "a-1" / "trial" / "scratch").mkdir(parents=True)
            (tmp_path / "a-1" / "trial" / "scratch" / "x").touch()
            shutil.rmtree(tmp_path / "a-1")

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(1000):
            require_room(tmp_path)
    finally:
        over.set()
        other.join()


def test_every_store_has_a_spool_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's is inside it; a server's is in the cache, or below the folder that the environment names."""
    monkeypatch.delenv("WTSBENCH_SPOOL", raising=False)
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    assert spool_folder(str(tmp_path / "store")) == tmp_path / "store" / "spool"
    one, other = spool_folder("grpc+tls://a:1"), spool_folder("grpc+tls://b:1")
    assert one != other
    assert one.parent == other.parent == tmp_path / "cache" / "spool"
    monkeypatch.setenv("WTSBENCH_SPOOL", str(tmp_path / "named"))
    assert spool_folder("grpc+tls://a:1").parent == tmp_path / "named"
