"""A training step asks nothing of its device: on a GPU each answer waits until all that was given to it is computed.

The device here holds no numbers at all, so that whoever asks for one fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trial.devices import device_of
from tests.trial.tiny import write_tiny_model
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Training
from wtsbench.strategies import registry
from wtsbench.strategies.base import Labelled, Strategy
from wtsbench.strategies.generative import GenerativeStrategy
from wtsbench.trial import classifier, language, sequence_training, train
from wtsbench.trial.device import Device
from wtsbench.trial.language_model import load_language_model
from wtsbench.trial.models import load_classifier
from wtsbench.trial.sequence_training import Lesson
from wtsbench.trial.text_tokens import Encoded

RANDOM = np.random.default_rng(0)
ROWS: list[list[int]] = [RANDOM.integers(4, 200, size=size).tolist() for size in RANDOM.integers(2, 30, size=80)]
LABELLED = Labelled(
    item_ids=tuple(map(str, range(len(ROWS)))),
    texts=("",) * len(ROWS),
    targets=RANDOM.dirichlet((1, 1), len(ROWS)),
    weights=np.ones(len(ROWS)),
)
QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 8}
STEPS = 10
Fit = Callable[[Device, Callable[[int], None]], None]


def strategy(name: str) -> Strategy:
    """With its default parameters."""
    return registry.resolve(StrategyCall(name=name))


def classes(folder: Path, name: str, **training: Any) -> Fit:
    """A fit of a classifier."""

    def fit(device: Device, advance: Callable[[int], None]) -> None:
        settings = Training(**QUICK, **training)
        model = load_classifier(folder, classes=2, pad_id=0, seed=0, round_=0, device=device, training=settings)
        train.fit(
            model, ROWS, LABELLED, strategy(name), training=settings, pad_id=0, seed=0, fit_number=0, device=device,
            curve=train.Curve(), advance=advance,
        )  # fmt: skip

    return fit


def texts(folder: Path, name: str, **training: Any) -> Fit:
    """A fit on continuations, of single ones or, for preferences, of pairs."""

    def fit(device: Device, advance: Callable[[int], None]) -> None:
        chosen, settings = strategy(name), Training(**QUICK, **training)
        assert isinstance(chosen, GenerativeStrategy)
        rows = [Encoded(ids=row, start=1, ended=False) for row in ROWS]
        numbers = [RANDOM.random(len(row) - 1) for row in ROWS]
        pairs = name == "dpo"
        lesson = Lesson(
            rows=rows,
            units=np.arange(len(rows), dtype=np.int64).reshape(-1, 2 if pairs else 1),
            weights=torch.ones(len(rows)),
            reference=numbers if chosen.needs_reference else None,
            targets=numbers if name == "wspo" else None,
        )
        sequence_training.fit(
            load_language_model(folder, device), lesson, chosen, training=settings, a_step=4 if pairs else 8, pad_id=0,
            seed=0, fit_number=0, device=device, curve=train.Curve(), advance=advance,
        )  # fmt: skip

    return fit


def reading(folder: Path) -> Fit:
    """A fit of a language model on whole texts."""

    def fit(device: Device, advance: Callable[[int], None]) -> None:
        model = load_language_model(folder, device).model
        language.read_texts(
            model, ROWS, training=Training(**QUICK), epochs=1.0, pad_id=0, seed=0, device=device, advance=advance
        )

    return fit


def fits(models: Callable[[str], Path]) -> Sequence[tuple[str, Fit]]:
    """Every kind of fit."""
    made = [("in pieces", classes(models("llama"), "naive", micro_batch_size=3))]
    made += [(name, classes(models("llama"), name)) for name in ("logconf", "adaptconf", "window", "reverse_kl")]
    made += [(kind, classes(models(kind), "naive")) for kind in ("gpt2", "bert", "roberta", "openai-gpt")]
    made += [("checkpoints", classes(models("gpt2"), "naive", gradient_checkpointing=True))]
    made += [(name, texts(models("gpt2"), name)) for name in ("naive", "dpo", "wspo")]
    made += [("texts in pieces", texts(models("llama"), "naive", micro_batch_size=3))]
    return [*made, ("whole texts", reading(models("gpt2")))]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of an architecture."""
    root = tmp_path_factory.mktemp("models")

    def model(kind: str) -> Path:
        padded = "<pad>" if kind in ("bert", "roberta") else None
        return root / kind if (root / kind).exists() else write_tiny_model(root / kind, kind, pad_token=padded)

    return model


def test_no_step_looks_at_what_the_device_computes(
    models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is trained by whatever loss, all steps are made before the first loss is read."""
    plain = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, lr, **_: plain(groups, lr))  # no fused kernel there
    monkeypatch.setattr(classifier, "_keep_in_float32", lambda module: None)  # nor autocast
    nowhere = Device(torch_device=torch.device("meta"), dtype=torch.float32, threads=1)
    for name, fit in fits(models):
        made: list[int] = []
        with pytest.raises(NotImplementedError, match="no data"):
            fit(nowhere, made.append)
        assert len(made) == STEPS, name


@pytest.mark.gpu
def test_steps_do_not_wait_for_a_gpu(models: Callable[[str], Path]) -> None:
    """The same on a GPU, where torch tells of every wait: from the first step to the last there is none."""
    device = device_of("cuda", torch.bfloat16)
    for name, fit in fits(models):
        waits: list[int] = []
        fit(device, lambda _: None)  # libraries wait when they are used for the first time

        def look(_: int, waits: list[int] = waits) -> None:
            waits.append(len([1 for warning in seen if "synchroniz" in str(warning.message)]))

        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                fit(device, look)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert waits[-1] == waits[0], name
