"""Store and courier against a model of a few lines: whatever happens in whatever order, they agree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.store.making import batch, fill_outbox, predictions, seal, trial_id_of
from tests.store.servers import serving
from wtsbench.contract.outbox import Ack, Batch
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.client import open_store
from wtsbench.store.courier import deliver
from wtsbench.store.engine import database
from wtsbench.store.folder import FolderStore

IDS = [trial_id_of(name) for name in "ab"]
SEAL = 4
Key = tuple[str, int]

keys = st.tuples(st.sampled_from(IDS), st.integers(1, 2))
records = st.builds(
    lambda key, sequence, flavour: _record(key, sequence, flavour),
    keys,
    st.integers(1, SEAL),
    st.sampled_from(["x", "x", "x", "y"]),
)
most = st.builds(
    lambda key, order, count: [_record(key, sequence, "x") for sequence in order[:count]],
    keys,
    st.permutations(range(1, SEAL + 1)),
    st.integers(SEAL - 1, SEAL),
)
"""All records of an attempt in any order, or all but one."""


def _record(key: Key, sequence: int, flavour: str) -> Batch:
    """One of the records that an attempt may have; of each sequence number there are two flavours."""
    if sequence == SEAL:
        return seal(*key, SEAL, "done" if flavour == "x" else "failed")
    if sequence == 1:
        return batch("logs", *key, 1, [{"line": 1, "text": flavour}])
    return predictions(*key, sequence, f"{flavour}-{sequence}")


class Lost(Exception):
    """The acknowledgement did not arrive."""


class Forgetful(FolderStore):
    """A store that takes records and dies before it can say so."""

    def append(self, batches: Sequence[Batch]) -> list[Ack]:
        """Durable, but nobody hears of it."""
        super().append(batches)
        raise Lost


class Model:
    """What a store should hold: by attempt, its records by sequence number; and which attempt of a trial is done."""

    def __init__(self) -> None:
        self.ledger: dict[Key, dict[int, Batch]] = {}
        self.done: dict[str, Key] = {}
        self.superseded: set[Key] = set()

    def append(self, batches: Sequence[Batch]) -> list[str] | None:
        """The outcomes; None for a conflict."""
        ledger = {key: dict(known) for key, known in self.ledger.items()}
        outcomes = [""] * len(batches)
        for index in sorted(range(len(batches)), key=lambda index: batches[index].sequence):
            one = batches[index]
            known = ledger.setdefault((one.trial_id, one.attempt), {})
            if one.sequence in known:
                if known[one.sequence].digest != one.digest:
                    return None
                outcomes[index] = "duplicate"
            elif len(known) == SEAL:
                return None
            else:
                known[one.sequence] = one
                outcomes[index] = "stored"
        self.ledger = ledger
        for key in sorted({(one.trial_id, one.attempt) for one in batches}):
            known = ledger[key]
            if len(known) == SEAL and known[SEAL].status == "done" and self.done.setdefault(key[0], key) != key:
                self.superseded.add(key)
        return [
            "superseded" if (one.trial_id, one.attempt) in self.superseded else outcome
            for one, outcome in zip(batches, outcomes, strict=True)
        ]

    def sealed(self) -> dict[Key, dict[int, Batch]]:
        """The visible attempts."""
        return {key: known for key, known in self.ledger.items() if len(known) == SEAL and key not in self.superseded}


class StoreMachine(RuleBasedStateMachine):
    """Appends, deliveries and crashes on a real store in a folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = open_store(str(self.folder / "store"), create=True)
        self.model = Model()
        self.begun: dict[str, int] = {}
        self.kept: duckdb.DuckDBPyConnection | None = None
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(database, "connect", self.connect)

    def connect(self, path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """A connection to a database that stays open between operations: opening it is most of what they cost."""
        self.kept = self.kept or duckdb.connect(str(path))
        return self.kept.cursor()

    @rule(batches=st.one_of(st.lists(records, min_size=1, max_size=5), most))
    def append(self, batches: list[Batch]) -> None:
        """Anything, in any order, of several attempts at once; seals before what they count, too."""
        expected = self.model.append(batches)
        if expected is None:
            with pytest.raises(StoreConflict):
                self.store.append(batches)
        else:
            assert [ack.outcome for ack in self.store.append(batches)] == expected

    @rule(key=keys, sequences=st.sets(st.integers(1, SEAL), min_size=1), crash=st.booleans())
    def deliver(self, key: Key, sequences: set[int], crash: bool) -> None:
        """An outbox, possibly with a crash between what the store did and what the courier heard of it."""
        sent = [_record(key, sequence, "x") for sequence in sorted(sequences)]
        outbox = fill_outbox(self.folder / "outbox", sent)
        expected = self.model.append(sent)
        if expected is None:
            with pytest.raises(StoreConflict):
                deliver(outbox.folder, self.store)
            assert len(outbox.pending()) == len(sent)
        else:
            if crash:
                with pytest.raises(Lost):
                    deliver(outbox.folder, Forgetful(Path(self.store.uri)))
                assert len(outbox.pending()) == len(sent)
                expected = self.model.append(sent)
            assert [ack.outcome for ack in deliver(outbox.folder, self.store)] == expected
            assert outbox.pending() == []
        shutil.rmtree(outbox.folder)

    @rule()
    def close(self) -> None:
        """The database is closed; the next operation opens it anew."""
        if self.kept is not None:
            self.kept.close()
            self.kept = None

    @rule(trial_id=st.sampled_from(IDS))
    def begin(self, trial_id: str) -> None:
        """Numbers go up, past every attempt of which records came."""
        known = [attempt for one, attempt in self.model.ledger if one == trial_id]
        self.begun[trial_id] = max([0, *known, self.begun.get(trial_id, 0)]) + 1
        assert self.store.begin_attempt(trial_id, run="r") == self.begun[trial_id]

    @rule()
    def agree(self) -> None:
        """Everything visible is what the model says, once."""
        visible = self.model.sealed()
        trials = self.store.trials()
        assert list(zip(trials["trial_id"].to_pylist(), trials["attempt"].to_pylist(), strict=True)) == sorted(visible)
        rows = [row for key in IDS for row in self.store.logs(key).to_pylist()]
        logs = [known[1].data.to_pylist()[0] for _, known in sorted(visible.items())]
        assert rows == sorted(logs, key=lambda row: (IDS.index(row["trial_id"]), row["attempt"]))
        done = {key for key in visible if key in self.model.done.values()}
        expected = [
            (*key, known[sequence].data.column("item_id")[0].as_py())
            for key, known in visible.items()
            for sequence in (2, 3)
            if key in done
        ]
        read = self.store.predictions(IDS)
        columns = (read[name].to_pylist() for name in ("trial_id", "attempt", "item_id"))
        assert list(zip(*columns, strict=True)) == sorted(expected, key=lambda row: (row[0], row[2]))

    def teardown(self) -> None:
        """The last look, at the file as it is on the disk."""
        self.close()
        self.patch.undo()
        try:
            self.agree()
        finally:
            shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=15,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestStoreAgainstModel = StoreMachine.TestCase


class ServedStoreMachine(StoreMachine):
    """The same on a folder that a server owns; it is stopped and started in between."""

    def __init__(self) -> None:
        super().__init__()
        self.patch.undo()
        self.server = ExitStack()
        self.server.enter_context(serving(self.folder / "store"))

    @rule()
    def close(self) -> None:
        """The server stops, and another one takes the folder; in between the folder is its own."""
        self.server.close()
        self.agree()
        self.server.enter_context(serving(self.folder / "store"))

    def teardown(self) -> None:
        """The last look, past the server."""
        self.server.close()
        try:
            self.agree()
        finally:
            shutil.rmtree(self.folder)


ServedStoreMachine.TestCase.settings = settings(StoreMachine.TestCase.settings, max_examples=5)
TestServedStoreAgainstModel = ServedStoreMachine.TestCase
TestServedStoreAgainstModel.__doc__ = "The same histories through a server's group commits, with stops in between."
TestStoreAgainstModel.__doc__ = "Random histories of appends, deliveries, lost acknowledgements and openings."
