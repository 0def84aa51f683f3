"""What waits on a node has a bound, and a place of its own for every store."""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path

import pytest

from tests.planning.grids import plan_of
from wtsbench.errors import ExitCode, SpecError, StoreError
from wtsbench.execution.job import Job
from wtsbench.execution.spool import require_room
from wtsbench.settings import named_spool, spool_folder
from wtsbench.spec.grid import Resources


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


@pytest.mark.parametrize("store", ["store", "grpc+tls://a:1"])
def test_a_nodes_own_setting_wins(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over that of the machine that submits, which wins over the node's default; in the whole of an attempt."""
    monkeypatch.delenv("WTSBENCH_SPOOL", raising=False)
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    address = store if "://" in store else str(tmp_path / store)
    spec = next(iter(plan_of().trials.values()))

    def spool(named: str | None) -> Path:
        job = Job(
            spec=spec, labels=("a", "b"), store=address, named_spool=named, sandbox="process", image=None,
            resources=Resources(), run="r",
        )  # fmt: skip
        return pickle.loads(pickle.dumps(job)).spool  # type: ignore[no-any-return]  # noqa: S301

    default = spool(None)
    assert default == spool_folder(address)
    theirs = spool(str(tmp_path / "theirs"))
    assert theirs.is_relative_to(tmp_path / "theirs")
    monkeypatch.setenv("WTSBENCH_SPOOL", str(tmp_path / "own"))
    assert named_spool() == str(tmp_path / "own")
    assert spool(None) == spool(str(tmp_path / "theirs")) == spool_folder(address)
    assert spool(None).is_relative_to(tmp_path / "own")
