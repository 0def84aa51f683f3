"""Prompts read once for all of their continuations.

Shapes: P prompts of a batch, R continuations of all of them, T tokens read, L tokens more, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wtsbench.trial.batching import pad
from wtsbench.trial.device import Device
from wtsbench.trial.faults import DivergedError
from wtsbench.trial.kv_cache import Left, RoomyLayer
from wtsbench.trial.language_model import (
    LOGITS_AT_ONCE,
    LanguageModel,
    continuation_places,
    logprobs_of,
    score,
)
from wtsbench.trial.text_tokens import Encoded


def rows_in_memory(models: Sequence[LanguageModel], tokens: int, device: Device) -> int:
    """How many sequences of so many tokens the models may remember side by side."""
    one = device.dtype.itemsize * sum(model.cache_size(tokens) for model in models)
    return device.cache_bytes() // max(1, one)


class Reader:
    """One model and the prompts of a batch: what it has read so far of each of their continuations."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], pad_id: int, device: Device) -> None:
        self._model = model
        self._device = device
        longest = max(map(len, prompts))
        ids = np.full((len(prompts), longest), pad_id, dtype=np.int64)
        mask = np.zeros((len(prompts), longest), dtype=np.int64)
        for i, row in enumerate(prompts):
            ids[i, longest - len(row) :] = row
            mask[i, longest - len(row) :] = 1
        self._ids = device.put(torch.from_numpy(ids))
        self._mask = device.put(torch.from_numpy(mask))
        self._cache = model.new_cache()

    def begin(self, counts: Sequence[int]) -> torch.Tensor:
        """Read the prompts, each once, then stand for each of them `counts` [P] times: scores [R, V]."""
        scores = self._next(self._ids, self._positions())
        rows = self._device.put(torch.from_numpy(np.repeat(np.arange(len(counts)), counts)))
        self._mask = self._mask[rows]
        if self._cache is not None:
            self._cache.batch_select_indices(rows)
        else:
            self._ids = self._ids[rows]
        return scores[rows]

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores [R, V] after one more token [R] in each row."""
        more = tokens[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(more)], dim=1)
        if self._cache is not None:
            return self._next(more, self._mask.sum(dim=1, keepdim=True) - 1)
        self._ids = torch.cat([self._ids, more], dim=1)
        return self._next(self._ids, self._positions())

    def read_all(self, tokens: torch.Tensor, real: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Scores [N, V] after some of more tokens [R, L], which `at` names by row [N] and column [N].

        `real` [R, L] is 0 on padding at the end.
        """
        read = self._mask.shape[1]
        self._mask = torch.cat([self._mask, real], dim=1)
        if self._cache is not None:
            return self._forward(tokens, self._positions()[:, read:], at)
        self._ids = torch.cat([self._ids, tokens], dim=1)
        return self._forward(self._ids, self._positions(), (at[0], read + at[1]))

    def leave(self, left: Left) -> None:
        """Go on with the rows that are left."""
        self._mask = self._mask[left.rows]
        if self._cache is None:
            self._ids = self._ids[left.rows]
            return
        for layer in self._cache.layers:
            if isinstance(layer, RoomyLayer):
                layer.leave(left)
            else:
                layer.batch_select_indices(left.rows)

    def _positions(self) -> torch.Tensor:
        """[R, T] of everything read; of padding 0."""
        return (self._mask.cumsum(dim=1) - 1).clamp(min=0)

    def _next(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Scores [R, V] after the last of some tokens [R, T]."""
        rows = torch.arange(len(ids), device=ids.device)
        return self._forward(ids, positions, (rows, torch.full_like(rows, ids.shape[1] - 1)))

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        with self._device.autocast():
            scores: torch.Tensor = self._model(ids, self._mask, at=at, cache=self._cache, position_ids=positions)
        return scores


def score_shared(
    model: LanguageModel,
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    batch_size: int,
    device: Device,
    advance: Callable[[int], None],
) -> list[NDArray[np.float64]]:
    """What `language_model.score` gives, up to the last bits, reading a prompt that many continuations share once.

    Args:
        model: the one that is asked.
        rows: prompts with continuations.
        pad_id: token id for padding; masked out.
        batch_size: prompts side by side at most; fewer where memory is short.
        device: where, and in what precision.
        advance: told the number of tokens done.

    Raises:
        DivergedError: a log-probability is NaN.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(tuple(row.ids[: row.start]), []).append(place)
    if not model.caches or 2 * len(groups) > len(rows):
        return score(model, rows, pad_id=pad_id, batch_size=batch_size, device=device, advance=advance)
    model.eval()
    wide = max(len(row.ids) - row.start for row in rows)
    longest = max(len(row.ids) for row in rows)
    most = min(
        rows_in_memory([model], longest, device),
        LOGITS_AT_ONCE // (max(1, wide) * model.vocabulary),
        (device.tokens_at_once(model.width) or LOGITS_AT_ONCE) // max(1, wide),
    )
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(rows)
    waiting = sorted(groups, key=len, reverse=True)
    with device.reading():
        while waiting:
            prompts = [waiting.pop(0)]
            size = len(groups[prompts[0]])
            while waiting and len(prompts) < batch_size and size + len(groups[waiting[0]]) <= most:
                prompts.append(waiting.pop(0))
                size += len(groups[prompts[-1]])
            places = [place for prompt in prompts for place in groups[prompt]]
            table = _continuations(model, prompts, [rows[i] for i in places], groups, pad_id, device)
            for place, line in zip(places, table, strict=True):
                found[place] = line[: len(rows[place].ids) - rows[place].start]
            advance(sum(len(rows[place].ids) for place in places))
    return found


def _continuations(
    model: LanguageModel,
    prompts: Sequence[tuple[int, ...]],
    rows: Sequence[Encoded],
    groups: dict[tuple[int, ...], list[int]],
    pad_id: int,
    device: Device,
) -> NDArray[np.float64]:
    """[R, L] log-probabilities of the rows, which are in the order of their prompts; 0 on padding."""
    ids, real = pad([row.ids[row.start :] for row in rows], pad_id)
    if not ids.shape[1]:
        return np.zeros(ids.shape)
    b, t = continuation_places(rows)
    row, column = device.put(b[t > 0]), device.put(t[t > 0])
    ids, real = device.put(ids), device.put(real)
    reader = Reader(model, prompts, pad_id, device)
    first = reader.begin([len(groups[prompt]) for prompt in prompts])
    table = torch.zeros(ids.shape, dtype=torch.float64, device=ids.device)
    table[:, 0] = logprobs_of(first, ids[:, 0]).double().masked_fill(real[:, 0] == 0, 0.0)
    if ids.shape[1] > 1:
        others = reader.read_all(ids[:, :-1], real[:, :-1], (row, column - 1))
        table[row, column] = logprobs_of(others, ids[row, column]).double()
    found = table.cpu().numpy()
    if not np.isfinite(found).all():
        raise DivergedError("the model gives a text a probability that is no number")
    return found
