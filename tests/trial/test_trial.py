"""Whole trials in their folders, run in this process on tiny models."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trial.folders import (
    LABELS,
    WEAK_PARENT,
    made_items,
    noisy_labels,
    predictions_of,
    records_of,
    result_of,
    write_folder,
)
from tests.trial.tiny import SHAPES, write_tiny_model
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role, Split, TrialJob
from wtsbench.strategies import registry
from wtsbench.trial.faults import UnusableModelError
from wtsbench.trial.run import run_folder
from wtsbench.trial.train import Curve
from wtsbench.trial.weights import Weights

ITEMS = made_items(120)
QUICK: dict[str, Any] = {"epochs": 2.0, "learning_rate": 3e-3, "batch_size": 8}


def call(name: str, **parameters: Any) -> StrategyCall:
    """A strategy with all its parameters, as a plan writes it."""
    return registry.full_call(registry.resolve(StrategyCall(name=name, parameters=parameters)))


def student(folder: Path, model: Path, strategy: StrategyCall, **more: Any) -> TrialJob:
    """A student's folder, supervised by one parent that is wrong on a fifth of the items unless told otherwise."""
    parents = more.pop("parents", {WEAK_PARENT: noisy_labels(ITEMS, wrong=0.2)})
    return write_folder(folder, ITEMS, model, role=Role.STUDENT, strategy=strategy, parents=parents, **QUICK, **more)


def digest_of_predictions(folder: Path, job: TrialJob, *, but: Split | None = None) -> str:
    """One digest of every bit that the trial predicts, on all splits but this one."""
    found = sorted(predictions_of(folder, job).items())
    found = [row for row in found if but is None or row[0][0] != but.value]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def test_a_trial_writes_its_records_and_its_result(tmp_path: Path, tiny_llama: Path) -> None:
    """A weak supervisor predicts every item it should, and says how it was computed."""
    job = write_folder(tmp_path, ITEMS, tiny_llama, **QUICK)
    assert run_folder(tmp_path) == 0
    result = result_of(tmp_path)
    assert result["status"] == "done"
    assert result["failure"] is None
    predicted = predictions_of(tmp_path, job)
    assert {split for split, _ in predicted} == {"transfer", "validation", "test"}
    assert len(predicted) == len(ITEMS) * 6 // 10
    for values in predicted.values():
        assert len(values) == len(LABELS)
        assert sum(values) == pytest.approx(1, abs=1e-6)
        assert values == [float(np.float32(value)) for value in values]
    measured = result["measurements"]
    assert measured["device"] == "cpu"
    assert measured["dtype"] == "float32"
    assert measured["steps"] == 12
    assert measured["train_items"] == 48
    assert measured["weights_sha256"] == hashlib.sha256((tiny_llama / "model.safetensors").read_bytes()).hexdigest()
    assert set(measured["seconds"]) == {"load", "train", "predict"}
    assert 0 <= measured["validation_accuracy"] <= 1
    assert measured["final_loss"] < measured["initial_loss"]
    curve = records_of(tmp_path, job, "metrics")
    assert {row["name"] for row in curve} == {"loss"}
    assert {row["split"] for row in curve} == {Split.WEAK_TRAIN.value}
    assert curve[-1]["step"] == measured["steps"]
    losses = np.array([row["value"] for row in curve])
    tenth, fifth = len(losses) // 10, len(losses) // 5
    late = losses[-fifth:].mean()
    fell = losses[:tenth].mean() - late
    assert tenth >= 1
    assert measured["late_fall"] == pytest.approx((losses[-2 * fifth : -fifth].mean() - late) / fell, abs=1e-6)
    assert result["last_sequence"] == 4


def test_how_training_ended_is_told_of_the_last_fit() -> None:
    """About a quarter of the fall is late on a straight line, almost none of it on a curve that has flattened."""
    flat = [float(np.exp(-step / 5)) for step in range(100)]
    straight = [1 - step / 100 for step in range(100)]
    assert Curve(losses=flat).late_fall == pytest.approx(0, abs=1e-4)
    assert Curve(losses=[*flat, *straight], last_fit=100).late_fall == pytest.approx(0.2 / 0.85, abs=1e-6)
    assert Curve(losses=straight[:9]).late_fall is None
    assert Curve(losses=straight[::-1]).late_fall is None


