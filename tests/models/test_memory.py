"""Estimates of memory, held against what autograd keeps; the ladders' sizes, against what transformers counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from wtsbench.models.memory import GIB, Shape, estimate, shape_of, warnings
from wtsbench.models.resolve import resolve
from wtsbench.spec import manifests
from wtsbench.spec.grid import Resources
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Training
from wtsbench.spec.trial import Role, TrialSpec

SHAPE = Shape(parameters=10**9, layers=20, width=2000)


def neox(heads: int, vocabulary: int = 50304) -> tuple[str, dict[str, Any]]:
    """Pythia."""
    return "gpt_neox", {"num_attention_heads": heads, "vocab_size": vocabulary, "tie_word_embeddings": False}


def opt(heads: int, **more: Any) -> tuple[str, dict[str, Any]]:
    """OPT."""
    return "opt", {"num_attention_heads": heads, "vocab_size": 50272, "max_position_embeddings": 2048, **more}


def grouped(kind: str, heads: int, keys: int, hidden: int, vocabulary: int, *, tied: bool = True) -> Any:
    """Qwen and the Llamas: gated layers, grouped keys."""
    sizes = {"num_attention_heads": heads, "num_key_value_heads": keys, "intermediate_size": hidden}
    return kind, {**sizes, "vocab_size": vocabulary, "tie_word_embeddings": tied}


LADDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "pythia-70m": neox(8),
    "pythia-160m": neox(12),
    "pythia-410m": neox(16),
    "pythia-1b": neox(8),
    "pythia-1.4b": neox(16),
    "pythia-2.8b": neox(32),
    "pythia-6.9b": neox(32, 50432),
    "pythia-12b": neox(40, 50688),
    "opt-125m": opt(12),
    "opt-350m": opt(16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "opt-1.3b": opt(32),
    "opt-2.7b": opt(32),
    "opt-6.7b": opt(32),
    "opt-13b": opt(40),
    "qwen2.5-0.5b": grouped("qwen2", 14, 2, 4864, 151936),
    "qwen2.5-1.5b": grouped("qwen2", 12, 2, 8960, 151936),
    "qwen2.5-3b": grouped("qwen2", 16, 2, 11008, 151936),
    "qwen2.5-7b": grouped("qwen2", 28, 4, 18944, 152064, tied=False),
    "qwen2.5-14b": grouped("qwen2", 40, 8, 13824, 152064, tied=False),
    "smollm2-135m": grouped("llama", 9, 3, 1536, 49152),
    "smollm2-360m": grouped("llama", 15, 5, 2560, 49152),
    "smollm2-1.7b": grouped("llama", 32, 32, 8192, 49152),
    "llama-3.2-1b": grouped("llama", 32, 8, 8192, 128256),
    "llama-3.2-3b": grouped("llama", 24, 8, 8192, 128256),
    "llama-3.1-8b": grouped("llama", 32, 8, 14336, 128256, tied=False),
}
"""Architecture and what decides the number of weights, besides the layers and the width that the manifest has."""


@pytest.mark.parametrize("name", LADDERS)
def test_a_ladders_sizes(name: str) -> None:
    """A manifest's weights, layers and width belong together, as transformers builds the architecture."""
    manifest, _ = manifests.load_model(name)
    kind, more = LADDERS[name]
    assert manifest.width is not None
    hidden = {"ffn_dim": 4 * manifest.width} if kind == "opt" else {}
    if kind == "opt":
        hidden["word_embed_proj_dim"] = more.get("word_embed_proj_dim", manifest.width)
    if kind == "gpt_neox":
        hidden["intermediate_size"] = 4 * manifest.width
    sizes = {"num_hidden_layers": manifest.layers, "hidden_size": manifest.width, **hidden, **more}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))  # type: ignore[no-untyped-call]
    assert sum(parameter.numel() for parameter in model.parameters()) == manifest.parameters


