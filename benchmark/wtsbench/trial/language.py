"""Pretrained weights as a causal language model: reading texts, and saying how likely a continuation is.

Shapes: B texts of a batch, T tokens of its longest, H hidden size, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wtsbench.spec.training import Training
from wtsbench.trial.batching import Rows, endless_batches, pad
from wtsbench.trial.classifier import Classifier
from wtsbench.trial.device import Device, derive, seed_all
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.language_model import pretrained
from wtsbench.trial.probe import Probe
from wtsbench.trial.train import Batch, Curve, optimise, steps_of

_ROUNDING = 1e-4
"""How far scores may lie apart, absolutely and in parts, that are the same but for rounding."""


def reader_of(folder: Path, classifier: Classifier, device: Device) -> Any:
    """A language model around the very body of a classifier: what trains in one is trained in the other.

    Raises:
        UnusableModelError: the model is no causal language model, does more than its head to its scores, or its body
            does not train.
    """
    reader = pretrained(folder, device)
    require_plain_head(reader)
    body = classifier.model.base_model
    if not classifier.causal or type(reader.base_model) is not type(body):
        raise UnusableModelError("the classifier of this model does not share its body with a language model")
    if isinstance(classifier, Probe):
        raise UnusableModelError("a linear probe's body is frozen: it cannot read texts; take finetune: full or lora")
    setattr(reader, reader.base_model_prefix, body)
    reader.tie_weights()
    return reader


def require_plain_head(model: Any) -> None:
    """Refuse a model whose scores of the next token are more than its head's product with the body's last states.

    Some architectures scale or cap them (Gemma 2, Cohere). `scores_of` and `read_texts` take the product, only where it
    is needed: of such a model they would be those of another one.

    Raises:
        UnusableModelError: the two differ on two tokens.
    """
    ids = torch.zeros(1, 2, dtype=torch.int64)
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        whole = model(**asked).logits
        parts = model.get_output_embeddings()(model.base_model(**asked)[0])
    if not torch.allclose(whole, parts, rtol=_ROUNDING, atol=_ROUNDING):
        raise UnusableModelError(
            f"{model.config.model_type} models scale or cap what their head says of the next token, which is not "
            "supported here"
        )


def scores_of(model: Any, ids: torch.Tensor, mask: torch.Tensor, start: Sequence[int], device: Device) -> torch.Tensor:
    """[B] mean log-probability per token of each row from position `start` on.

    Args:
        model: a causal language model.
        ids: token ids [B, T], padded on the right; in this process's memory, as the mask is.
        mask: [B, T], 1 on real tokens.
        start: where each row's continuation begins, at least 1.
        device: where the model is.
    """
    wanted = (torch.arange(1, ids.shape[1]) >= torch.tensor(start)[:, None]) & mask[:, 1:].bool()  # [B, T - 1]
    # Only where an answer is: all scores of a batch together, [B, T, V], would be most of the memory.
    scores = _scores_behind(model, ids, mask, wanted, device)
    said = scores.log_softmax(dim=-1).gather(1, device.put(ids[:, 1:][wanted][:, None]))[:, 0]
    total = torch.zeros(len(ids), device=said.device).index_add_(0, device.put(wanted.nonzero()[:, 0]), said)
    return total / device.put(wanted.sum(dim=1))


def _scores_behind(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, wanted: torch.Tensor, device: Device
) -> torch.Tensor:
    """Float32 scores [K, V] of the next token at the positions that `wanted` [B, T - 1] names, row by row.

    They are counted here and not on a GPU, which would have to be waited for.
    """
    rows, places = wanted.nonzero(as_tuple=True)
    read = device.put(rows * ids.shape[1] + places)
    with device.autocast():
        hidden = model.base_model(input_ids=device.put(ids), attention_mask=device.put(mask))[0]  # [B, T, H]
        scores: torch.Tensor = model.get_output_embeddings()(hidden.flatten(0, 1)[read])
    return scores.float()


def read_texts(
    model: Any,
    encoded: Sequence[Sequence[int]],
    *,
    training: Training,
    epochs: float,
    pad_id: int,
    seed: int,
    device: Device,
    advance: Callable[[int], None],
) -> None:
    """Train a causal language model in place on token rows, to predict each next token.

    Optimiser, schedule and batch size are those of any fit. Rows of one token teach nothing and are left out.

    Raises:
        DivergedError: the loss becomes NaN or infinite.
    """
    rows = [row for row in encoded if len(row) > 1]
    if not rows:
        return
    settings = training.model_copy(update={"epochs": epochs})
    seed_all(seed, "language", "dropout")

    def batch_of(chosen: Rows, _: float) -> Batch:
        ids, mask = pad([rows[i] for i in chosen.tolist()], pad_id)
        real = mask[:, 1:].bool()
        return Batch(
            pieces=[lambda: _scores_behind(model, ids, mask, real, device)],
            loss_of=lambda scores: torch.nn.functional.cross_entropy(scores, device.put(ids[:, 1:][real])),
            tokens=int(mask.sum()),
            padded=mask.numel(),
            cost=len(chosen),
        )

    optimise(
        model,
        batch_of,
        endless_batches([len(row) for row in rows], settings.batch_size, _order(seed)),
        steps_of(len(rows), settings),
        training=settings,
        device=device,
        curve=Curve(),
        advance=advance,
    )


def _order(seed: int) -> np.random.Generator:
    return np.random.default_rng(derive(seed, "language", "order"))
