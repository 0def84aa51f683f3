"""Trials on real prompts with really pretrained weights, from the mirror folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trial.folders import (
    WEAK_PARENT,
    accuracy_of,
    mirror,
    noisy_labels,
    predictions_of,
    real_items,
    result_of,
    write_folder,
)
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role, Split
from wtsbench.strategies import registry
from wtsbench.trial.run import run_folder


@pytest.mark.slow
def test_a_causal_model_learns_real_prompts(tmp_path: Path) -> None:
    """stories260K finetuned on a few hundred prompts is far better than the majority class."""
    items = real_items(600)
    job = write_folder(
        tmp_path,
        items,
        mirror() / "models" / "stories260K",
        learning_rate=1e-3,
        shares=(0.5, 0.2, 0.1, 0.2),
        epochs=2.0,
    )
    assert run_folder(tmp_path) == 0
    measured = result_of(tmp_path)["measurements"]
    assert measured["parameters"] == 260_032 + 2 * 64
    assert measured["padding_share"] < 0.15
    assert accuracy_of(tmp_path, job, items, Split.TEST) > 0.75


@pytest.mark.slow
def test_an_encoder_learns_from_weak_labels(tmp_path: Path) -> None:
    """MiniLM taught by labels that are wrong on a fifth of the prompts beats those labels on fresh prompts."""
    items = real_items(300)
    strategy = registry.full_call(registry.resolve(StrategyCall(name="naive")))
    job = write_folder(
        tmp_path,
        items,
        mirror() / "models" / "all-MiniLM-L6-v2",
        role=Role.STUDENT,
        strategy=strategy,
        parents={WEAK_PARENT: noisy_labels(items, wrong=0.2)},
        shares=(0.0, 0.5, 0.1, 0.4),
        epochs=3.0,
        learning_rate=3e-4,
        max_length=64,
    )
    assert run_folder(tmp_path) == 0
    assert len(predictions_of(tmp_path, job)) == len(items)
    assert accuracy_of(tmp_path, job, items, Split.TEST) > 0.82


@pytest.mark.slow
@pytest.mark.parametrize(("finetune", "rate", "epochs"), [("lora", 2e-3, 3.0), ("linear_probe", 1e-2, 30.0)])
def test_an_encoder_learns_with_little_trained(tmp_path: Path, finetune: str, rate: float, epochs: float) -> None:
    """MiniLM with adapters, and a probe of it, learn real prompts with a fraction of the weights trained."""
    items = real_items(300)
    job = write_folder(
        tmp_path,
        items,
        mirror() / "models" / "all-MiniLM-L6-v2",
        shares=(0.5, 0.05, 0.05, 0.4),
        epochs=epochs,
        learning_rate=rate,
        max_length=64,
        finetune=finetune,
    )
    assert run_folder(tmp_path) == 0
    measured = result_of(tmp_path)["measurements"]
    assert measured["trained_parameters"] < measured["parameters"] / 20
    assert accuracy_of(tmp_path, job, items, Split.TEST) > 0.75


@pytest.mark.slow
def test_a_real_model_in_pieces(tmp_path: Path) -> None:
    """stories260K trained in micro-batches predicts what it predicts when trained whole: it has no dropout."""
    items = real_items(120)
    found = []
    for size in (None, 3):
        folder = tmp_path / str(size)
        job = write_folder(
            folder, items, mirror() / "models" / "stories260K", epochs=1.0, learning_rate=1e-3, micro_batch_size=size
        )
        assert run_folder(folder) == 0
        found.append(predictions_of(folder, job))
    for key, values in found[0].items():
        assert values == pytest.approx(found[1][key], abs=1e-3)
