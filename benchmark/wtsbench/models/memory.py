"""Estimates the memory that a trial needs, from the size of its model and the training settings.

Bytes, with P weights, L layers of width H, batches of B items (micro-batches where asked for) of T tokens, and v bytes
for an activation (2 in mixed precision, else 4):

    weights       4 P, in float32, and 2 P where a graph keeps half-precision copies; v P where they do not train
    training      12 more for each trained weight: its gradient and the two moments of AdamW
    activations   17 v B T H L, which a graph keeps for the backward pass: 34 bytes a token, layer and unit of width at
                  v = 2 (Korthikanti et al. 2022, arXiv 2205.05198, without the scores of attention, which fused kernels
                  do not keep); with checkpointing one layer of that, and 4 B T H L for the layers' inputs
    adapters      LoRA of rank r on every linear layer has about 2 r P / H weights
    probe         no graph: the activations of one layer on `eval_batch_size` items

Logits over a vocabulary, fragmentation and what libraries keep are not in it, so it is rather a lower bound.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from wtsbench.models import embedded
from wtsbench.models.architecture import configuration
from wtsbench.settings import user_manifests
from wtsbench.spec import manifests
from wtsbench.spec.grid import Resources
from wtsbench.spec.training import Finetune, Training
from wtsbench.spec.trial import ModelRef, TrialSpec

GIB = 2**30
_PROCESS = GIB // 2
"""What a trial's process takes before it loads a model: Python and its libraries."""
CLEARLY = 0.75
"""A limit below this share of the estimate is clearly too small."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a model that decide its memory."""

    parameters: int
    """Number of weights P."""
    layers: int
    width: int
    """Hidden size H."""


def estimate(shape: Shape, training: Training, finetune: Finetune, *, half: bool) -> int:
    """Bytes that training takes on the device it runs on.

    Args:
        shape: the model's.
        training: batch, length, checkpointing and adapters count.
        finetune: what of the model is trained.
        half: whether the forward pass is in half precision, as on GPUs.
    """
    value = 2 if half else 4
    one_layer = 17 * value * training.max_length * shape.width  # for one item
    if finetune == "linear_probe":
        return value * shape.parameters + one_layer * training.eval_batch_size
    if finetune == "lora":
        trained = 2 * training.lora_rank * shape.parameters // shape.width
        weights = value * shape.parameters + 4 * trained
    else:
        trained = shape.parameters
        weights = (6 if half else 4) * shape.parameters
    items = min(training.micro_batch_size or training.batch_size, training.batch_size)
    if training.gradient_checkpointing:
        inputs = 4 * training.max_length * shape.width * shape.layers
        activations = items * (inputs + one_layer)
    else:
        activations = items * one_layer * shape.layers
    return weights + 12 * trained + activations


def shape_of(model: ModelRef) -> Shape | None:
    """The model's shape, from its recipe, its manifest or its folder; None if it is unknown."""
    if model.kind == "embedded":
        recipe = embedded.recipe(model.id)
        return Shape(parameters=recipe.parameters, layers=recipe.layers, width=recipe.width)
    known = _shape_in_manifest(model.name, user_manifests())
    if known is not None:
        return known
    return None if model.kind != "folder" or model.path is None else _shape_of_folder(Path(model.path))


@lru_cache
def _shape_in_manifest(name: str, _folder: Path) -> Shape | None:
    """Read once for all trials of a plan; `_folder` is where the user's manifests are."""
    if name not in manifests.names("models"):
        return None
    manifest, _ = manifests.load_model(name)
    if manifest.parameters is None or manifest.layers is None or manifest.width is None:
        return None
    return Shape(parameters=manifest.parameters, layers=manifest.layers, width=manifest.width)


def needed_by(spec: TrialSpec, *, on_gpu: bool) -> int | None:
    """Bytes that training takes on the trial's device; None if the model is not trained, or its size is unknown."""
    shape = shape_of(spec.model) if spec.model.trained else None
    if shape is None:
        return None
    return estimate(shape, spec.training, spec.finetune, half=_half(spec.training, on_gpu=on_gpu))


def warnings(trials: Iterable[TrialSpec], resources: Resources, *, gpu_bytes: int | None = None) -> list[str]:
    """A line for every model whose trials clearly do not fit into what a grid gives each of them.

    Args:
        trials: of a plan.
        resources: the grid's; `memory` bounds the memory of the machine, not that of its GPU.
        gpu_bytes: memory of the GPU that trials will run on; None if unknown.
    """
    lines: dict[str, None] = {}
    for spec in trials:
        on_gpu = resources.gpus > 0
        shape, needed = shape_of(spec.model), needed_by(spec, on_gpu=on_gpu)
        if shape is None or needed is None:
            continue
        on_host = _PROCESS + (4 * shape.parameters if on_gpu else needed)
        what = f"{spec.model.name} ({spec.finetune})"
        if resources.memory is not None and resources.memory < CLEARLY * on_host:
            lines[_line(what, on_host, "resources.memory gives", resources.memory)] = None
        share = None if gpu_bytes is None else int(gpu_bytes * min(1.0, resources.gpus))
        if on_gpu and share is not None and share < CLEARLY * needed:
            lines[_line(what, needed, "its share of the GPU is", share)] = None
    return list(lines)


def in_words(size: int) -> str:
    """Bytes as text, in MiB or GiB."""
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / 2**20:.3g} MiB"


def _line(what: str, needed: int, limit_is: str, limit: int) -> str:
    return (
        f"{what} needs about {in_words(needed)} by estimate, {limit_is} {in_words(limit)}; "
        "these need less: finetune: lora, micro_batch_size, gradient_checkpointing"
    )


def _half(training: Training, *, on_gpu: bool) -> bool:
    return on_gpu if training.precision == "auto" else training.precision != "float32"


def _shape_of_folder(folder: Path) -> Shape | None:
    config = configuration(folder)
    try:
        weights = sum(
            entry.stat().st_size
            for entry in os.scandir(folder)
            if entry.name.endswith(".safetensors") or entry.name.startswith("pytorch_model")
        )
        layers = next(config[name] for name in ("num_hidden_layers", "n_layer", "num_layers") if name in config)
        width = next(config[name] for name in ("hidden_size", "n_embd", "d_model") if name in config)
        bytes_each = 2 if config.get("dtype", config.get("torch_dtype")) in ("bfloat16", "float16") else 4
        return Shape(parameters=max(1, weights // bytes_each), layers=int(layers), width=int(width))
    except (OSError, ValueError, TypeError, OverflowError, StopIteration):
        return None
