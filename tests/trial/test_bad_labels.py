"""What is wrong with labels, weights or losses ends a trial clearly, and never in NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trial.folders import made_items, noisy_labels, predictions_of, records_of, result_of, write_folder
from tests.trial.test_identities import CONTEXT, QUICK
from tests.trial.test_trial import call
from wtsbench.errors import SpecError
from wtsbench.spec.trial import Role, TrialJob
from wtsbench.strategies import registry
from wtsbench.strategies.base import Labelled, Step, Strategy, Supervision
from wtsbench.trial.run import run_folder

ITEMS = made_items(30)
MORE = {"bootstrap", "noisy_channel", "selective", "self_labels", "trust"}
"""Strategies that take more than one answer an item: `test_supervisors` and `test_knowledge` have them."""
CLASSIFIES = sorted(
    name for name, kind in registry.BUILT_IN.items() if "classification" in kind.forms and name not in MORE
)


def taught(folder: Path, model: Path, name: str, said: list[float], **parameters: Any) -> TrialJob:
    """A student's folder, whose supervisors all say the same of every item in every wording."""
    strategy = call(name, **parameters)
    asks = len(registry.resolve(strategy).supervisors(CONTEXT))
    same = {item: said for item, _, _ in ITEMS}
    parents = {letter * 64: same for letter in "abcdefgh"[:asks]}
    return write_folder(
        folder, ITEMS, model, role=Role.STUDENT, strategy=strategy, parents=parents, wordings=[same] * 4, **QUICK
    )


@pytest.mark.parametrize("name", CLASSIFIES)
@pytest.mark.parametrize("said", [[1.0, 0.0], [0.2, 0.8]], ids=["certain", "unsure"])
def test_a_weak_model_of_one_class(tmp_path: Path, tiny_llama: Path, name: str, said: list[float]) -> None:
    """A supervisor that names one class only gives a student with finite predictions, whatever the strategy."""
    job = taught(tmp_path, tiny_llama, name, said)
    assert run_folder(tmp_path) == 0, result_of(tmp_path)["failure"]
    assert np.isfinite(list(predictions_of(tmp_path, job).values())).all()


@pytest.mark.parametrize("parameters", [{}, {"threshold": 0.9}])
def test_a_filter_that_leaves_nothing(tmp_path: Path, tiny_llama: Path, parameters: dict[str, Any]) -> None:
    """No item left to learn from fails the trial with the reason."""
    taught(tmp_path, tiny_llama, "confidence_filter", [0.45, 0.55], **parameters)
    assert run_folder(tmp_path) == 1
    assert "the weak model's largest confidence is 0.55" in result_of(tmp_path)["failure"]["message"]


class Odd(Strategy):
    """Gives what it was told to."""

    name = "odd"
    summary = source = "tests"
    weights = np.ones(12)
    factor = 1.0

    def prepare(self, supervision: Supervision) -> Labelled:
        items = super().prepare(supervision)
        return Labelled(item_ids=items.item_ids, texts=items.texts, targets=items.targets, weights=self.weights)

    def loss(self, step: Step) -> torch.Tensor:
        return super().loss(step) * self.factor


@pytest.mark.parametrize(
    ("weights", "factor", "failure", "message"),
    [
        (np.ones(12), float("nan"), "diverged", "the training loss became nan"),
        (np.full(12, np.nan), 1.0, "trial_error", "weights that are negative or no numbers"),
        (-np.ones(12), 1.0, "trial_error", "weights that are negative or no numbers"),
        (np.ones(11), 1.0, "trial_error", "12 items with targets"),
    ],
)
def test_a_strategy_that_computes_nonsense(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: np.ndarray,
    factor: float,
    failure: str,
    message: str,
) -> None:
    """A loss that is no number is `diverged`; labels and weights that cannot be learned are named."""
    monkeypatch.setitem(registry.BUILT_IN, "odd", Odd)
    monkeypatch.setattr(Odd, "weights", weights)
    monkeypatch.setattr(Odd, "factor", factor)
    job = taught(tmp_path, tiny_llama, "odd", [0.4, 0.6])
    assert run_folder(tmp_path) == 1
    found = result_of(tmp_path)["failure"]
    assert found["failure_class"] == failure
    assert message in found["message"]
    assert records_of(tmp_path, job, "predictions") == []


