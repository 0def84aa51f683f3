"""Items into batches of similar length, so that little is padded. Nothing is dropped.

Shapes: N items, B items of a batch, T tokens of its longest item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Rows = NDArray[np.int64]

POOL = 32
"""Batches that are sorted together. Larger pools pad less and mix less."""


def training_batches(lengths: Sequence[int], batch_size: int, random: np.random.Generator) -> list[Rows]:
    """One epoch: every item once, in batches of similar length, all of `batch_size` but at most one.

    Items are shuffled, cut into pools of `POOL` batches, sorted by length within each (equal lengths stay shuffled),
    and the batches of all pools are shuffled.
    """
    order = random.permutation(len(lengths))
    size = np.asarray(lengths)
    batches: list[Rows] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(size[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def endless_batches(lengths: Sequence[int], batch_size: int, random: np.random.Generator) -> Iterator[Rows]:
    """Epoch after epoch of `training_batches`."""
    while True:
        yield from training_batches(lengths, batch_size, random)


def prediction_batches(lengths: Sequence[int], batch_size: int, tokens: int | None = None) -> list[Rows]:
    """Every item once, longest first: what does not fit into memory fails at once.

    A batch has `batch_size` items, or fewer where they would be more than `tokens` tokens; at least one.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches: list[Rows] = []
    at = 0
    while at < len(order):
        size = batch_size if tokens is None else max(1, min(batch_size, tokens // lengths[order[at]]))
        batches.append(order[at : at + size])
        at += size
    return batches


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] padded on the right, and their mask [B, T], 1 on real tokens; both int64."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
