"""Tiny models of several architectures with random weights, and a word tokenizer, as whole model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

WORDS = ["alpha", "beta", "gamma", "delta", "stone", "river", "cloud", "bomb", "cake"]
SPECIALS = ["<unk>", "<s>", "</s>", "<pad>"]

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 48,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48},
    "bert": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 48,
    },
    "roberta": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 50,
    },
}


def write_tiny_model(folder: Path, model_type: str = "llama", *, pad_token: str | None = None, **shape: Any) -> Path:
    """A model folder of this architecture; without `pad_token` its tokenizer has none, like that of GPT-2.

    `shape` overrides sizes of `SHAPES`.
    """
    vocabulary = [*SPECIALS, *WORDS, *map(str, range(300))]
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers has no types here
        tokenizer_object=tokens, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token=pad_token
    )
    tokenizer.save_pretrained(folder)
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(
        model_type, vocab_size=len(vocabulary), initializer_range=0.1, **ends, **{**SHAPES[model_type], **shape}
    )
    torch.manual_seed(7)
    kind = AutoModelForCausalLM if model_type in ("llama", "gpt2", "openai-gpt") else AutoModel
    kind.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]  # nor here
    return folder