@pytest.mark.parametrize("finetune", [None, "lora"])
def test_only_language_models_read_texts(tmp_path: Path, finetune: str | None) -> None:
    """`task_finetuning` of an encoder fails with what it lacks."""
    from tests.trial.tiny import write_tiny_model

    model = write_tiny_model(tmp_path / "m", "bert", pad_token="<pad>")
    taught(tmp_path / "t", model, "task_finetuning", [0.4, 0.6], finetune=finetune)
    assert run_folder(tmp_path / "t") == 1
    assert "no causal language model" in result_of(tmp_path / "t")["failure"]["message"]


def test_a_frozen_body_reads_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    """`task_finetuning` of a linear probe fails: there is nothing in the body to train."""
    taught(tmp_path, tiny_llama, "task_finetuning", [0.4, 0.6], finetune="linear_probe")
    assert run_folder(tmp_path) == 1
    assert "body is frozen" in result_of(tmp_path)["failure"]["message"]


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "openai-gpt"])
def test_reading_makes_texts_likelier(tmp_path: Path, model_type: str) -> None:
    """After `task_finetuning` the transfer texts are likelier to the student's own body than before."""
    from tests.trial.tiny import write_tiny_model
    from wtsbench.trial.device import set_up
    from wtsbench.trial.folder import Progress
    from wtsbench.trial.language import reader_of, scores_of
    from wtsbench.trial.student import TrialModel

    model = write_tiny_model(tmp_path / "m", model_type)
    job = write_folder(tmp_path / "t", ITEMS, model, role=Role.STUDENT, strategy=call("naive"), **QUICK)
    device = set_up(job)
    student = TrialModel(model, job.spec, 2, device, Progress(tmp_path / "t" / "scratch" / "progress.json"))
    texts = tuple(text for _, text, _ in ITEMS)
    row = torch.tensor([student.tokenizer.encode(texts[:1])[0]])
    before_any = student.activations(texts)

    def likelihood() -> float:
        with torch.no_grad():
            return float(
                scores_of(reader_of(model, student.classifier, device), row, torch.ones_like(row), [1], device)
            )

    before = likelihood()
    student.fit_language(texts, 4)
    assert likelihood() > before + 0.1
    assert np.array_equal(student.activations(texts), before_any)  # of the pretrained body, whatever was trained since
    assert student.predict(texts).shape == (len(ITEMS), 2)


def test_early_stopping_ends_a_fit_sooner(tmp_path: Path, tiny_llama: Path) -> None:
    """With labels of validation that contradict those of transfer, it stops at the second look and keeps the first."""
    weak = noisy_labels(ITEMS, wrong=0)
    flipped = {item: weak[item] if n < 24 else weak[item][::-1] for n, (item, _, _) in enumerate(ITEMS)}
    found = {}
    for patience in (None, 1):
        folder = tmp_path / str(patience)
        strategy = call("early_stop", patience=patience, checks=6)
        training = {**QUICK, "epochs": 6.0}
        parents = {"a" * 64: flipped}
        write_folder(folder, ITEMS, tiny_llama, role=Role.STUDENT, strategy=strategy, parents=parents, **training)
        assert run_folder(folder) == 0, result_of(folder)["failure"]
        found[patience] = result_of(folder)["measurements"]["steps"]
    assert found[1] < found[None] == 12


def test_random_filter_refuses_at_planning() -> None:
    """A control of nothing that filters is refused before anything runs."""
    with pytest.raises(SpecError, match="naive is no strategy that filters"):
        registry.resolve(call("random_filter", like="naive")).supervisors(CONTEXT)