@pytest.mark.parametrize("part", ["folder", "file", "shared file"])
def test_a_cache_that_was_deleted_is_no_fault_of_the_trial(tmp_path: Path, tiny_llama: Path, part: str) -> None:
    """Weights that are gone from the node are its failure, which says where they were; so the trial is tried again."""
    kept = tmp_path / "cache"
    shutil.copytree(tiny_llama, kept)
    write_folder(tmp_path / "trial", ITEMS, kept, **QUICK)
    if part == "folder":
        shutil.rmtree(kept)
    elif part == "file":
        (kept / "config.json").unlink()
    else:
        (kept / "tokenizer.json").unlink()
        (kept / "tokenizer.json").symlink_to("blobs/0")
    assert run_folder(tmp_path / "trial") == 1
    failure = result_of(tmp_path / "trial")["failure"]
    assert failure["failure_class"] == "infrastructure"
    assert str(kept) in failure["message"]
    assert "was the cache deleted" in failure["message"]


def test_weights_that_are_not_those_of_the_plan_are_not_trained(tmp_path: Path) -> None:
    """Whatever file of the model is another than planned, of the same size and time too, the trial says so and ends."""
    model = write_tiny_model(tmp_path / "m", "llama")
    write_folder(tmp_path / "t", ITEMS, model, **QUICK)
    for name in ("model.safetensors", "config.json"):
        path = model / name
        whole, status = path.read_bytes(), path.stat()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert run_folder(tmp_path / "t") == 1
        failure = result_of(tmp_path / "t")["failure"]
        assert failure["failure_class"] == "trial_error"
        assert "not those of the plan" in failure["message"]
        assert not list((tmp_path / "t" / "outbox").glob("*.arrow"))
        path.write_bytes(whole)


def test_weights_that_change_while_a_trial_runs_make_no_result(tmp_path: Path) -> None:
    """They are looked at again at the end; a file that was only touched is the same."""
    model = write_tiny_model(tmp_path / "m", "llama")
    job = write_folder(tmp_path / "t", ITEMS, model, **QUICK)
    weights = Weights(model, job.spec.model)
    (model / "model.safetensors").touch()
    weights.require_unchanged()
    (model / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UnusableModelError, match="while the trial ran"):
        weights.require_unchanged()


def test_progress_ends_at_its_total(tmp_path: Path, tiny_llama: Path) -> None:
    """The live display is told that everything is done when it is."""
    write_folder(tmp_path, ITEMS, tiny_llama, **QUICK)
    assert run_folder(tmp_path) == 0
    said = json.loads((tmp_path / "scratch" / "progress.json").read_text())
    assert said["done"] == said["total"] > 0


def test_a_trial_learns(tmp_path: Path, tiny_llama: Path) -> None:
    """A weak supervisor learns from ground truth what one word says."""
    items = made_items(300)
    write_folder(tmp_path, items, tiny_llama, epochs=8.0, learning_rate=3e-3, batch_size=8)
    assert run_folder(tmp_path) == 0
    assert result_of(tmp_path)["measurements"]["validation_accuracy"] > 0.9


@pytest.mark.parametrize("model_type", sorted(SHAPES))
def test_other_architectures(tmp_path: Path, model_type: str) -> None:
    """Causal models without a padding token and encoders with one all run, texts longer than their context included."""
    model = write_tiny_model(
        tmp_path / "m", model_type, pad_token="<pad>" if model_type in ("bert", "roberta") else None
    )
    long = [("long", " ".join(["river"] * 100), 1), ("empty", "", 0)]
    write_folder(tmp_path / "t", [*long, *ITEMS], model, **QUICK)
    assert run_folder(tmp_path / "t") == 0, result_of(tmp_path / "t")["failure"]
    assert result_of(tmp_path / "t")["measurements"]["max_length"] == 48


