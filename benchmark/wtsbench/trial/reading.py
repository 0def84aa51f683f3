"""Prompts read once for all of their continuations.

Shapes: P prompts of a batch, R continuations of all of them, T tokens read, L tokens more, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wtsbench.trial.device import Device
from wtsbench.trial.faults import DivergedError
from wtsbench.trial.kv_cache import Left, RoomyLayer
from wtsbench.trial.language_model import LOGITS_AT_ONCE, LanguageModel, score
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
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        scores = self._forward(self._ids, positions, last=1)[:, -1]
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
            return self._forward(more, self._mask.sum(dim=1, keepdim=True) - 1)[:, -1]
        self._ids = torch.cat([self._ids, more], dim=1)
        return self._forward(self._ids, (self._mask.cumsum(dim=1) - 1).clamp(min=0), last=1)[:, -1]

    def read_all(self, tokens: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Scores [R, L, V] after each of some more tokens [R, L], of which `real` [R, L] is 0 on padding at the end."""
        read = self._mask.shape[1]
        self._mask = torch.cat([self._mask, real], dim=1)
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        if self._cache is not None:
            return self._forward(tokens, positions[:, read:])
        self._ids = torch.cat([self._ids, tokens], dim=1)
        return self._forward(self._ids, positions, last=tokens.shape[1])

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

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, last: int | None = None) -> torch.Tensor:
        with self._device.autocast():
            scores: torch.Tensor = self._model(
                ids, self._mask, last=last or ids.shape[1], cache=self._cache, position_ids=positions
            )
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
    most = min(rows_in_memory([model], longest, device), LOGITS_AT_ONCE // (max(1, wide) * model.vocabulary))
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
    """[R, L] log-probabilities of the rows, which are in the order of their prompts; anything on padding."""
    wide = max(len(row.ids) - row.start for row in rows)
    if not wide:
        return np.zeros((len(rows), 0))
    ids = np.full((len(rows), wide), pad_id, dtype=np.int64)
    real = np.zeros((len(rows), wide), dtype=np.int64)
    for line, mask, row in zip(ids, real, rows, strict=True):
        size = len(row.ids) - row.start
        line[:size], mask[:size] = row.ids[row.start :], 1
    tokens, there = (device.put(torch.from_numpy(table)) for table in (ids, real))
    reader = Reader(model, prompts, pad_id, device)
    scores = reader.begin([len(groups[prompt]) for prompt in prompts])[:, None]
    if wide > 1:
        scores = torch.cat([scores, reader.read_all(tokens[:, :-1], there[:, :-1])], dim=1)
    flat = torch.nn.functional.cross_entropy(scores.flatten(0, 1).float(), tokens.flatten(), reduction="none")
    table = -flat.view_as(tokens).double().masked_fill(there == 0, 0.0).cpu().numpy()
    if not np.isfinite(table).all():
        raise DivergedError("the model gives a text a probability that is no number")
    return table
