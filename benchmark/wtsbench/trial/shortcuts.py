"""The same formulas with less work: what of a model need not be computed, and cheaper kernels for the rest.

What a model says changes in the last bits, by rounding alone; in training other dropout masks are drawn.

Shapes: B items of a batch, T tokens of its longest item, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.pytorch_utils import Conv1D

from wtsbench.trial.device import Device

_IN_PIECES = (NewGELUActivation, FastGELUActivation)
"""GELU's tanh form, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), a kernel for every operation."""
_LLAMA = ("layers", ("self_attn.o_proj", "mlp"))
_GPT = ("h", ("attn.c_proj", "mlp"))
_BERT = ("encoder.layer", ("attention.output",))
_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gpt2": _GPT,
    "openai-gpt": _GPT,
    "gpt_neox": ("layers", ("attention.dense", "mlp")),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}
"""By model type, where the body has its layers, and the parts of a layer behind which no token meets another one."""
_MASKED = "sdpa_masked"


def _mask(**known: Any) -> torch.Tensor | None:
    """A mask for attention of whatever the padding mask holds: transformers look whether they can do without one."""
    return sdpa_mask(**{**known, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})


AttentionInterface.register(_MASKED, sdpa_attention_forward)
AttentionMaskInterface.register(_MASKED, _mask)


def use_fast_kernels(model: Any, device: Device) -> None:
    """Compute GELU's tanh form, as GPT-2 has it, in one kernel, and draw dropout masks from fewer random numbers.

    Anywhere but on CPUs, make masks for attention without a look at the numbers of the padding mask: each forward pass
    would wait until the device has done all before. Where it saw no padding, other kernels compute attention then.
    """
    if device.torch_device.type != "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(_MASKED)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _IN_PIECES):
                setattr(module, name, GELUTanh())
            elif type(child) is torch.nn.Dropout:
                setattr(module, name, ShortDropout(child.p).train(child.training))


def hold_frozen(body: torch.nn.Module, device: Device) -> None:
    """Hold the matrices that do not train in the precision to which every forward pass would cast them."""
    for module in body.modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and not module.weight.requires_grad:
            module.weight.data = module.weight.data.to(device.dtype)


class ShortDropout(torch.nn.Dropout):
    """Dropout whose masks take 16 random bits a number on CPUs, where drawing costs more than all else of it.

    `p` is rounded to a multiple of 2^-16, and kept numbers are scaled by the exact share of those that are kept.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values, some of them 0."""
        dropped = round(self.p * 2**16)
        if not self.training or not 0 < dropped < 2**16 or values.device.type != "cpu":
            return super().forward(values)
        words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.int16)[: values.numel()].view(values.shape) >= dropped - 2**15
        return values * keep.to(values.dtype).mul_(2**16 / (2**16 - dropped))


class OneToken:
    """Lets a body compute its last layer for one token of each item only: the one that a head reads.

    That layer's keys and values are needed of all tokens. What follows its attention (about two thirds of its
    arithmetic or more) concerns each token alone, so its input is cut to [B, 1, H]. Where the layer adds the uncut
    input [B, T, H] to that, every token gets the sum that belongs to the one that is read, and only there is it right.

    Outside of `at` nothing is cut. Bodies of other architectures are computed whole.
    """

    def __init__(self, model: Any) -> None:
        self._rows: torch.Tensor | None = None
        """[B] the token of each item."""
        where, parts = _LAYERS.get(model.config.model_type, ("", ()))
        for part in parts:
            last = model.base_model.get_submodule(where)[-1]
            last.get_submodule(part).register_forward_pre_hook(self._cut)

    @contextmanager
    def at(self, rows: torch.Tensor) -> Iterator[None]:
        """Compute the last layer at these tokens [B] alone."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For checkpointed layers (`context_fn` of torch's `checkpoint`): around the first time and the second.

        The second time is in the backward pass, outside of `at`: it is for the tokens of the first.
        """
        return nullcontext(), nullcontext() if self._rows is None else self.at(self._rows)

    def _cut(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """[B, T, H] each to [B, 1, H]."""
        if self._rows is None:
            return None
        items = torch.arange(len(self._rows), device=self._rows.device)
        return tuple(value[items, self._rows][:, None] if value.shape[1] > 1 else value for value in inputs)