def test_one_seed_gives_one_result(tmp_path: Path, tiny_llama: Path) -> None:
    """The same folder and seed give the same bits; another seed others."""
    seen = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        job = write_folder(tmp_path / name, ITEMS, tiny_llama, seed=seed, **QUICK)
        assert run_folder(tmp_path / name) == 0
        seen.append(digest_of_predictions(tmp_path / name, job))
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_padding_changes_no_prediction(tmp_path: Path) -> None:
    """A text is judged alike whatever it is batched with, though the padding token also ends texts."""
    model = write_tiny_model(tmp_path / "m", "gpt2")
    texts = [("a", "river </s>", 0), ("b", "stone cake </s> </s>", 1), ("c", "cloud " * 30, 0), ("d", "delta", 1)]
    found = []
    for batch in (1, 64):
        folder = tmp_path / f"t{batch}"
        job = write_folder(
            folder, [*ITEMS[:8], *texts], model, shares=(0.2, 0.2, 0.1, 0.5), eval_batch_size=batch, **QUICK
        )
        assert run_folder(folder) == 0
        found.append(predictions_of(folder, job))
    assert found[0].keys() == found[1].keys()
    for key, values in found[0].items():
        assert values == pytest.approx(found[1][key], abs=1e-5)


def test_the_last_real_token_is_read(tmp_path: Path) -> None:
    """Texts that differ only in a last token equal to the padding token are told apart."""
    model = write_tiny_model(tmp_path / "m", "gpt2")
    texts = [("a", "river stone", 0), ("b", "river stone </s>", 0), ("c", "cloud " * 9, 0)]
    job = write_folder(tmp_path / "t", [*ITEMS[:9], *texts], model, shares=(0.25, 0.25, 0.25, 0.25), **QUICK)
    assert run_folder(tmp_path / "t") == 0
    predicted = predictions_of(tmp_path / "t", job)
    assert predicted[("test", "a")] != predicted[("test", "b")]


def test_logconf_without_weight_is_naive(tmp_path: Path, tiny_llama: Path) -> None:
    """With a weight of 0 for the student's own predictions, `logconf` computes the very bits of `naive`."""
    digests = []
    for name, strategy in (("n", call("naive")), ("l", call("logconf", max_weight=0)), ("o", call("logconf"))):
        job = student(tmp_path / name, tiny_llama, strategy)
        assert run_folder(tmp_path / name) == 0
        digests.append(digest_of_predictions(tmp_path / name, job))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_an_ensemble_of_one_is_naive(tmp_path: Path, tiny_llama: Path) -> None:
    """A single supervisor's mean is the supervisor; three of them give another student."""
    one = {WEAK_PARENT: noisy_labels(ITEMS, wrong=0.2)}
    three = {**one, "b" * 64: noisy_labels(ITEMS, wrong=0.2, seed=1), "c" * 64: noisy_labels(ITEMS, wrong=0.2, seed=2)}
    digests = []
    for name, strategy, parents in (
        ("n", call("naive"), one),
        ("e1", call("ensemble", members=1), one),
        ("e3", call("ensemble"), three),
    ):
        job = student(tmp_path / name, tiny_llama, strategy, parents=parents)
        assert run_folder(tmp_path / name) == 0
        digests.append(digest_of_predictions(tmp_path / name, job))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_hard_labels_of_a_sure_parent_are_ground_truth(tmp_path: Path, tiny_llama: Path) -> None:
    """A student whose parent is always right and hardened is bit for bit the ceiling: they differ only in labels."""
    job = student(
        tmp_path / "s", tiny_llama, call("naive", labels="hard"), parents={WEAK_PARENT: noisy_labels(ITEMS, wrong=0)}
    )
    ceiling = write_folder(tmp_path / "c", ITEMS, tiny_llama, role=Role.CEILING, **QUICK)
    assert run_folder(tmp_path / "s") == run_folder(tmp_path / "c") == 0
    expected = digest_of_predictions(tmp_path / "c", ceiling)  # nobody learns from a ceiling: it leaves out transfer
    assert digest_of_predictions(tmp_path / "s", job, but=Split.TRANSFER) == expected


