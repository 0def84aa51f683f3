"""`linear_probe`: `naive` that trains the head only, on the strong model's frozen activations.

    f(x) = softmax(V a(x) + b), of which only V and b train          loss = CE(f, w)

A short name for `naive` with `finetune: linear_probe`, which every strategy accepts. A student with a frozen body can
imitate less of the weak model's errors. Source: linear probing in Burns et al. 2023 (arXiv 2312.09390), appendix D.
"""

from __future__ import annotations

from typing import Literal

from wtsbench.strategies import base


class LinearProbeParameters(base.Parameters):
    """Parameters of `linear_probe`."""

    finetune: Literal["linear_probe"] = "linear_probe"
    """What the name says."""


class LinearProbe(base.Strategy):
    """Naive finetuning of the head."""

    name = "linear_probe"
    summary = "only a new head on the strong model's frozen activations, on the weak labels"
    source = "Burns et al. 2023, arXiv 2312.09390, appendix D"
    Parameters = LinearProbeParameters
