"""Pretrained weights of any architecture as a classifier with a fresh head, and its tokenizer."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from transformers.utils import logging

from wtsbench.spec.control_tokens import START
from wtsbench.spec.training import Finetune, Training
from wtsbench.trial.adapters import add_adapters
from wtsbench.trial.classifier import Classifier, draw_head
from wtsbench.trial.device import Device, seed_all
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.probe import Probe
from wtsbench.trial.shortcuts import OneToken, use_fast_kernels
from wtsbench.trial.tokenizing import around, plain, read_tokenizer
from wtsbench.visible import first_line

_COMMON = ("gpt2.modeling_gpt2", "llama.modeling_llama", "bert.modeling_bert", "openai.modeling_openai")
UNBOUNDED = 10**6
"""Tokenizers without a limit say a huge number."""


def preload() -> None:
    """Import what loading a model imports lazily, for the families met most often; for a process that will fork."""
    for name in _COMMON:
        importlib.import_module(f"transformers.models.{name}")
    for name in ("tokenization_utils_tokenizers", "modeling_utils", "initialization"):
        importlib.import_module(f"transformers.{name}")
    with contextlib.suppress(
        ImportError, AttributeError
    ):  # a table that the first model loaded would build, if there is one
        importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("gpt2")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A model's own tokenizer, which truncates and never drops, and to which text is text."""

    encode_batch: Any
    max_length: int
    pad_id: int
    filler_id: int
    """Stands for a text that has no token at all."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, between 1 and `max_length` of them."""
        if not texts:
            return []
        rows = self.encode_batch(list(texts), truncation=True, max_length=self.max_length, return_attention_mask=False)
        found = [list(row) or [self.filler_id] for row in rows["input_ids"]]
        worded = [place for place, text in enumerate(texts) if START in text]
        if worded:  # control tokens that a wording names
            front, behind = around(self.encode_batch)
            room = self.max_length - len(front) - len(behind)
            for place, row in zip(worded, plain(self.encode_batch, [texts[place] for place in worded]), strict=True):
                found[place] = [*front, *row[:room], *behind]
        return found


def load_tokenizer(folder: Path, max_length: int) -> Tokenizer:
    """The tokenizer of a model folder, cut to what the model can take in.

    Raises:
        UnusableModelError: the folder has no tokenizer that transformers can read.
    """
    config, tokenizer = _config(folder), read_tokenizer(folder)
    tokenizer.truncation_side = "right"
    limits = [max_length, *(size for size in (tokenizer.model_max_length,) if size < UNBOUNDED), *positions(config)]
    specials = [
        tokenizer.pad_token_id,
        getattr(config, "pad_token_id", None),
        tokenizer.eos_token_id,
        tokenizer.bos_token_id,
        0,
    ]
    size = int(config.get_text_config().vocab_size)
    pad_id = next(
        token for token in specials if isinstance(token, int) and token < size
    )  # some are beyond the embeddings
    filler = next(token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, pad_id) if token is not None)
    return Tokenizer(encode_batch=tokenizer, max_length=min(limits), pad_id=pad_id, filler_id=filler)


def load_classifier(
    folder: Path,
    *,
    classes: int,
    pad_id: int,
    seed: int,
    round_: int,
    device: Device,
    training: Training,
    finetune: Finetune = "full",
) -> Classifier:
    """Pretrained weights with a new head for `classes` classes, drawn from the seed and the round.

    Args:
        folder: the model, in Hugging Face layout.
        classes: number of classes C.
        pad_id: the tokenizer's padding token, where the configuration has none.
        seed: what the head, and adapters, are drawn from, together with the round.
        round_: how often the trial has started from the pretrained weights before.
        device: where the classifier is to be.
        training: settings of checkpointing and adapters.
        finetune: what of the classifier will train.

    Raises:
        UnusableModelError: the architecture has no classifier or does not allow a setting, or the weights are not those
            of the architecture.
    """
    model = _pretrained(folder, classes=classes, pad_id=pad_id, seed=seed, round_=round_)
    use_fast_kernels(model, device)
    draw_head(model, seed, round_)
    if finetune == "linear_probe":
        return Probe(model, pad_id=pad_id, device=device, one_token=OneToken(model)).to(device.torch_device)
    if finetune == "lora":
        add_adapters(model, training, seed, round_, device)
    one_token = OneToken(model)
    if training.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UnusableModelError(
                f"gradient_checkpointing: transformers has none for {model.config.model_type!r} models"
            )
        model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": one_token.contexts})
    return Classifier(model, one_token).to(device.torch_device)


def _pretrained(folder: Path, *, classes: int, pad_id: int, seed: int, round_: int) -> Any:
    config = _config(folder)
    config.num_labels = classes
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = pad_id
    config.use_cache = False
    seed_all(seed, "body", round_)  # some checkpoints lack the pooler
    try:
        with quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UnusableModelError(f"the model's weights cannot be loaded: {first_line(error)}") from error
    absent = _absent_body(model, info)
    if absent:
        raise UnusableModelError(
            f"the weights lack {len(absent)} tensors of a {config.model_type} model, {absent[0]} for one: "
            "are they of another architecture?"
        )
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No report that the head is new, which is what we ask for (other faults are checked), and no progress bar."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        known = _model_type(folder)
        what = f" (model type {known!r})" if known else ""
        raise UnusableModelError(f"the model's config.json cannot be used{what}: {first_line(error)}") from error
    if config.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise UnusableModelError(
            f"transformers {transformers.__version__} has no sequence classifier for {config.model_type!r} models"
        )
    return config


def _model_type(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "config.json").read_text())["model_type"])
    except (OSError, ValueError, KeyError):
        return None


def positions(config: Any) -> list[int]:
    """The longest input the positions allow, where the configuration says so."""
    text = config.get_text_config()
    found = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    limits = [int(size) for size in found if isinstance(size, int) and size > 0]
    if text.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "xlm-roberta-xl",
        "roberta-prelayernorm",
        "longformer",
    ):
        limits = [size - 2 for size in limits]  # these start counting positions behind the padding index
    return limits


def _absent_body(model: Any, info: dict[str, Any]) -> list[str]:
    prefix = f"{model.base_model_prefix}."
    return sorted(key for key in info["missing_keys"] if key.startswith(prefix) and "pooler" not in key)