def test_a_missing_weak_label_fails_the_trial(tmp_path: Path, tiny_llama: Path) -> None:
    """A parent without a prediction for an item is an error that names it, not a label made up."""
    student(tmp_path, tiny_llama, call("naive"))
    spec = json.loads((tmp_path / "spec.json").read_text())
    spec["spec"]["parents"].append("d" * 64)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert run_folder(tmp_path) == 1
    failure = result_of(tmp_path)["failure"]
    assert failure["failure_class"] == "trial_error"
    assert "dddddddddddd has no prediction" in failure["message"]


def test_divergence_is_a_failure(tmp_path: Path, tiny_llama: Path) -> None:
    """A loss that becomes NaN or infinite ends the trial as diverged, with no prediction left behind."""
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(tiny_llama, tmp_path / "broken"))
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("inf")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    job = write_folder(tmp_path, ITEMS, model, epochs=4.0, learning_rate=10.0, batch_size=8, max_gradient_norm=1e30)
    assert run_folder(tmp_path) == 1
    failure = result_of(tmp_path)["failure"]
    assert failure["failure_class"] == "diverged"
    assert records_of(tmp_path, job, "predictions") == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "weights cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "nonesuch"}'), "nonesuch"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}'), "vit"),
    ],
)
def test_an_unusable_model_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    """A model that cannot serve as a classifier fails the trial with the reason in the message."""
    model = write_tiny_model(tmp_path / "m")
    spoil(model)
    write_folder(tmp_path / "t", ITEMS, model, **QUICK)
    assert run_folder(tmp_path / "t") == 1
    failure = result_of(tmp_path / "t")["failure"]
    assert failure["failure_class"] == "trial_error"
    assert message in failure["message"]


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    """Weights that do not fill the architecture's body fail the trial instead of training from random numbers."""
    model = write_tiny_model(tmp_path / "m")
    other = write_tiny_model(tmp_path / "o", "gpt2")
    os.replace(other / "model.safetensors", model / "model.safetensors")  # noqa: PTH105  # plain enough
    write_folder(tmp_path / "t", ITEMS, model, **QUICK)
    assert run_folder(tmp_path / "t") == 1
    assert "another architecture" in result_of(tmp_path / "t")["failure"]["message"]


def test_a_head_in_the_checkpoint_is_not_used(tmp_path: Path, tiny_llama: Path) -> None:
    """A checkpoint that brings a classification head starts from a head of the trial's seed like any other."""
    from wtsbench.trial.device import set_up
    from wtsbench.trial.models import load_classifier

    job = write_folder(tmp_path / "a", ITEMS, tiny_llama, **QUICK)
    device = set_up(job)

    def loaded(folder: Path, seed: int) -> Any:
        training = job.spec.training
        return load_classifier(folder, classes=2, pad_id=0, seed=seed, round_=0, device=device, training=training).model

    trained = shutil.copytree(tiny_llama, tmp_path / "trained")
    loaded(tiny_llama, 4).save_pretrained(trained)
    assert b"score.weight" in (trained / "model.safetensors").read_bytes()
    heads = [loaded(folder, 3).score.weight.tolist() for folder in (trained, tiny_llama)]
    assert heads[0] == heads[1]
    assert loaded(trained, 4).score.weight.tolist() != heads[0]


def test_a_gpu_that_is_not_there(tmp_path: Path, tiny_llama: Path) -> None:
    """A job that asks for a GPU where there is none is an infrastructure failure, not a slow run on the CPU."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    write_folder(tmp_path, ITEMS, tiny_llama, gpus=1, **QUICK)
    assert run_folder(tmp_path) == 1
    assert result_of(tmp_path)["failure"]["failure_class"] == "infrastructure"


def test_an_unwritable_outbox_leaves_no_result(tmp_path: Path, tiny_llama: Path) -> None:
    """Where not even the failure can be written, the exit code is neither 0 nor 1."""
    write_folder(tmp_path, ITEMS, tiny_llama, **QUICK)
    (tmp_path / "outbox").rmdir()
    (tmp_path / "outbox").symlink_to("/proc/self/no-such-folder")
    assert run_folder(tmp_path) == 70
