"""Finished tables, kept between runs: a table is a function of trials that never change once they are done.

A file is named by the digest of all that decides what is in it: the stored rows themselves among it, for the digests
that a store keeps beside them would not tell that somebody changed a row. A damaged or foreign file counts as none, and
a folder that cannot be written is no error: the tables are computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wtsbench
from wtsbench.files import replace
from wtsbench.reports.rows import Comparison, Leaderboard, Measured, Row, SeedFailure, SeedTrials
from wtsbench.settings import cache_folder
from wtsbench.store.client import Store

_DECIDING = ("reports", "spec", "metrics/samples.py")
"""Source that computes tables."""
_LIBRARIES = ("numpy", "scipy")
"""They draw the resamples and compute with them."""
_MEASURED = ("metrics", "weak_metrics", "ceiling_metrics")
_UNUSED = 30 * 24 * 3600.0
"""Seconds after which a file that nobody read is removed."""


@dataclass(frozen=True)
class KeptTables:
    """Finished tables in a folder, by what decides them."""

    folder: Path

    @classmethod
    def of_user(cls) -> KeptTables:
        """Those in the user's cache."""
        return cls(cache_folder() / "reports")

    def key(self, decided_by: Mapping[str, Any]) -> str:
        """Digest of what decides tables, and of the code that computes them."""
        content = json.dumps([decided_by, _code()], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def contents(self, store: Store, trial_ids: Sequence[str]) -> dict[str, str]:
        """Fingerprints of stored rows (`Store.contents`), read anew unless the store is as it was when they were."""
        state = store.state
        if state is None:
            return store.contents(trial_ids)
        key = self.key({"state": state, "trials": trial_ids})
        found = self._read(key)
        if found is None:
            found = store.contents(trial_ids)
            self._write(key, json.dumps(found).encode())
        return dict(found)

    def load(self, key: str) -> Leaderboard | None:
        """The rows and comparisons kept under this key; None where there are none that are whole."""
        found = self._read(key)
        if found is None:
            return None
        measured = [Measured(*values) for values in found["measured"]]
        return Leaderboard(
            rows=tuple(_row(values, measured) for values in found["rows"]),
            comparisons=tuple(Comparison(**_with_tuples(values)) for values in found["comparisons"]),
        )

    def save(self, key: str, board: Leaderboard) -> None:
        """Keep rows and comparisons: written under another name and renamed; nothing where that fails."""
        measured = _Numbered()
        rows = [
            {**vars(row), **{name: {key: measured[one] for key, one in vars(row)[name].items()} for name in _MEASURED}}
            for row in board.rows
        ]
        comparisons = [vars(each) for each in board.comparisons]
        values = {"rows": rows, "comparisons": comparisons, "measured": [[*vars(one).values()] for one in measured]}
        self._write(key, json.dumps(values, allow_nan=False, default=vars).encode())

    def _read(self, key: str) -> Any:
        """What is kept under a key; None where there is nothing that is whole."""
        path = self._path(key)
        try:
            seal, _, content = path.read_bytes().partition(b"\n")
            if seal != _seal(key, content):
                return None
            with suppress(OSError):  # a folder of somebody else may be read as well
                os.utime(path)
        except OSError:
            return None
        return json.loads(content)

    def _write(self, key: str, content: bytes) -> None:
        path = self._path(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, _seal(key, content) + b"\n" + content, durable=False)

    def tidy(self) -> None:
        """Remove what nobody has used for a month."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if time.time() - path.stat().st_mtime > _UNUSED:
                    path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _seal(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\n" + content).hexdigest().encode()


class _Numbered(dict[Measured, int]):
    """What rows share, such as a weak model's scores, each once, by number."""

    def __missing__(self, one: Measured) -> int:
        self[one] = len(self)
        return self[one]


def _row(values: dict[str, Any], measured: Sequence[Measured]) -> Row:
    """A row as it was before it was JSON."""
    values["trials"] = [SeedTrials(**each) for each in values["trials"]]
    values["failures"] = [SeedFailure(**each) for each in values["failures"]]
    for name in _MEASURED:
        values[name] = {metric: measured[number] for metric, number in values[name].items()}
    return Row(**_with_tuples(values))


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


@cache
def _code() -> str:
    """Digest of what computes tables: other code or libraries, other tables."""
    here = Path(wtsbench.__file__).parent
    hasher = hashlib.sha256("".join(f"{name} {version(name)}\n" for name in _LIBRARIES).encode())
    for name in _DECIDING:
        place = here / name
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            hasher.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()
