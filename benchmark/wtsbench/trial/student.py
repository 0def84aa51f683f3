"""The model of a trial as strategies handle it: fit, reset, predict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from wtsbench.spec.trial import TRAIN_SPLIT, TrialSpec
from wtsbench.strategies.base import Floats, Labelled, Strategy
from wtsbench.trial import train
from wtsbench.trial.batching import prediction_batches
from wtsbench.trial.classifier import draw_head
from wtsbench.trial.device import Device, derive
from wtsbench.trial.folder import Progress
from wtsbench.trial.models import load_classifier, load_tokenizer
from wtsbench.trial.probe import Probe

_BACKWARD = 3.0
"""Cost of training on an item in passes of predicting it, for the progress display."""
_HEAD = 0.02
"""Cost of an item, where only the head is asked."""


class TrialModel:
    """A pretrained model with a classification head; implements `strategies.base.Student`."""

    def __init__(self, folder: Path, spec: TrialSpec, classes: int, device: Device, progress: Progress) -> None:
        self._folder = folder
        self._spec = spec
        self._classes = classes
        self._device = device
        self._progress = progress
        self._seed = derive(spec.seed, TRAIN_SPLIT[spec.role].value)
        """Of head, order and dropout. Trials on one split share it whatever their role: a student and its ceiling
        differ only in labels. A model that supervises itself does not start twice with one head."""
        self._finetune = spec.finetune
        self._fits = 0
        self._resets = 0
        self._encoded: dict[str, list[int]] = {}
        self.seconds = {"load": 0.0, "train": 0.0, "predict": 0.0}
        self.curve = train.Curve()
        self.trained_items = 0
        """Items of all fits, each counted once per fit."""
        begun = time.monotonic()
        self.tokenizer = load_tokenizer(folder, spec.training.max_length)
        self._load()
        self.seconds["load"] += time.monotonic() - begun

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self._classes

    @property
    def parameters(self) -> int:
        """Number of weights, the head included."""
        return sum(parameter.numel() for parameter in self.classifier.parameters())

    @property
    def trained_parameters(self) -> int:
        """Number of weights that a fit changes."""
        return sum(parameter.numel() for parameter in self.classifier.parameters() if parameter.requires_grad)

    def fit(self, items: Labelled, strategy: Strategy) -> None:
        """Train the current weights on `items`, minimising `strategy.loss`.

        Raises:
            ValueError: there is nothing to train on, or targets and weights have the wrong shape.
            DivergedError: the loss became NaN or infinite.
        """
        size = len(items.item_ids)
        if not size:
            raise ValueError(f"strategy {strategy.name} leaves no item to train on")
        if items.targets.shape != (size, self._classes) or items.weights.shape != (size,) or len(items.texts) != size:
            raise ValueError(f"strategy {strategy.name} gives {size} items with targets of shape {items.targets.shape}")
        begun = time.monotonic()
        encoded = self._encode(items.texts)
        training = self._spec.training
        cost = _HEAD if self._remember(encoded) else _BACKWARD
        self._progress.expect(cost * train.steps_of(size, training) * min(size, training.batch_size))
        train.fit(
            self.classifier,
            encoded,
            items,
            strategy,
            training=training,
            pad_id=self.tokenizer.pad_id,
            seed=self._seed,
            fit_number=self._fits,
            device=self._device,
            curve=self.curve,
            advance=lambda count: self._progress.advance(cost * count),
        )
        self._fits += 1
        self.trained_items += size
        self.seconds["train"] += time.monotonic() - begun

    def reset(self) -> None:
        """Back to the pretrained weights, with a head drawn anew (another one after each reset)."""
        begun = time.monotonic()
        self._resets += 1
        if isinstance(self.classifier, Probe):  # its body never changed, and what it said is remembered
            draw_head(self.classifier.model, self._seed, self._resets)
        else:
            self._load()
        self.seconds["load"] += time.monotonic() - begun

    def predict(self, texts: Sequence[str]) -> Floats:
        """[N, C] probabilities of the current weights.

        Raises:
            DivergedError: the model predicts NaN.
        """
        begun = time.monotonic()
        encoded = self._encode(texts)
        cost = _HEAD if self._remember(encoded) else 1.0
        self._progress.expect(cost * len(encoded))
        batches = prediction_batches([len(row) for row in encoded], self._spec.training.eval_batch_size)
        found = train.predict(
            self.classifier,
            encoded,
            batches,
            pad_id=self.tokenizer.pad_id,
            device=self._device,
            advance=lambda count: self._progress.advance(cost * count),
        )
        self.seconds["predict"] += time.monotonic() - begun
        return found

    def save(self, folder: Path) -> None:
        """Write the current weights in Hugging Face layout."""
        self.classifier.plain().save_pretrained(folder)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Every text is tokenised once in a trial, however often it is used."""
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        self._encoded.update(zip(new, self.tokenizer.encode(new), strict=True))
        return [self._encoded[text] for text in texts]

    def _remember(self, encoded: Sequence[Sequence[int]]) -> bool:
        """Have a probe compute what it does not know yet of these rows; whether the model is a probe."""
        if not isinstance(self.classifier, Probe):
            return False
        self._progress.expect(self.classifier.new_of(encoded))
        self.classifier.remember(encoded, self._spec.training.eval_batch_size, self._progress.advance)
        return True

    def _load(self) -> None:
        self.classifier = load_classifier(
            self._folder,
            classes=self._classes,
            pad_id=self.tokenizer.pad_id,
            seed=self._seed,
            round_=self._resets,
            device=self._device,
            training=self._spec.training,
            finetune=self._finetune,
        )
