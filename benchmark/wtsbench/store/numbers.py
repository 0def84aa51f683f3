"""Attempt numbers of trials for a writer that stays, so that it need not look through all attempts for each new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import duckdb


class Numbers:
    """The highest attempt number of each trial, in 12 bytes an attempt; the attempts are read at the first question.

    An index of the database would cost every store more than this: a fourth of its size, and time at each opening.
    Trials are told apart by a hash of 64 bits. Of two with the same one, one skips a number.
    """

    def __init__(self) -> None:
        self._stored: tuple[np.ndarray, np.ndarray] | None = None
        """Hashes in ascending order, each with a number; the highest of a trial is the last."""
        self._since: dict[str, int] = {}
        """Of attempts that came later."""

    def __len__(self) -> int:
        """Attempts that came since the others were read."""
        return len(self._since)

    def highest(self, database: duckdb.DuckDBPyConnection, trial_id: str) -> int:
        """The highest number of a trial's attempts; 0 if it has none."""
        if self._stored is None:
            self._stored = _read(database)
        hashes, attempts = self._stored
        ((number,),) = database.execute("SELECT hash(?::VARCHAR)", [trial_id]).fetchall()
        place = int(np.searchsorted(hashes, np.uint64(number), side="right")) - 1
        stored = int(attempts[place]) if place >= 0 and int(hashes[place]) == number else 0
        return max(stored, self._since.get(trial_id, 0))

    def note(self, trial_id: str, attempt: int) -> None:
        """Note an attempt that is new in the database."""
        self._since[trial_id] = max(attempt, self._since.get(trial_id, 0))


def _read(database: duckdb.DuckDBPyConnection) -> tuple[np.ndarray, np.ndarray]:
    rows = database.execute("SELECT hash(trial_id) AS hash, attempt FROM attempt_keys").fetchnumpy()
    order = np.lexsort((rows["attempt"], rows["hash"]))
    return rows["hash"][order], rows["attempt"][order]