def test_every_model_of_a_family_has_a_shape() -> None:
    """Ladders are ordered, and their memory is estimated."""
    for name in manifests.names("models"):
        manifest, _ = manifests.load_model(name)
        if manifest.family not in (None, "nano"):
            assert (manifest.parameters is None, manifest.layers is None, manifest.width is None) == (False,) * 3, name


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "opt", "bert"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_of_that_size(kind: str, checkpointing: bool) -> None:
    """What autograd keeps of a float32 forward pass is within a factor of 2 of the formula, GPT-2's of 2.5."""
    layers, width, items, tokens = 6, 64, 4, 48
    sizes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_layer": layers, "n_embd": width, "n_head": 4},
        "opt": {"ffn_dim": 4 * width, "word_embed_proj_dim": width},
        "llama": {"intermediate_size": 176, "num_key_value_heads": 4},
    }
    common = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": 4}
    if kind != "gpt2":
        sizes[kind] = {**common, "intermediate_size": 4 * width, **sizes.get(kind, {})}
    config = AutoConfig.for_model(kind, vocab_size=50, **sizes[kind])
    config.use_cache = False
    model = AutoModel.from_config(config).train()  # type: ignore[no-untyped-call]
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(0, 50, (items, tokens))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].sum()
    found = sum(size for size, _ in kept.values())
    training = Training(batch_size=items, max_length=tokens, gradient_checkpointing=checkpointing)
    shape = Shape(parameters=0, layers=layers, width=width)
    expected = estimate(shape, training, "full", half=False)
    if checkpointing:  # the layer that is computed again comes on top, in the backward pass
        expected -= items * 17 * 4 * tokens * width
        assert found < 3 * expected
    else:
        assert expected / 2 < found < expected * (2.5 if kind == "gpt2" else 2)


def test_what_saves_memory_does() -> None:
    """Adapters take less than all weights, a probe less than adapters; pieces, checkpointing and halves help."""
    plain = Training()
    sizes = [estimate(SHAPE, plain, finetune, half=True) for finetune in ("full", "lora", "linear_probe")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 18 * 10**9 + 16 * 34 * 256 * 2000 * 20
    assert estimate(SHAPE, Training(micro_batch_size=4), "full", half=True) < sizes[0]
    assert estimate(SHAPE, Training(gradient_checkpointing=True), "full", half=True) < sizes[0]
    assert estimate(SHAPE, Training(micro_batch_size=64), "full", half=True) == sizes[0]
    assert sizes[0] < estimate(SHAPE, plain, "full", half=False)


def test_where_shapes_are_known_from(tmp_path: Path) -> None:
    """Embedded models have recipes, named ones manifests, folders a configuration and files; others are not guessed."""
    known = shape_of(resolve("nano-2", base=tmp_path)[0])
    assert known == Shape(parameters=95472, layers=2, width=48)
    by_name = resolve("hub:owner/model@" + "a" * 40, base=tmp_path)[0]
    assert shape_of(by_name) is None
    assert shape_of(by_name.model_copy(update={"name": "gpt2"})) == Shape(parameters=124439808, layers=12, width=768)
    folder = tmp_path / "mine"
    config = AutoConfig.for_model("gpt2", n_layer=2, n_embd=32, n_head=2, vocab_size=50)
    model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    found = shape_of(resolve("./mine", base=tmp_path)[0])
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert found is not None
    assert (found.layers, found.width) == (2, 32)
    assert found.parameters == pytest.approx(weights, rel=0.05)
    (folder / "config.json").write_text("[]")
    assert shape_of(resolve("./mine", base=tmp_path)[0]) is None


def test_a_grid_that_gives_too_little(tmp_path: Path) -> None:
    """A limit far below the estimate is told once a model, with the estimate; enough, or nothing known, is silent."""
    large = resolve("hub:owner/model@" + "a" * 40, base=tmp_path)[0].model_copy(update={"name": "pythia-6.9b"})
    spec = TrialSpec(
        role=Role.CEILING,
        task="t",
        data_digest="d",
        data_seed=0,
        model=large,
        training=Training(),
        seed=0,
        environment="e",
    )
    specs = [spec, spec.model_copy(update={"seed": 1})]
    (line,) = warnings(specs, Resources(memory=16 * GIB))
    assert line.startswith("pythia-6.9b (full) needs about 1")
    assert "by estimate, resources.memory gives 16 GiB" in line
    assert warnings(specs, Resources()) == []
    assert warnings(specs, Resources(memory=400 * GIB)) == []
    assert warnings(specs, Resources(gpus=1)) == []
    (line,) = warnings(specs, Resources(gpus=1, memory=64 * GIB), gpu_bytes=80 * GIB)
    assert "its share of the GPU is 80 GiB" in line
    (line,) = warnings(specs, Resources(gpus=0.5), gpu_bytes=80 * GIB)
    assert "40 GiB" in line
    probe = spec.model_copy(update={"strategy": StrategyCall(name="naive", parameters={"finetune": "linear_probe"})})
    assert warnings([probe], Resources(gpus=1, memory=64 * GIB), gpu_bytes=80 * GIB) == []
