"""Exactly-once delivery: which of the records that arrive for an attempt are new. Pure logic, no database."""

from __future__ import annotations

from dataclasses import dataclass, field

from wtsbench.contract.digests import records_digest
from wtsbench.contract.outbox import Batch
from wtsbench.errors import StoreError
from wtsbench.store.numbers import Numbers


class StoreConflict(StoreError):
    """A record contradicts what is stored; the store is unchanged."""


@dataclass(frozen=True)
class Seal:
    """Status and record count from the last record of an attempt."""

    status: str
    records: int
    """How many records the attempt has, this one included."""


Mark = tuple[int, Seal | None, bool]
"""State of an arrival: number of new records, its seal, and whether it was superseded."""


@dataclass(kw_only=True)
class Arrival:
    """Records that arrive for one attempt, compared with those that the store has of it."""

    key: int | None
    """The attempt's number in the engine; None until the first record of an attempt begun elsewhere is stored."""
    seal: Seal | None = None
    """Stored, or just arrived; other records of the attempt may be missing yet."""
    visible: bool = False
    """The attempt is stored with all its records."""
    superseded: bool = False
    """Another attempt of the trial was done before this one."""
    known: dict[int, str] = field(default_factory=dict)
    """Digests by sequence number, of what is stored and of what arrived."""
    new: list[Batch] = field(default_factory=list)
    """What is to be stored."""

    def take(self, batch: Batch, done: set[str]) -> bool:
        """Add a record; False if it is a duplicate.

        Args:
            batch: the record.
            done: ids of trials that are done; this trial is added if the record completes it. The first attempt of a
                trial that is done counts, later ones are superseded.

        Raises:
            StoreConflict: its key exists with other content, its attempt has ended, or its seal does not fit.
        """
        digest = self.known.get(batch.sequence)
        if digest is not None:
            if digest != batch.digest:
                raise _conflict(batch, "is in the store with other content")
            return False
        if self.ended or self.superseded:
            raise _conflict(batch, "comes after its attempt has ended")
        status, records = batch.status, batch.records
        if status is not None and records is not None:
            count = len(self.known) + 1
            if self.seal is not None:
                raise _conflict(batch, "ends an attempt that another record has ended")
            if records < count:
                raise _conflict(batch, f"says that its attempt has {records} records, and {count} are there")
            self.seal = Seal(status, records)
        self.known[batch.sequence] = batch.digest
        self.new.append(batch)
        if (last := self.seal) is not None and last.status == "done" and len(self.known) == last.records:
            self.superseded = batch.trial_id in done
            done.add(batch.trial_id)
        return True

    def mark(self) -> Mark:
        """The state to return to (`back_to`) if the request that follows is refused."""
        return len(self.new), self.seal, self.superseded

    def back_to(self, mark: Mark) -> None:
        """Forget the records taken since the mark."""
        count, self.seal, self.superseded = mark
        for batch in self.new[count:]:
            del self.known[batch.sequence]
        del self.new[count:]

    def stored(self) -> None:
        """Note that the new records are stored."""
        self.new.clear()
        self.visible = self.ended and not self.superseded

    @property
    def ended(self) -> bool:
        """Whether the attempt is complete: its seal and all its records are stored or new."""
        return self.seal is not None and len(self.known) >= self.seal.records

    @property
    def ending(self) -> bool:
        """Whether the new records complete the attempt."""
        return bool(self.new) and self.ended and not self.visible

    @property
    def records_digest(self) -> str:
        """The digest of the attempt's records."""
        return records_digest(self.known)


@dataclass(kw_only=True)
class Memory:
    """Cache of the only writer of a database: attempts with all that is stored of them, to save queries."""

    arrivals: dict[tuple[str, int], Arrival] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """Trials of those attempts that are done."""
    numbers: Numbers | None = None
    """Attempt numbers; None for a writer of one transaction, who looks them up."""


def _conflict(batch: Batch, what: str) -> StoreConflict:
    return StoreConflict(
        f"record {batch.sequence} of attempt {batch.attempt} of trial {batch.trial_id[:12]} {what}",
        remedy="the late one is refused, and what is stored stays.",
    )
