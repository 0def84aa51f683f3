"""Every strategy has a setting in which it computes the very bits of `naive`, and does otherwise by default.

Whole trials on a tiny model: the same weights, items, order and dropout, so that a difference is the strategy's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trial.folders import WEAK_PARENT, made_items, noisy_labels, result_of, write_folder
from tests.trial.test_trial import call, digest_of_predictions
from wtsbench.spec.trial import Role
from wtsbench.trial.run import run_folder

ITEMS = made_items(60)
QUICK: dict[str, Any] = {"epochs": 2.0, "learning_rate": 3e-3, "batch_size": 8}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("entropy", {"max_weight": 0}, {}),
    ("product", {"beta": 0}, {}),
    ("product", {"labels": "hard"}, {"labels": "soft"}),
    ("adaptconf", {"max_weight": 0}, {}),
    ("window", {"radius": 0.5}, {"radius": 0.01}),
    ("confidence_filter", {"threshold": 0}, {}),
    ("confidence_filter", {"top": 1}, {"top": 0.5, "balanced": True}),
    ("random_filter", {"like": {"name": "confidence_filter", "threshold": 0}}, {}),
    ("self_refine", {"rounds": 0}, {}),
    ("mix", {"budget": 0}, {"budget": 8}),
]
"""Name, parameters that make it `naive` (with the same kind of labels), and parameters that do not."""


def trial(folder: Path, model: Path, name: str, **parameters: Any) -> str:
    """Digest of the predictions of a student with this strategy."""
    weak = {WEAK_PARENT: noisy_labels(ITEMS, wrong=0.2)}
    job = write_folder(
        folder, ITEMS, model, role=Role.STUDENT, strategy=call(name, **parameters), parents=weak, **QUICK
    )
    assert run_folder(folder) == 0, result_of(folder)["failure"]
    return digest_of_predictions(folder, job)


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> dict[str, str]:
    """What `naive` predicts, by kind of labels."""
    return {
        labels: trial(tmp_path_factory.mktemp("naive"), tiny_llama, "naive", labels=labels)
        for labels in ("soft", "hard")
    }


@pytest.mark.parametrize(("name", "same", "other"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_identity(
    tmp_path: Path, tiny_llama: Path, naive: dict[str, str], name: str, same: dict[str, Any], other: dict[str, Any]
) -> None:
    """With the setting that switches it off, a strategy is `naive` bit for bit; with another it is not."""
    assert trial(tmp_path / "same", tiny_llama, name, **same) == naive[same.get("labels", "soft")]
    assert trial(tmp_path / "other", tiny_llama, name, **other) != naive[other.get("labels", "soft")]
