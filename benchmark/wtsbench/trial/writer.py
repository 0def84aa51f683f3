"""The language model of a trial as generative strategies handle it: fit, reset; and what it writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from wtsbench.spec.trial import TRAIN_SPLIT, TrialSpec
from wtsbench.strategies.decoding import Contrast, Decoding
from wtsbench.strategies.generative import GenerativeStrategy, Sequences
from wtsbench.trial import sampling, sequence_training
from wtsbench.trial.adapters import add_adapters
from wtsbench.trial.device import Device, derive
from wtsbench.trial.drafts import Draft, by_character
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.folder import Items, Progress, TrialFolder
from wtsbench.trial.language_model import LanguageModel, load_language_model
from wtsbench.trial.reading import score_shared
from wtsbench.trial.sequence_training import Lesson
from wtsbench.trial.text_tokens import Encoded, load_text_tokenizer
from wtsbench.trial.train import Curve, steps_of

_BACKWARD = 3.0
"""Cost of training on a token in passes of reading it, for the progress display."""


class TrialWriter:
    """A pretrained language model; implements `strategies.generative.GenerativeStudent`."""

    def __init__(self, folder: TrialFolder, spec: TrialSpec, device: Device, progress: Progress) -> None:
        self._folder = folder
        self._spec = spec
        self._device = device
        self._progress = progress
        self._seed = derive(spec.seed, TRAIN_SPLIT[spec.role].value)
        """Of order and dropout, as in classification: trials on one split share it whatever their role."""
        self._finetune = spec.finetune
        self._fits = 0
        self._resets = 0
        self.seconds = {"load": 0.0, "train": 0.0, "write": 0.0}
        self.curve = Curve()
        self.trained_items = 0
        """Sequences of all fits, each counted once per fit."""
        self.written_tokens = 0
        """Tokens of all continuations, end tokens left out."""
        if self._finetune == "linear_probe":
            raise UnusableModelError(
                "finetune: linear_probe trains a classification head on frozen activations, and a generative task has "
                "none; take full or lora"
            )
        with self._timed("load"):
            self.tokenizer = load_text_tokenizer(folder.model, spec.training.max_length)
            self.model = self._load()

    @property
    def parameters(self) -> int:
        """Number of weights, adapters included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def trained_parameters(self) -> int:
        """Number of weights that a fit changes."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def fit_sequences(self, sequences: Sequences, strategy: GenerativeStrategy) -> None:
        """Train the current weights on `sequences`, minimising `strategy.sequence_loss`.

        Raises:
            ValueError: there is nothing to train on, or the columns do not fit each other.
            DivergedError: the loss became NaN or infinite.
        """
        units = sequence_training.units_of(sequences)
        _check(sequences, units, strategy)
        training = self._spec.training
        with self._timed("train"):
            rows = self.tokenizer.sequences(sequences.prompts, sequences.continuations, sequences.ended.tolist())
            if all(len(row.ids) == row.start for row in rows):
                raise ValueError(f"strategy {strategy.name} leaves only continuations without a token to train on")
            reference = self._logprobs(self.model, rows) if strategy.needs_reference else None
            lesson = Lesson(
                rows=rows,
                units=units,
                weights=torch.tensor(sequences.weights, dtype=torch.float32),
                reference=reference,
                targets=None
                if sequences.targets is None
                else [
                    sequence_training.spread(values, row, self.tokenizer)
                    for values, row in zip(sequences.targets, rows, strict=True)
                ],
            )
            a_step = sequence_training.units_a_step(sequences, training)
            steps = steps_of(len(units), training.model_copy(update={"batch_size": a_step}))
            self._progress.expect(_BACKWARD * lesson.tokens() * steps * min(a_step, len(units)) / len(units))
            sequence_training.fit(
                self.model,
                lesson,
                strategy,
                training=training,
                a_step=a_step,
                pad_id=self.tokenizer.pad_id,
                seed=self._seed,
                fit_number=self._fits,
                device=self._device,
                curve=self.curve,
                advance=lambda count: self._progress.advance(_BACKWARD * count),
            )
        self._fits += 1
        self.trained_items += len(rows)

    def reset(self) -> None:
        """Back to the pretrained weights."""
        with self._timed("load"):
            self._resets += 1
            self.model = self._load()

    def cost(self, items: Items, samples: int) -> float:
        """Tokens that `write` will tell the progress display of."""
        return len(items.item_ids) * samples * self._spec.drawn.max_new_tokens

    def write(self, items: Items, samples: int, decoding: Decoding | None) -> list[Draft]:
        """Continuations of every prompt, samples of an item side by side; the progress is told, not asked to expect.

        Raises:
            UnusableModelError: the context has no room for them.
            DivergedError: the model's scores are NaN.
        """
        settings, seed = self._spec.drawn, self._spec.seed
        most = settings.max_new_tokens
        models = [self.model]
        combine: sampling.Combine = sampling.first
        if isinstance(decoding, Contrast):
            models += [self._pretrained()] if decoding.alpha else []
            combine = sampling.contrast(decoding)
        with self._timed("write"):
            prompts = self.tokenizer.prompts(items.texts, most)
            randoms = [
                np.stack([sampling.uniforms(seed, item, sample, most) for sample in range(samples)])
                for item in items.item_ids
            ]
            written = sampling.write(
                models,
                prompts,
                randoms,
                end_id=self.tokenizer.end_id,
                pad_id=self.tokenizer.pad_id,
                temperature=settings.temperature,
                top_p=settings.top_p,
                batch_size=self._spec.training.eval_batch_size,
                device=self._device,
                advance=self._progress.advance,
                combine=combine,
            )
            flat = [(i, k, one) for i, some in enumerate(written) for k, one in enumerate(some)]
            texts = self.tokenizer.decode([prompts[i] for i, _, _ in flat], [one.tokens for _, _, one in flat])
            self.written_tokens += sum(len(one.tokens) for _, _, one in flat)
            return [
                Draft(
                    item_id=items.item_ids[i],
                    sample=k,
                    prompt=items.texts[i],
                    row=self._encoded(prompts[i], one),
                    finished=one.finished,
                    text=text,
                )
                for (i, k, one), text in zip(flat, texts, strict=True)
            ]

    def say_logprobs(self, drafts: Sequence[Draft]) -> None:
        """Fill in how probable the continuations are under the current and under the pretrained weights."""
        rows = [draft.row for draft in drafts]
        pretrained = self._pretrained()
        with self._timed("write"):
            own, base = self._logprobs(self.model, rows), self._logprobs(pretrained, rows)
            for draft, mine, before in zip(drafts, own, base, strict=True):
                draft.logprobs = by_character(mine, draft.row, self.tokenizer)
                draft.base_logprobs = by_character(before, draft.row, self.tokenizer)

    def _encoded(self, prompt: Sequence[int], one: sampling.Written) -> Encoded:
        end = [self.tokenizer.end_id] if one.finished and self.tokenizer.end_id is not None else []
        return Encoded(ids=[*prompt, *one.tokens, *end], start=len(prompt), ended=bool(end))

    def _logprobs(self, model: LanguageModel, rows: Sequence[Encoded]) -> list[Any]:
        self._progress.expect(sum(len(row.ids) for row in rows))
        return score_shared(
            model,
            rows,
            pad_id=self.tokenizer.pad_id,
            batch_size=self._spec.training.eval_batch_size,
            device=self._device,
            advance=self._progress.advance,
        )

    def _load(self) -> LanguageModel:
        training = self._spec.training
        loaded = load_language_model(self._folder.model, self._device)
        if self._finetune == "lora":
            for parameter in loaded.parameters():
                parameter.requires_grad_(False)
            add_adapters(loaded.model, training, self._seed, self._resets, self._device)
            head = loaded.model.get_output_embeddings()
            head.requires_grad_(False)  # it is pretrained, unlike a classifier's
            loaded.to(self._device.torch_device)
        if training.gradient_checkpointing:
            if not loaded.model.supports_gradient_checkpointing:
                kind = loaded.model.config.model_type
                raise UnusableModelError(f"gradient_checkpointing: transformers has none for {kind!r} models")
            loaded.model.activation_checkpointing_enable({"use_reentrant": False})
        return loaded

    def _pretrained(self) -> LanguageModel:
        with self._timed("load"):
            return load_language_model(self._folder.model, self._device)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] += time.monotonic() - begun


def _check(sequences: Sequences, units: np.ndarray[Any, Any], strategy: GenerativeStrategy) -> None:
    size = len(sequences.item_ids)
    if not size or not len(units):
        what = "continuation" if sequences.pairs is None else "pair of continuations"
        raise ValueError(f"strategy {strategy.name} leaves no {what} to train on")
    columns = (sequences.prompts, sequences.continuations, sequences.weights, sequences.ended)
    if any(len(column) != size for column in columns) or (
        sequences.targets is not None and len(sequences.targets) != size
    ):
        raise ValueError(f"strategy {strategy.name} gives {size} sequences, and columns of other lengths")
