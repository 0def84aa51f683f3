"""The model of a trial as strategies handle it: fit, reset, predict and more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from wtsbench.spec.trial import TRAIN_SPLIT, TrialSpec
from wtsbench.strategies.base import Floats, Labelled, Monitor, Strategy
from wtsbench.trial import train
from wtsbench.trial.batching import Rows, prediction_batches
from wtsbench.trial.classifier import Classifier, draw_head
from wtsbench.trial.device import Device, derive
from wtsbench.trial.folder import Progress
from wtsbench.trial.models import load_classifier, load_tokenizer
from wtsbench.trial.monitoring import Watch
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
            ValueError: there is nothing to train on, or targets and weights are not what they must be.
            DivergedError: the loss became NaN or infinite.
        """
        self._fit(items, strategy)

    def fit_monitored(self, items: Labelled, strategy: Strategy, monitor: Monitor) -> None:
        """The same, until the loss on the monitor's items no longer falls; the best weights are kept.

        Raises:
            ValueError, DivergedError: as `fit`.
        """
        watch = Watch(self.classifier, lambda: self._held_out_loss(monitor.held_out), monitor)
        self._fit(items, strategy, watch.enough)
        watch.restore()

    def fit_language(self, texts: Sequence[str], epochs: float) -> None:
        """Train the current body as a causal language model on the texts; the classification head stays as it is.

        Raises:
            UnusableModelError: the model is no causal language model, or its body does not train.
            DivergedError: the loss became NaN or infinite.
        """
        from wtsbench.trial.language import read_texts, reader_of  # few trials need it

        begun = time.monotonic()
        reader = reader_of(self._folder, self.classifier, self._device).to(self._device.torch_device)
        encoded = self._encode(texts)
        steps = train.steps_of(len(encoded), self._spec.training.model_copy(update={"epochs": epochs}))
        self._progress.expect(_BACKWARD * steps * min(len(encoded), self._spec.training.batch_size))
        self._trained = True
        read_texts(
            reader,
            encoded,
            training=self._spec.training,
            epochs=epochs,
            pad_id=self.tokenizer.pad_id,
            seed=self._seed,
            device=self._device,
            advance=lambda count: self._progress.advance(_BACKWARD * count),
        )
        self.classifier.eval()
        self.seconds["train"] += time.monotonic() - begun

    def activations(self, texts: Sequence[str]) -> Floats:
        """[N, H] what the pretrained body says of each text, whatever was trained since.

        Of causal models it is the last real token's state of the last layer, of encoders the first token's.
        """
        begun = time.monotonic()
        body = self._loaded() if self._trained else self.classifier
        encoded = self._encode(texts)
        self._progress.expect(len(encoded))
        found = train.activations(
            body,
            encoded,
            self._batches(encoded),
            pad_id=self.tokenizer.pad_id,
            device=self._device,
            advance=self._progress.advance,
        )
        self.seconds["predict"] += time.monotonic() - begun
        return found

    def _held_out_loss(self, items: Labelled) -> float:
        """Weighted mean cross-entropy, in the middle of a fit."""
        losses = -(items.targets * np.log(np.maximum(self.predict(items.texts), 1e-12))).sum(axis=1)
        self.classifier.train()
        return float((losses * items.weights).mean())

    def _fit(self, items: Labelled, strategy: Strategy, enough: Callable[[int, int], bool] | None = None) -> None:
        size = len(items.item_ids)
        if not size:
            raise ValueError(f"strategy {strategy.name} leaves no item to train on")
        if items.targets.shape != (size, self._classes) or items.weights.shape != (size,) or len(items.texts) != size:
            raise ValueError(f"strategy {strategy.name} gives {size} items with targets of shape {items.targets.shape}")
        if not np.isfinite(items.targets).all() or (items.targets < 0).any():
            raise ValueError(f"strategy {strategy.name} gives targets that are negative or no numbers")
        if not np.isfinite(items.weights).all() or (items.weights < 0).any():
            raise ValueError(f"strategy {strategy.name} gives weights that are negative or no numbers")
        begun = time.monotonic()
        encoded = self._encode(items.texts)
        training = self._spec.training
        self._trained = True
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
            enough=enough,
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
        found = train.predict(
            self.classifier,
            encoded,
            self._batches(encoded),
            pad_id=self.tokenizer.pad_id,
            device=self._device,
            advance=lambda count: self._progress.advance(cost * count),
        )
        self.seconds["predict"] += time.monotonic() - begun
        return found

    def _batches(self, encoded: Sequence[Sequence[int]]) -> list[Rows]:
        most = self._device.tokens_at_once(self.classifier.width)
        return prediction_batches([len(row) for row in encoded], self._spec.training.eval_batch_size, most)

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
        self.classifier = self._loaded()
        self._trained = False

    def _loaded(self) -> Classifier:
        return load_classifier(
            self._folder,
            classes=self._classes,
            pad_id=self.tokenizer.pad_id,
            seed=self._seed,
            round_=self._resets,
            device=self._device,
            training=self._spec.training,
            finetune=self._finetune,
        )
