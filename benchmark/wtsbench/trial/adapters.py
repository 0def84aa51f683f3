"""LoRA: low-rank adapters on a frozen body, trained together with the head.

    y = W x + (alpha / r) B A x          A [r, in] drawn from the seed, B [out, r] zero at the start

Source: Hu et al. 2021 (arXiv 2106.09685), as `peft` implements it.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from wtsbench.spec.training import Training
from wtsbench.trial.classifier import head_parameters
from wtsbench.trial.device import Device, seed_all
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.shortcuts import hold_frozen


def add_adapters(model: Any, training: Training, seed: int, round_: int, device: Device) -> None:
    """Freeze the body in place, give its linear layers adapters, and leave only those and the head to train.

    In half precision on `device` the body's matrices are held in it.

    Raises:
        UnusableModelError: none of the layers asked for is a linear layer of the body.
    """
    from peft import LoraConfig, LoraModel

    head = head_parameters(model)
    targets = _targets(model, training.lora_targets)
    seed_all(seed, "adapters", round_)
    config = LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,  # type: ignore[arg-type]  # a float serves: it is only divided
        lora_dropout=training.lora_dropout,
        target_modules=targets,
        fan_in_fan_out=isinstance(model.get_submodule(targets[0]), Conv1D),
        bias="none",
    )
    LoraModel(model, {"default": config}, "default")
    for name in head:
        model.get_parameter(name).requires_grad_(True)
    hold_frozen(model.base_model, device)


def _targets(model: Any, asked: tuple[str, ...] | None) -> list[str]:
    """Full names of the body's linear layers, or of those among them that are asked for by the end of their names."""
    prefix = f"{model.base_model_prefix}."
    known = [
        name
        for name, module in model.named_modules()
        if name.startswith(prefix) and isinstance(module, torch.nn.Linear | Conv1D)
    ]
    if asked is None:
        return known
    missing = [end for end in asked if not any(_ends(name, end) for name in known)]
    if missing or not known:
        parts = sorted({name.rpartition(".")[2] for name in known})
        raise UnusableModelError(
            f"lora_targets: the {model.config.model_type} model has no linear layer {', '.join(missing)}; "
            f"there are {', '.join(parts)}"
        )
    return [name for name in known if any(_ends(name, end) for end in asked)]


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")
