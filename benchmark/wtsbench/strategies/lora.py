"""`lora`: `naive` with adapters of low rank in place of all weights.

    W x + (alpha / r) B A x, of which only A, B and the head train          loss = CE(f, w)

A short name for `naive` with `finetune: lora`, which every strategy accepts; rank, scale, dropout and layers are the
training settings `lora_rank`, `lora_alpha`, `lora_dropout` and `lora_targets`. Source: Hu et al. 2021 (arXiv
2106.09685).
"""

from __future__ import annotations

from typing import Literal

from wtsbench.strategies import base


class LoraParameters(base.Parameters):
    """Parameters of `lora`."""

    finetune: Literal["lora"] = "lora"
    """What the name says."""


class Lora(base.Strategy):
    """Naive finetuning of low-rank adapters."""

    name = "lora"
    summary = "adapters of low rank in place of all weights, on the weak labels"
    source = "Hu et al. 2021, arXiv 2106.09685"
    Parameters = LoraParameters
