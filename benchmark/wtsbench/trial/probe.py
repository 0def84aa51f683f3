"""The linear probe: a head trained on the activations of a frozen body, which are computed once for each text.

Source: linear probing as in Burns et al. 2023 (arXiv 2312.09390), appendix D.

Shapes: B items of a batch, T tokens of its longest item, U texts known, K vectors of an item, H hidden size, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from wtsbench.trial.batching import pad, prediction_batches
from wtsbench.trial.classifier import Classifier, head_parameters
from wtsbench.trial.device import Device
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.shortcuts import OneToken, hold_frozen

_TOLERANCE = 1e-3
"""How far logits may lie apart that are computed whole and from cached activations; rounding alone is far below."""


class Probe(Classifier):
    """A classifier whose body is frozen, in evaluation mode, and asked once for each text."""

    def __init__(self, model: Any, *, pad_id: int, device: Device, one_token: OneToken | None = None) -> None:
        super().__init__(model, one_token=one_token)
        head = set(head_parameters(model))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in head)
        hold_frozen(model.base_model, device)
        self._pad_id = pad_id
        self._device = device
        self._rows: dict[tuple[int, ...], int] = {}
        self._known = torch.empty(0, device=device.torch_device)  # [U, K, H], plain: no part of the model's state

    def train(self, mode: bool = True) -> Probe:
        """The head trains; the body never does, so that it is without dropout."""
        super().train(mode)
        self.model.base_model.eval()
        return self

    def remember(self, encoded: Sequence[Sequence[int]], batch_size: int, advance: Callable[[int], None]) -> None:
        """Compute the activations of these token rows, where they are not known yet.

        Raises:
            UnusableModelError: the architecture's head reads more of the body than the first or the last token.
        """
        new = [row for row in dict.fromkeys(map(tuple, encoded)) if row not in self._rows]
        if not new:
            return
        found: list[torch.Tensor] = []
        order: list[int] = []
        with self._device.reading():
            most = self._device.tokens_at_once(self.width)
            for rows in prediction_batches([len(row) for row in new], batch_size, most):
                ids, mask = map(self._device.put, pad([new[i] for i in rows], self._pad_id))
                features = self.features(ids, mask).float()
                if not self._rows and not found:
                    self._check(ids[:2], mask[:2])
                found.append(features)
                order += rows.tolist()
                advance(len(rows))
        start = len(self._rows)
        self._rows.update({new[i]: start + at for at, i in enumerate(order)})
        self._known = torch.cat([self._known, *found]) if start else torch.cat(found)

    def new_of(self, encoded: Sequence[Sequence[int]]) -> int:
        """How many of these token rows are not known yet."""
        return len({row for row in map(tuple, encoded) if row not in self._rows})

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Float32 logits [B, C] of token rows, given as ids [B, T] and mask [B, T]; best remembered before, in bulk."""
        lengths = attention_mask.sum(dim=1).tolist()
        encoded = [tuple(row[:length]) for row, length in zip(input_ids.tolist(), lengths, strict=True)]
        if any(row not in self._rows for row in encoded):
            self.remember(encoded, len(encoded), lambda _: None)
        return self.head(self._known[torch.tensor([self._rows[row] for row in encoded], device=self._known.device)])

    def _check(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Hold the head on cached activations against the whole model, once."""
        if self.causal:
            return
        training = self.training
        self.eval()
        apart = float((super().forward(ids, mask) - self.head(self.features(ids, mask).float())).abs().max())
        self.train(training)
        if not apart <= _TOLERANCE:
            raise UnusableModelError(
                f"linear_probe: the head of {self.model.config.model_type} models reads more than one token's state"
            )
