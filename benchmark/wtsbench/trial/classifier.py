"""A pretrained body and a classification head: how they are read, drawn and kept precise.

Shapes: B items of a batch, T tokens of its longest item, H hidden size, K vectors of an item, C classes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from wtsbench.trial.device import seed_all
from wtsbench.trial.shortcuts import OneToken

_SCALE = 0.02
"""Standard deviation of a head's first weights where the configuration names none, as transformers has it."""


class Classifier(torch.nn.Module):
    """A sequence classifier over right-padded batches.

    Causal models are read at the last real token, found from the attention mask: many have no padding token, or one
    that also occurs in texts, and comparing ids would then read a token too early. Only that token meets the head.

    The head computes in float32 whatever the precision of the forward pass: half precision has too few digits for the
    small differences between logits that probabilities, and thresholds on them, are made of.
    """

    def __init__(self, model: Any, one_token: OneToken | None = None) -> None:
        super().__init__()
        self.model = model
        self._one_token = one_token
        self.causal = isinstance(getattr(model, "score", None), torch.nn.Linear)
        for name in {name.partition(".")[0] for name in head_parameters(model)}:
            _keep_in_float32(getattr(model, name))

    @property
    def width(self) -> int:
        """Hidden size H."""
        return int(self.model.config.get_text_config().hidden_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Float32 logits [B, C] of token ids [B, T] and their mask [B, T], 1 on real tokens, padded on the right."""
        if self.causal:
            return self.head(self.features(input_ids, attention_mask))
        with self._reading(attention_mask):
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        assert isinstance(logits, torch.Tensor)
        return logits.float()

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """What the head reads of the body, [B, K, H].

        Causal models: the last real token's state. Encoders: the first token's, and behind it the pooled one where the
        architecture has a pooler; `head` gives each architecture the one it takes.
        """
        with self._reading(attention_mask):
            output = self.model.base_model(input_ids=input_ids, attention_mask=attention_mask)
        hidden = output[0]  # [B, T, H]
        if self.causal:
            read = [hidden[torch.arange(len(hidden), device=hidden.device), self._read(attention_mask)]]
        else:
            pooled = getattr(output, "pooler_output", None)
            read = [hidden[:, 0]] if pooled is None else [hidden[:, 0], pooled]
        return torch.stack(read, dim=1)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Float32 logits [B, C] of `features` [B, K, H]."""
        if self.causal:
            logits = self.model.score(features[:, 0])
        else:
            name, body = self.model.base_model_prefix, self.model.base_model
            setattr(self.model, name, _Given(features))
            try:
                logits = self.model(input_ids=None, attention_mask=None).logits
            finally:
                setattr(self.model, name, body)
        assert isinstance(logits, torch.Tensor)
        return logits.float()

    def _read(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """[B] the token of each item that the head reads."""
        tokens = attention_mask.sum(dim=1)
        return tokens - 1 if self.causal else torch.zeros_like(tokens)

    def _reading(self, attention_mask: torch.Tensor) -> AbstractContextManager[None]:
        return nullcontext() if self._one_token is None else self._one_token.at(self._read(attention_mask))


class _Given(torch.nn.Module):
    """Stands in for a body whose output is already known."""

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.output = BaseModelOutputWithPooling(last_hidden_state=features[:, :1], pooler_output=features[:, -1])

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPooling:
        """The output, whatever is asked."""
        return self.output


def head_parameters(model: Any) -> list[str]:
    """Names of all parameters outside the pretrained body: what a classification head is made of."""
    prefix = f"{model.base_model_prefix}."
    return [name for name, _ in model.named_parameters() if not name.startswith(prefix)]


def draw_head(model: Any, seed: int, round_: int) -> None:
    """Draw the whole head from the seed and the round, whatever the checkpoint brought of one.

    Matrices are normal with the standard deviation of the model's configuration, gains 1 and biases 0. A pooler that
    belongs to the pretrained body, as BERT's does, is no part of the head.
    """
    seed_all(seed, "head", round_)
    scale = float(getattr(model.config, "initializer_range", None) or _SCALE)
    with torch.no_grad():
        for name in head_parameters(model):
            parameter = model.get_parameter(name)
            drawn = torch.empty(parameter.shape)  # on the CPU: the same numbers whatever the device
            if parameter.dim() > 1:
                drawn.normal_(0.0, scale)
            else:
                drawn.fill_(0.0 if name.endswith("bias") else 1.0)
            parameter.copy_(drawn)


def _keep_in_float32(module: torch.nn.Module) -> None:
    """Take a part of the model out of autocast. Hooks, as they are copied with the module."""
    module.register_forward_pre_hook(_leave_autocast, with_kwargs=True)
    module.register_forward_hook(_back_to_autocast, always_call=True)


def _leave_autocast(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    kind = next(module.parameters()).device.type
    module.autocast_before = (kind, torch.is_autocast_enabled(kind))
    torch.set_autocast_enabled(kind, False)
    return tuple(map(_float, inputs)), {name: _float(value) for name, value in named.items()}


def _back_to_autocast(module: Any, *_: Any) -> None:
    torch.set_autocast_enabled(*module.autocast_before)


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
