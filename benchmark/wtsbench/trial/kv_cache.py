"""A cache of keys and values that grows in place: transformers' own copies all of it for every token.

Shapes: R continuations, H heads, T tokens read, D size of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 32
"""Tokens for which room is made at once."""


@dataclass(frozen=True, kw_only=True)
class Left:
    """The rows of a batch that are left when some have ended, as many as possible in their places."""

    rows: torch.Tensor
    """[L] which row each of them was."""
    moved: torch.Tensor
    """Those that were behind the first L rows, and took the places of some that ended."""

    @staticmethod
    def of(ended: torch.Tensor, left: int) -> Left:
        """From what has ended [R], and how many have not."""
        rows = torch.arange(left, device=ended.device)
        moved = ended[:left].nonzero()[:, 0]
        rows[moved] = left + (~ended[left:]).nonzero()[:, 0]
        return Left(rows=rows, moved=moved)

    def in_place(self, values: torch.Tensor) -> torch.Tensor:
        """Of values [R, ...] those of the rows that are left, in the memory of all."""
        values[self.moved] = values[self.rows[self.moved]]
        return values[: len(self.rows)]


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers has few types here
    """One layer's keys and values [R, H, T, D], at the front of tensors with room for more tokens."""

    _all_keys: torch.Tensor
    _all_values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens; returns those of all tokens."""
        more = key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._hold(key_states, value_states, more)
            return self._show(more)
        start = self.get_seq_length()
        if start + more > self._all_keys.shape[-2]:
            self._hold(*self._show(start), more)
        self._all_keys[:, :, start : start + more] = key_states
        self._all_values[:, :, start : start + more] = value_states
        return self._show(start + more)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Go on with these rows alone, in this order."""
        if self.is_initialized:
            read = self.get_seq_length()
            keys, values = self._show(read)
            self._hold(keys[indices], values[indices], 0)
            self._show(read)

    def leave(self, left: Left) -> None:
        """Go on with the rows that are left."""
        if self.is_initialized:
            read = self.get_seq_length()
            for states in (self._all_keys, self._all_values):
                left.in_place(states[:, :, :read])
            self._all_keys, self._all_values = self._all_keys[: len(left.rows)], self._all_values[: len(left.rows)]
            self._show(read)

    def _hold(self, keys: torch.Tensor, values: torch.Tensor, more: int) -> None:
        self._all_keys, self._all_values = _roomy(keys, more), _roomy(values, more)

    def _show(self, read: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = keys, values = self._all_keys[:, :, :read], self._all_values[:, :, :read]
        return keys, values


def roomy_cache(config: Any) -> Any:
    """An empty cache for a model of this configuration; layers that look back a bounded way keep their own kind."""
    cache = DynamicCache(config=config)
    cache.layers = [_layer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = RoomyLayer
    return cache


def _layer() -> RoomyLayer:
    return RoomyLayer()  # type: ignore[no-untyped-call]


def _roomy(states: torch.Tensor, least: int) -> torch.Tensor:
    """A copy with room behind the tokens."""
    rows, heads, read, size = states.shape
    found = states.new_empty(rows, heads, read + max(least, _ROOM), size)
    found[:, :, :read] = states
    return found
