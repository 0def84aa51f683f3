"""A permanent cache of a service's scores: SQLite in the cache folder, shared by processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from wtsbench.errors import ScorerError
from wtsbench.spec.identity import digest

_SECONDS = 60.0
"""How long another process may keep the file locked."""
_AT_ONCE = 500


class ScoreCache:
    """Scores by text, for one scorer. Stores digests of the texts, never the texts or a key."""

    def __init__(self, path: Path, *, scorer: str) -> None:
        self._path, self._scorer = path, scorer

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self._path, timeout=_SECONDS)
            with self._file:
                self._file.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, score REAL NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise self._fault(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, texts: Sequence[str]) -> dict[str, float]:
        """The scores of those texts that are in the cache.

        Raises:
            ScorerError: the file is damaged.
        """
        by_key = {self._key(text): text for text in texts}
        keys = list(by_key)
        scores: dict[str, float] = {}
        try:
            for start in range(0, len(keys), _AT_ONCE):
                chunk = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(chunk))
                rows = self._file.execute(f"SELECT key, score FROM scores WHERE key IN ({marks})", chunk)
                scores.update((by_key[key], score) for key, score in rows)
        except sqlite3.Error as error:
            raise self._fault(error) from error
        return scores

    def put(self, scores: Mapping[str, float]) -> None:
        """Store scores; they are on disk when this returns.

        Raises:
            ScorerError: the file cannot be written.
        """
        rows = [(self._key(text), score) for text, score in scores.items()]
        try:
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _key(self, text: str) -> str:
        return digest([self._scorer, text])

    def _fault(self, error: Exception) -> ScorerError:
        return ScorerError(
            f"the cache {self._path} cannot be used: {error}",
            remedy="remove it, or name another cache folder with WTSBENCH_CACHE.",
        )
