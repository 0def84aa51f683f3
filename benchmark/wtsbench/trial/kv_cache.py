"""A cache of keys and values that grows in place: transformers' own copies all of it for every token.

Shapes: R continuations, H heads, T tokens read, D size of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 32
"""Tokens for which room is made at once."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers has few types here
    """One layer's keys and values [R, H, T, D], at the front of tensors with room for more tokens."""

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
    found = states.new_zeros(rows, heads, read + max(least, _ROOM), size)
    found[:, :, :read] = states
    return found
