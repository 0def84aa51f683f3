"""The strong model as it is: a language model is asked, and the answer it finds likeliest counts.

    s_c(x) = (1 / |answer_c|) sum over its tokens t of log p(t | prompt(x), the answer's tokens before t)
    probabilities = softmax_c s_c(x)

Length is normalised by tokens, so that a class is not preferred for a short name. A text that does not fit the context
is cut at its end, never the words around it or the answer. Source: multiple-choice scoring as in Brown et al. 2020
(arXiv 2005.14165), section 2.4.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wtsbench.spec.control_tokens import marked
from wtsbench.spec.training import Training
from wtsbench.strategies.base import Floats
from wtsbench.trial.batching import pad, prediction_batches
from wtsbench.trial.device import Device
from wtsbench.trial.faults import DivergedError, UnusableModelError
from wtsbench.trial.language import require_plain_head, scores_of
from wtsbench.trial.language_model import pretrained
from wtsbench.trial.models import load_tokenizer
from wtsbench.trial.tokenizing import plain


class Asker:
    """A language model that is asked to choose among answers."""

    def __init__(
        self, folder: Path, *, prompt: str, answers: Sequence[str], training: Training, device: Device
    ) -> None:
        begun = time.monotonic()
        self._device = device
        self._batch_size = training.eval_batch_size
        self.tokenizer = load_tokenizer(folder, training.max_length)
        model = pretrained(folder, device)
        require_plain_head(model)
        self._model = model.to(device.torch_device)
        self._prompt = marked(prompt)
        self._around = tuple(map(self._tokens, self._prompt.split("{text}", 1)))
        self._answers = [self._tokens(answer) for answer in answers]
        if not all(self._answers):
            raise UnusableModelError("zero_shot: an answer has no token in this model's vocabulary")
        self._start = self._beginning()
        self._room = self.tokenizer.max_length - max(map(len, self._answers)) - len(self._start)
        if self._room < sum(map(len, self._around)) + 1:
            raise UnusableModelError(
                f"zero_shot: the prompt leaves no room for a text in {self.tokenizer.max_length} tokens"
            )
        self.seconds = {"load": time.monotonic() - begun, "train": 0.0, "predict": 0.0}

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    def predict(self, texts: Sequence[str]) -> Floats:
        """[N, C] probabilities of the answers, in their order.

        Raises:
            DivergedError: the model predicts NaN.
        """
        begun = time.monotonic()
        prompts = [self.encode(text) for text in texts]
        rows = [[*prompt, *answer] for prompt in prompts for answer in self._answers]
        starts = [len(prompt) for prompt in prompts for _ in self._answers]
        most = self._device.tokens_at_once(self._model.config.get_text_config().hidden_size)
        batches = prediction_batches([len(row) for row in rows], self._batch_size, most)
        scores = []
        with self._device.reading():
            for chosen in batches:
                ids, mask = pad([rows[i] for i in chosen.tolist()], self.tokenizer.pad_id)
                scores.append(scores_of(self._model, ids, mask, [starts[i] for i in chosen.tolist()], self._device))
        found = np.empty(len(rows))
        found[np.concatenate(batches)] = torch.cat(scores).double().cpu().numpy()
        if not np.isfinite(found).all():
            raise DivergedError("the model predicts NaN")
        self.seconds["predict"] += time.monotonic() - begun
        scores_of_answers = found.reshape(len(texts), len(self._answers))
        raised = np.exp(scores_of_answers - scores_of_answers.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of the prompt with this text, which leave room for the longest answer; at least one."""
        whole = self._tokens(self._prompt.replace("{text}", text, 1))
        if len(whole) > self._room:
            before, behind = self._around
            whole = [*before, *self._tokens(text)[: self._room - len(before) - len(behind)], *behind]
        return [*self._start, *whole] or [self.tokenizer.filler_id]

    def _tokens(self, text: str) -> list[int]:
        if not text:
            return []
        return plain(self.tokenizer.encode_batch, [text])[0]

    def _beginning(self) -> list[int]:
        """The token that this model's texts begin with, where it has one."""
        tokenizer = self.tokenizer.encode_batch
        usual = list(tokenizer([""], return_attention_mask=False)["input_ids"][0])
        return usual[:1] if usual and usual[0] == tokenizer.bos_token_id else []
