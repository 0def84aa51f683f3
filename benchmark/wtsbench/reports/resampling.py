"""Drawing items again: what every trial would score on other items.

**Repeatability.** Draws are seeded by what is compared (the digest of the data and the number of items), never by time
or order. Sums of whole numbers that stay below 2^24 are exact in float32, in whatever order BLAS adds them; all other
features are summed in float64, whose last digits are far below those that reports show.

Shapes: B resamples, N items, K seeds, T trials, F features of a metric.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wtsbench.metrics.classification import Features, Floats, Integers
from wtsbench.reports.rows import RESAMPLES
from wtsbench.reports.statistics import Sample

_CHUNK_BYTES = 2**21
"""Of item counts at once: what stays in a core's cache is counted several times faster."""
_KEPT_BYTES = 2**27
"""Of item counts that are kept for the next table on the same items."""
_EXACT = 2**24
"""Whole numbers below it are exact in float32."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Features that are summed once, and the scores that are computed from their sums."""

    features: Features
    """[T, N, F]."""
    values: tuple[Callable[[Floats], Floats], ...]
    """Each from sums [..., F] to scores [...]."""


Scores = tuple[Floats, Floats]
"""Of T trials, on all items [T] and on each resample of them [B, T]."""


class Resampler:
    """The draws that all comparisons on one set of items share.

    Args:
        key: what the items are, such as the digest of their data; decides the draws.
        items: N, at least 1: items, or where these come in groups, groups. Items of one group share more than their
            task (a question, most words), so they are drawn together.
        resamples: B.
    """

    def __init__(self, key: str, items: int, *, resamples: int = RESAMPLES) -> None:
        assert items > 0, "there is something to resample"
        self.items = items
        self.resamples = resamples
        self._key = key
        self._drawn: list[Integers] | None = None
        self._mutex = threading.Lock()

    def scores(self, blocks: Sequence[Block], groups: Integers | None = None) -> list[list[Scores]]:
        """The scores of every block's values, on all items and on each resample; one pass of draws serves all.

        A resample that defines no score, such as one without an item of the class whose recall it is, counts as no
        change: it has the score of all items. That is narrow; `Sample.effective` makes up for it.

        Args:
            blocks: what to sum and compute.
            groups: [N] the group of each item, counted from 0; by default each item is its own.
        """
        columns = _Columns(self.items)
        found: list[list[Scores]] = []
        numbers = []
        for block in blocks:
            matrix, shape = self._flat(block.features, groups)
            sums = matrix.sum(axis=0, dtype=np.float64).reshape(shape)
            found.append([(value(sums), np.empty((self.resamples, shape[0]))) for value in block.values])
            numbers.append((columns.add(matrix), shape))
        matrices, position = columns.stacked()
        start = 0
        for drawn in self._draws():
            chunk = len(drawn)
            summed = [drawn.astype(matrix.dtype) @ matrix for matrix in matrices]
            every = np.concatenate(summed, axis=1, dtype=np.float64)
            for block, (number, shape), results in zip(blocks, numbers, found, strict=True):
                sums = every[:, position[number]].reshape(chunk, *shape)
                for value, (full, resampled) in zip(block.values, results, strict=True):
                    made = value(sums)
                    resampled[start : start + chunk] = np.where(np.isnan(made), full, made)
            start += chunk
        return found

    def sample(self, scores: Scores, columns: Sequence[int], effective: float | None = None) -> Sample:
        """The trials in these columns of `scores` as the seeds of one sample; `effective` is that of the metric."""
        full, resampled = scores
        index = np.asarray(columns)
        return Sample(
            full=full[index],
            resampled=resampled[:, index],
            items=self.items,
            effective=self.items if effective is None else min(effective, self.items),
        )

    def _flat(self, features: Features, groups: Integers | None) -> tuple[Features, tuple[int, int]]:
        """Features as a matrix [N, T F] of the type in which they are summed, and (T, F)."""
        if groups is not None:
            features = _summed(features, groups)
        trials, size = features.shape[0], features.shape[-1]
        matrix = np.moveaxis(features, 1, 0).reshape(self.items, -1)
        kind = np.float32 if _exact(matrix, self.items) else np.float64
        return np.ascontiguousarray(matrix, dtype=kind), (trials, size)

    def _draws(self) -> Iterator[Integers]:
        """[chunk, N] how often each item is drawn, for all resamples in turn; kept where that takes little memory."""
        if self.resamples * self.items > _KEPT_BYTES:
            yield from self._drawn_anew()
            return
        with self._mutex:  # tables that are computed side by side wait for what they share
            if self._drawn is None:
                self._drawn = [
                    drawn.astype(np.uint8 if drawn.max() < 2**8 else np.uint32) for drawn in self._drawn_anew()
                ]
        yield from self._drawn

    def _drawn_anew(self) -> Iterator[Integers]:
        generator = self._generator()
        rows = max(1, _CHUNK_BYTES // (8 * self.items))
        for start in range(0, self.resamples, rows):
            yield self._counts(generator, min(rows, self.resamples - start))

    def _counts(self, generator: np.random.Generator, chunk: int) -> NDArray[np.int64]:
        """[chunk, N] how often each item is drawn."""
        small = np.uint16 if self.items <= 2**16 else np.uint32
        drawn = generator.integers(0, self.items, size=(chunk, self.items), dtype=small)
        place = drawn + np.arange(chunk)[:, None] * self.items
        return np.bincount(place.ravel(), minlength=chunk * self.items).reshape(chunk, self.items)

    def _generator(self) -> np.random.Generator:
        content = f"wtsbench bootstrap 1|{self._key}|items|{self.items}|{self.resamples}"
        return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(hashlib.sha256(content.encode()).digest())))


