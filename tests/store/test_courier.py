"""The courier forgets what was acknowledged and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.store.making import fill_outbox, predictions, trial_id_of, whole_attempt
from wtsbench.contract.outbox import Ack, Batch
from wtsbench.errors import StoreError
from wtsbench.store import courier
from wtsbench.store.client import Store
from wtsbench.store.courier import deliver
from wtsbench.store.folder import FolderStore
from wtsbench.store.lock import StoreBusy

A = trial_id_of("a")


class Watched(FolderStore):
    """A real store in a folder, some of whose appends end in an error before or after they are durable."""

    def __init__(self, folder: Path, *faults: tuple[str, Exception]) -> None:
        super().__init__(folder)
        object.__setattr__(self, "faults", list(faults))
        object.__setattr__(self, "calls", [])

    faults: list[tuple[str, Exception]]
    calls: list[int]

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """As of a folder's store, but for the faults."""
        self.calls.append(len(batches))
        when, error = self.faults.pop(0) if self.faults else ("never", None)
        acks = [] if when == "before" else super().append(batches)
        if error is not None:
            raise error
        return acks


def test_an_outbox_goes_in_one_transaction_and_is_empty_then(store: Store, tmp_path: Path) -> None:
    """Acknowledgements come by sequence number; other files of the folder stay."""
    outbox = fill_outbox(tmp_path / "outbox", whole_attempt(A, 1))
    (outbox.folder / "result.json").write_text("{}")
    watched = Watched(Path(store.uri))
    assert [ack.sequence for ack in deliver(outbox.folder, watched)] == [1, 2, 3, 4]
    assert watched.calls == [4]
    assert [path.name for path in outbox.folder.iterdir()] == ["result.json"]
    assert deliver(outbox.folder, watched) == []
    assert deliver(tmp_path / "none", watched) == []
    assert watched.calls == [4]


def test_many_rows_go_in_several_transactions_with_the_seal_in_the_last(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction is bounded; a failure between two of them leaves the attempt invisible and what waits in place."""
    monkeypatch.setattr(courier, "MAX_ROWS", 2)
    outbox = fill_outbox(tmp_path / "outbox", whole_attempt(A, 1))
    watched = Watched(Path(store.uri), ("never", None), ("before", StoreError("lost")))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="lost"):
        deliver(outbox.folder, watched)
    assert watched.calls == [1, 2]
    assert [file.sequence for file in outbox.pending()] == [2, 3, 4]
    assert store.trials().num_rows == 0
    assert [ack.sequence for ack in deliver(outbox.folder, watched)] == [2, 3, 4]
    assert store.predictions([A]).num_rows == 2


def test_a_busy_store_is_tried_again_and_a_lost_acknowledgement_does_no_harm(store: Store, tmp_path: Path) -> None:
    """Records that were stored without the courier's knowledge are duplicates at the next try."""
    outbox = fill_outbox(tmp_path / "outbox", whole_attempt(A, 1))
    watched = Watched(Path(store.uri), ("before", StoreBusy("busy")), ("after", StoreBusy("busy")))
    assert {ack.outcome for ack in deliver(outbox.folder, watched)} == {"duplicate"}
    assert watched.calls == [4, 4, 4]
    assert store.trials().num_rows == 1


def test_patience_ends_and_other_errors_are_not_tried_again(store: Store, tmp_path: Path) -> None:
    """A store that stays busy, and one that is broken, raise; every record waits where it was."""
    outbox = fill_outbox(tmp_path / "outbox", whole_attempt(A, 1))
    busy = Watched(Path(store.uri), *[("before", StoreBusy("busy"))] * 9)
    with pytest.raises(StoreBusy):
        deliver(outbox.folder, busy, patience=0.15)
    assert len(busy.calls) == 2
    broken = Watched(Path(store.uri), ("before", StoreError("broken")))
    with pytest.raises(StoreError, match="broken"):
        deliver(outbox.folder, broken)
    assert len(broken.calls) == 1
    assert len(outbox.pending()) == 4


def test_torn_and_foreign_records_are_named_and_nothing_is_sent(store: Store, tmp_path: Path) -> None:
    """One bad file stops the delivery before it starts."""
    outbox = fill_outbox(tmp_path / "outbox", whole_attempt(A, 1))
    last = outbox.pending()[-1].path
    content = last.read_bytes()
    watched = Watched(Path(store.uri))
    last.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=last.name):
        deliver(outbox.folder, watched)
    last.unlink()
    fill_outbox(outbox.folder, [predictions(A, 2, 7, "a")])
    with pytest.raises(StoreError, match=r"000007-predictions\.arrow is of attempt 2 .* attempt 1 of"):
        deliver(outbox.folder, watched)
    assert watched.calls == []
    assert len(outbox.pending()) == 4


def test_a_conflict_leaves_the_outbox_as_it_is(store: Store, tmp_path: Path) -> None:
    """The store refuses what contradicts it, and the evidence is kept."""
    store.append([predictions(A, 1, 1, "other")])
    outbox = fill_outbox(tmp_path / "outbox", whole_attempt(A, 1))
    with pytest.raises(StoreError, match="other content"):
        deliver(outbox.folder, store)
    assert len(outbox.pending()) == 4
