"""Every strategy has a setting in which it computes the very bits of `naive`, and does otherwise by default.

Whole trials on a tiny model: the same weights, items, order and dropout, so that a difference is the strategy's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trial.folders import made_items, noisy_labels, result_of, write_folder
from tests.trial.test_trial import call, digest_of_predictions
from wtsbench.spec.trial import Role
from wtsbench.strategies import registry
from wtsbench.strategies.base import PlanningContext
from wtsbench.trial.run import run_folder

ITEMS = made_items(60)
CONTEXT = PlanningContext(weak="small", strong="large", ladder=(), seed=0)
QUICK: dict[str, Any] = {"epochs": 2.0, "learning_rate": 3e-3, "batch_size": 8}

CASES: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
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
    ("early_stop", {"patience": None}, {"patience": 1, "checks": 1000}),
    ("task_finetuning", {"epochs": 0}, {}),
    ("probe_relabel", {"action": "drop", "drop": 0}, {"action": "drop", "drop": 0.3, "k": 5}),
    ("probe_relabel", {"k": 1}, {"probe": "logistic"}),
    ("reliability", {"wordings": 1}, {}),
    ("reliability", {"wordings": 1, "use": "weight"}, {"use": "weight"}),
    ("adaboost", {"rounds": 1}, None),  # it is another supervisor, and no other student
    ("cosupervise", {"parts": 1}, {"parts": 2}),
    ("ensemble", {"members": 1}, {}),
    ("naive", {"finetune": "full"}, {"finetune": "lora"}),
]
"""Name, parameters that make it `naive` (with the same kind of labels), and parameters that do not."""


def trial(folder: Path, model: Path, name: str, **parameters: Any) -> str:
    """Digest of the predictions of a student with this strategy."""
    strategy = call(name, **parameters)
    asks = len(registry.resolve(strategy).supervisors(CONTEXT))
    weak = {letter * 64: noisy_labels(ITEMS, wrong=0.2, seed=seed) for seed, letter in enumerate("abcdef"[:asks])}
    wordings = [noisy_labels(ITEMS, wrong=0.2, seed=seed) for seed in range(1, 5)]
    job = write_folder(
        folder, ITEMS, model, role=Role.STUDENT, strategy=strategy, parents=weak, wordings=wordings, **QUICK
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
    tmp_path: Path,
    tiny_llama: Path,
    naive: dict[str, str],
    name: str,
    same: dict[str, Any],
    other: dict[str, Any] | None,
) -> None:
    """With the setting that switches it off, a strategy is `naive` bit for bit; with another it is not."""
    assert trial(tmp_path / "same", tiny_llama, name, **same) == naive[same.get("labels", "soft")]
    if other is not None:
        assert trial(tmp_path / "other", tiny_llama, name, **other) != naive[other.get("labels", "soft")]


@pytest.mark.parametrize("name", ["lora", "linear_probe"])
def test_parts_by_name(tmp_path: Path, tiny_llama: Path, name: str) -> None:
    """The strategies `lora` and `linear_probe` are `naive` with that choice of what is trained."""
    named = trial(tmp_path / "named", tiny_llama, name)
    assert named == trial(tmp_path / "asked", tiny_llama, "naive", finetune=name)