def group_counts(truth: Integers, groups: Integers, classes: int) -> Integers:
    """[C] groups [N] that have an item of each true class [N]."""
    return np.array([np.unique(groups[truth == each]).size for each in range(classes)], dtype=np.int64)


class _Columns:
    """The different columns [N] of some features: what is the same for all trials, as the truth is, is summed once."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._numbers: dict[bytes, int] = {}
        self._columns: list[Features] = []

    def add(self, matrix: Features) -> NDArray[np.intp]:
        """The number of each column of a matrix [N, M], [M]."""
        return np.array([self._number(column) for column in np.ascontiguousarray(matrix.T)], dtype=np.intp)

    def _number(self, column: Features) -> int:
        if column.dtype != np.float32 and np.array_equal(column, np.rint(column)):
            whole = column.astype(np.int64)
            column = column.astype(np.float32) if _exact(whole, self._items) else column
        content = column.tobytes()
        if content not in self._numbers:
            self._numbers[content] = len(self._columns)
            self._columns.append(column)
        return self._numbers[content]

    def stacked(self) -> tuple[list[NDArray[np.floating]], NDArray[np.intp]]:
        """Matrices [N, M] of a type each, and where in a row of both the column of each number is."""
        kinds = [np.dtype(np.float32), np.dtype(np.float64)]
        sorted_by = [[number for number, column in enumerate(self._columns) if column.dtype == kind] for kind in kinds]
        position = np.empty(len(self._columns), dtype=np.intp)
        position[[number for some in sorted_by for number in some]] = np.arange(len(self._columns))
        return [np.stack([self._columns[number] for number in some], axis=1) for some in sorted_by if some], position


def _summed(features: Features, groups: Integers) -> Features:
    """Features of groups [T, G, F], the sums of those of their items [T, N, F]: metrics are functions of sums."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    if len(starts) == len(groups):
        return features[:, order]
    numbers = features.astype(np.int64) if features.dtype == np.bool_ else features
    return np.asarray(np.add.reduceat(numbers[:, order], starts, axis=1))


def _exact(features: Features, items: int) -> bool:
    """Whether every resample's sum of these features is exact in float32."""
    if features.dtype == np.bool_:
        return items < _EXACT
    return bool(np.issubdtype(features.dtype, np.integer) and np.abs(features).max(initial=0) * items < _EXACT)
