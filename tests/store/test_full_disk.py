"""A full disk costs nothing but the patience of its owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.conftest import Disk
from tests.store.making import fill_outbox, predictions, seal, trial_id_of
from wtsbench.contract.outbox import Batch
from wtsbench.errors import ExitCode, StoreError
from wtsbench.store.client import Store, open_store
from wtsbench.store.courier import deliver


def _attempt(number: int) -> list[Batch]:
    trial_id = trial_id_of(str(number))
    items = (trial_id_of(f"{number}/{item}") for item in range(2_000))
    return [predictions(trial_id, 1, 1, *items), seal(trial_id, 1, 2)]


def _until_full(store: Store, outbox: Path) -> int:
    """Deliver attempts until the disk is full; returns how many were acknowledged. The last one waits."""
    for number in range(1_000):
        fill_outbox(outbox, _attempt(number))
        fault = None
        try:
            deliver(outbox, store)
        except StoreError as error:
            fault = error
        if fault is not None:
            assert "no space left" in fault.message
            assert fault.exit_code is ExitCode.UNREACHABLE
            assert fault.remedy
            assert "free some space" in fault.remedy
            return number
    raise AssertionError("the disk was never full")


def test_a_full_disk_loses_nothing_that_was_acknowledged(disk: Disk, tmp_path: Path) -> None:
    """The error says so; the outbox keeps its records; the store can be read; with room again, delivery goes on."""
    store = open_store(str(disk.folder / "store"), create=True)
    ballast = disk.folder / ".ballast"
    ballast.write_bytes(bytes(3 << 20))
    outbox = tmp_path / "outbox"
    count = _until_full(store, outbox)
    assert count > 0
    for _ in range(2):
        with pytest.raises(StoreError, match="no space left"):
            deliver(outbox, store)
    again = open_store(store.uri)
    assert again.trials().num_rows == count
    assert again.predictions([trial_id_of(str(number)) for number in range(count + 1)]).num_rows == 2_000 * count
    assert len(list(outbox.iterdir())) == 2
    ballast.unlink()
    assert [ack.outcome for ack in deliver(outbox, again)] == ["stored", "stored"]
    assert again.trials().num_rows == count + 1
    assert again.predictions([trial_id_of(str(count))]).num_rows == 2_000


def test_a_store_cannot_be_made_on_a_full_disk(disk: Disk) -> None:
    """The error says so, and once there is room the same folder will do."""
    ballast = disk.fill()
    with pytest.raises(StoreError, match=r"[nN]o space left"):
        open_store(str(disk.folder / "store"), create=True)
    ballast.unlink()
    assert open_store(str(disk.folder / "store"), create=True).trials().num_rows == 0
