"""Pretrained weights of any causal architecture as a language model: next-token scores, and what a text costs.

Shapes: B sequences of a batch, T tokens of its longest, V tokens of the vocabulary, L continuation tokens of the
longest continuation, N places that are scored, H size of the states.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from wtsbench.trial.batching import pad, prediction_batches
from wtsbench.trial.device import Device
from wtsbench.trial.faults import DivergedError, UnusableModelError
from wtsbench.trial.kv_cache import roomy_cache
from wtsbench.trial.models import quiet
from wtsbench.trial.shortcuts import use_fast_kernels
from wtsbench.trial.text_tokens import Encoded
from wtsbench.visible import first_line

LOGITS_AT_ONCE = 1 << 26
"""Next-token scores of one forward pass at most (256 MiB of float32)."""


class LanguageModel(torch.nn.Module):
    """A causal language model, called alike whatever its architecture takes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        takes = inspect.signature(model.forward).parameters
        self.caches = "past_key_values" in takes
        """Whether it can keep what it has read: GPT-1 cannot."""
        self._positions = "position_ids" in takes
        self._scored: tuple[torch.Tensor, torch.Tensor] | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._cut)

    @property
    def width(self) -> int:
        """Size H of the states."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def vocabulary(self) -> int:
        """Number of tokens V."""
        return int(self.model.config.get_text_config().vocab_size)

    def cache_size(self, tokens: int) -> int:
        """Numbers that one sequence of so many tokens takes in the cache."""
        config = self.model.config.get_text_config()
        heads = int(getattr(config, "num_attention_heads", 1))
        size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        groups = int(getattr(config, "num_key_value_heads", None) or heads)
        return int(config.num_hidden_layers) * 2 * groups * size * tokens

    def new_cache(self) -> Any:
        """An empty cache of keys and values; None where the architecture has none."""
        return roomy_cache(self.model.config) if self.caches else None

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        at: tuple[torch.Tensor, torch.Tensor],
        cache: Any = None,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores [N, V] of the token that comes next at N places, in the precision of the forward pass.

        The head is computed for these places alone: with a large vocabulary it costs as much as several layers, and
        its scores are most of the memory that training takes.

        Args:
            input_ids: [B, T] tokens not in the cache yet.
            attention_mask: [B, cached + T], 1 on real tokens.
            at: rows [N] and columns [N] of `input_ids`.
            cache: what was read before; it grows by these tokens.
            position_ids: [B, T], where padding is on the left; else the tokens are counted from 0.
        """
        more: dict[str, Any] = {}
        if self._positions and position_ids is not None:
            more["position_ids"] = position_ids
        if self.caches:
            more.update(past_key_values=cache, use_cache=cache is not None)
        self._scored = at
        try:
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).logits[0]
        finally:
            self._scored = None
        assert isinstance(logits, torch.Tensor)
        return logits

    def _cut(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """States [B, T, H] to those that are scored [1, N, H]."""
        if self._scored is None:
            return None
        if inputs[0].dim() != 3:  # ProphetNet predicts several tokens at once
            raise UnusableModelError(f"a {self.model.config.model_type!r} model has a head of another form")
        return (inputs[0][self._scored][None],)


def load_language_model(folder: Path, device: Device) -> LanguageModel:
    """Pretrained weights, the head that writes tokens included, in float32.

    Raises:
        UnusableModelError: the architecture cannot write, or the weights are not those of the architecture.
    """
    return LanguageModel(pretrained(folder, device)).to(device.torch_device)


def pretrained(folder: Path, device: Device) -> Any:
    """The same as transformers has it, on the CPU still, for a device.

    Raises:
        UnusableModelError: as for `load_language_model`.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UnusableModelError(f"the model's config.json cannot be used: {first_line(error)}") from error
    kind = config.model_type
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UnusableModelError(
            f"a {kind!r} model is no causal language model, it continues no text "
            f"(transformers {transformers.__version__} has none of this type)"
        )
    # Encoders are among them as well, for those who make decoders of them.
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise UnusableModelError(
            f"a {kind!r} model is no causal language model but an encoder, and cannot write; take one that continues "
            "texts, such as those of the GPT-2 family"
        )
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, config=config, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise UnusableModelError(f"the model's weights cannot be loaded: {first_line(error)}") from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise UnusableModelError(
            f"the weights lack {len(missing)} tensors of a {kind} language model, {missing[0]} for one: were they "
            "saved without the head that writes, or are they of another architecture?"
        )
    use_fast_kernels(model, device)
    return model.eval()


def continuation_logprobs(
    model: LanguageModel, rows: Sequence[Encoded], *, pad_id: int, device: Device
) -> torch.Tensor:
    """Float32 log-probability [B, L] of each continuation token, the end token included, given all before it.

    It is 0 on padding.
    """
    b, t = continuation_places(rows)
    starts = torch.tensor([row.start for row in rows])
    row, column, place = (device.put(values) for values in (b, starts[b] + t, t))
    ids, mask = (device.put(table) for table in pad([row.ids for row in rows], pad_id))
    with device.autocast():
        scores = model(ids, mask, at=(row, column - 1))  # the state of a token scores the one behind it
    logprobs = logprobs_of(scores, ids[row, column])
    wide = max(len(line.ids) - line.start for line in rows)
    return logprobs.new_zeros(len(rows), wide).index_put((row, place), logprobs)


def continuation_places(rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all N continuation tokens of some rows: which row each is in [N], and where in its continuation [N]."""
    sizes = torch.tensor([len(row.ids) - row.start for row in rows])
    at = torch.arange(len(rows)).repeat_interleave(sizes)
    return at, torch.arange(len(at)) - (sizes.cumsum(0) - sizes)[at]


def logprobs_of(scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Float32 log-probabilities [N] of tokens [N] from scores [N, V]."""
    return -torch.nn.functional.cross_entropy(scores.float(), tokens, reduction="none")


def score(
    model: LanguageModel,
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    batch_size: int,
    device: Device,
    advance: Callable[[int], None],
) -> list[NDArray[np.float64]]:
    """For each sequence the log-probabilities of its continuation tokens, the end token included; maybe none.

    Sequences are taken in batches of similar length, whose size changes no result but the last bits.

    Raises:
        DivergedError: a log-probability is NaN.
    """
    model.eval()
    lengths = [len(row.ids) for row in rows]
    longest = max(lengths, default=1)
    size = max(1, min(batch_size, LOGITS_AT_ONCE // (longest * model.vocabulary)))
    tables: list[tuple[list[int], torch.Tensor]] = []
    most = device.tokens_at_once(model.width)
    with device.reading():
        for batch in prediction_batches(lengths, size, most):
            chosen = [rows[i] for i in batch.tolist()]
            if any(len(row.ids) > row.start for row in chosen):
                tables.append((batch.tolist(), continuation_logprobs(model, chosen, pad_id=pad_id, device=device)))
            advance(sum(len(row.ids) for row in chosen))
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(rows)
    for places, values in tables:
        table = values.double().cpu().numpy()
        if not np.isfinite(table).all():
            raise DivergedError("the model gives a text a probability that is no number")
        for i, line in zip(places, table, strict=True):
            found[i] = line[: len(rows[i].ids) - rows[i].start]
    return found
