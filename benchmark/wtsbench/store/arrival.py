"""Exactly once: which of the records that arrive for an attempt are new. Pure logic, no engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from wtsbench.errors import StoreError
from wtsbench.store.outbox import Batch


class StoreConflict(StoreError):
    """What arrives contradicts what is stored; the store stays as it is."""


Mark = tuple[int, bool]
"""Of an arrival: how many records were new, and whether it was sealed."""


@dataclass(kw_only=True)
class Arrival:
    """Records that arrive for one attempt, held against what the store knows of it."""

    key: int | None
    """The attempt's number in the engine; None until the first record of an attempt begun elsewhere is stored."""
    sealed: bool = False
    """Its terminal row is stored, or arrived just now."""
    superseded: bool = False
    """Another attempt of the trial was done before this one."""
    known: dict[int, str] = field(default_factory=dict)
    """Digests by sequence number, of what is stored and of what arrived."""
    new: list[Batch] = field(default_factory=list)
    """What is to be stored."""

    def take(self, batch: Batch) -> bool:
        """Note one more record; False where it is known already.

        Raises:
            StoreConflict: its key is known with other content, or its attempt has ended.
        """
        digest = self.known.get(batch.sequence)
        if digest == batch.digest:
            return False
        if digest is not None:
            raise _conflict(batch, "is in the store with other content")
        if self.sealed or self.superseded:
            raise _conflict(batch, "comes after its attempt has ended")
        self.known[batch.sequence] = batch.digest
        self.sealed = batch.table == "trials"
        self.new.append(batch)
        return True

    def mark(self) -> Mark:
        """Where to come back to if the request that follows is refused."""
        return len(self.new), self.sealed

    def back_to(self, mark: Mark) -> None:
        """Forget what was taken since."""
        count, self.sealed = mark
        for batch in self.new[count:]:
            del self.known[batch.sequence]
        del self.new[count:]

    @property
    def done(self) -> bool:
        """Whether the new records end the attempt, and with success."""
        return bool(self.new) and self.new[-1].status == "done"


def _conflict(batch: Batch, what: str) -> StoreConflict:
    return StoreConflict(
        f"record {batch.sequence} of attempt {batch.attempt} of trial {batch.trial_id[:12]} {what}",
        remedy="the late one is refused, and what is stored stays.",
    )
